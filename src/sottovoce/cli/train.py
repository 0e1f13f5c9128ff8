"""`sottovoce train`: from a folder of recordings, or a file of features, to a model with its card."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.model import check_model_word, comma_separated
from sottovoce.cli.output import (
    Narrator,
    add_progress,
    count,
    errors_as_json,
    make_table,
    printable,
    remark,
    stdout_console,
    write_json,
)
from sottovoce.engine.errors import ConfigError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce.models.graph import Graph
    from sottovoce.models.training.dataset import TrainingSet
    from sottovoce.models.training.recipe import Recipe
    from sottovoce.models.training.run import Outcome
    from sottovoce.models.training.splits import SplitKind

SPLITS: dict[str, tuple[SplitKind, ...]] = {
    "both": ("random", "by_speaker"),
    "random": ("random",),
    "speaker": ("by_speaker",),
}
SEEDS = (0, 1, 2, 3, 4)
COPIES = 2
NOISE = 0.1
RECIPE_OPTIONS = ("epochs", "batch", "learning_rate", "patience", "validation", "class_weights")


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train a model on a folder of recordings",
        description="Trains one network per split and seed, in the clear, on this machine, and measures each on rows "
        "that it has not seen. Writes model, weights, results, model card and pictures. Needs the extra `train`: "
        "pip install -e '.[train]' in the clone.",
    )
    parser.add_argument(
        "source", metavar="CORPUS", help="a folder of recordings, or an npz file of features (X, y, speaker)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; one below per model if several"
    )
    parser.add_argument("--force", action="store_true", help="replace the files of an earlier run in --out")
    add_progress(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    group = parser.add_argument_group("data")
    group.add_argument("--corpus", metavar="NAME", help="the corpus; default: told by the names of the files")
    group.add_argument(
        "--labels", type=comma_separated, metavar="A,B,…", help="names of the classes 0, 1, … of an npz file"
    )
    group.add_argument(
        "--split", choices=sorted(SPLITS), default="both", help="test rows: at random, whole speakers, or both"
    )
    group.add_argument("--test-share", type=_share, default=None, metavar="S", help="share of test rows (default 0.33)")
    group.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes that extract features (default 1)"
    )
    group.add_argument(
        "--cache",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DIR",
        help="keep the features of recordings, which are personal data; without DIR in the user's cache folder",
    )
    group = parser.add_argument_group("training")
    group.add_argument(
        "--model", nargs="+", default=["paper"], metavar="M", help="names of the zoo, .onnx files; default: paper"
    )
    group.add_argument("--features", metavar="NAME", help="the feature set of an .onnx file that does not name it")
    group.add_argument("--seeds", type=_seed, nargs="+", default=list(SEEDS), metavar="N", help="default: 0 1 2 3 4")
    group.add_argument(
        "--epochs", type=int, metavar="N", help="at most; default: the model's recipe, as for the next four"
    )
    group.add_argument("--batch", type=int, metavar="N", help="rows per step")
    group.add_argument("--learning-rate", type=float, metavar="R", help="largest step size of AdamW")
    group.add_argument(
        "--patience", type=int, metavar="N", help="epochs without progress before early stopping; 0: none"
    )
    group.add_argument(
        "--validation", type=float, metavar="S", help="share of the training rows that early stopping looks at"
    )
    group.add_argument(
        "--class-weights", choices=("none", "balanced"), help="balanced: rare classes count as much as others"
    )
    group.add_argument(
        "--augment",
        type=positive,
        nargs="?",
        const=COPIES,
        metavar="N",
        help=f"add N (default {COPIES}) altered versions of each training recording; for npz: noise on the features",
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Train every model that is asked for."""
    from sottovoce.models.training.extras import require_extras

    require_extras()
    from sottovoce.models.training.folder import check_folder, write_folder
    from sottovoce.models.training.run import find_device

    device = find_device(args.device)
    if len(set(args.seeds)) < len(args.seeds):
        raise ConfigError("--seeds: expected each seed once")
    folders = _folders(args.out, args.model)
    graphs = [_architecture(name, args.features) for name in args.model]
    for folder in folders:
        check_folder(folder, args.force)
    narrator = Narrator(args.progress)
    data: dict[tuple[str, tuple[int, ...]], TrainingSet] = {}
    done: list[tuple[Path, list[str], Outcome]] = []
    for graph, folder in zip(graphs, folders, strict=True):
        key = (graph.features, graph.input_shape)
        if key not in data:
            data[key] = _load(args, graph, narrator)
        outcome = _train(args, graph, data[key], device, narrator)
        done.append((folder, write_folder(folder, outcome.graph, outcome.results), outcome))
        if outcome.results["interrupted"]:
            remark("interrupted: keeps the networks that were ready")
            break
    if args.json:
        rows = [{"folder": str(folder), "files": files, **outcome.results} for folder, files, outcome in done]
        write_json({"version": __version__, "models": rows})
    else:
        _show(done)
    return Exit.INTERRUPTED if done[-1][2].results["interrupted"] else Exit.OK


def _architecture(name: str, features: str | None) -> Graph:
    """The model's layers; the weights that an .onnx file holds are not used."""
    from sottovoce.models.load import load_model
    from sottovoce.models.zoo import list_models, random_weights

    check_model_word(name)
    if name in list_models():
        return load_model(name, weights=random_weights(name, 0), features=features)
    return load_model(name, features=features)


def _folders(out: Path, models: list[str]) -> list[Path]:
    """The folder of each model. Named after the argument: what a file calls itself is not to be trusted with a path."""
    names = [Path(model).stem for model in models]
    if len(set(names)) < len(names):
        raise ConfigError("--model: expected models of different names")
    return [out] if len(names) == 1 else [out / name for name in names]


def _load(args: argparse.Namespace, graph: Graph, narrator: Narrator) -> TrainingSet:
    """Features for a model: of all recordings of the corpus, or from the file."""
    from sottovoce.models.speech.cache import FeatureCache, default_cache_folder
    from sottovoce.models.speech.corpora import get_corpus, read_corpus
    from sottovoce.models.training.dataset import extract_corpus, load_features, of_corpus

    source = Path(args.source)
    if source.is_file():
        found = load_features(source, graph.input_shape, args.labels, graph.labels)
        return found if args.corpus is None else of_corpus(found, get_corpus(args.corpus))
    if args.labels is not None:
        raise ConfigError("--labels: expected it with an npz file; a corpus names its own")
    if not graph.features:
        raise ConfigError(f"model {graph.name}: expected --features NAME, the feature set to extract from recordings")
    listing = read_corpus(source, args.corpus)
    speakers = {utterance.speaker for utterance in listing.utterances}
    if "by_speaker" in SPLITS[args.split] and len(speakers) < 2:  # said before the features take their time
        raise InputError(
            f"corpus {source}: expected two speakers or more for a split by speaker, got one: --split random"
        )
    folder = default_cache_folder() if args.cache == Path() else args.cache
    cache = None if folder is None else FeatureCache(folder)
    total = len(listing.utterances) * (1 + (args.augment or 0))
    narrator.say(f"{listing.corpus.name}: {count(len(listing.utterances), 'recording')}")
    with narrator.bars({"features": total}) as update:
        found = extract_corpus(
            listing,
            graph.features,
            copies=args.augment or 0,
            jobs=args.jobs,
            cache=cache,
            progress=lambda done, _: update("features", done),
        )
    for what in ("skipped", "unreadable"):
        if found.source[what]:
            remark(f"{listing.corpus.name}: leaves out {count(found.source[what], f'{what} file')}")
    return found


def _train(args: argparse.Namespace, graph: Graph, data: TrainingSet, device: str, narrator: Narrator) -> Outcome:
    from sottovoce.models.training.run import Plan, train_all
    from sottovoce.models.training.splits import SPLIT_TITLES, TEST_SHARE

    share = TEST_SHARE if args.test_share is None else args.test_share
    recipe = _recipe(args, graph.name, data)
    plan = Plan(graph, data, recipe, SPLITS[args.split], tuple(args.seeds), share, device)
    networks = 0
    with narrator.bars(
        {f"{graph.name}: networks": len(plan.kinds) * len(plan.seeds), "epochs": recipe.epochs}
    ) as update:

        def network_done(kind: SplitKind, row: dict[str, Any]) -> None:
            nonlocal networks
            networks += 1
            update(f"{graph.name}: networks", networks)
            tested = f"{100 * row['test_accuracy']:.1f} % of {row['test_rows']:,} test rows"
            narrator.say(f"{graph.name}, {SPLIT_TITLES[kind]} split, seed {row['seed']}: {tested}")

        return train_all(plan, lambda epochs: update("epochs", epochs), network_done)


def _recipe(args: argparse.Namespace, model: str, data: TrainingSet) -> Recipe:
    """The model's recipe with what the options change."""
    from sottovoce.models.training.recipe import recipe_for

    given = {name: value for name in RECIPE_OPTIONS if (value := getattr(args, name)) is not None}
    if args.augment is not None and data.copies is None:
        given["noise"] = NOISE
    return replace(recipe_for(model), **given)


def _show(done: list[tuple[Path, list[str], Outcome]]) -> None:
    console = stdout_console()
    console.print(_accuracies([outcome.results for _, _, outcome in done]))
    for folder, files, outcome in done:
        found, name = outcome.results["fixed_point"], outcome.results["model"]
        console.print()
        if "error" in found:
            console.print(f"{name}: the range proof fails: {found['error']}", style="bold red")
        else:
            close = f"{100 * found['inside']:.2f} % of the test rows are closer"
            console.print(f"{name}: proven; the label is exact beyond a margin of {found['margin_bound']:g}, {close}")
        console.print(f"{printable(str(folder))}: {', '.join(files)}")
    model = printable(str(done[0][0] / "model.onnx"))
    console.print("\nnext:", style="bold")
    deploy = f"deploy {model} --cluster FILE --certs DIR"
    for step in (f"explain {model}", f"classify --model {model} RECORDING", deploy):
        console.print(f"  sottovoce {step}", soft_wrap=True)


def _accuracies(results: list[dict[str, Any]]) -> Table:
    from sottovoce.models.training.splits import SPLIT_TITLES

    shown = make_table(("model", "split"), ("networks", "test accuracy", "smallest", "largest"))
    for found in results:
        for kind, title in SPLIT_TITLES.items():
            if kind in found["splits"]:
                split = found["splits"][kind]
                mean, std, low, high = (100 * split[key] for key in ("mean", "std", "min", "max"))
                spread = f" ± {std:.2f}" if len(split["seeds"]) > 1 else ""
                cells = (f"{mean:.2f} %{spread}", f"{low:.2f} %", f"{high:.2f} %")
                shown.add_row(found["model"], title, str(len(split["seeds"])), *cells)
    return shown


def _share(text: str) -> float:
    """For argparse: a share between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected more than 0 and less than 1, got {text}")
    return value


def _seed(text: str) -> int:
    """For argparse: a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {text}")
    return value
