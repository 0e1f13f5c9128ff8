"""Emotions of recordings from Python: a batch with a bad file in it, scores, feature arrays, a stream of any length.

    python examples/classify_recordings.py                 # a few recordings made on the spot
    python examples/classify_recordings.py a.wav b.flac    # your own

All parties run inside this process, which shows the work but hides nothing from it. With parties on machines of their
own only the constructor changes:

    Classifier(cluster="cluster.toml", certificates="deployment/client-alice")
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from sottovoce import Classifier, InputError, PartialResultError, Prediction
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.models.speech.extract import extract_features

RATE = 22_050


def make_recordings(folder: Path) -> list[Path]:
    """The bundled clip, slower and faster, and a file that is not a recording."""
    samples, rate = soundfile.read(demo_clip_path(), dtype="float32")
    paths = [demo_clip_path()]
    for name, speed in (("slower.wav", 0.8), ("faster.wav", 1.25)):
        soundfile.write(folder / name, samples, int(rate * speed))
        paths.append(folder / name)
    (folder / "broken.wav").write_text("not a recording")
    return [*paths, folder / "broken.wav"]


def batch(classifier: Classifier, paths: Sequence[Path]) -> None:
    """All recordings in one request. Only labels are opened. A bad file does not lose the others."""
    results: Sequence[list[Prediction] | None]
    try:
        results = classifier.classify(paths)
    except PartialResultError as error:
        results = error.results
        for index, reason in error.failures.items():
            print(f"  {paths[index].name}: {reason}")
    for path, result in zip(paths, results, strict=True):
        if result is not None:
            print(f"  {path.name}: {result[0]['label']}")  # [{"label": "calm", "score": None}]
    cost = classifier.last_cost
    if cost is not None:
        print(f"  {cost.batch} clips, {cost.rounds} rounds, {sum(cost.bytes_sent):,} bytes between the parties")


def endless(paths: Sequence[Path]) -> Iterator[Path]:
    """Stands for a source that never ends, such as a folder that others fill."""
    while True:
        yield from paths


def stream(classifier: Classifier, paths: Sequence[Path], count: int) -> None:
    """One batch (the classifier's batch_size) in memory at a time; a bad file gives its error in its place."""
    answers = classifier.classify_stream(endless(paths))
    for _, answer in zip(range(count), answers, strict=False):
        print("  bad recording" if isinstance(answer, InputError) else f"  {answer[0]['label']}")


def scores(classifier: Classifier, path: Path) -> None:
    """The three best labels with their scores. A single bad file raises."""
    try:
        places = classifier.classify(path, top_k=3)
    except InputError as error:
        print(f"  {path.name}: {error}")
        return
    for place in places:
        print(f"  {place['label']}: {place['score']:.3f}")


def features(classifier: Classifier, paths: Sequence[Path]) -> None:
    """Feature arrays, in the manner of scikit-learn: (clips, 40) in, labels or probabilities out."""
    extracted = extract_features(paths)
    print(f"  features {extracted.features.shape}, {len(extracted.failed)} bad")
    if len(extracted.features) == 0:
        return
    print("  predict:", list(map(str, classifier.predict(extracted.features))))
    print("  predict_proba:", np.round(classifier.predict_proba(extracted.features).max(axis=1), 3).tolist())


def main(arguments: Sequence[str]) -> int:
    """Run all four."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(argument) for argument in arguments] or make_recordings(Path(folder))
        with Classifier("paper", batch_size=4) as labels_only:
            print("A batch of files")
            batch(labels_only, paths)
            print("A stream")
            stream(labels_only, paths, count=6)
        # Scores reveal more of the model than labels do, so its owner must allow them.
        with Classifier("paper", scores=True) as with_scores:
            print("Scores")
            scores(with_scores, paths[0])
            print("Feature arrays")
            features(with_scores, paths)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
