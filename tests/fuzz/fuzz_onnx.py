"""Coverage-guided fuzzing of the ONNX importer with atheris: `make fuzz`.

    python -m tests.fuzz.fuzz_onnx CORPUS -max_total_time=600 -rss_limit_mb=2048 -timeout=20

CORPUS is a folder to keep inputs in that reached new code; the fixtures are copied into it first. Options are
libFuzzer's. A finding is written to the working directory: put it into tests/fuzz/crashes/, where the suite tries it.
Half of the inputs are damaged as models (tests/fuzz/onnx_mutations.py), half as bytes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris
import numpy as np

import sottovoce.models.compiler.compile
import sottovoce.models.evaluate
import sottovoce.models.speech.features  # noqa: F401  # before the next block: only the importer is instrumented

with atheris.instrument_imports(include=["sottovoce.models.onnx"]):
    from sottovoce.models.onnx import export_onnx, import_onnx  # noqa: F401

from tests.fuzz.onnx_check import check_bytes
from tests.fuzz.onnx_mutations import mutate_model
from tests.fuzz.onnx_run import corpus

MAX_INPUT = 1 << 16


def mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's custom mutator."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        try:
            changed = mutate_model(data, rng)
        except Exception:  # what it is given need not be a model
            changed = b""
        if 0 < len(changed) <= max_size:
            return changed
    return bytes(atheris.Mutate(data, max_size))


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for model in corpus() if folders else ():
        folders[0].mkdir(parents=True, exist_ok=True)
        if len(model) <= MAX_INPUT:
            (folders[0] / hashlib.sha256(model).hexdigest()[:16]).write_bytes(model)
    options = [f"-max_len={MAX_INPUT}", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *options], lambda data: check_bytes(data, compiled=False), custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
