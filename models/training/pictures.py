"""Learning curves and confusion matrices as PNG files. Needs the extra `train` (Matplotlib), without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sottovoce.models.training.splits import SPLIT_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Results = dict[str, Any]

DPI = 120
LOSS, VALIDATION, KEPT = "#1f5a8a", "#c4602a", "#6b6b6b"


def draw_curves(results: Results, path: Path) -> None:
    """Training loss of every seed, a panel per split; with a validation part also its accuracy and the epoch kept."""
    from matplotlib.figure import Figure  # a Figure of its own needs no global state and no display

    splits = results["splits"]
    figure = Figure(figsize=(5.2 * len(splits), 3.8), dpi=DPI, layout="constrained")
    for axes, (kind, split) in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits.items(), strict=True):
        _curves(axes, split["seeds"])
        axes.set_title(f"{results['model']}, split {SPLIT_TITLES[kind]}, {_seeds(split['seeds'])}", fontsize=10)
    figure.savefig(path, format="png")


def _curves(axes: Axes, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    validated = any(row["history"]["validation_accuracy"] for row in rows)
    right = axes.twinx() if validated else None
    for row in rows:
        history = row["history"]
        epochs = np.arange(1, len(history["loss"]) + 1)
        axes.plot(epochs, history["loss"], color=LOSS, alpha=0.6, linewidth=1)
        if right is not None:
            accuracy = 100 * np.asarray(history["validation_accuracy"])
            right.plot(epochs, accuracy, color=VALIDATION, alpha=0.6, linewidth=1)
            right.plot(row["kept_epoch"], accuracy[row["kept_epoch"] - 1], "o", color=KEPT, markersize=4, zorder=3)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("training loss", color=LOSS)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if right is not None:
        right.set_ylabel("validation accuracy, %  (dot: epoch kept)", color=VALIDATION)
        right.set_ylim(0, 100)


def draw_confusion(results: Results, path: Path) -> None:
    """Confusion of the test rows, all seeds added up, one panel per split: percent of each true label, and counts."""
    from matplotlib.figure import Figure

    splits, labels = results["splits"], results["labels"]
    side = max(3.6, 1.4 + 0.52 * len(labels))
    figure = Figure(figsize=(side * len(splits), side), dpi=DPI, layout="constrained")
    for axes, (kind, split) in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits.items(), strict=True):
        counts = np.sum([row["confusion"] for row in split["seeds"]], axis=0)
        _matrix(axes, counts, labels)
        axes.set_title(f"split {SPLIT_TITLES[kind]}: {100 * split['mean']:.1f} % right", fontsize=10)
    figure.suptitle(f"{results['model']}, test rows, {_seeds(next(iter(splits.values()))['seeds'])}", fontsize=11)
    figure.savefig(path, format="png")


def _matrix(axes: Axes, counts: np.ndarray[Any, Any], labels: list[str]) -> None:
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (i, j), share in np.ndenumerate(percent):
        color = "white" if share > 55 else "black"
        axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=color, fontsize=8)
    names = [f"{name} ({total:,})" for name, total in zip(labels, counts.sum(axis=1), strict=True)]
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(labels)), names, fontsize=8)
    axes.set_xlabel("label given, % of the row")
    axes.set_ylabel("true label (test rows)")


def _seeds(rows: list[dict[str, Any]]) -> str:
    return f"seed {rows[0]['seed']}" if len(rows) == 1 else f"{len(rows)} seeds"
