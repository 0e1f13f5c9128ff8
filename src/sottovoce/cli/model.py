"""The options that say which model, and what they come to: a Graph, sample features, a compiled program."""

from __future__ import annotations

import argparse
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.output import RANDOM_SUFFIX, count, remark
from sottovoce.engine.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.models.graph import Graph

DEFAULT_MODEL = "paper"
MODEL_HELP = "a name of the zoo (see `sottovoce models`) or an .onnx file; default: paper"
TRAINED = "model.onnx"
"""What `sottovoce train` calls the model in the folder that it writes."""
MODEL_OPTIONS = ("model", "weights", "random_weights", "labels", "features", "box", "calibrated")
"""By destination; all are None if they are not given."""


def add_model_options(parser: argparse.ArgumentParser, *, positional: bool, calibrated: bool = True) -> None:
    """MODEL (or --model MODEL, where other words are positional) and what completes it."""
    if positional:
        parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    group = parser.add_argument_group("model")
    if not positional:
        group.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    weights = group.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, metavar="FILE", help="npz file of weights for a model of the zoo")
    weights.add_argument(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="random weights for a model of the zoo: to see what it costs; every result is marked RANDOM",
    )
    group.add_argument("--labels", type=comma_separated, metavar="A,B,…", help="the labels, in the order of the logits")
    group.add_argument("--features", metavar="NAME", help="the feature set that the model was trained on")
    group.add_argument(
        "--box", nargs=2, type=float, metavar=("LOW", "HIGH"), help="every feature lies between these; else refused"
    )
    if calibrated:
        group.add_argument(
            "--calibrated",
            type=Path,
            metavar="DATA",
            help="trust the ranges seen on sample features (npy, npz) or on a folder of recordings instead of proving "
            "them; every result is marked CALIBRATED",
        )


def check_model_word(name: str) -> None:
    """Whether `name` can be a model; the ModelError knows the usual mistakes."""
    from sottovoce.models.load import ONNX_SUFFIX
    from sottovoce.models.zoo import MODELS

    path = Path(name)
    if name in MODELS or path.suffix.lower() == ONNX_SUFFIX:
        return
    hint = ""
    if (path / TRAINED).is_file():
        hint = f": the model of this folder is {path / TRAINED}"
    elif path.suffix.lower() == ".npz":
        hint = f": a file of weights goes with a name of the zoo, MODEL --weights {name}"
    raise ModelError(f"model: expected one of {', '.join(MODELS)}, or an {ONNX_SUFFIX} file, got {name!r}{hint}")


def forward_model_options(args: argparse.Namespace) -> list[str]:
    """The same options for another process, which may run in another folder."""
    forwarded = [] if args.model is None else [_absolute(args.model)]
    for name in ("weights", "random_weights", "labels", "features", "box"):
        value = getattr(args, name)
        if value is None:
            continue
        forwarded.append(f"--{name.replace('_', '-')}")
        if name == "box":
            forwarded += [format(Decimal(side), "f") for side in value]  # argparse takes -1e-05 for an option
        else:
            forwarded.append(",".join(value) if name == "labels" else _absolute(str(value)))
    return forwarded


def _absolute(word: str) -> str:
    """A file's path from the root; any other word as it is."""
    path = Path(word)
    return str(path.absolute()) if path.is_file() else word


def load_graph(args: argparse.Namespace) -> Graph:
    """The model that the options describe. Raises ConfigError, ModelError."""
    from sottovoce.models.load import load_model
    from sottovoce.models.zoo import MODELS, random_weights

    name = DEFAULT_MODEL if args.model is None else args.model
    check_model_word(name)
    weights, seed = args.weights, args.random_weights
    if seed is not None:
        if name not in MODELS or seed < 0:
            raise ConfigError(f"--random-weights: expected a seed of at least 0, for one of {', '.join(MODELS)}")
        weights = random_weights(name, seed, labels=args.labels)
    elif weights is None and name in MODELS and MODELS[name].weights is None:
        raise ModelError(
            f"model {name}: the package ships no trained weights for it: --weights FILE, an .onnx file in its place, "
            "or --random-weights SEED to see what it costs"
        )
    low, high = args.box or (None, None)
    graph = load_model(
        name, weights=weights, labels=args.labels, features=args.features, input_low=low, input_high=high
    )
    # The name is part of the public program: so every role, and everything that it writes, says it.
    return graph if seed is None else replace(graph, name=f"{graph.name}{RANDOM_SUFFIX}{seed}")


def load_samples(path: Path | None, graph: Graph) -> NDArray[np.float64] | None:
    """Sample features (clips, *input_shape) for --calibrated; None without it. Raises ModelError."""
    if path is None:
        return None
    from sottovoce.models.load import sample_features

    values = _extract(path, graph) if path.is_dir() else _read(path)
    samples = sample_features(values, graph, where=f"--calibrated {path}")
    remark(f"calibrates on {count(len(samples), 'sample')}: ranges that these do not show are not covered")
    return samples


def comma_separated(text: str) -> tuple[str, ...]:
    """For argparse: a,b,c."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return names


def _read(path: Path) -> NDArray[np.generic]:
    """The array of an npy file; of an npz file the only one, or that named `features`. Nothing is unpickled."""
    import tokenize
    import zipfile

    import numpy as np

    from sottovoce.models.npz import NPZ_ERRORS, read_array

    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                array: NDArray[np.generic] = np.load(file, allow_pickle=False)
                return array
            with zipfile.ZipFile(file) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                if len(names) != 1 and "features" not in names:
                    raise ModelError(
                        f"--calibrated {path}: expected one array or one named features, got {', '.join(names)}"
                    )
                return read_array(archive, names[0] if len(names) == 1 else "features")
    except OSError as error:
        raise ModelError(f"--calibrated {path}: {error.strerror or error}") from None
    except ModelError:
        raise
    except (*NPZ_ERRORS, MemoryError, tokenize.TokenError) as error:
        raise ModelError(f"--calibrated {path}: expected an npy or npz file of numbers, or a folder: {error}") from None


def _extract(folder: Path, graph: Graph) -> NDArray[np.float64]:
    from sottovoce.cli.recordings import list_recordings
    from sottovoce.models.speech.extract import extract_features

    if not graph.features:
        raise ConfigError(
            f"--calibrated {folder}: expected --features NAME for recordings: model {graph.name} names no feature set"
        )
    items = list_recordings([str(folder)])
    batch = extract_features([item.path for item in items if item.error is None], graph.features)
    if not batch.names:
        reasons = [*(item.error for item in items if item.error), *(failed.error for failed in batch.failed)]
        raise ModelError(f"--calibrated {folder}: expected recordings, got none that can be used: {reasons[0]}")
    for failed in batch.failed:
        remark(f"--calibrated: leaves out {failed.name}: {failed.error}")
    return batch.features
