"""A kernel's CUDA twin against its CPU kernel on the samples of the catalog, bit for bit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from sottovoce.kernels.catalog import Kernel
from sottovoce.kernels.gpu.device import STREAM_WORDS, Keystream
from sottovoce.kernels.gpu.sources import source
from tests.gpu.devices import Unaligned
from tests.gpu.shim.host import HostDevice, Launch, Mode

Arguments = tuple[Any, ...]
SEED = 17
FIRST_WORDS = (0, 5, 8, STREAM_WORDS)
"""Where the keystreams begin: at a block, inside one, and as late in an operation as their length allows."""


class MismatchError(AssertionError):
    """The twin's result differs from the CPU kernel's."""


def samples(row: Kernel) -> list[Arguments]:
    """Fresh samples of the row, the same every time."""
    return row.samples(np.random.default_rng(SEED))


def gate(row: Kernel, mode: Mode, text: Callable[[str], str] = source) -> list[Launch]:
    """All that a kernel must pass in one mode: arrays and keystreams; arrays aligned as allocated (plain), an element
    behind (reversed), or either (asan). Returns what was launched; raises MismatchError or KernelError.
    """
    kinds = {"plain": (HostDevice,), "reversed": (Unaligned,), "asan": (Unaligned, HostDevice)}[mode]
    devices = [kind(mode, text=text) for kind in kinds]
    for device in devices:
        compare(row, device)
    compare_streams(row, devices[0])
    return [launch for device in devices for launch in device.launches]


def compare(row: Kernel, device: HostDevice, cases: Sequence[Arguments] | None = None) -> None:
    """Run the twin and the CPU kernel on every sample. MismatchError names sample, argument and element."""
    for number, sample in enumerate(samples(row) if cases is None else cases):
        run_both(row, device, sample, f"{row.name} ({device.mode}), sample {number}")


def compare_streams(row: Kernel, device: HostDevice) -> None:
    """Run every sample once for each parameter that may be a keystream, with one in place of the array."""
    for position in stream_positions(row):
        for number, sample in enumerate(samples(row)):
            first = min(FIRST_WORDS[number % len(FIRST_WORDS)], STREAM_WORDS - sample[position].size)
            stream = Keystream((1, 2**64 - 1, 3, 2**63), 2**64 - 1 - number, first, sample[position].shape)
            changed = (*sample[:position], stream_words(stream), *sample[position + 1 :])
            where = f"{row.name} ({device.mode}), sample {number}, keystream at argument {position}"
            run_both(row, device, changed, where, {position: stream})


def run_both(
    row: Kernel,
    device: HostDevice,
    sample: Arguments,
    where: str,
    streams: dict[int, Keystream] | None = None,
) -> None:
    """One sample, with `streams` in place of some of its arrays on the device."""
    assert row.gpu is not None
    on_device = [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]
    row.gpu(device, *[(streams or {}).get(i, a) for i, a in enumerate(on_device)])
    expected = [a.copy() if isinstance(a, np.ndarray) else a for a in sample]
    row.cpu(*expected)
    for position, (before, want, have) in enumerate(zip(sample, expected, on_device, strict=True)):
        if not isinstance(before, np.ndarray):
            continue
        is_output = position in row.outputs
        got = device.download(have).wait()
        if not np.array_equal(got, want if is_output else before):
            raise MismatchError(f"{where}: {_difference(position, is_output, got, want if is_output else before)}")


def stream_positions(row: Kernel) -> tuple[int, ...]:
    """The arguments for which the launcher takes a Keystream, by its annotations."""
    assert row.gpu is not None
    parameters = list(inspect.signature(row.gpu).parameters.values())[1:]
    return tuple(i for i, p in enumerate(parameters) if "Keystream" in str(p.annotation))


def stream_words(stream: Keystream) -> NDArray[np.uint64]:
    """The words of a keystream, from OpenSSL's ChaCha20 one block at a time."""
    key = np.array(stream.key, "<u8").tobytes()
    last = -(-(stream.first + stream.size) // 8)
    blocks = [_block(key, stream.operation, block) for block in range(stream.first // 8, last)]
    skip = stream.first % 8
    return np.frombuffer(b"".join(blocks), "<u8")[skip : skip + stream.size].reshape(stream.shape).astype(np.uint64)


def _block(key: bytes, operation: int, block: int) -> bytes:
    nonce = block.to_bytes(8, "little") + operation.to_bytes(8, "little")
    return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))


def _difference(position: int, is_output: bool, got: NDArray[Any], want: NDArray[Any]) -> str:
    wrong = np.argwhere(got != want)
    first = tuple(int(i) for i in wrong[0])
    what = "output" if is_output else "input, which was changed,"
    values = f"first at {list(first)}: expected {want[first]:#x}, got {got[first]:#x}"
    return (
        f"{what} argument {position} {want.shape} {want.dtype}: {len(wrong)} of {want.size} elements differ, {values}"
    )
