"""Does it label as well under MPC as in the clear? Networks trained here, their test rows labelled three ways, counted.

For each split and seed one network is trained as `sottovoce train` does (needs the extra `train`). All of its test rows
are then labelled in floating point (`models.evaluate`), in fixed point in the clear (`run_plain`), and by the protocols
for real: all parties run in this process and exchange their messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.paper_reference import Split
from sottovoce.bench.schema import AccuracyRow
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.protocols.table import PROTOCOLS, find
from sottovoce.engine.session import run_plain
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph
from sottovoce.models.training.dataset import TrainingSet, load_features
from sottovoce.models.training.splits import SplitKind, split_rows
from sottovoce.models.zoo import MODELS, build, random_weights

SEEDS: Final = (0, 1, 2, 3, 4)
BATCH: Final = 120
"""Rows of one request: bounds memory, and changes no label."""
KINDS: Final[Mapping[Split, SplitKind]] = MappingProxyType({"random": "random", "speaker": "by_speaker"})
"""The splits as a row names them, and as the training code does."""

Labels = NDArray[Any]
Train = Callable[[Graph, TrainingSet, SplitKind, int], Graph]
"""train(architecture, data, split, seed) -> the trained network, on raw features."""
Progress = Callable[[int, int, str], None]
"""progress(networks done, networks in all, what was found)."""


def measure_accuracy(
    features: Path,
    *,
    model: str = "paper",
    protocols: Sequence[str] = tuple(PROTOCOLS),
    splits: Sequence[Split] = tuple(KINDS),
    seeds: Sequence[int] = SEEDS,
    progress: Progress | None = None,
    train: Train | None = None,
) -> list[AccuracyRow]:
    """Train and label: a row for each split, seed and protocol. Training takes a minute or so for each network.

    features: an npz file as `sottovoce train` takes it. model: a name of the zoo. train: how a network is made; None is
    the recipe of `sottovoce train`. Raises ConfigError without the extra `train`, for an unknown model or protocol and
    for an empty or repeated list; InputError for a file that cannot be used.
    """
    architecture = _architecture(model)
    _check("protocols", protocols)
    _check("splits", splits)
    _check("seeds", seeds)
    for name in protocols:
        find(name)
    train = _as_sottovoce_train() if train is None else train
    data = load_features(features, architecture.input_shape, default_names=architecture.labels)
    rows: list[AccuracyRow] = []
    done, total = 0, len(splits) * len(seeds)
    for split in splits:
        for seed in seeds:
            graph = train(architecture, data, KINDS[split], seed)
            test = split_rows(KINDS[split], data.groups, seed).test
            counted = list(count_labels(graph, data.features[test], data.labels[test], protocols))
            sha256 = str(data.source["sha256"])
            rows += [AccuracyRow(model=model, split=split, seed=seed, data=sha256, **counts) for counts in counted]
            done += 1
            if progress is not None:
                progress(done, total, describe(rows[-1]))
    return rows


def count_labels(
    graph: Graph, features: NDArray[np.float64], labels: NDArray[np.int64], protocols: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The counts of an AccuracyRow, protocol by protocol, for rows (rows, *input_shape) with labels (rows,)."""
    compiled = compile_graph(graph)
    encoded = encode_input(compiled.program, features)
    parts = [slice(start, start + BATCH) for start in range(0, len(encoded), BATCH)]
    in_float = np.concatenate([evaluate(graph, features[part]).argmax(axis=1) for part in parts])
    in_fixed = np.concatenate([run_plain(compiled.program, compiled.weights, encoded[p], "label") for p in parts])
    for protocol in protocols:
        in_mpc = _under_mpc(compiled, protocol, [encoded[part] for part in parts])
        yield {
            "protocol": protocol,
            "rows": len(labels),
            "float_correct": int((in_float == labels).sum()),
            "fixed_correct": int((in_fixed == labels).sum()),
            "mpc_correct": int((in_mpc == labels).sum()),
            "label_changes": int((in_mpc != in_float).sum()),
            "fixed_differs_from_mpc": int((in_fixed != in_mpc).sum()),
        }


def describe(row: AccuracyRow) -> str:
    """One line about a network, for progress."""
    shares = ", ".join(
        f"{way} {100 * correct / row.rows:.2f} %"
        for way, correct in (
            ("float", row.float_correct),
            ("fixed point", row.fixed_correct),
            (row.protocol, row.mpc_correct),
        )
    )
    return f"{row.model}, split {row.split}, seed {row.seed}: {shares} of {row.rows} test rows"


def _under_mpc(compiled: Compiled, protocol: str, batches: Sequence[NDArray[np.uint64]]) -> Labels:
    with LocalCluster(compiled.program, compiled.weights, protocol) as cluster:
        return np.concatenate([cluster.run(batch)[0] for batch in batches])


def _architecture(model: str) -> Graph:
    """The layers of a model of the zoo; its weights are not used."""
    if model not in MODELS:
        raise ConfigError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
    return build(model, random_weights(model, 0))


def _check(what: str, values: Sequence[object]) -> None:
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"accuracy: {what}: expected at least one and each once, got {list(values)}")


def _as_sottovoce_train() -> Train:
    """The trainer of `sottovoce train`, on the CPU, where a seed gives the same network in every run."""
    from sottovoce.models.training.extras import require_extras

    require_extras()
    from sottovoce.models.training.recipe import recipe_for
    from sottovoce.models.training.run import Plan, train_all

    def train(graph: Graph, data: TrainingSet, kind: SplitKind, seed: int) -> Graph:
        return train_all(Plan(graph, data, recipe_for(graph.name), (kind,), (seed,))).graph

    return train
