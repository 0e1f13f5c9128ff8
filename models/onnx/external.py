"""Weights in a file beside the ONNX file, where PyTorch's exporter puts them (`model.onnx.data`).

The ONNX file, which nobody vouches for, names that file. So a name is a plain one, without a folder; the file lies in
the ONNX file's own folder, is regular and no link; and it is read only where a tensor's own size says how much.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import onnx

from sottovoce.engine.errors import ModelError

MAX_EXTERNAL_BYTES = 1 << 27
_MAX_DIGITS = 18
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ONE_FILE = (
    "save the model in one file, torch.onnx.export(…, external_data=False) or onnx.save(onnx.load(path), new_path)"
)


@dataclass(slots=True)
class ExternalData:
    """The folder of an ONNX file; None for bytes, which have no folder. left: bytes that may still be read."""

    folder: Path | None
    left: int = MAX_EXTERNAL_BYTES

    def read(self, tensor: onnx.TensorProto, num_bytes: int, where: str) -> bytes:
        """The values of `tensor`, which takes num_bytes. Raises ModelError."""
        if self.folder is None:
            raise ModelError(f"{where}: its values are in another file, which bytes cannot lead to: {ONE_FILE}")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if len(entries) != len(tensor.external_data) or not _is_plain(name):
            raise ModelError(
                f"{where}: expected its values in a file of the same folder, got location {name[:80]!a}: {ONE_FILE}"
            )
        offset = _number(entries.get("offset", "0"))
        if offset is None or _number(entries.get("length", str(num_bytes))) != num_bytes:
            raise ModelError(
                f"{where}: expected {num_bytes} bytes at an offset in {name!a}, got another place or length"
            )
        if num_bytes > self.left:
            raise ModelError(f"{where}: expected at most {MAX_EXTERNAL_BYTES} bytes in other files, got more")
        self.left -= num_bytes
        return _read(self.folder / name, offset, num_bytes, f"{where}: file {name!a}")


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= 255 and name.isprintable() and not set(name) & set("/\\") and name not in (".", "..")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _read(path: Path, offset: int, num_bytes: int, where: str) -> bytes:
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{where}: expected a regular file")
            if offset + num_bytes > status.st_size:
                raise ModelError(
                    f"{where}: expected at least {offset + num_bytes} bytes, got {status.st_size}: is it the file that "
                    "was exported together with the model?"
                )
            file.seek(offset)
            data = file.read(num_bytes)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise ModelError(
            f"{where}: expected a file beside the model, no link, got: {reason}; keep the two files together, or "
            f"{ONE_FILE}"
        ) from None
    if len(data) != num_bytes:
        raise ModelError(f"{where}: expected {num_bytes} bytes, got {len(data)}")
    return data
