"""What a file says about its model beside the network: labels, features, the box of the inputs.

They are `metadata_props` of the ONNX file, each value JSON: "sottovoce.name" "tiny", "sottovoce.labels" ["angry", …],
"sottovoce.features" "mfcc40-mean", "sottovoce.box" {"low": [numbers], "high": [numbers]}, "sottovoce.input_shape"
[channels, time].
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import onnx

from sottovoce.engine.errors import ModelError
from sottovoce.engine.structs import parse_json
from sottovoce.models.onnx.source import Source, describe, read_model

MAX_CHARACTERS = 1 << 24
PREFIX = "sottovoce."

_T = TypeVar("_T")


class Box(msgspec.Struct, frozen=True):
    """The box that holds every input: one number or one per feature, row-major."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class Metadata(msgspec.Struct, frozen=True):
    """What a file says, None where it says nothing."""

    name: str | None = None
    labels: tuple[str, ...] | None = None
    features: str | None = None
    box: Box | None = None
    input_shape: tuple[int, int] | None = None


def read_metadata(source: Source) -> Metadata:
    """What an ONNX file, or its bytes, says about its labels, its features and its box. Raises ModelError."""
    return parse_metadata(read_model(source), describe(source))


def parse_metadata(model: onnx.ModelProto, where: str) -> Metadata:
    """The metadata of a parsed model. Entries of other programs are passed over. Raises ModelError."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    return Metadata(
        _decode(props, "name", str, where),
        _decode(props, "labels", tuple[str, ...], where),
        _decode(props, "features", str, where),
        _decode(props, "box", Box, where),
        _decode(props, "input_shape", tuple[int, int], where),
    )


def write_metadata(model: onnx.ModelProto, metadata: Metadata) -> None:
    """Add the entries that are not None."""
    for key, value in msgspec.to_builtins(metadata).items():
        if value is not None:
            model.metadata_props.add(key=PREFIX + key, value=msgspec.json.encode(value).decode())


def _decode(props: dict[str, str], key: str, kind: type[_T] | Any, where: str) -> _T | None:
    text = props.get(PREFIX + key)
    if text is None:
        return None
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        value: _T = parse_json(text, kind)
        return value
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        raise ModelError(
            f"{where}: metadata {PREFIX + key!r}: expected JSON as export_onnx writes it, got something else: rewrite "
            "or remove it"
        ) from None
