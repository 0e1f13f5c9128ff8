"""The sentences of a model card that do not depend on the run."""

PAGE = """# Model card: `{model}`, weights of this folder

Speech emotion recognition: {layers}; {parameters} parameters.
Input {shape}{features}. Classes: {labels}.

This file is made from `results.json`; do not edit it by hand.

## Accuracy

{splits} Chance is {chance} % at best (the largest class's share of the test rows).

| split | test accuracy, mean ± standard deviation over seeds {seeds} | smallest | largest | mean recall of a class |
|---|---|---|---|---|
{accuracy_rows}

A seed fixes split, initial weights and the order of training.

| split | seed | training rows | test rows | epoch kept | accuracy on training rows | on test rows |
|---|---|---|---|---|---|---|
{seed_rows}
{partial}
**The weights of this folder are seed {shipped_seed} of the split {shipped_split}**, trained on rows of its {train_rows}
training rows only: {shipped_accuracy} % on its {test_rows} test rows. {gap}

## Confusion, test rows of all seeds added up

Rows: true label. Columns: label given.

{confusions}

## Data

{data}

## Recipe

{recipe}

{conditions}

## Fixed point

{fixed_point}

## Intended use and limits

{limits}

{ethics}

## Licence

{licence}
"""

SPLITS = """Two splits answer two questions. **Random**: {train} % of the rows for training, {test} % for testing, every
speaker on both sides. **By speaker**: no speaker is on both sides; this is what to expect for a voice that the model
has never heard."""

LIMITS = """For research on private inference and for trying this project out. Corpora of this kind hold acted emotions,
few speakers and sentences, studio sound. Nothing was measured on spontaneous speech, other languages, children, noise
or telephone lines; expect less than the by-speaker figure there. Scores are not calibrated probabilities."""

ETHICS = """**Ethics.** A label says which acted emotion a recording resembles, not what a person feels. Do not use it
to judge, hire, police, diagnose or monitor anybody; for several of these uses the law of some countries forbids emotion
recognition outright. Private inference hides the recording from the computing parties; it does not make a questionable
use acceptable. Consent of the speaker is needed as before."""
