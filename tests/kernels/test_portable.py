"""The kernels with hand-written vector code give the same results on a CPU without AVX and AES instructions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from sottovoce.kernels.catalog import CATALOG

NAMES = ("matmul", "chacha20_fill", "aes128_ctr_fill", "dcf_gen", "dcf_eval")
PLAIN_CPU = f"""
import hashlib
import numpy as np
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu.features import has_feature
assert not has_feature("aes") and not has_feature("avx2")
for name in {NAMES!r}:
    row, digest = CATALOG[name], hashlib.sha256()
    for sample in row.samples(np.random.default_rng(17)):
        row.cpu(*sample)
        for position in row.outputs:
            digest.update(sample[position].tobytes())
    print(digest.hexdigest())
"""


def test_results_do_not_depend_on_the_cpu(tmp_path: Path) -> None:
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment = {**os.environ, **plain}
    run = subprocess.run([sys.executable, "-c", PLAIN_CPU], capture_output=True, text=True, check=True, env=environment)
    expected = []
    for name in NAMES:
        row, digest = CATALOG[name], hashlib.sha256()
        for sample in row.samples(np.random.default_rng(17)):
            row.cpu(*sample)
            for position in row.outputs:
                digest.update(sample[position].tobytes())
        expected.append(digest.hexdigest())
    assert run.stdout.split() == expected
