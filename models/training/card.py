"""The model card of `paper`, made from results.json and nothing else: the two cannot disagree."""

from __future__ import annotations

from typing import Any

from sottovoce.models.speech.ravdess import LABELS

_TEXT = """# Model card: `paper`, default weights

Speech emotion recognition from 40 averaged MFCCs: the CNN of the paper that this project follows.
Conv1D(128, 5, same), ReLU, AvgPool(4), Conv1D(128, 5, same), ReLU, Flatten 1280, Dense(8); 93,064 parameters.
Classes: {labels}.

This file is made from `results.json` by `models/training/paper.py`; do not edit it by hand.

## Accuracy

Two splits answer two questions. **Random**: 67 % of the rows for training, 33 % for testing, every speaker on both
sides; this is how the paper measures. **By speaker**: no speaker is on both sides; this is what to expect for a voice
that the model has never heard. Chance is {chance:.1f} % at best (the largest class's share of the random
splits' test rows).

| split | test accuracy, mean ± standard deviation over seeds {seeds} | smallest | largest |
|---|---|---|---|
| random 67/33 | {random_mean:.2f} % ± {random_std:.2f} | {random_min:.2f} % | {random_max:.2f} % |
| by speaker | {speaker_mean:.2f} % ± {speaker_std:.2f} | {speaker_min:.2f} % | {speaker_max:.2f} % |

The seeds were fixed beforehand; a seed fixes split, initial weights and the order of training.

| seed | random: train | random: test | by speaker: train | by speaker: test |
|---|---|---|---|---|
{seed_rows}

**The shipped weights are seed {shipped} of the random split**, trained on its {train_rows} training rows only:
{shipped_accuracy:.2f} % on its {test_rows} test rows. {gap}

## Confusion of the shipped weights, random split, test rows

Rows: acted emotion. Columns: label given.

{shipped_confusion}

## Confusion by speaker, all seeds added up

{speaker_confusion}

## Data

RAVDESS (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391; zenodo 1188976), speech part: {rows} recordings
of 24 professional actors speaking two sentences in North American English with eight acted emotions. Per recording 40
MFCCs averaged over time (22,050 Hz, `kaiser_fast`). SHA-256 of the feature file: `{sha}`. The recordings are
not part of this project.

Blocks of 60 rows are one actor each, except blocks 16 and 18 to 21, which mix actors and stay together when splitting
by speaker.

## Recipe

z = (x - mean per coefficient) / {scale:g}; AdamW, {epochs} epochs, batches of {batch}, one cycle of the learning rate
up to {learning_rate:g}, weight decay {weight_decay:g}, mixup {mixup:g}, dropout {dropout_conv:g} after the pooling
and {dropout_dense:g} before the dense layer; no early stopping. The recipe was chosen on a fifth of the *training*
rows of other splits (seeds 100 to 102), which the networks tried were not trained on. As all splits are drawn from
the same {rows} rows, such a row may be a test row of a seed above. After training the first layer is multiplied by
{gain:g} and the second divided by it (the same function), the weights are rounded to multiples of 2^-16, and the
standardisation is folded into the first layer. One scale serves all coefficients, because a scale per coefficient
cannot be folded into a layer whose weights all positions share.

Folded minus unfolded logits, largest absolute difference over all rows and networks: {folded:.1e}.

Made with PyTorch {torch}, NumPy {numpy}, Python {python} on {machine}, one thread. Another machine or version may
differ in the last bits and so after training by a few test rows.

## Fixed point

Of the shipped weights: largest L1 norm of a filter of the second layer {conv2_l1:.2f}, largest L1 distance of two rows
of the dense layer {dense_pair_l1:.1f}, their product {l1_product:.0f}; 1 % of all {rows} rows have a top-two margin
under {margin:.4f}.

## Intended use and limits

For research on private inference and for trying this project out. Acted emotions of 24 actors, two sentences, one
accent, studio sound. Nothing was measured on spontaneous speech, other languages, children, noise or telephone
lines; expect less than the by-speaker figure there. Scores are not calibrated probabilities.

**Ethics.** A label says which acted emotion a recording resembles, not what a person feels. Do not use it to judge,
hire, police, diagnose or monitor anybody; for several of these uses the law of some countries forbids emotion
recognition outright. Private inference hides the recording from the computing parties; it does not make a
questionable use acceptable. Consent of the speaker is needed as before.

## Licence

The weights are trained on RAVDESS and licensed as it is: CC BY-NC-SA 4.0 (attribution, non-commercial, share alike),
see `LICENSE-WEIGHTS`. The code of this project has a licence of its own.
"""


def render(results: dict[str, Any]) -> str:
    """The card's Markdown. results: what `results.json` holds."""
    random, speaker, recipe = results["splits"]["random"], results["splits"]["by_speaker"], results["recipe"]
    shipped = next(row for row in random["seeds"] if row["seed"] == results["shipped"]["seed"])
    every = [*random["seeds"], *speaker["seeds"]]
    difference = 100 * (random["mean"] - speaker["mean"])
    counts = [sum(row) for row in _added(random["seeds"])]
    return _TEXT.format(
        labels=", ".join(LABELS),
        chance=100 * max(counts) / sum(counts),
        seeds=_span([row["seed"] for row in random["seeds"]]),
        **_percent("random", random),
        **_percent("speaker", speaker),
        seed_rows="\n".join(_seed_row(a, b) for a, b in zip(random["seeds"], speaker["seeds"], strict=True)),
        shipped=shipped["seed"],
        train_rows=shipped["train_rows"],
        test_rows=shipped["test_rows"],
        shipped_accuracy=100 * shipped["test_accuracy"],
        gap=f"For unknown speakers the mean is {difference:.1f} points lower.",
        shipped_confusion=_table(shipped["confusion"]),
        speaker_confusion=_table(_added(speaker["seeds"])),
        rows=f"{results['rows']:,}",
        sha=results["data_sha256"],
        gain=2 ** recipe["balance_shift"],
        folded=max(row["folded_minus_unfolded"] for row in every),
        margin=shipped["margin_1_percent"],
        **{name: shipped[name] for name in ("conv2_l1", "dense_pair_l1", "l1_product")},
        **{name: value for name, value in recipe.items() if name != "balance_shift"},
        **results["conditions"],
    )


def _percent(prefix: str, split: dict[str, Any]) -> dict[str, float]:
    return {f"{prefix}_{key}": 100 * split[key] for key in ("mean", "std", "min", "max")}


def _seed_row(random: dict[str, Any], speaker: dict[str, Any]) -> str:
    cells = [f"{100 * row[key]:.2f} %" for row in (random, speaker) for key in ("train_accuracy", "test_accuracy")]
    return f"| {random['seed']} | " + " | ".join(cells) + " |"


def _span(seeds: list[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _added(rows: list[dict[str, Any]]) -> list[list[int]]:
    tables = [row["confusion"] for row in rows]
    return [[sum(table[i][j] for table in tables) for j in range(len(LABELS))] for i in range(len(LABELS))]


def _table(counts: list[list[int]]) -> str:
    lines = ["| | " + " | ".join(LABELS) + " |", "|---" * (len(LABELS) + 1) + "|"]
    lines += [f"| **{label}** | " + " | ".join(map(str, row)) + " |" for label, row in zip(LABELS, counts, strict=True)]
    return "\n".join(lines)
