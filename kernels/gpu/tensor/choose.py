"""The GPU's matmul and conv1d: each call goes to the variant that was fastest for the nearest shape measured on this
kind of device. Without a table the products are computed without tensor cores; `tune` makes one.

All variants are exact, so the choice never shows in a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import log2
from types import MappingProxyType

from sottovoce.kernels.gpu import linear
from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.tensor import blocked, crt_s8, cublas_s8, mma_u8
from sottovoce.kernels.gpu.tensor.tables import Case, Kind, Table, Variant, table_for


@dataclass(frozen=True, slots=True)
class Launchers:
    """Of one variant."""

    matmul: Callable[..., None]
    conv1d: Callable[..., None]

    @classmethod
    def of(cls, scheme: blocked.Scheme) -> Launchers:
        """Those that compute in blocks."""
        return cls(partial(blocked.matmul, scheme), partial(blocked.conv1d, scheme))


VARIANTS: Mapping[Variant, Launchers] = MappingProxyType(
    {
        "imad": Launchers(linear.matmul, linear.conv1d),
        "mma_u8": Launchers(mma_u8.matmul, mma_u8.conv1d),
        "cublas_s8": Launchers.of(cublas_s8.Limbs()),
        "crt_s8": Launchers.of(crt_s8.Residues()),
    }
)


def matmul(device: Device, x: Array, w: Array, out: Array, accumulate: bool) -> None:
    """out = x @ w, or out += x @ w if `accumulate`. Shapes and errors as kernels.cpu.gemm.matmul."""
    (rows, inner), columns = x.shape, w.shape[1]
    variant = choose(device.model, "matmul", rows, inner, columns)
    VARIANTS[variant].matmul(device, x, w, out, accumulate)


def conv1d(
    device: Device,
    x: Array,
    w: Array,
    out: Array,
    stride: int,
    pad_left: int,
    dilation: int,
    groups: int,
    accumulate: bool,
) -> None:
    """As kernels.cpu.conv.conv1d."""
    _, taps, c_in, columns = w.shape
    variant = choose(device.model, "conv1d", x.shape[0] * out.shape[2], taps * c_in, columns)
    VARIANTS[variant].conv1d(device, x, w, out, stride, pad_left, dilation, groups, accumulate)


@lru_cache(maxsize=4096)
def choose(model: str, kind: Kind, rows: int, inner: int, columns: int) -> Variant:
    """The variant for a product on a device of this model."""
    return choose_from(table_for(model), kind, rows, inner, columns)


def choose_from(table: Table | None, kind: Kind, rows: int, inner: int, columns: int) -> Variant:
    """The fastest at the case whose sizes differ least, by the ratios of the sizes."""
    cases = [case for case in table.cases if case.kind == kind] if table else []
    if not cases:
        return "imad"
    sizes = (rows, inner, columns)
    medians = min(cases, key=lambda case: _distance(case, sizes)).medians_us
    return min(medians, key=lambda variant: medians[variant])


def _distance(case: Case, sizes: tuple[int, int, int]) -> float:
    measured = (case.rows, case.inner, case.columns)
    return sum((log2(max(size, 1)) - log2(have)) ** 2 for size, have in zip(sizes, measured, strict=True))
