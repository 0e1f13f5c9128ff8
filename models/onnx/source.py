"""From a file or bytes that nobody vouches for to a parsed ModelProto, within bounds on memory and time.

A parser may need many times a file's size: an empty message costs two bytes on the wire and a hundred in memory, a
packed integer one and eight. So the wire format is walked first, without making anything, and what would grow too
much is refused before protobuf sees it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sottovoce.engine.errors import ModelError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview

MAX_FILE_BYTES = 1 << 27
MAX_FIELDS = 1 << 16
MAX_PACKED_BYTES = 1 << 24
MAX_DEPTH = 32
MAX_VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_model(source: Source) -> onnx.ModelProto:
    """Parse an ONNX file or its bytes. Raises ModelError."""
    data = read_bytes(source)
    where = describe(source)
    _check_wire(data, where)
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except (DecodeError, RecursionError, ValueError):
        raise ModelError(f"{where}: expected an ONNX model, got bytes that are not one") from None
    if not model.HasField("graph"):
        raise ModelError(f"{where}: expected an ONNX model, got one without a graph")
    return model


def describe(source: Source) -> str:
    """Name of a source in messages."""
    return f"ONNX file {os.fspath(source)!a}" if isinstance(source, str | os.PathLike) else "ONNX bytes"


def read_bytes(source: Source) -> bytes:
    """The bytes of a source, at most MAX_FILE_BYTES of them. Raises ModelError."""
    where = describe(source)
    if isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
        data = b"" if size > MAX_FILE_BYTES else bytes(source)
    elif isinstance(source, str | os.PathLike):
        size, data = _read_file(Path(source), where)
    else:
        raise ModelError(f"ONNX model: expected a path or bytes, got {type(source).__name__}")
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{where}: expected at most {MAX_FILE_BYTES} bytes, got {size}")
    if not size:
        raise ModelError(f"{where}: expected an ONNX model, got nothing")
    return data


def _read_file(path: Path, where: str) -> tuple[int, bytes]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{where}: expected a regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
            return max(size, len(data)), data
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ModelError(f"{where}: cannot be read: {reason}") from None


def _check_wire(data: bytes, where: str) -> None:
    """Bound the number of fields, their nesting and the packed integers of a serialised ModelProto."""
    tables: dict[str, dict[int, Any]] = {}
    fields = packed = 0
    stack = [(0, len(data), onnx.ModelProto.DESCRIPTOR, 0)]
    while stack:
        position, end, message, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ModelError(f"{where}: expected messages nested at most {MAX_DEPTH} deep, got more")
        table = tables.get(message.full_name)
        if table is None:
            table = tables[message.full_name] = _growing_fields(message)
        while position < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise ModelError(f"{where}: expected at most {MAX_FIELDS} fields in the file, got more")
            key, position = _varint(data, position, end, where)
            wire, number = key & 7, key >> 3
            if wire == _BYTES:
                size, position = _varint(data, position, end, where)
                if size > end - position:
                    raise _broken(where)
                if number in table and size:
                    if table[number] is None:
                        packed += size
                    else:
                        stack.append((position, position + size, table[number], depth + 1))
                position += size
            elif wire == _VARINT:
                _, position = _varint(data, position, end, where)
            elif wire in (_FIXED32, _FIXED64):
                position += 4 if wire == _FIXED32 else 8
            else:
                raise _broken(where)
        if position != end:
            raise _broken(where)
    if packed > MAX_PACKED_BYTES:
        raise ModelError(
            f"{where}: expected at most {MAX_PACKED_BYTES} bytes of packed integers, got {packed}: "
            "store large tensors as raw_data, as onnx.numpy_helper.from_array does"
        )


def _growing_fields(message: Any) -> dict[int, Any]:
    """Fields of a message type that may grow when they are parsed: number to type of a message, to None if packed."""
    floats = ("float_data", "double_data")
    return {
        field.number: field.message_type
        for field in message.fields
        if field.message_type or (field.is_packed and field.name not in floats)
    }


def _varint(data: bytes, position: int, end: int, where: str) -> tuple[int, int]:
    """(value, position behind it) of the varint at `position`."""
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for place in range(min(MAX_VARINT_BYTES, end - position)):
        byte = data[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise _broken(where)


def _broken(where: str) -> ModelError:
    return ModelError(f"{where}: expected an ONNX model, got bytes that are not one")
