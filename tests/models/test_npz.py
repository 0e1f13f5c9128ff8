"""Arrays in npz files from strangers: each broken member is one of the errors that callers expect."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import InputError, ModelError
from sottovoce.models.npz import NPZ_ERRORS, read_array
from sottovoce.models.training.dataset import load_features
from sottovoce.models.zoo.weights import load_weights

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"


def _npy(header: str, values: bytes = bytes(48)) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values


MEMBERS = {
    "half a literal": _npy("{'descr': ("),
    "half a text": _npy("{'descr': '''"),
    "too deep for the parser": _npy("-" * 9_000 + "1"),
    "more than memory": _npy(GOOD.replace("(3, 4)", "(1099511627776,)")),
    "more than an integer": _npy(GOOD.replace("(3, 4)", "(3, 99999999999999999999999)")),
    "fewer than promised": _npy(GOOD, bytes(44)),
    "objects": _npy(GOOD.replace("<f4", "|O")),
    "another version": b"\x93NUMPY\x03\x00" + bytes(60),
    "no array": b"text",
}


def _archive(member: bytes, compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("X.npy", member)
        archive.writestr("y.npy", _npy(GOOD))
    return file


def test_an_array_is_read() -> None:
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    with zipfile.ZipFile(_archive(_npy(GOOD, values.tobytes()), zipfile.ZIP_DEFLATED)) as archive:
        np.testing.assert_array_equal(read_array(archive, "X"), values)


@pytest.mark.parametrize("case", MEMBERS)
def test_a_broken_member_raises_what_callers_expect(case: str, tmp_path: Path) -> None:
    file = _archive(MEMBERS[case])
    with zipfile.ZipFile(file) as archive, pytest.raises(NPZ_ERRORS):
        read_array(archive, "X")
    path = tmp_path / "rows.npz"
    path.write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"rows\.npz: expected an npz file of features, got something else"):
        load_features(path, (1, 4))
    with pytest.raises(ModelError, match=r"rows\.npz"):
        load_weights(path, {"X": ((3, 4),), "y": ((3, 4),)})


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_compressions_that_numpy_writes_are_unpacked(compression: int) -> None:
    with zipfile.ZipFile(_archive(_npy(GOOD), compression)) as archive, pytest.raises(ValueError, match="compressed"):
        read_array(archive, "X")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(_archive(_npy(GOOD)).getvalue())
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "rows.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"rows\.npz: expected an npz file of features"):
        load_features(tmp_path / "rows.npz", (1, 4))
