"""One call of a kernel on a device beside the CPU's, bit for bit; with arrays, and with keystreams in their place.

`device` is any `kernels.gpu.device.Device`: a GPU, or the tests' device that executes the CUDA sources on the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.cpu.prg import CHACHA20_BLOCK_WORDS
from sottovoce.kernels.gpu.device import STREAM_WORDS, Device, Keystream

Reference = Callable[..., None]
"""The kernel in Python's big integers; writes into its output arguments."""
Streams = Mapping[int, Keystream]
"""By the position of the argument whose place they take."""

FIRST_WORDS = (0, 5, 8)
"""Where keystreams begin, at a block and inside one; others end with their operation's last word."""
KEY = (1, 2**64 - 1, 3, 2**63)
NO_STREAMS: Streams = MappingProxyType({})


class MismatchError(AssertionError):
    """A result is not the expected one: a bug of ours. Says where, which argument and which element."""


def run_both(
    row: Kernel,
    device: Device,
    sample: Arguments,
    where: str,
    streams: Streams = NO_STREAMS,
    reference: Reference | None = None,
) -> None:
    """One call. The outputs must be the CPU kernel's (and those the reference's), the inputs as they were.

    sample: numpy arrays and numbers; none of them is changed. Raises MismatchError.
    """
    assert row.gpu is not None
    there = on_device(device, sample)
    row.gpu(device, *[streams.get(i, a) for i, a in enumerate(there)])
    expected = _copy(sample)
    row.cpu(*expected)
    if reference is not None:
        exact = _copy(sample)
        reference(*exact)
        _check_same(row, sample, exact, expected, f"{where}: the CPU kernel beside big integers")
    got = [device.download(a).wait() if isinstance(sample[i], np.ndarray) else a for i, a in enumerate(there)]
    _check_same(row, sample, expected, got, where)


def with_keystreams(row: Kernel, sample: Arguments, number: int) -> Iterator[tuple[str, Arguments, Streams]]:
    """The sample once for each argument that may be a keystream, and once with all of them: what is replaced, the
    arguments with the keystreams' words in place, the keystreams. number: of the sample; chooses where they begin.
    """
    positions = stream_positions(row)
    for chosen in dict.fromkeys([*((position,) for position in positions), positions]):
        if not chosen:
            continue
        first = {i: (*FIRST_WORDS, STREAM_WORDS - sample[i].size)[number % (len(FIRST_WORDS) + 1)] for i in chosen}
        streams = {i: Keystream(KEY, 2**64 - 1 - number - i, first[i], sample[i].shape) for i in chosen}
        words = tuple(stream_words(streams[i]) if i in streams else a for i, a in enumerate(sample))
        yield f"keystreams at arguments {chosen}", words, streams


def stream_positions(row: Kernel) -> tuple[int, ...]:
    """The arguments for which the launcher takes a Keystream, by its annotations."""
    assert row.gpu is not None
    parameters = list(inspect.signature(row.gpu).parameters.values())[1:]
    return tuple(i for i, p in enumerate(parameters) if "Keystream" in str(p.annotation))


def stream_words(stream: Keystream) -> NDArray[np.uint64]:
    """The words of a keystream, from OpenSSL's ChaCha20."""
    key = np.array(stream.key, "<u8").tobytes()
    block, skip = divmod(stream.first, CHACHA20_BLOCK_WORDS)
    nonce = block.to_bytes(8, "little") + stream.operation.to_bytes(8, "little")
    made = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(8 * (skip + stream.size)))
    return np.frombuffer(made, "<u8")[skip:].reshape(stream.shape).astype(np.uint64)


def on_device(device: Device, arguments: Arguments) -> list[Any]:
    """The arguments with arrays on the device."""
    return [device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]


def _check_same(row: Kernel, sample: Arguments, expected: Arguments, got: Any, where: str) -> None:
    """Outputs as expected, inputs as in the sample."""
    for position, before in enumerate(sample):
        if not isinstance(before, np.ndarray):
            continue
        is_output = position in row.outputs
        want = expected[position] if is_output else before
        if not np.array_equal(got[position], want):
            raise MismatchError(f"{where}, {_difference(position, is_output, got[position], want)}")


def _difference(position: int, is_output: bool, got: NDArray[Any], want: NDArray[Any]) -> str:
    wrong = np.argwhere(got != want)
    first = tuple(int(i) for i in wrong[0])
    what = "output" if is_output else "input, which was changed,"
    values = f"first at {list(first)}: expected {want[first]:#x}, got {got[first]:#x}"
    return (
        f"{what} argument {position} {want.shape} {want.dtype}: {len(wrong)} of {want.size} elements differ, {values}"
    )


def _copy(arguments: Arguments) -> Arguments:
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)
