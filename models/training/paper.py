"""Train the default weights of `paper` and measure them.

    python -m sottovoce.models.training.paper --data ../shared/data/ravdess/mfcc40_mean.npz --out models/zoo/paper

For each seed 0 to 4 and each split (random, by speaker) one network is trained on the split's training rows and scored
on its test rows. `weights.npz` is seed 0 of the random split, exactly the network whose test accuracy is reported.
Writes weights.npz, results.json and MODEL_CARD.md. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from sottovoce.models.training.card import render
from sottovoce.models.training.fold import balance_and_round, fold, unfolded
from sottovoce.models.training.measure import accuracy, confusion, norms
from sottovoce.models.training.network import Recipe, train
from sottovoce.models.training.splits import Split, random_split, speaker_split
from sottovoce.models.zoo.paper import Weights, forward_float, load_weights

SEEDS = (0, 1, 2, 3, 4)
SHIPPED_SEED = 0
SplitKind = Literal["random", "by_speaker"]


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """The feature file: features (rows, 40), labels (rows,), blocks (rows,), and the file's SHA-256."""

    features: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.int64]
    sha256: str

    def split(self, kind: SplitKind, seed: int) -> Split:
        return random_split(len(self.labels), seed) if kind == "random" else speaker_split(self.blocks, seed)


def load_dataset(path: Path) -> Dataset:
    """Read the npz file with arrays X, y and block."""
    with np.load(path, allow_pickle=False) as data:
        arrays = data["X"].astype(np.float64), data["y"].astype(np.int64), data["block"].astype(np.int64)
    return Dataset(*arrays, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def one_network(data: Dataset, kind: SplitKind, seed: int, recipe: Recipe) -> tuple[Weights, dict[str, Any]]:
    """Train, fold and score one network: the weights as shipped, and its row of the results."""
    torch.set_num_threads(1)  # the order of a sum, hence its last bits, depends on the number of threads
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    split = data.split(kind, seed)
    trained, standardisation = train(data.features[split.train], data.labels[split.train], recipe, seed)
    network = balance_and_round(trained, standardisation, recipe.balance_shift)
    weights = fold(network, standardisation)
    logits = forward_float(weights, data.features)
    difference = np.abs(logits - forward_float(unfolded(network), standardisation.apply(data.features))).max()
    as_trained = forward_float(unfolded(trained), standardisation.apply(data.features))
    row = {
        "seed": seed,
        "train_rows": len(split.train),
        "test_rows": len(split.test),
        "train_accuracy": accuracy(logits, data.labels, split.train),
        "test_accuracy": accuracy(logits, data.labels, split.test),
        "test_accuracy_before_rounding": accuracy(as_trained, data.labels, split.test),
        "folded_minus_unfolded": float(difference),
        "confusion": confusion(logits, data.labels, split.test),
        **norms(weights, logits),
    }
    print(
        f"{kind} seed {seed}: test {row['test_accuracy']:.4f}, train {row['train_accuracy']:.4f}, "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )
    return weights, row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation, smallest and largest test accuracy of the seeds, and the rows themselves."""
    values = np.array([row["test_accuracy"] for row in rows])
    return {
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std(ddof=1)) if len(values) > 1 else 0.0, 4),
        "min": float(values.min()),
        "max": float(values.max()),
        "seeds": rows,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m sottovoce.models.training.paper", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="npz file with X (rows, 40), y and block")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: 0 1 2 3 4")
    parser.add_argument("--jobs", type=int, default=1, help="networks trained at once, one thread each (default: 1)")
    options = parser.parse_args(arguments)
    if SHIPPED_SEED not in options.seeds:
        parser.error(f"--seeds must contain {SHIPPED_SEED}, the seed whose weights are shipped")

    data, recipe = load_dataset(options.data), Recipe()
    options.out.mkdir(parents=True, exist_ok=True)
    kinds: tuple[SplitKind, ...] = ("random", "by_speaker")
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {
            (kind, seed): pool.submit(one_network, data, kind, seed, recipe) for kind in kinds for seed in options.seeds
        }
        shipped, _ = jobs["random", SHIPPED_SEED].result()
        np.savez(options.out / "weights.npz", **shipped)  # type: ignore[arg-type]
        load_weights(options.out / "weights.npz")
        splits = {kind: summary([jobs[kind, seed].result()[1] for seed in options.seeds]) for kind in kinds}
    results = {
        "data_sha256": data.sha256,
        "rows": len(data.labels),
        "shipped": {"seed": SHIPPED_SEED, "split": "random"},
        "recipe": dataclasses.asdict(recipe),
        "conditions": {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "splits": splits,
    }
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "MODEL_CARD.md").write_text(render(results))


if __name__ == "__main__":
    main()
