"""What a small training run reports, made up: two splits, two seeds, three classes."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

from sottovoce.models.training.measure import mean_recall, summary
from sottovoce.models.training.recipe import Recipe


def sample_results(**changes: Any) -> dict[str, Any]:
    """The content of a results.json; `changes` replace entries."""
    tables = {
        ("random", 0): [[8, 1, 1], [2, 7, 1], [0, 1, 9]],
        ("random", 1): [[7, 2, 1], [1, 8, 1], [1, 1, 8]],
        ("by_speaker", 0): [[4, 3, 3], [4, 3, 3], [2, 2, 6]],
        ("by_speaker", 1): [[5, 2, 3], [3, 4, 3], [3, 3, 4]],
    }
    rows: dict[str, list[dict[str, Any]]] = {"random": [], "by_speaker": []}
    for (kind, seed), table in tables.items():
        accuracy = round(sum(table[i][i] for i in range(3)) / 30, 4)
        rows[kind].append(
            {
                "seed": seed,
                "train_rows": 1_020,
                "validation_rows": 150,
                "test_rows": 30,
                "train_accuracy": 0.98,
                "test_accuracy": accuracy,
                "test_accuracy_before_rounding": accuracy,
                "test_recall": mean_recall(table),
                "margin_1_percent": 0.01,
                "epochs": 4,
                "kept_epoch": 3,
                "confusion": table,
                "history": {
                    "loss": [1.1, 0.8, 0.5, 0.3],
                    "validation_loss": [1.0, 0.9, 0.8, 0.9],
                    "validation_accuracy": [0.4, 0.5, 0.7, 0.6],
                },
            }
        )
    results = {
        "model": "small",
        "input_shape": [1, 40],
        "features": "mfcc40-mean",
        "labels": ["happy", "sad", "angry"],
        "layers": ["Conv1D(4, 3, same)", "ReLU", "Flatten", "Dense(3)"],
        "parameters": 1_234,
        "data": {"name": "rows.npz", "sha256": "ab" * 32, "rows": 1_050, "speakers": 7},
        "shipped": {"seed": 0, "split": "random"},
        "test_share": 0.25,
        "recipe": {**asdict(Recipe(patience=20, balance_bits=3)), "copies": 0},
        "conditions": {"torch": "2", "numpy": "2", "python": "3", "machine": "m", "device": "cpu"},
        "fixed_point": {
            "margin_bound": 2.5e-05,
            "compare_bits": {"conv1": 32, "argmax": 48},
            "rows": 30,
            "inside": 0.0333,
        },
        "interrupted": False,
        "splits": {kind: summary(found) for kind, found in rows.items()},
    }
    return copy.deepcopy({**results, **changes})
