"""Bugs planted in the real sources by replacing text, and the gate that must find each.

`python -m tests.gpu.planted BUG...` runs kernels with them under the sanitizers (see sanitizer.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.gpu.sources import source
from tests.gpu.compare import gate
from tests.gpu.sanitizer import report
from tests.gpu.shim.host import Launch, Mode


@dataclass(frozen=True, slots=True)
class Bug:
    """`old` becomes `new` in the text of `unit`; the kernel `row` of the catalog shows it.

    found_by: the ways of execution that find it, and with what words. Another way must not.
    """

    unit: str
    row: str
    old: str
    new: str
    found_by: Mapping[Mode, str]

    def text(self, unit: str) -> str:
        """The unit's text with the bug."""
        text = source(unit)
        if unit == self.unit:
            assert text.count(self.old) == 1, f"{unit}: {self.old!r} is there {text.count(self.old)} times, not once"
            text = text.replace(self.old, self.new)
        return text

    def run(self, mode: Mode) -> list[Launch]:
        """The gate. Returns what was launched; raises MismatchError or KernelError if it finds the bug."""
        return gate(CATALOG[self.row], mode, self.text)


DIFFERS = "elements differ"
BESIDE = "wrote beside the array out"
SYNC = "    __syncthreads();\n"
BUGS: Mapping[str, Bug] = MappingProxyType(
    {
        "missing barrier, first threads too early": Bug(
            "streams",
            "aes128_ctr_fill",
            "    aes_set_table(aes);\n" + SYNC,
            "    aes_set_table(aes);\n",
            {"plain": DIFFERS},
        ),
        "missing barrier, last threads too early": Bug(
            "streams",
            "aes128_ctr_fill",
            "        aes_set_key(aes, key);\n    }\n" + SYNC,
            "        aes_set_key(aes, key);\n    }\n",
            {"reversed": DIFFERS},
        ),
        "missing barrier between stages": Bug(
            "linear",
            "matmul",
            "        if (more) stage.store(xs[use], ws[use]);\n    " + SYNC,
            "        if (more) stage.store(xs[use], ws[use]);\n",
            {"plain": DIFFERS, "reversed": DIFFERS},
        ),
        "missing barrier of a warp": Bug(
            "bits",
            "slice_bits",
            "            __syncwarp();\n            u32 r[WARP];\n",
            "            u32 r[WARP];\n",
            {"plain": DIFFERS, "reversed": DIFFERS},
        ),
        "barrier that one thread does not reach": Bug(
            "streams",
            "aes128_ctr_fill",
            "    aes_set_table(aes);\n" + SYNC,
            "    aes_set_table(aes);\n    if (threadIdx.x != 7) __syncthreads();\n",
            {"plain": "deadlock", "reversed": "deadlock"},
        ),
        "read beyond an array": Bug(
            "transfers",
            "vole_join",
            "    if (low + bits > 64) number |= packed[at + 1] << (64 - low);\n",
            "    if (low) number |= packed[at + 1] << (64 - low);\n",  # what is too much is masked away
            {"asan": "heap-buffer-overflow"},
        ),
        "write beyond an array": Bug(
            "beaver",
            "triple_mul",
            "        if (2 * p + 1 < n) x[2 * p + 1] = b;\n",
            "        x[2 * p + 1] = b;\n",
            {"plain": BESIDE, "reversed": BESIDE, "asan": "heap-buffer-overflow"},
        ),
        "access beyond shared memory": Bug(
            "transfers",
            "transpose_bits",
            "    __shared__ u64 tile[PLANES][WARPS + 1];",
            "    __shared__ u64 tile[PLANES - 1][WARPS + 1];",
            {"asan": "out of bounds"},
        ),
        "wide access to an address that is not aligned": Bug(
            "ring",
            "add",
            "#define ALIGNED(p) ((((u64)(p)) & 15) == 0)",
            "#define ALIGNED(p) true",
            {"asan": "misaligned address"},
        ),
        "wrong rotate": Bug(
            "streams",
            "chacha20_fill",
            "b = rotate_left(b, 7);",
            "b = rotate_left(b, 9);",
            {"plain": DIFFERS, "reversed": DIFFERS},
        ),
        "wrong rotate in a mask": Bug(
            "ring",
            "mask_zero",
            "d = rotate_left(d, 16);",
            "d = rotate_left(d, 15);",
            {"plain": "keystreams at argument", "reversed": "keystreams at argument"},
        ),
        "signed shift": Bug(
            "shares",
            "trunc_left",
            "a[j] = (a[j] >> bits) + correction",
            "a[j] = ((i64)a[j] >> bits) + correction",
            {"plain": DIFFERS, "reversed": DIFFERS},
        ),
    }
)
DYNAMIC_INDEX = Bug(
    "ring",
    "mask_zero",
    "            if (b == 0 || j + skip >= 8) out[j] = x[j];\n",
    "            if (b == 0 || j + skip >= 8) out[j] = x[(j + count) & 7];\n",
    {},
)
"""Local memory, for the gate of registers."""


def _check(name: str) -> list[Launch]:
    return BUGS[name].run("asan")


if __name__ == "__main__":
    report(sys.argv[1:], _check)
