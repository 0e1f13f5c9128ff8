"""The choice among the variants of matmul and conv1d: tables, tuning, and the call into cuBLAS."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.gpu.linear import Convolution
from sottovoce.kernels.gpu.tensor import choose, cublas, mma_u8, tune
from sottovoce.kernels.gpu.tensor.tables import (
    FOLDER,
    Case,
    Table,
    Variant,
    path_for,
    read_table,
    table_for,
    write_table,
)
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice

CASES = (
    Case("matmul", 8, 64, 64, {"imad": 2.0, "mma_u8": 3.0}),
    Case("matmul", 2048, 1024, 1024, {"imad": 900.0, "mma_u8": 300.5, "cublas_s8": 250.0, "crt_s8": 200.0}),
    Case("conv1d", 4096, 320, 128, {"imad": 90.0, "mma_u8": 30.0}),
)
TABLE = Table("Example GPU 9.0", "13000", "14.2.0", CASES)


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    path = write_table(TABLE, tmp_path)
    assert path == tmp_path / "example-gpu-9.0.json" == path_for("Example GPU 9.0", tmp_path)
    assert read_table(path) == table_for("Example GPU 9.0", tmp_path) == TABLE
    assert table_for("Another GPU 8.0", tmp_path) is None


def test_the_tables_of_the_package_can_be_read() -> None:
    for path in FOLDER.glob("*.json"):
        table = read_table(path)
        assert path_for(table.model) == path


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(version=2),
        lambda t: t.update(note="more"),
        lambda t: t.pop("driver"),
        lambda t: t.update(cupy=""),
        lambda t: t.update(cases=[]),
        lambda t: t.update(cases={}),
        lambda t: t["cases"][0].update(kind="conv2d"),
        lambda t: t["cases"][0].update(rows=0),
        lambda t: t["cases"][0].update(inner=True),
        lambda t: t["cases"][0].update(columns=2.0),
        lambda t: t["cases"][0].update(medians_us={}),
        lambda t: t["cases"][0]["medians_us"].update(fp64=1.0),
        lambda t: t["cases"][0]["medians_us"].update(imad=-1.0),
        lambda t: t["cases"][0]["medians_us"].update(imad=float("nan")),
        lambda t: t["cases"][0]["medians_us"].update(imad="2"),
        lambda t: t["cases"].append(3),
    ],
)
def test_a_damaged_table_is_refused(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    path = write_table(TABLE, tmp_path)
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"example-gpu-9.0.json: not a tuned table: .*; tune the device again"):
        read_table(path)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="not a tuned table"):
        read_table(tmp_path / "a.json")
    write_table(TABLE, tmp_path).rename(path_for("Other GPU 9.0", tmp_path))
    with pytest.raises(ValueError, match=r"expected the table of Other GPU 9\.0, got that of Example GPU 9\.0"):
        table_for("Other GPU 9.0", tmp_path)


# ---- choice ---------------------------------------------------------------------------------------------------------


def test_the_fastest_at_the_nearest_shape_is_chosen() -> None:
    assert choose.choose_from(TABLE, "matmul", 1, 64, 10) == "imad"
    assert choose.choose_from(TABLE, "matmul", 10**6, 640, 320) == "crt_s8"
    assert choose.choose_from(TABLE, "matmul", 2048, 1, 1) == "imad"
    assert choose.choose_from(TABLE, "conv1d", 1, 1, 1) == "mma_u8"
    assert choose.choose_from(TABLE, "matmul", 0, 0, 0) == "imad"


def test_without_a_table_no_tensor_cores_are_used() -> None:
    only_conv = replace(TABLE, cases=CASES[2:])
    assert choose.choose_from(None, "matmul", 4096, 4096, 4096) == "imad"
    assert choose.choose_from(only_conv, "matmul", 4096, 4096, 4096) == "imad"
    assert choose.VARIANTS.keys() == set(get_args(Variant))


@needs_compiler
def test_the_catalog_launches_what_was_chosen(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    fast = replace(TABLE, cases=(Case("matmul", 1, 1, 1, {"crt_s8": 1.0}), Case("conv1d", 1, 1, 1, {"mma_u8": 1.0})))
    monkeypatch.setattr(choose, "table_for", {"chosen": fast, "unknown": None}.get)
    for model, kernels in (("chosen", ["crt_join", "mma_conv1d"]), ("unknown", ["linear", "linear"])):
        device = HostDevice(model=model)
        for name, expected in zip(("matmul", "conv1d"), kernels, strict=True):
            row = CATALOG[name]
            assert row.gpu is not None
            arguments = row.samples(rng)[0]
            row.gpu(device, *[device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments])
            assert expected in device.launches[-1].kernel


# ---- tuning ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_tuning_checks_then_times_every_variant(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    todo = [
        tune.Product("matmul", Convolution(3, 8, 5)),
        tune.Product("conv1d", Convolution(2, 3, 4, 1, 7, 3, 7, 1, 1)),
    ]
    times = iter(range(1, 9))

    def timer(call: Callable[[], None]) -> float:
        call()
        return float(next(times))

    cases = tune.measure(HostDevice(), todo, timer, rng)
    order: tuple[Variant, ...] = get_args(Variant)
    assert cases[0] == Case("matmul", 3, 8, 5, {variant: float(i + 1) for i, variant in enumerate(order)})
    assert (cases[1].rows, cases[1].inner, cases[1].columns) == (14, 9, 4)

    def forgets(device: HostDevice, x: Any, w: Any, out: Any, accumulate: bool) -> None:
        mma_u8.matmul(device, x, w, out, False)

    wrong = {**choose.VARIANTS, "mma_u8": replace(choose.VARIANTS["mma_u8"], matmul=forgets)}
    monkeypatch.setattr(tune, "VARIANTS", wrong)
    with pytest.raises(ValueError, match=r"mma_u8: matmul .* differs from imad"):
        tune.measure(HostDevice(), todo, lambda call: 1.0, rng)


def test_the_products_to_tune() -> None:
    full, quick = tune.products(quick=False), tune.products(quick=True)
    assert len({(p.kind, p.shape) for p in full}) == len(full) > 3 * len(quick)
    assert {p.kind for p in quick} == {"matmul", "conv1d"}
    for product in full:
        assert (product.shape.time_out == product.shape.time) == (product.shape.stride == 1)


# ---- the call into cuBLAS -------------------------------------------------------------------------------------------


class FakeCublas:
    """cuBLAS's int8 products as its manual defines them: column-major, op(A) (m, k), op(B) (k, n), C (m, n)."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1

    def gemmEx(self, handle: int, op_a: int, op_b: int, m: int, n: int, k: int, *rest: int) -> None:
        alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm = rest
        self.multiply(1, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0)
        assert (handle, a_type, b_type, c_type, compute, algorithm) == (7, 3, 3, 10, 72, -1)

    def gemmStridedBatchedEx(self, handle: int, op_a: int, op_b: int, m: int, n: int, k: int, *rest: int) -> None:
        alpha, a, a_type, lda, a_apart, b, b_type, ldb, b_apart, beta, c, c_type, ldc, c_apart, batch, *mode = rest
        self.multiply(batch, op_a, op_b, m, n, k, alpha, a, lda, a_apart, b, ldb, b_apart, beta, c, ldc, c_apart)
        assert (handle, a_type, b_type, c_type, *mode) == (7, 3, 3, 10, 72, -1)

    def multiply(self, batch: int, op_a: int, op_b: int, m: int, n: int, k: int, *rest: int) -> None:
        alpha, a, lda, a_apart, b, ldb, b_apart, beta, c, ldc, c_apart = rest
        assert (op_a, op_b) == (self.CUBLAS_OP_T, self.CUBLAS_OP_N)
        assert (self.at(alpha, np.int32, 0), self.at(beta, np.int32, 0)) == (1, 0)
        for i in range(batch):
            for column in range(n):
                for row in range(m):
                    from_a, from_b = i * a_apart + row * lda, i * b_apart + column * ldb
                    terms = [self.at(a, np.int8, from_a + j) * self.at(b, np.int8, from_b + j) for j in range(k)]
                    self.memory(c, np.int32, i * c_apart + column * ldc + row)[0] = sum(terms)

    @staticmethod
    def memory(address: int, element: type, index: int) -> np.ndarray:
        at = address + index * np.dtype(element).itemsize
        interface = {"data": (at, False), "shape": (1,), "typestr": np.dtype(element).str, "version": 3}
        return np.asarray(SimpleNamespace(__array_interface__=interface))

    def at(self, address: int, element: type, index: int) -> int:
        return int(self.memory(address, element, index)[0])


class CupyArray:
    """What the call reads of a CuPy array, over numpy's."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype
        self.data = SimpleNamespace(ptr=array.ctypes.data)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(cublas=FakeCublas(), Device=lambda: SimpleNamespace(cublas_handle=7))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=module))
    monkeypatch.setitem(sys.modules, "cupy.cuda", module)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("batch", [1, 3])
def test_what_cublas_is_asked_for_is_the_product(batch: int, rng: np.random.Generator) -> None:
    """Parts of wider rows, as the limb sums have them."""
    a = rng.integers(-128, 128, (batch, 4, 48)).astype(np.int8)[:, :, 32:]
    b = rng.integers(-128, 128, (batch, 3, 32)).astype(np.int8)[:, :, :16]
    c = np.full((batch, 3, 4), -1, np.int32)
    cublas.int8_gemm(CupyArray(a), CupyArray(b), CupyArray(c))
    np.testing.assert_array_equal(c, b.astype(np.int32) @ a.astype(np.int32).swapaxes(1, 2))


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        (np.zeros((1, 4, 16), np.int8), np.zeros((1, 3, 32), np.int8), np.zeros((1, 3, 4), np.int32), "do not match"),
        (np.zeros((2, 4, 16), np.int8), np.zeros((1, 3, 16), np.int8), np.zeros((1, 3, 4), np.int32), "do not match"),
        (np.zeros((1, 4, 16), np.uint8), np.zeros((1, 3, 16), np.int8), np.zeros((1, 3, 4), np.int32), "got uint8"),
        (np.zeros((1, 4, 16), np.int8), np.zeros((1, 3, 16), np.int8), np.zeros((1, 3, 4), np.int64), "int64"),
        (np.zeros((1, 4, 8), np.int8), np.zeros((1, 3, 8), np.int8), np.zeros((1, 3, 4), np.int32), "16 bytes aligned"),
        (np.zeros((1, 5, 16), np.int8), np.zeros((1, 3, 16), np.int8), np.zeros((1, 3, 5), np.int32), "aligned"),
        (np.zeros((1, 16, 4), np.int8).swapaxes(1, 2),) * 2 + (np.zeros((1, 4, 4), np.int32), "contiguous"),
    ],
)
def test_what_cublas_would_refuse_is_refused(a: np.ndarray, b: np.ndarray, c: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cublas.gemm_layout(a, b, c)
