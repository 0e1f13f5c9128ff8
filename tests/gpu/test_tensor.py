"""Ring products on tensor cores: every variant equals the CPU kernel, up to the longest sums, and what is refused."""

from __future__ import annotations

import re
from math import gcd, prod

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import MismatchError
from sottovoce.kernels.cpu.gemm import matmul as cpu_matmul
from sottovoce.kernels.gpu.device import Array
from sottovoce.kernels.gpu.sources import source
from sottovoce.kernels.gpu.tensor import blocked, crt_s8, cublas_s8, mma_u8
from sottovoce.kernels.gpu.tensor.choose import VARIANTS
from sottovoce.kernels.gpu.tensor.tables import Variant
from tests.gpu.compare import compare
from tests.gpu.devices import Unaligned
from tests.gpu.require import needs_compiler
from tests.gpu.sanitizer import assert_clean
from tests.gpu.shim.host import HostDevice, KernelError
from tests.gpu.tensor_cases import ROWS, WORST_BYTES, WORST_DIGITS, larger, run

pytestmark = needs_compiler
TENSOR: tuple[Variant, ...] = ("mma_u8", "cublas_s8", "crt_s8")
NAMES = [name for name in ROWS if not name.startswith("imad")]


def product(variant: Variant, value: np.uint64, inner: int) -> tuple[int, int]:
    """A sum of `inner` squares of a value, on the host device and in Python."""
    device = HostDevice()
    x, w = device.upload(np.full((1, inner), value)), device.upload(np.full((inner, 1), value))
    out = device.empty((1, 1), np.uint64)
    VARIANTS[variant].matmul(device, x, w, out, False)
    return int(device.download(out).wait()[0, 0]), int(value) ** 2 * inner % 2**64


# ---- equal to the CPU kernel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_cpu_kernel(name: str) -> None:
    run(name, HostDevice())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "device",
    [HostDevice("reversed"), Unaligned(), HostDevice(multiprocessors=200), HostDevice(multiprocessors=1)],
    ids=["reversed", "unaligned", "many slices", "one slice"],
)
def test_schedules_alignments_and_slices(name: str, device: HostDevice) -> None:
    row = ROWS[name]
    compare(row, device, larger(row.name, np.random.default_rng(6)))


def test_no_access_outside_of_an_array() -> None:
    assert_clean(NAMES, "tests.gpu.tensor_cases")


@pytest.mark.parametrize("scheme", ["cublas_s8", "crt_s8"])
def test_blocks_of_rows_and_clips(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace for some rows, and for one clip: the blocks together give the whole."""
    monkeypatch.setattr(blocked, "WORKSPACE_BYTES", 60_000)
    for kind in ("matmul", "conv1d"):
        row, device = ROWS[f"{scheme}.{kind}"], HostDevice()
        compare(row, device, larger(kind, np.random.default_rng(7))[:1])
        joins = [launch for launch in device.launches if launch.kernel.endswith("_join")]
        assert len(joins) >= 2


# ---- exactness at its limits ----------------------------------------------------------------------------------------


@pytest.fixture
def long_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """mma_u8 slices for exactness only, not to fill the device."""
    monkeypatch.setattr(mma_u8, "LEAST_DEPTH", 1 << 20)


@pytest.mark.usefixtures("long_slices")
@pytest.mark.parametrize(
    ("variant", "value", "depth"),
    [
        ("mma_u8", WORST_BYTES, mma_u8.MOST_DEPTH),
        ("cublas_s8", WORST_DIGITS, cublas_s8.DEPTH),
        ("crt_s8", WORST_DIGITS, crt_s8.DEPTH),
        ("crt_s8", np.uint64(1 << 63), crt_s8.DEPTH),
    ],
)
def test_extreme_values_at_the_longest_sum(variant: Variant, value: np.uint64, depth: int) -> None:
    """In one accumulator, and one product more than that."""
    for inner in (depth, depth + 1):
        got, expected = product(variant, value, inner)
        assert got == expected


@pytest.mark.usefixtures("long_slices")
def test_longer_sums_in_an_accumulator_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are needed: soon beyond them the extreme values give wrong results."""
    monkeypatch.setattr(mma_u8, "MOST_DEPTH", 16544)
    got, expected = product("mma_u8", WORST_BYTES, 16544)
    assert got != expected
    monkeypatch.setattr(cublas_s8.Limbs, "depth", cublas_s8.DEPTH + 16)
    with pytest.raises(KernelError, match="do not fit s32"):
        product("cublas_s8", WORST_DIGITS, cublas_s8.DEPTH + 16)
    monkeypatch.setattr(crt_s8.Residues, "depth", crt_s8.DEPTH + 16)
    got, expected = product("crt_s8", WORST_DIGITS, crt_s8.DEPTH + 16)
    assert got != expected


def test_the_moduli() -> None:
    """As crt.cu has them, pairwise coprime, with residues that fit int8; and the bound that the docstring proves."""
    listed = re.search(r"all\[MODULI\] = \{([^}]*)\}", source("crt"))
    assert listed is not None
    assert tuple(map(int, listed[1].split(","))) == crt_s8.MODULI
    assert all(gcd(m, n) == 1 for i, m in enumerate(crt_s8.MODULI) for n in crt_s8.MODULI[:i])
    assert max(crt_s8.MODULI) == 256
    assert sum(crt_s8.MODULI) < 2**12
    assert len(crt_s8.MODULI) << 59 < 2**64
    largest, all_of_them = crt_s8.DEPTH * crt_s8.LARGEST**2, prod(crt_s8.MODULI)
    assert largest * 2**47 <= all_of_them * (2**46 - 2)
    assert crt_s8.DEPTH << 14 < 2**31


def test_limb_sums_fit_their_accumulators() -> None:
    assert 4 * 255**2 * mma_u8.MOST_DEPTH < 2**32
    assert 8 * 128**2 * cublas_s8.DEPTH < 2**31 <= 8 * 128**2 * (cublas_s8.DEPTH + 16)


# ---- refusals -------------------------------------------------------------------------------------------------------


class Phantom:
    """An array of a size that no machine has."""

    dtype = np.dtype(np.uint64)

    class flags:
        c_contiguous = True

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.size = prod(shape)


@pytest.mark.parametrize("variant", TENSOR)
def test_mismatched_operands_are_refused(variant: Variant) -> None:
    device, launchers = HostDevice(), VARIANTS[variant]

    def ring(*shape: int) -> Array:
        return device.empty(shape, np.uint64)

    for x, w, out in (((2, 3), (4, 5), (2, 5)), ((2, 3), (3, 5), (2, 4)), ((2, 3), (3, 5), (10,))):
        with pytest.raises(ValueError, match=f"matmul .{variant}.: .* do not have matching shapes"):
            launchers.matmul(device, ring(*x), ring(*w), ring(*out), False)
    with pytest.raises(ValueError, match="expected 6 contiguous uint64, got strided"):
        launchers.matmul(device, ring(3, 2).T, ring(3, 5), ring(2, 5), False)
    with pytest.raises(ValueError, match=r"expected 6 contiguous uint64, got contiguous \(2, 3\) int64"):
        launchers.matmul(device, device.empty((2, 3), np.int64), ring(3, 5), ring(2, 5), False)
    good = ring(1, 4, 9), ring(2, 3, 2, 5), ring(1, 10, 9)
    for arguments, message in (
        ((*good, 1, 1, 1, 1), "1 groups do not match"),
        ((good[0], good[1], ring(1, 9, 9), 1, 1, 1, 2), "do not match"),
        ((good[0], ring(3, 2, 5), good[2], 1, 1, 1, 2), "of 3, 4, 3 dimensions"),
        ((*good, 0, 1, 1, 2), "must be positive"),
        ((*good, 1, 1 << 30, 1, 2), "expected sizes up to"),
    ):
        with pytest.raises(ValueError, match=message):
            launchers.conv1d(device, *arguments, False)
    assert device.launches == []


def test_sizes_beyond_the_grid_are_refused() -> None:
    device = HostDevice()
    columns = 64 * 65535 + 1
    with pytest.raises(ValueError, match=f"{columns} columns, 1 groups and 8 terms are 65536 tiles and 1 slices"):
        mma_u8.matmul(device, Phantom(1, 8), Phantom(8, columns), Phantom(1, columns), True)
    groups = 65536
    x, w, out = Phantom(1, groups, 1), Phantom(groups, 1, 1, 1), Phantom(1, groups, 1)
    for variant in TENSOR:
        with pytest.raises(ValueError, match="65536"):
            VARIANTS[variant].conv1d(device, x, w, out, 1, 0, 1, groups, True)
    assert device.launches == []


def test_a_wrong_product_is_noticed() -> None:
    """The comparison that these tests rest on: a variant that forgets to accumulate does not pass."""

    def forgets(device: HostDevice, x: Array, w: Array, out: Array, accumulate: bool) -> None:
        mma_u8.matmul(device, x, w, out, False)

    row = ROWS["mma_u8.matmul"]
    wrong = type(row)(row.name, cpu_matmul, row.outputs, row.samples, forgets)
    with pytest.raises(MismatchError):
        compare(wrong, HostDevice(), larger("matmul", np.random.default_rng(6))[:1])
