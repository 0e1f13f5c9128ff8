"""Kernels on a device against the CPU's, bit for bit: sizes, seeds and keystreams beyond the catalog's samples.

`device` is any `kernels.gpu.device.Device`: a GPU, or the tests' device that executes the CUDA sources on the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from sottovoce.bench.gpu.schema import Checked
from sottovoce.bench.kernels.workloads import WORKLOADS
from sottovoce.kernels.catalog import CATALOG, Arguments, Kernel
from sottovoce.kernels.cpu.prg import CHACHA20_BLOCK_WORDS
from sottovoce.kernels.gpu.device import STREAM_WORDS, Device, Keystream
from sottovoce.kernels.gpu.tensor.choose import VARIANTS
from sottovoce.kernels.samples import ring_array

Reference = Callable[..., None]
"""The kernel in Python's big integers; writes into its output arguments."""

FIRST_WORDS = (0, 5, 8)
"""Where keystreams begin, at a block and inside one; others end with their operation's last word."""
KEY = (1, 2**64 - 1, 3, 2**63)
REFERENCE_SEED = 0
"""Big integers are slow: of one seed only."""


@dataclass(frozen=True, slots=True)
class Effort:
    """seeds: of the catalog's samples. sizes: random sizes of each workload's, `most_bytes` or less. step: every how
    many samples one is taken; above 1 random sizes and big integers are left out too, for slow tools."""

    seeds: int = 4
    sizes: int = 3
    most_bytes: int = 8 << 20
    step: int = 1


QUICK = Effort(seeds=2, sizes=2, most_bytes=2 << 20)
SMALL = Effort(seeds=1, sizes=0, step=4)


class _WrongResult(Exception):
    """What differs."""


def _rows() -> Mapping[str, Kernel]:
    rows = {name: row for name, row in CATALOG.items() if row.gpu is not None}
    for variant, launchers in VARIANTS.items():
        rows[f"{variant}.matmul"] = replace(CATALOG["matmul"], gpu=launchers.matmul)
        rows[f"{variant}.conv1d"] = replace(CATALOG["conv1d"], gpu=launchers.conv1d)
    return MappingProxyType(rows)


ROWS = _rows()
"""Every kernel with a twin, and every variant of the products; by name."""


def check_row(
    name: str, device: Device, effort: Effort, references: Mapping[str, Reference] | None = None, seed: int = 0
) -> Checked:
    """All comparisons of a row, up to the first that fails. Errors of the device other than a wrong result pass."""
    row = ROWS[name]
    counted = _Counts()
    reference = (references or {}).get(row.name) if effort.step == 1 else None
    try:
        for number in range(effort.seeds):
            big = reference if number == REFERENCE_SEED else None
            for index, sample in enumerate(row.samples(np.random.default_rng(seed + number))[:: effort.step]):
                _compare(row, device, sample, f"seed {seed + number}, sample {index}", counted, big)
                _compare_streams(row, device, sample, index, f"seed {seed + number}, sample {index}", counted)
        rng = np.random.default_rng(seed)
        for index, (where, sample) in enumerate(larger(row.name, effort, rng)):
            _compare(row, device, sample, where, counted, None)
            _compare_streams(row, device, sample, index, where, counted)
    except _WrongResult as problem:
        return counted.checked(name, str(problem))
    return counted.checked(name)


def larger(name: str, effort: Effort, rng: np.random.Generator) -> Iterator[tuple[str, Arguments]]:
    """Arguments of random numbers of elements or clips, from 1 to as many as `most_bytes` hold, evenly by magnitude."""
    if name in ("matmul", "conv1d") and effort.sizes:
        for _ in range(effort.sizes):
            yield "random shape", (_random_matmul(rng) if name == "matmul" else _random_conv1d(rng))
    workloads = WORKLOADS[name]() if name in WORKLOADS else []
    for workload in workloads[:: max(len(workloads) // 4, 1)] if effort.sizes else ():
        if workload.resize is None:
            if workload.small:
                yield workload.size, workload.make(rng)
            continue
        per_element = _bytes(workload.resize("", 64).make(rng)) / 64
        most = max(effort.most_bytes / per_element, 1.0)
        for _ in range(effort.sizes):
            n = int(np.exp(rng.uniform(0, np.log(most))))
            yield f"{workload.size}, resized to {n}", workload.resize("", n).make(rng)


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


@dataclass
class _Counts:
    calls: int = 0
    streams: int = 0
    references: int = 0

    def checked(self, kernel: str, problem: str = "") -> Checked:
        return Checked(
            kernel=kernel, status="wrong" if problem else "equal", calls=self.calls, streams=self.streams,
            references=self.references, problem=problem,
        )  # fmt: skip


def _compare_streams(row: Kernel, device: Device, sample: Arguments, index: int, where: str, counted: _Counts) -> None:
    """Once for each argument that may be a keystream, with one in its place, and once with all of them."""
    positions = stream_positions(row)
    for chosen in dict.fromkeys([*((position,) for position in positions), positions]):
        if not chosen:
            continue
        first = {i: (*FIRST_WORDS, STREAM_WORDS - sample[i].size)[index % (len(FIRST_WORDS) + 1)] for i in chosen}
        streams = {i: Keystream(KEY, 2**64 - 1 - index - i, first[i], sample[i].shape) for i in chosen}
        changed = tuple(stream_words(streams[i]) if i in streams else a for i, a in enumerate(sample))
        counted.streams += 1
        _compare(row, device, changed, f"{where}, keystreams at arguments {chosen}", counted, None, streams)


def _compare(
    row: Kernel,
    device: Device,
    sample: Arguments,
    where: str,
    counted: _Counts,
    reference: Reference | None,
    streams: Mapping[int, Keystream] = MappingProxyType({}),
) -> None:
    """One call. Raises _WrongResult that names argument and element."""
    assert row.gpu is not None
    there = on_device(device, sample)
    row.gpu(device, *[streams.get(i, a) for i, a in enumerate(there)])
    expected = _copy(sample)
    row.cpu(*expected)
    counted.calls += 1
    if reference is not None:
        exact = _copy(sample)
        reference(*exact)
        counted.references += 1
        _same(row, sample, exact, expected, f"{where}: the CPU kernel beside big integers")
    got = [device.download(a).wait() if isinstance(sample[i], np.ndarray) else a for i, a in enumerate(there)]
    _same(row, sample, expected, got, where)


def _same(row: Kernel, sample: Arguments, expected: Arguments, got: Any, where: str) -> None:
    """Outputs as expected, inputs as they were."""
    for position, before in enumerate(sample):
        if not isinstance(before, np.ndarray):
            continue
        want = expected[position] if position in row.outputs else before
        if not np.array_equal(got[position], want):
            raise _WrongResult(f"{where}, {_difference(position, position in row.outputs, got[position], want)}")


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


def _bytes(arguments: Arguments) -> int:
    return sum(a.nbytes for a in arguments if isinstance(a, np.ndarray))


def _random_matmul(rng: np.random.Generator) -> Arguments:
    rows, inner, columns = (int(n) for n in np.exp(rng.uniform(0, np.log((300, 2000, 200)))))
    arrays = (ring_array(rng, shape) for shape in ((rows, inner), (inner, columns), (rows, columns)))
    return *arrays, bool(rng.integers(2))


def _random_conv1d(rng: np.random.Generator) -> Arguments:
    batch, channels, columns, time = (int(n) for n in np.exp(rng.uniform(0, np.log((9, 70, 70, 90)))))
    groups, taps, stride, dilation = (int(n) for n in rng.integers(1, (4, 8, 4, 4)))
    pad_left = int(rng.integers(0, taps * dilation))
    time_out = int(rng.integers(1, time + 2))
    shapes = ((batch, groups * channels, time), (groups, taps, channels, columns), (batch, groups * columns, time_out))
    return *(ring_array(rng, shape) for shape in shapes), stride, pad_left, dilation, groups, bool(rng.integers(2))
