"""int8 matrix products of cuBLAS. CuPy is imported at the first call: it looks for cuBLAS's library then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sottovoce.kernels.gpu.device import Array

R_8I, R_32I, COMPUTE_32I, DEFAULT_ALGORITHM = 3, 10, 72, -1
"""Of cudaDataType and cublasComputeType; CuPy has no name for CUDA_R_32I."""
ALIGNMENT = 16
"""Bytes, of every row: what cuBLAS's tensor core kernels ask for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Of a batch of products c = b a^T. Distances in elements: of rows, and of the batch's members."""

    batch: int
    rows: int
    columns: int
    depth: int
    pitches: tuple[int, int, int]
    strides: tuple[int, int, int]


def gemm_layout(a: Array, b: Array, c: Array) -> Layout:
    """Of a (batch, columns, depth) int8, b (batch, rows, depth) int8, c (batch, rows, columns) int32.

    Raises ValueError if they do not match, or are not aligned as cuBLAS asks.
    """
    batch, columns, depth = a.shape
    rows = b.shape[1]
    if b.shape != (batch, rows, depth) or c.shape != (batch, rows, columns):
        raise ValueError(f"int8_gemm: a {a.shape}, b {b.shape} and c {c.shape} do not match")
    if (a.dtype, b.dtype, c.dtype) != (np.int8, np.int8, np.int32):
        raise ValueError(f"int8_gemm: expected int8, int8, int32, got {a.dtype}, {b.dtype}, {c.dtype}")
    bytes_apart = [s for array in (a, b, c) for s in array.strides[:2]]
    if any(array.strides[2] != array.dtype.itemsize for array in (a, b, c)) or any(s % ALIGNMENT for s in bytes_apart):
        raise ValueError(f"int8_gemm: rows must be contiguous and {ALIGNMENT} bytes aligned, got strides {bytes_apart}")
    if depth % ALIGNMENT or columns % 4:
        raise ValueError(f"int8_gemm: expected depth % {ALIGNMENT} = columns % 4 = 0, got {depth} and {columns}")
    pitches = (a.strides[1], b.strides[1], c.strides[1] // 4)
    return Layout(batch, rows, columns, depth, pitches, (a.strides[0], b.strides[0], c.strides[0] // 4))


def int8_gemm(a: Array, b: Array, c: Array) -> None:
    """c = b a^T, as `Device.int8_gemm`, on CuPy's current device and stream."""
    import cupy
    from cupy.cuda import cublas

    layout = gemm_layout(a, b, c)
    one, zero = np.array(1, np.int32), np.array(0, np.int32)
    # cuBLAS counts columns first: its result (columns, rows) is c, its operands a transposed and b as it is.
    operation = (cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, layout.columns, layout.rows, layout.depth, one.ctypes.data)
    handle = cupy.cuda.Device().cublas_handle
    (a_pitch, b_pitch, c_pitch), (a_stride, b_stride, c_stride) = layout.pitches, layout.strides
    left, right, result = (a.data.ptr, R_8I, a_pitch), (b.data.ptr, R_8I, b_pitch), (c.data.ptr, R_32I, c_pitch)
    mode = (COMPUTE_32I, DEFAULT_ALGORITHM)
    if layout.batch == 1:
        cublas.gemmEx(handle, *operation, *left, *right, zero.ctypes.data, *result, *mode)
        return
    batched = (*left, a_stride, *right, b_stride, zero.ctypes.data, *result, c_stride, layout.batch)
    cublas.gemmStridedBatchedEx(handle, *operation, *batched, *mode)
