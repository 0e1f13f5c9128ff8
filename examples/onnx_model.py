"""A network of your own, as an ONNX file: load it, see what it costs, classify with it under MPC.

    python examples/onnx_model.py                              # a small file made on the spot, with random weights
    python examples/onnx_model.py my.onnx happy,sad a.wav      # your own file, its labels, recordings

docs/import-models.md says how a file comes out of PyTorch or Keras. A file that says nothing about itself needs three
facts: its labels, the feature set that it was trained on, and the box that every feature lies in (that of the feature
set, unless you say otherwise).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sottovoce import Classifier, RangeProofError, export_onnx, extract_features, load_model, random_weights
from sottovoce.models.speech.demo_clip import demo_clip_path

FEATURES = "mfcc40-mean"


def make_file(folder: Path) -> Path:
    """Stands for a model that you trained: the network `tiny` with random weights, so its labels mean nothing."""
    labels = ["angry", "calm", "happy"]
    path = folder / "mine.onnx"
    weights = random_weights("tiny", seed=1, labels=labels)
    path.write_bytes(export_onnx(load_model("tiny", weights=weights, labels=labels)))
    return path


def run(file: Path, labels: Sequence[str] | None, recordings: Sequence[Path]) -> None:
    """Load, compile, classify."""
    graph = load_model(file, labels=labels, features=FEATURES)
    print(f"{graph.name}: {graph.parameters:,} parameters, input {graph.input_shape}, labels {', '.join(graph.labels)}")
    classifier = Classifier(graph)
    try:
        classifier.open()
    except RangeProofError as error:
        # Nobody can prove that this model never overflows. The alternative is explicit, and everything says so.
        print(f"not proven: {error}")
        classifier.set_params(calibrate=extract_features(recordings, FEATURES).features)
    with classifier:
        print("ranges", "calibrated on samples, not proven" if classifier.calibrated else "proven")
        for recording in recordings:
            print(f"  {recording.name}: {classifier.classify(recording)[0]['label']}")
        cost = classifier.last_cost
        if cost is not None:
            print(f"  per recording: {cost.rounds} rounds, {sum(cost.bytes_sent):,} bytes between the parties")


def main(arguments: Sequence[str]) -> int:
    """With your file, labels and recordings, or with what is at hand."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(arguments[0]) if arguments else make_file(Path(folder))
        labels = arguments[1].split(",") if len(arguments) > 1 else None
        run(file, labels, [Path(name) for name in arguments[2:]] or [demo_clip_path()])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
