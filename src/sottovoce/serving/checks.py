"""What a request asks for, against what a program offers."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from sottovoce.engine.errors import ConfigError, FeatureError
from sottovoce.engine.program import Program
from sottovoce.models.graph import Graph
from sottovoce.models.speech.features import FEATURE_SETS


def check_features(model: Program | Graph) -> None:
    """Whether recordings can be turned into what the model takes. Raises ConfigError."""
    known = FEATURE_SETS.get(model.features)
    if known is None:
        raise ConfigError(
            f"model {model.name!r}: expected features {' or '.join(FEATURE_SETS)}, got {model.features or None!r}; "
            "say which it was trained on (features=, --features NAME), or compute its features yourself and use predict"
        )
    if known.input_shape != model.input_shape:
        raise ConfigError(
            f"model {model.name!r}: expected input shape {known.input_shape} with features {model.features}, "
            f"got {model.input_shape}"
        )


def need_scores(program: Program, what: str) -> None:
    """Whether the model's owner lets clients open scores. Raises ConfigError that names `what` needs them."""
    if "scores" not in program.outputs:
        raise ConfigError(
            f"{what}: this model opens labels only; its owner must allow scores (Classifier(…, scores=True))"
        )


def refuse_one_clip(program: Program, rows: NDArray[Any]) -> None:
    """The mistake that is made most often gets its own message. Raises FeatureError."""
    count = math.prod(program.input_shape)
    if rows.shape == (count,) or (rows.shape == program.input_shape and rows.shape[1] != count):
        shape = ", ".join(map(str, program.input_shape))
        raise FeatureError(
            f"features: expected (clips, {count}) or (clips, {shape}), got one clip of shape {rows.shape}: "
            "pass features[None]"
        )
