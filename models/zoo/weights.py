"""Weights of the zoo's models: read from a file that nobody vouches for, or drawn at random."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import Shape
from sottovoce.models.npz import open_npz, read_array, read_header
from sottovoce.models.zoo.layers import Array
from sottovoce.models.zoo.table import ZooModel

Weights = dict[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[Shape, ...]]

_OVERHEAD_BYTES = 1024
"""Of one array in an npz file: its headers, and its name in the directory."""


def load_weights(path: str | os.PathLike[str], shapes: Shapes) -> Weights:
    """Read an npz file of float32 arrays.

    shapes: the names that it must hold, each with the shapes allowed. Raises ModelError for a file that is missing,
    larger than such arrays can be, no npz, or that holds another set of arrays, another shape or dtype, or a value that
    is not finite. Nothing in the file is unpickled, and no array is made before its header has been checked.
    """
    where = f"weights {os.fspath(path)}"
    limit = sum(4 * max(map(math.prod, allowed)) + _OVERHEAD_BYTES for allowed in shapes.values())
    with open_npz(path, limit, where, "arrays", ModelError) as archive:
        names = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
        check_names(where, names, shapes)
        arrays = {name: _read(where, archive, name, allowed) for name, allowed in shapes.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{where}: expected finite numbers in {name}, got NaN or infinity")
    return arrays


def check_weights(where: str, arrays: Mapping[str, Array], shapes: Shapes) -> None:
    """Raise ModelError unless `arrays` are those of `shapes`, in one of the shapes allowed. `where` opens the text."""
    check_names(where, list(arrays), shapes)
    for name, allowed in shapes.items():
        check_shape(where, name, np.shape(arrays[name]), allowed)


def check_names(where: str, names: list[str], shapes: Shapes) -> None:
    """Raise ModelError unless `names` are those of `shapes`, each once."""
    if sorted(names) == sorted(shapes):
        return
    missing, other = sorted(set(shapes) - set(names)), sorted(set(names) - set(shapes))
    parts = [f"none named {', '.join(missing)}"] if missing else []
    parts += [f"also {len(other)} of other names"] if other else []
    got = " and ".join(parts) or "one of them twice"
    raise ModelError(f"{where}: expected arrays {', '.join(sorted(shapes))}, got {got}")


def check_shape(where: str, name: str, shape: Shape, allowed: tuple[Shape, ...]) -> None:
    """Raise ModelError unless `shape` is allowed for array `name`."""
    if shape not in allowed:
        raise ModelError(f"{where}: expected {name} of shape {' or '.join(map(str, allowed))}, got {shape}")


def draw_weights(model: ZooModel, seed: int, classes: int) -> Weights:
    """PyTorch's default initialisation: weights and biases uniform in ±1 / sqrt(fan-in), float32."""
    rng = np.random.default_rng(seed)
    drawn: Weights = {}

    def draw(name: str, shapes: tuple[Shape, ...], fan_in: int) -> Array:
        bound = 1 / math.sqrt(fan_in)
        drawn[name] = rng.uniform(-bound, bound, shapes[0]).astype(np.float32)
        return drawn[name]

    model.stacked(classes, draw)
    return drawn


def _read(where: str, archive: zipfile.ZipFile, name: str, allowed: tuple[Shape, ...]) -> NDArray[np.float32]:
    shape, dtype = read_header(archive, name)
    check_shape(where, name, shape, allowed)
    if dtype != np.float32:
        raise ModelError(f"{where}: expected {name} of dtype float32, got {dtype}")
    return read_array(archive, name)
