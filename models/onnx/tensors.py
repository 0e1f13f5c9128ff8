"""TensorProto to NumPy, every declared size checked against the bytes that are there before anything is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx

from sottovoce.engine.errors import ModelError
from sottovoce.engine.program import MAX_ELEMENTS
from sottovoce.models.graph import Array
from sottovoce.models.onnx.external import ExternalData

MAX_RANK = 8

_T = onnx.TensorProto
# data type: (dtype on the wire, field that holds the values where raw_data does not)
_STORAGE: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        _T.FLOAT: ("<f4", "float_data"),
        _T.DOUBLE: ("<f8", "double_data"),
        _T.FLOAT16: ("<f2", "int32_data"),
        _T.BFLOAT16: ("<u2", "int32_data"),
        _T.INT64: ("<i8", "int64_data"),
        _T.INT32: ("<i4", "int32_data"),
        _T.INT16: ("<i2", "int32_data"),
        _T.INT8: ("|i1", "int32_data"),
        _T.UINT64: ("<u8", "uint64_data"),
        _T.UINT32: ("<u4", "uint64_data"),
        _T.UINT16: ("<u2", "int32_data"),
        _T.UINT8: ("|u1", "int32_data"),
        _T.BOOL: ("|b1", "int32_data"),
    }
)
FLOATS = (_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BFLOAT16)


def to_array(tensor: onnx.TensorProto, where: str, external: ExternalData) -> Array:
    """The tensor's values, read-only where they alias the file. bfloat16 becomes float32. Raises ModelError."""
    if tensor.data_type not in _STORAGE:
        raise ModelError(f"{where}: expected a tensor of floats or integers, got {type_name(tensor.data_type)}")
    dims = tuple(tensor.dims)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0 or math.prod(dims) > MAX_ELEMENTS:
        raise ModelError(
            f"{where}: expected at most {MAX_RANK} dimensions and {MAX_ELEMENTS} elements, got dims {list(dims)[:16]}"
        )
    dtype, field = _STORAGE[tensor.data_type]
    if tensor.data_location == _T.EXTERNAL:
        storage, count = np.dtype(dtype), math.prod(dims)
        values = np.frombuffer(external.read(tensor, count * storage.itemsize, where), dtype=storage)
    else:
        values = _values(tensor, np.dtype(dtype), field, math.prod(dims), where)
    if tensor.data_type == _T.BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(dims)


def type_name(data_type: int) -> str:
    """Name of an ONNX element type."""
    return str(_T.DataType.Name(data_type)) if data_type in _T.DataType.values() else f"type {data_type}"


def _values(tensor: onnx.TensorProto, dtype: np.dtype[np.generic], field: str, count: int, where: str) -> Array:
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise ModelError(f"{where}: expected {count * dtype.itemsize} bytes, got {len(raw)}")
        return np.frombuffer(raw, dtype=dtype)
    stored = getattr(tensor, field)
    if len(stored) != count:
        raise ModelError(f"{where}: expected {count} values, got {len(stored)}")
    if dtype.kind == "f" and field != "int32_data":
        return np.fromiter(stored, dtype=dtype, count=count)
    values = np.fromiter(stored, dtype=np.uint64 if field == "uint64_data" else np.int64, count=count)
    if dtype.kind == "f":  # bit patterns
        return values.astype(np.uint16).view(dtype)
    return values.astype(dtype)
