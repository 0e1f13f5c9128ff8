"""The shim itself: barriers, exchanges, atomics and intrinsics of CUDA on the CPU, and the errors that it reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.gpu import units
from tests.gpu.require import needs_compiler
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.host import HostDevice, KernelError, Mode

pytestmark = needs_compiler
ORDERS: tuple[Mode, ...] = ("plain", "reversed")


def device_for(body: str, mode: Mode = "plain", flags: tuple[str, ...] = ()) -> HostDevice:
    return HostDevice(mode, text=lambda _: units.with_prelude(body), flags=flags)


def run(device: HostDevice, kernel: str, grid: int, block: int, *arguments: Any, shared_bytes: int = 0) -> None:
    device.launch("unit", kernel, (grid, 1, 1), (block, 1, 1), arguments, shared_bytes)


# ---- what works ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("-DSHIM_UCONTEXT",)], ids=["assembly", "ucontext"])
@pytest.mark.parametrize("mode", ORDERS)
def test_barriers(mode: Mode, flags: tuple[str, ...], rng: np.random.Generator) -> None:
    device = device_for(units.SUM, mode, flags)
    host = rng.integers(0, 2**64, (5, 256), dtype=np.uint64)
    out = device.empty((5,), np.uint64)
    for _ in range(2):  # fibers are used again
        run(device, "block_sums", 5, 256, device.upload(host), out)
        np.testing.assert_array_equal(out.get(), host.sum(1))


@pytest.mark.parametrize("mode", ORDERS)
def test_dynamic_shared_memory(mode: Mode) -> None:
    device = device_for(units.REVERSE, mode)
    x, out = device.upload(np.arange(3 * 70, dtype=np.uint64)), device.empty((210,), np.uint64)
    run(device, "reverse_blocks", 3, 70, x, out, shared_bytes=70 * 8)
    np.testing.assert_array_equal(out.get().reshape(3, 70), np.arange(210).reshape(3, 70)[:, ::-1])
    with pytest.raises(KernelError, match="beside its 552 bytes of dynamic shared"):
        run(device, "reverse_blocks", 1, 70, x, out, shared_bytes=69 * 8)


@pytest.mark.parametrize("mode", ORDERS)
def test_exchanges_of_a_warp(mode: Mode, rng: np.random.Generator) -> None:
    device = device_for(units.WARP, mode)
    x = rng.integers(0, 2**64, 32, dtype=np.uint64)
    out = device.empty((224,), np.uint64)
    out.fill(0)
    run(device, "warp_exchanges", 1, 32, device.upload(x), out)
    down, up, halves, total, votes, few, counts = out.get().reshape(7, 32)
    np.testing.assert_array_equal(down, np.concatenate([x[3:], x[29:]]))
    np.testing.assert_array_equal(up, np.concatenate([x[:5], x[:27]]))
    np.testing.assert_array_equal(halves, np.repeat(x[[1, 17]], 16))
    assert set(total) == {x.sum() + np.uint64(31 * 16)}
    assert set(votes) == {np.packbits((x & np.uint64(1)).astype(np.uint8), bitorder="little").view(np.uint32)[0]}
    np.testing.assert_array_equal(few, [2] * 8 + [0] * 24)
    assert set(counts) == {11}


@pytest.mark.parametrize("signed", [False, True])
def test_mma_has_ptx_s_layout_and_wraps(signed: bool, rng: np.random.Generator) -> None:
    """The fragments of `mma.m16n8k32` (PTX ISA): groups of 4 lanes share a row of A and D and a column of B."""
    element = np.int8 if signed else np.uint8
    a, b = rng.integers(0, 256, (16, 32)).astype(np.uint8), rng.integers(0, 256, (32, 8)).astype(np.uint8)
    c = rng.integers(-(2**31), 2**31, (16, 8)).astype(np.int32)
    c[0] = [2**31 - 1, -(2**31)] * 4  # wraps either way
    lane = np.arange(32)
    group, member = lane // 4, lane % 4
    i = np.arange(16)
    a_rows, a_columns = group[:, None] + i // 4 % 2 * 8, member[:, None] * 4 + i % 4 + i // 8 * 16
    i = np.arange(8)
    b_rows, b_columns = member[:, None] * 4 + i % 4 + i // 4 * 16, group[:, None] + 0 * i
    i = np.arange(4)
    c_rows, c_columns = group[:, None] + i // 2 * 8, member[:, None] * 2 + i % 2
    device = device_for(units.MMA)
    accumulators = [device.upload(np.ascontiguousarray(c[c_rows, c_columns])) for _ in range(2)]
    fragments = [
        device.upload(np.ascontiguousarray(x).view(np.uint32)) for x in (a[a_rows, a_columns], b[b_rows, b_columns])
    ]
    run(device, "multiply", 1, 32, *fragments, *accumulators)
    got = np.empty_like(c)
    got[c_rows, c_columns] = accumulators[signed].get()
    product = a.view(element).astype(np.int64) @ b.view(element).astype(np.int64)
    np.testing.assert_array_equal(got, (product + c).astype(np.int32))


@pytest.mark.parametrize("mode", ORDERS)
def test_atomics(mode: Mode) -> None:
    device = device_for(units.ATOMICS, mode)
    sums, bits = device.upload(np.zeros(3, np.uint64)), device.upload(np.zeros(1, np.uint32))
    run(device, "count", 3, 64, sums, bits, np.int64(1000))
    mixed = np.arange(1000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    np.testing.assert_array_equal(sums.get(), [mixed.sum(), np.bitwise_xor.reduce(mixed), 1000])
    np.testing.assert_array_equal(bits.get(), [2**32 - 1])


def test_intrinsics() -> None:
    device = device_for(units.INTRINSICS)
    x, y, z = 0xFEDCBA9876543210, 0x00F0C3A5, 0x89ABCDEF
    out = device.empty((14,), np.uint64)
    run(device, "intrinsics", 1, 1, np.uint64(x), np.uint32(y), np.uint32(z), out)
    both = z << 32 | y
    bits = [int(f"{value:0{width}b}"[::-1], 2) for value, width in ((y, 32), (x, 64))]
    expected = [x * x >> 64, 12, 32, 8, 0, 1, 5, *bits, 0x89F0CDA5]
    expected += [both << 7 >> 32 & 0xFFFFFFFF, both >> 7 & 0xFFFFFFFF, 2**64 - 2**32 + z, x]
    np.testing.assert_array_equal(out.get(), np.array(expected, np.uint64))


def test_what_nobody_set_is_garbage() -> None:
    device = device_for(units.GARBAGE)
    out = device.empty((8,), np.uint64)
    run(device, "uninitialised", 2, 1, out)
    for shared, local, *tiles in out.get().reshape(2, 4).tolist():
        assert shared == tiles[0] == tiles[1] == 0xA5A5A5A5A5A5A5A5  # also where the block before has written 7
        assert local == 0xFEFEFEFEFEFEFEFE


# ---- what must be reported ----------------------------------------------------------------------------------------


def test_threads_that_end_early_do_not_hold_up_a_barrier() -> None:
    device = device_for(units.DEADLOCK)
    out = device.upload(np.zeros(40, np.uint64))
    run(device, "early_leave", 1, 40, out)
    np.testing.assert_array_equal(out.get(), np.where(np.arange(40) == 5, 0, np.arange(40)))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            "divergent_barrier",
            "threads 0 to 31 wait at __syncthreads in line 9; threads 32 to 63 wait at __syncthreads in line 13",
        ),
        ("missing_lane", "threads 0 to 2 wait at a vote in line 17; threads 3 to 3 wait at __syncthreads in line 18"),
    ],
)
def test_a_deadlock_tells_who_waits_where(kernel: str, message: str) -> None:
    device = device_for(units.DEADLOCK)
    out = device.upload(np.zeros(64, np.uint64))
    with pytest.raises(KernelError, match=message):
        run(device, kernel, 1, 64, out)
    run(device, "early_leave", 1, 64, out)  # the fibers left waiting are replaced
    assert int(out.get()[63]) == 63


def arguments_of(device: HostDevice) -> dict[str, Any]:
    return {"x": device.empty((64,), np.uint32), "out": device.empty((64,), np.uint32)} | {
        "odd": device.empty((1,), np.uint64),
        "n": np.int64(64),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 64}, r"argument 3 \(n\): expected a numpy int64, got int"),
        ({"n": np.int32(64)}, "expected a numpy int64, got numpy int32"),
        ({"n": np.uint64(64)}, "expected a numpy int64, got numpy uint64"),
        ({"x": np.zeros(64, np.uint32)}, "expected device memory or NULL, got ndarray"),
        ({"x": np.uint64(1)}, "expected device memory or NULL"),
        ({"x": np.int64}, "expected an array of uint32, got int64"),
        ({"odd": np.uint32}, "expected an array of uint64, got uint32"),
        ({"x": lambda x: x.reshape(8, 8).T}, r"\(8, 8\) is not contiguous"),
    ],
)
def test_arguments_are_checked_against_the_parameters(change: dict[str, Any], message: str) -> None:
    device = device_for(units.TOY)
    arguments = arguments_of(device)
    for name, value in change.items():
        if isinstance(value, type):
            value = device.empty((64,), value)
        elif callable(value):
            value = value(arguments[name])
        arguments[name] = value
    with pytest.raises(KernelError, match=message):
        run(device, "toy", 1, 64, *arguments.values())
    assert device.launches == []


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes", "message"),
    [
        ((1, 65536, 1), (1, 1, 1), 0, "grid"),
        ((0, 1, 1), (1, 1, 1), 0, "grid"),
        ((1 << 31, 1, 1), (1, 1, 1), 0, "grid"),
        ((1, 1, 1), (1, 1, 65), 0, "block"),
        ((1, 1, 1), (33, 32, 1), 0, "1056 threads in a block"),
        ((1, 1, 1), (64, 1, 1), (227 << 10) + 1, "shared memory"),
    ],
)
def test_cuda_s_limits(
    grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, message: str
) -> None:
    device = device_for(units.TOY)
    with pytest.raises(KernelError, match=message):
        device.launch("unit", "toy", grid, block, tuple(arguments_of(device).values()), shared_bytes)


def test_launch_bounds() -> None:
    device = device_for(units.GARBAGE)
    with pytest.raises(KernelError, match="at most 64"):
        run(device, "uninitialised", 1, 65, device.empty((8,), np.uint64))


def test_number_of_arguments_and_name_of_kernel() -> None:
    device = device_for(units.TOY)
    with pytest.raises(KernelError, match="expected 4 arguments"):
        run(device, "toy", 1, 1)
    with pytest.raises(KernelError, match="no kernel toi; it has toy"):
        run(device, "toi", 1, 1)


# ---- device memory ------------------------------------------------------------------------------------------------

ONE = np.uint64(1)


def test_arithmetic_is_on_elements_of_one_dtype() -> None:
    device = HostDevice()
    host = np.array([1, 2**63, 2**64 - 1], np.uint64)
    x, y = device.upload(host), device.upload(host[::-1].copy())
    for got, want in (
        (x + y, host + host[::-1]),
        (x * np.uint64(3), host * np.uint64(3)),
        (ONE - x, ONE - host),
        (~x ^ y, ~host ^ host[::-1]),
        ((x << ONE) | (y >> ONE), (host << ONE) | (host[::-1] >> ONE)),
    ):
        np.testing.assert_array_equal(got.get(), want)
    z = x[1:]
    z += y[:2]
    np.testing.assert_array_equal(x.get(), host + np.array([0, 2**64 - 1, 2**63], np.uint64))


REFUSED: list[Callable[[DeviceArray], Any]] = [
    np.asarray,
    list,
    bool,
    float,
    int,
    lambda x: x + np.zeros(4, np.uint64),
    lambda x: np.zeros(4, np.uint64) + x,
    lambda x: ONE + x + 1,
    lambda x: x + np.int64(1),
    lambda x: x == x,
    lambda x: np.add(x, x),
    lambda x: x.__setitem__(slice(None), np.zeros(4, np.uint64)),
    lambda x: x.__setitem__(slice(None), x.astype(np.int64)),
    lambda x: x[[0, 1]],
    lambda x: x[x],
    lambda x: HostDevice().xp.concatenate([x, np.zeros(4, np.uint64)]),
    lambda x: HostDevice().download(x.get()),
]


@pytest.mark.parametrize("use", REFUSED)
def test_no_way_leads_to_the_host_by_itself(use: Callable[[DeviceArray], Any]) -> None:
    with pytest.raises(TypeError):
        use(HostDevice().upload(np.ones(4, np.uint64)))


def test_views_share_memory_and_copies_do_not() -> None:
    x = HostDevice().upload(np.arange(24, dtype=np.uint64).reshape(2, 3, 4))
    x.reshape(6, 4)[2:3].fill(7)
    assert x[0, 2].get().tolist() == [7] * 4
    assert not x.T.flags.c_contiguous and x.T.copy().flags.c_contiguous
    x.T.reshape(-1).fill(0)  # of a transposed array: a copy
    x.copy().fill(0)
    assert x.view(np.uint8).shape == (2, 3, 32) and int(x.get().max()) == 23


def test_a_download_is_a_copy_of_its_point_in_the_stream_and_there_after_wait() -> None:
    device = HostDevice()
    x = device.upload(np.arange(4, dtype=np.uint64))
    download = device.download(x)
    x.fill(9)
    assert set(download.buffer.tolist()) == {0xA5A5A5A5A5A5A5A5}
    assert download.wait().tolist() == [0, 1, 2, 3]


def test_memory_is_counted_limited_and_full_of_garbage() -> None:
    device = HostDevice(capacity_bytes=1000)
    x = device.empty((100,), np.uint64)
    assert device.another_stream().memory() == (200, 1000)
    assert set(x.get().tolist()) == {0xA5A5A5A5A5A5A5A5}
    with pytest.raises(MemoryError, match="800 of 1000"):
        device.empty((26,), np.uint64)
    del x
    assert device.memory() == (1000, 1000)


def test_upload_into_copies_at_once() -> None:
    device = HostDevice()
    host, x = np.arange(4, dtype=np.uint64), device.empty((2, 2), np.uint64)
    device.upload_into(host, x)
    host[:] = 0
    assert x.get().tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="24 bytes do not fit 32"):
        device.upload_into(host[:3], x)


def test_functions_of_the_module() -> None:
    device = HostDevice()
    xp = device.xp
    bits = np.array([1, 0, 0, 1, 1, 0, 1, 0, 1, 1], np.uint8)
    packed = xp.packbits(device.upload(bits), bitorder="little")
    assert packed.get().tolist() == [0b01011001, 0b11]
    assert xp.unpackbits(packed, bitorder="little")[:10].get().tolist() == bits.tolist()
    x = xp.arange(6, dtype=np.uint64).reshape(2, 3)
    assert xp.stack([x, xp.zeros((2, 3), np.uint64)]).shape == (2, 2, 3)
    assert xp.concatenate([x, x], axis=1).get()[1].tolist() == [3, 4, 5, 3, 4, 5]
    assert xp.ascontiguousarray(x.T).get().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert xp.broadcast_to(x[0], (4, 3)).get().tolist() == [[0, 1, 2]] * 4
    assert xp.empty_like(x).dtype == np.uint64
