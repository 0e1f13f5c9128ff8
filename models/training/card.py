"""The model card of a trained network, made from results.json and nothing else: the two cannot disagree."""

from __future__ import annotations

from typing import Any

from sottovoce.models.training.card_text import ETHICS, LIMITS, PAGE, SPLITS
from sottovoce.models.training.splits import SPLIT_TITLES, SplitKind

Results = dict[str, Any]


def render(results: Results) -> str:
    """The card's Markdown. results: what `results.json` holds."""
    splits, labels = results["splits"], results["labels"]
    shipped = _shipped(results)
    kinds: list[SplitKind] = [kind for kind in SPLIT_TITLES if kind in splits]
    sections = PAGE.format(
        model=results["model"],
        layers=", ".join(results["layers"]),
        parameters=f"{results['parameters']:,}",
        shape=" x ".join(map(str, results["input_shape"])),
        features=f", features `{results['features']}`" if results["features"] else "",
        labels=", ".join(labels),
        splits=SPLITS.format(
            test=f"{100 * results['test_share']:.0f}", train=f"{100 - 100 * results['test_share']:.0f}"
        ),
        chance=f"{100 * max(_chance(splits[kind]['seeds']) for kind in kinds):.1f}",
        seeds=", ".join(str(row["seed"]) for row in splits[kinds[0]]["seeds"]),
        accuracy_rows="\n".join(_accuracy_row(kind, splits[kind]) for kind in kinds),
        seed_rows="\n".join(_seed_row(kind, row) for kind in kinds for row in splits[kind]["seeds"]),
        partial="\nThe run was interrupted: seeds or splits are missing here.\n" if results["interrupted"] else "",
        shipped_seed=results["shipped"]["seed"],
        shipped_split=SPLIT_TITLES[results["shipped"]["split"]],
        train_rows=f"{shipped['train_rows']:,}",
        test_rows=f"{shipped['test_rows']:,}",
        shipped_accuracy=f"{100 * shipped['test_accuracy']:.2f}",
        gap=_gap(splits),
        confusions="\n\n".join(_confusion(kind, splits[kind]["seeds"], labels) for kind in kinds),
        data=_data(results["data"]),
        recipe=_recipe(results["recipe"], shipped),
        conditions=_conditions(results["conditions"]),
        fixed_point=_fixed_point(results["fixed_point"], shipped),
        limits=LIMITS,
        ethics=ETHICS,
        licence=_licence(results["data"]),
    )
    return sections.rstrip() + "\n"


def _shipped(results: Results) -> dict[str, Any]:
    rows = results["splits"][results["shipped"]["split"]]["seeds"]
    return next(row for row in rows if row["seed"] == results["shipped"]["seed"])


def _chance(rows: list[dict[str, Any]]) -> float:
    """The largest class's share of the test rows of a split, all seeds together."""
    counts = [sum(row) for row in _added(rows)]
    return max(counts) / sum(counts)


def _accuracy_row(kind: SplitKind, split: dict[str, Any]) -> str:
    mean, std, low, high = (100 * split[key] for key in ("mean", "std", "min", "max"))
    recalls = [row["test_recall"] for row in split["seeds"]]
    recall = 100 * sum(recalls) / len(recalls)
    around = f" ± {std:.2f}" if len(recalls) > 1 else ""
    return f"| {SPLIT_TITLES[kind]} | {mean:.2f} %{around} | {low:.2f} % | {high:.2f} % | {recall:.2f} % |"


def _seed_row(kind: SplitKind, row: dict[str, Any]) -> str:
    epochs = f"{row['kept_epoch']} of {row['epochs']}"
    cells = [f"{100 * row[key]:.2f} %" for key in ("train_accuracy", "test_accuracy")]
    return f"| {SPLIT_TITLES[kind]} | {row['seed']} | {row['train_rows']:,} | {row['test_rows']:,} | {epochs} | " + (
        " | ".join(cells) + " |"
    )


def _gap(splits: dict[str, Any]) -> str:
    if len(splits) < 2:
        missing = next(title for kind, title in SPLIT_TITLES.items() if kind not in splits)
        return f"The split {missing} was not measured."
    points = 100 * (splits["random"]["mean"] - splits["by_speaker"]["mean"])
    return f"For unknown speakers the mean is {points:.1f} points lower."


def _added(rows: list[dict[str, Any]]) -> list[list[int]]:
    """The confusion tables of all seeds, added up."""
    tables = [row["confusion"] for row in rows]
    return [[sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*tables, strict=True)]


def _confusion(kind: SplitKind, rows: list[dict[str, Any]], labels: list[str]) -> str:
    table = _added(rows)
    lines = [f"**{SPLIT_TITLES[kind].capitalize()}**", "", "| | " + " | ".join(labels) + " |"]
    lines.append("|---" * (len(labels) + 1) + "|")
    lines += [f"| **{name}** | " + " | ".join(map(str, row)) + " |" for name, row in zip(labels, table, strict=True)]
    return "\n".join(lines)


def _data(data: dict[str, Any]) -> str:
    name = data.get("title", f"`{data['name']}`")
    file = f", feature file `{data['file']}`" if "file" in data else ""
    lines = [f"{name}{file}: {data['rows']:,} rows from {data['speakers']} speakers or groups of speakers."]
    left_out = " and ".join(f"{data[what]:,} {what}" for what in ("skipped", "unreadable") if data.get(what))
    lines += [f"Left out: {left_out} files."] if left_out else []
    if repeated := data.get("repeated"):
        lines.append(
            f"Equal to another row: {repeated:,}. A random split may put one of two equal rows on each side; the test "
            "figures are not corrected for it."
        )
    lines += [data[what] for what in ("citation", "note") if what in data]
    lines.append(f"SHA-256 of the features: `{data['sha256']}`.\nThe data are not part of the model.")
    return "\n".join(lines)


def _recipe(recipe: dict[str, Any], shipped: dict[str, Any]) -> str:
    scale = (
        f"standardised inputs, z = (x - mean per feature) / {recipe['common_scale']:g}"
        if recipe["scaling"] == "common"
        else "standardised inputs, z = (x - mean) / standard deviation, both per feature"
    )
    parts = [
        f"{scale}, from the training rows",
        f"AdamW, at most {recipe['epochs']} epochs, batches of {recipe['batch']}, one cycle of the learning rate up to "
        f"{recipe['learning_rate']:g}, weight decay {recipe['weight_decay']:g}",
        f"dropout {recipe['dropout_hidden']:g} before inner convolutions and {recipe['dropout_dense']:g} before dense "
        "layers",
    ]
    optional = (
        ("mixup", "mixup {:g}"),
        ("label_smoothing", "label smoothing {:g}"),
        ("noise", "Gaussian noise {:g} on standardised features"),
        ("average", "moving average of the weights, decay {:g}"),
        ("copies", "{:g} augmented versions of each training recording (speed, start, loudness, noise)"),
    )
    parts += [text.format(recipe[name]) for name, text in optional if recipe[name]]
    if recipe["class_weights"] == "balanced":
        parts.append("classes weighted by the inverse of their rows")
    if recipe["equalise"]:
        parts.append("the first dense layer trained divided by the initial size of each position's activations")
    if recipe["patience"]:
        share = 100 * recipe["validation"]
        parts.append(
            f"early stopping after {recipe['patience']} epochs without a better accuracy on {share:.0f} % of the "
            f"training rows ({shipped['validation_rows']:,} for the shipped weights), held out like the test rows"
        )
    else:
        parts.append("no early stopping")
    parts.append(f"weights rounded to multiples of 2^-{recipe['grid_bits']}")
    if recipe["balance_bits"]:
        gain = 2 ** recipe["balance_bits"]
        parts.append(f"first layer times {gain} and the second divided by it (the same function)")
    text = ".\n".join(part[0].upper() + part[1:] for part in parts) + "."
    return text + (f"\n{recipe['note']}" if recipe.get("note") else "")


def _conditions(conditions: dict[str, Any]) -> str:
    where = "one thread" if conditions["device"] == "cpu" else f"device {conditions['device']}"
    return (
        f"Made with PyTorch {conditions['torch']}, NumPy {conditions['numpy']}, Python {conditions['python']} on "
        f"{conditions['machine']}, {where}. Another machine or version may differ in the last bits and so after "
        "training by a few test rows."
    )


def _fixed_point(found: dict[str, Any], shipped: dict[str, Any]) -> str:
    if "error" in found:
        return f"**The range proof fails**, so the model cannot be run on shares: {found['error']}"
    widths = ", ".join(f"{name} {bits}" for name, bits in found["compare_bits"].items())
    rounding = 100 * (shipped["test_accuracy"] - shipped["test_accuracy_before_rounding"])
    return (
        f"Proven for every input in the declared box. Bits m of each comparison: {widths}. The label is that of exact "
        f"arithmetic whenever the two largest logits differ by more than {found['margin_bound']:g}; "
        f"{100 * found['inside']:.2f} % of the {found['rows']:,} test rows are closer.\n1 % of them have a margin "
        f"under {shipped['margin_1_percent']:g}. Rounding the weights changed the test accuracy by {rounding:+.2f} "
        "points."
    )


def _licence(data: dict[str, Any]) -> str:
    if data.get("licence"):
        return (
            f"The weights are trained on data licensed {data['licence']}; whoever hands them on keeps to that licence. "
            "The code that trained them has a licence of its own."
        )
    return (
        "The licence of the data is not known to the program that wrote this card. Weights made from data are bound by "
        "the data's licence: look it up and name it here before handing them on."
    )
