"""The CPU backend: numpy arrays, the catalog's CPU kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import Linear
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu.beaver_linear import pack_beaver_conv1d, pack_beaver_matmul
from sottovoce.kernels.cpu.conv import pack_conv1d

AES_KEY_BYTES = 16

U64 = NDArray[np.uint64]


class CpuBackend:
    """Kernels by name (`backend.kernels.matmul`), keystreams and weight layouts of this device.

    The products of a Linear step take inputs (batch, *in_shape) and outputs (batch, *linear_shape), C-contiguous.
    """

    name = "cpu"

    def __init__(self) -> None:
        self.kernels = SimpleNamespace(**{name: row.cpu for name, row in CATALOG.items()})

    def fill(self, cipher: str, key: bytes, operation: int, chunk: int, out: NDArray[Any]) -> None:
        """Write one operation's keystream, see engine/prg.py."""
        if cipher == "chacha20":
            self.kernels.chacha20_fill(np.frombuffer(key, "<u4").copy(), operation, chunk, out)
        else:
            self.kernels.aes128_ctr_fill(np.frombuffer(key[:AES_KEY_BYTES], np.uint8).copy(), operation, chunk, out)

    def pack_conv1d(self, weight: U64, groups: int) -> U64:
        """(c_out, c_in / groups, kernel) -> the layout that `conv1d` takes."""
        return pack_conv1d(weight, groups)

    def pack_linear(self, step: Linear, weight: U64) -> U64:
        """A step's weight, weight.shape -> the layout that its product takes."""
        if step.kind == "conv1d":
            return pack_conv1d(weight, step.groups)
        return np.ascontiguousarray(weight.T)

    def linear(self, step: Linear, x: U64, weight: U64, out: U64) -> None:
        """out = x * weight, for a weight that is used once."""
        packed = self.pack_linear(step, weight)
        if step.kind == "conv1d":
            self.kernels.conv1d(x, packed, out, *_geometry(step), False)
        else:
            self.kernels.matmul(x, packed, out, False)

    def pack_beaver(self, step: Linear, w: U64, e: U64) -> U64:
        """W' = B_i (+ E at P_0) and E = W - B, of weight.shape each -> the layout that `beaver_linear` takes."""
        if step.kind == "conv1d":
            return pack_beaver_conv1d(w, e, step.groups)
        return pack_beaver_matmul(w, e)

    def beaver_linear(self, step: Linear, d: U64, a: U64, packed: U64, out: U64) -> None:
        """out += D * W' + A * E."""
        if step.kind == "conv1d":
            self.kernels.beaver_conv1d(d, a, packed, out, *_geometry(step))
        else:
            self.kernels.beaver_matmul(d, a, packed, out)

    def triple_linear(self, step: Linear, a0: U64, a1: U64, packed_b: U64, c0: U64, out: U64) -> None:
        """out = (a0 + a1) * B - c0, B from `pack_linear`."""
        if step.kind == "conv1d":
            self.kernels.triple_conv1d(a0, a1, packed_b, c0, out, *_geometry(step))
        else:
            self.kernels.triple_matmul(a0, a1, packed_b, c0, out)


def _geometry(step: Linear) -> tuple[int, int, int, int]:
    """stride, pad_left, dilation and groups: what the convolution kernels take behind their arrays."""
    return step.stride, step.padding[0], step.dilation, step.groups
