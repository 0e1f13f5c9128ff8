"""The folder that a training run leaves: model, weights, results, card and pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.engine.errors import ConfigError, ModelError
from sottovoce.models.graph import Graph
from sottovoce.models.training.architecture import arrays
from sottovoce.models.training.card import render
from sottovoce.models.training.pictures import draw_confusion, draw_curves
from sottovoce.models.zoo import build

MODEL, WEIGHTS, RESULTS, CARD = "model.onnx", "weights.npz", "results.json", "MODEL_CARD.md"
CURVES, CONFUSION = "learning-curves.png", "confusion.png"
FILES = (MODEL, WEIGHTS, RESULTS, CARD, CURVES, CONFUSION)


def check_folder(folder: Path, force: bool) -> None:
    """Refuse, before anything is trained, a folder with the files of an earlier run. Raises ConfigError."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: expected a folder, got a file")
    present = [name for name in FILES if (folder / name).exists()]
    if present and not force:
        raise ConfigError(f"--out {folder}: holds {', '.join(present)} of an earlier run; --force replaces them")


def write_folder(folder: Path, graph: Graph, results: dict[str, Any]) -> list[str]:
    """Write all files; their names. Files of an earlier run that this one does not make are removed."""
    from sottovoce.models.onnx import export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    (folder / MODEL).write_bytes(export_onnx(graph))
    if is_zoo_model(graph):
        np.savez(folder / WEIGHTS, **arrays(graph))  # type: ignore[arg-type]
    (folder / RESULTS).write_text(dump(results))
    (folder / CARD).write_text(render(results))
    draw_curves(results, folder / CURVES)
    draw_confusion(results, folder / CONFUSION)
    return [name for name in FILES if (folder / name).exists()]


def dump(results: dict[str, Any]) -> str:
    """As JSON, with each list of numbers on one line."""
    text = json.dumps(results, indent=1, allow_nan=False)
    return re.sub(r"\[[^][{}\"]+\]", lambda found: "".join(found[0].split()).replace(",", ", "), text) + "\n"


def is_zoo_model(graph: Graph) -> bool:
    """Whether the zoo can build the graph from its arrays: it has no layer of its own for the standardisation."""
    try:
        build(graph.name, arrays(graph), labels=graph.labels)
    except ModelError:
        return False
    return True
