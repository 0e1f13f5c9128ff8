"""Streams and comparisons on arrays that begin behind 16 bytes, under the sanitizers, which see a misaligned access."""

from __future__ import annotations

import sys

from sottovoce.kernels.catalog import CATALOG
from tests.gpu.compare import compare, compare_streams
from tests.gpu.devices import Awkward
from tests.gpu.sanitizer import report
from tests.gpu.shim.host import Launch

NAMES = ("chacha20_fill", "aes128_ctr_fill", "dcf_gen", "dcf_eval", "mask_zero")
"""The last one for its masks, which a kernel generates or loads."""


def sanitized(name: str) -> list[Launch]:
    """For `sanitizer.report`."""
    device = Awkward("asan")
    compare(CATALOG[name], device)
    compare_streams(CATALOG[name], device)
    return device.launches


if __name__ == "__main__":
    report(sys.argv[1:], sanitized)
