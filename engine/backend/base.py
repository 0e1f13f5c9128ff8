"""What a party computes with: arrays, kernels and keystreams of one device, behind one interface.

A protocol never asks which device it is on. What it holds are the backend's arrays: numpy's on a CPU, CuPy's on a GPU,
where functions of numpy that take such an array are carried out on the device (NEP 18). Only `upload` and `download`
cross between host and device; a protocol that would do so by accident gets a TypeError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sottovoce.engine.program import Linear
from sottovoce.kernels.cpu.beaver_linear import pack_beaver_conv1d, pack_beaver_matmul
from sottovoce.kernels.cpu.conv import pack_conv1d

U64 = NDArray[np.uint64]
Array = NDArray[Any]
"""An array of the backend, for whoever checks types: CuPy's has no types of its own."""


class Backend(ABC):
    """One device, driven by one thread. The products of a Linear step take inputs (batch, *in_shape) and outputs
    (batch, *linear_shape), C-contiguous."""

    name: str
    """`cpu`, `cuda:0`: for humans and for results."""
    ciphers: tuple[str, ...]
    """For keystreams with the other parties, best first."""
    chunk_elements: int
    """Largest layer of one chunk, in elements, that this device wants; the parties take the smallest of theirs."""
    kernels: SimpleNamespace
    """The kernels of the catalog by name."""

    # Arrays.

    @abstractmethod
    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        """A new array with undefined contents. Raises DeviceMemoryError if there is no room."""

    @abstractmethod
    def upload(self, host: Array) -> Array:
        """A numpy array as this device's."""

    @abstractmethod
    def download(self, array: Any) -> Array:
        """This device's array as numpy's."""

    def hold(self, host: Array) -> Array:
        """A numpy array that is needed again and again: on the device if it has room, else it stays where it is."""
        return self.upload(host)

    def use(self, held: Any) -> Array:
        """What `hold` returned, on the device."""
        array: Array = held
        return array

    # Keystreams.

    @abstractmethod
    def fill(self, cipher: str, key: bytes, operation: int, chunk: int, out: Any) -> None:
        """Write one operation's keystream, see engine/prg.py."""

    def words(self, cipher: str, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[U64, ...]:
        """One operation's keystream in consecutive parts of these lengths."""
        out = self.empty(sum(lengths))
        self.fill(cipher, key, operation, 0, out)
        return tuple(out[end - n : end] for n, end in zip(lengths, accumulate(lengths), strict=True))

    def keystream(self, cipher: str, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[Any, ...]:
        """The same, as arguments for kernels that take uniform words: a device may generate them there."""
        return self.words(cipher, key, operation, lengths)

    # Lanes.

    def active(self) -> AbstractContextManager[None]:
        """While it lasts, this thread computes on this device."""
        return nullcontext()

    def prepare(self) -> None:  # noqa: B027  # a CPU's kernels are compiled when they are imported
        """Compile what this device needs, which may take seconds, before anybody waits."""

    def for_lane(self) -> Self:
        """The same device for another thread."""
        return self

    # Linear layers.

    def pack_linear(self, step: Linear, weight: U64) -> U64:
        """A step's weight, weight.shape, numpy's -> the layout that its product takes, to be held."""
        if step.kind == "conv1d":
            return pack_conv1d(weight, step.groups)
        return np.ascontiguousarray(weight.T)

    def linear(self, step: Linear, x: U64, packed: U64, out: U64, accumulate: bool) -> None:
        """out (+)= x * weight, the weight from `pack_linear`."""
        if step.kind == "conv1d":
            self.kernels.conv1d(x, packed, out, *_geometry(step), accumulate)
        else:
            self.kernels.matmul(x, packed, out, accumulate)

    def pack_beaver(self, step: Linear, w: U64, e: U64) -> U64:
        """W' = B_i (+ E at P_0) and E = W - B, of weight.shape each, numpy's -> what `beaver_linear` takes."""
        if step.kind == "conv1d":
            return pack_beaver_conv1d(w, e, step.groups)
        return pack_beaver_matmul(w, e)

    def beaver_linear(self, step: Linear, d: U64, a: U64, packed: U64, out: U64) -> None:
        """out += D * W' + A * E."""
        if step.kind == "conv1d":
            self.kernels.beaver_conv1d(d, a, packed, out, *_geometry(step))
        else:
            self.kernels.beaver_matmul(d, a, packed, out)


def _geometry(step: Linear) -> tuple[int, int, int, int]:
    """stride, pad_left, dilation and groups: what the convolution kernels take behind their arrays."""
    return step.stride, step.padding[0], step.dilation, step.groups
