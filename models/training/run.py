"""All networks of a training run, one for each split and seed, and what was measured. Needs the extra `train`."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.models.graph import Graph
from sottovoce.models.training.architecture import finished, standardisation, untrained
from sottovoce.models.training.dataset import TrainingSet
from sottovoce.models.training.describe import describe
from sottovoce.models.training.loop import Rows, fit
from sottovoce.models.training.measure import accuracy, confusion, fixed_point, logits_of, margins, mean_recall, summary
from sottovoce.models.training.recipe import NOTES, Recipe, recipe_for
from sottovoce.models.training.splits import TEST_SHARE, Indices, Split, SplitKind, split_rows, validation_split

EpochDone = Callable[[int], None]
NetworkDone = Callable[[SplitKind, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained. graph: the architecture; its weights are not used.

    The first split and the first seed make the network that is handed out.
    """

    graph: Graph
    data: TrainingSet
    recipe: Recipe
    kinds: tuple[SplitKind, ...] = ("random", "by_speaker")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    test_share: float = TEST_SHARE
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The network that is handed out, on raw features, and all that was measured (JSON)."""

    graph: Graph
    results: dict[str, Any]


def find_device(name: str) -> str:
    """ "auto" is the GPU if there is one. Raises ConfigError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: expected a GPU that PyTorch can use, got none")
    return "cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def train_all(plan: Plan, epoch_done: EpochDone | None = None, network_done: NetworkDone | None = None) -> Outcome:
    """Train one network per split and seed. The same in every run on one CPU with one thread.

    KeyboardInterrupt ends the run; if a network was ready by then, the result is made of those that were and says
    `"interrupted": true`.
    """
    _check(plan)
    rows: dict[SplitKind, list[dict[str, Any]]] = {}
    shipped: Graph | None = None
    interrupted = False
    try:
        for kind in plan.kinds:
            for seed in plan.seeds:
                graph, row = train_network(plan, kind, seed, epoch_done)
                rows[kind] = [*rows.get(kind, []), row]
                shipped = graph if shipped is None else shipped
                if network_done is not None:
                    network_done(kind, row)
    except KeyboardInterrupt:
        if shipped is None:
            raise
        interrupted = True
    assert shipped is not None  # Plan has at least one split and seed
    return Outcome(shipped, _results(plan, shipped, rows, interrupted))


def train_network(
    plan: Plan, kind: SplitKind, seed: int, epoch_done: EpochDone | None = None
) -> tuple[Graph, dict[str, Any]]:
    """Train, round and score one network: the graph on raw features, and its row of the results."""
    data, recipe = plan.data, plan.recipe
    split, fitted_on, held_out = _split(plan, kind, seed)
    features, labels = data.rows_with_copies(fitted_on)
    standardise = standardisation(features, recipe)
    fitted = fit(
        untrained(plan.graph, data.names, seed),
        Rows(standardise(features), labels),
        recipe,
        seed,
        validation=None if held_out is None else Rows(standardise(data.features[held_out]), data.labels[held_out]),
        device=plan.device,
        epoch_done=epoch_done,
    )
    graph = finished(fitted.graph, standardise, recipe)
    logits = logits_of(graph, data.features)
    as_trained = logits_of(fitted.graph, standardise(data.features))
    table = confusion(logits, data.labels, split.test)
    row = {
        "seed": seed,
        "train_rows": len(split.train),
        "validation_rows": 0 if held_out is None else len(held_out),
        "test_rows": len(split.test),
        "train_accuracy": accuracy(logits, data.labels, split.train),
        "test_accuracy": accuracy(logits, data.labels, split.test),
        "test_accuracy_before_rounding": accuracy(as_trained, data.labels, split.test),
        "test_recall": mean_recall(table),
        "margin_1_percent": round(float(np.quantile(margins(logits[split.test]), 0.01)), 5),
        "epochs": len(fitted.history),
        "kept_epoch": fitted.kept,
        "confusion": table,
        "history": {
            name: [round(value, 4) for epoch in fitted.history if (value := getattr(epoch, name)) is not None]
            for name in ("loss", "validation_loss", "validation_accuracy")
        },
    }
    return graph, row


def _split(plan: Plan, kind: SplitKind, seed: int) -> tuple[Split, Indices, Indices | None]:
    """Training and test rows; of the training rows those that are trained on, and those held out for early stopping."""
    split = split_rows(kind, plan.data.groups, seed, plan.test_share)
    if not plan.recipe.patience:
        return split, split.train, None
    inner = validation_split(kind, plan.data.groups, split.train, seed, plan.recipe.validation)
    return split, inner.train, inner.test


def _check(plan: Plan) -> None:
    """Before anything is trained: features fit the model's input and lie in its box, and every split has its rows."""
    if len(plan.data.names) < 2:
        raise InputError(f"training: expected recordings of at least two labels, got {len(plan.data.names)}")
    if plan.data.features.shape[1:] != plan.graph.input_shape:
        got = plan.data.features.shape[1:]
        raise InputError(f"model {plan.graph.name!r}: expected features {plan.graph.input_shape}, got {got}")
    low, high = plan.graph.box()
    if not bool(((plan.data.features >= low) & (plan.data.features <= high)).all()):
        raise InputError(f"model {plan.graph.name!r}: expected features inside its declared box, got some outside")
    for kind in plan.kinds:
        for seed in plan.seeds:
            _split(plan, kind, seed)


def _results(
    plan: Plan, shipped: Graph, rows: dict[SplitKind, list[dict[str, Any]]], interrupted: bool
) -> dict[str, Any]:
    kind, seed = next(iter(rows)), plan.seeds[0]
    test = split_rows(kind, plan.data.groups, seed, plan.test_share).test
    name = plan.graph.name
    is_preset = name in NOTES and plan.recipe == recipe_for(name)
    same_rows = plan.data.source.get("title", "RAVDESS") == "RAVDESS"  # an unnamed file may hold RAVDESS
    note = {"note": NOTES[name]} if is_preset and same_rows else {}
    return {
        "model": name,
        "input_shape": list(plan.graph.input_shape),
        "features": shipped.features,
        "labels": list(plan.data.names),
        "layers": describe(shipped),
        "parameters": shipped.parameters,
        "data": {
            **plan.data.source,
            "rows": len(plan.data),
            "repeated": len(plan.data) - len(np.unique(plan.data.features, axis=0)),
            "speakers": len(np.unique(plan.data.groups)),
        },
        "shipped": {"seed": seed, "split": kind},
        "test_share": plan.test_share,
        "recipe": {**asdict(plan.recipe), "copies": 0 if plan.data.copies is None else len(plan.data.copies), **note},
        "conditions": {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": plan.device,
        },
        "fixed_point": fixed_point(shipped, plan.data.features[test]),
        "interrupted": interrupted,
        "splits": {name: summary(found) for name, found in rows.items()},
    }
