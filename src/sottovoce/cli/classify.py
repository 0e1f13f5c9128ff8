"""`sottovoce classify`: recordings in, labels out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce import __version__
from sottovoce.cli.connect import (
    Subparsers,
    add_cluster_options,
    add_device_option,
    add_protocol_options,
    find_protocol,
    load_role,
    positive,
)
from sottovoce.cli.exits import MEANING, Exit
from sottovoce.cli.model import MODEL_OPTIONS, add_model_options, load_graph, load_samples
from sottovoce.cli.output import Narrator, Update, add_progress, count, error_json, write_json
from sottovoce.cli.recordings import Item, list_recordings
from sottovoce.cli.warm import feature_code_loading, warm_up_visibly
from sottovoce.engine.errors import ConfigError, InputError, SottovoceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.engine.program import Program
    from sottovoce.serving.classifier import Classifier, Prediction
    from sottovoce.serving.cost import RequestCost


@dataclass(frozen=True, slots=True)
class Row:
    """One recording: its predictions, best first, or why there are none."""

    file: str
    predictions: tuple[Prediction, ...] = ()
    error: SottovoceError | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """Where requests run. remote: at a cluster. plain_tcp: asked for by --insecure-loopback."""

    protocol: str
    remote: bool
    plain_tcp: bool


@dataclass(frozen=True, slots=True)
class Result:
    """All recordings of one call. costs: one per request. failure: what ended the run before all were classified."""

    setting: Setting
    program: Program
    rows: tuple[Row, ...]
    features_ms: float
    costs: tuple[RequestCost, ...]
    failure: SottovoceError | None = None

    @property
    def failed(self) -> int:
        """Recordings without a result."""
        return sum(row.error is not None for row in self.rows)

    @property
    def encrypted(self) -> bool:
        """Whether every link to and between parties was TLS; True where there was none."""
        return not self.setting.plain_tcp and all(cost.encrypted for cost in self.costs)


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "classify",
        help="classify recordings",
        description="Classify recordings. Without --cluster all parties run inside this process, for evaluation: the "
        "protocol is real, but nothing is kept secret from this process.",
        epilog=MEANING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="FILE|DIR", help="sound files; folders are searched")
    add_protocol_options(
        parser, default=None, text="without --cluster: rep3 (default), beaver2, or plain: fixed point in the clear"
    )
    parser.add_argument("--lanes", type=positive, metavar="N", help="without --cluster: sub-batches computed at once")
    add_device_option(
        parser,
        default=None,
        text="without --cluster: cpu (default), cuda, cuda:N or auto; for each party its own: cpu,cuda:0,cuda:1",
    )
    parser.add_argument(
        "--top-k", type=positive, default=1, metavar="K", help="the K best labels; more than 1 opens scores"
    )
    parser.add_argument("--scores", action="store_true", help="open scores; with --cluster the owner must allow it")
    parser.add_argument(
        "--batch-size", type=positive, default=256, metavar="N", help="recordings per request (default %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes that compute features (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_progress(parser)
    add_model_options(parser, positional=False)
    add_cluster_options(parser, required=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Classify and report."""
    try:
        result = _classify(args)
    except SottovoceError as error:
        if args.json:
            write_json({"version": __version__, "results": [], "error": error_json(error)})
        raise
    from sottovoce.cli.report import as_json, show

    if args.json:
        write_json(as_json(result))
    else:
        show(result, with_scores=args.scores or args.top_k > 1)
    if result.failure is not None:
        raise result.failure
    return Exit.SOME_FAILED if result.failed else Exit.OK


def _classify(args: argparse.Namespace) -> Result:
    narrator = Narrator(args.progress)
    items = list_recordings(args.paths)
    classifier, setting = _open_classifier(args, narrator)
    with classifier:
        return classify_items(classifier, setting, items, args, narrator)


def classify_items(
    classifier: Classifier, setting: Setting, items: Sequence[Item], args: argparse.Namespace, narrator: Narrator
) -> Result:
    """Features and request, batch by batch. A transport or protocol error ends it; what was done before is kept."""
    from sottovoce.models.speech.extract import extract_features
    from sottovoce.serving.checks import check_features

    program = classifier.program
    check_features(program)
    if args.top_k > len(program.labels):
        raise ConfigError(f"--top-k: expected at most {len(program.labels)}, got {args.top_k}")
    scores = args.scores or args.top_k > 1
    if scores and "scores" not in program.outputs:
        raise ConfigError("--scores, --top-k: this deployment opens labels only (owner: sottovoce deploy --scores)")
    rows: list[Row] = []
    costs: list[RequestCost] = []
    features_ms = 0.0
    failure: SottovoceError | None = None
    with narrator.bars({"features": len(items), "classified": len(items)}) as update:
        for start in range(0, len(items), args.batch_size):
            chunk = items[start : start + args.batch_size]
            usable = [item.path for item in chunk if item.error is None]
            narrator.say(f"computes the features of {count(len(usable), 'recording')}; sound and features stay here")
            began = time.perf_counter()
            batch = extract_features(usable, program.features, progress=_after(update, start), jobs=args.jobs)
            features_ms += (time.perf_counter() - began) * 1000
            found: dict[str, tuple[Prediction, ...]] = {}
            if batch.names:
                narrator.say(f"sends the parties shares of {count(len(batch.names), 'feature vector')}")
                try:
                    answers = _predict(classifier, batch.features, args.top_k, scores)
                except InputError:
                    raise
                except SottovoceError as error:
                    failure = error
                    break
                found = dict(zip(batch.names, answers, strict=True))
                costs.append(_cost(classifier))
                narrator.say(f"joins the parties' answers: opens {'the scores' if scores else 'the label'}, alone")
            errors: dict[str, SottovoceError] = {failed.name: failed.error for failed in batch.failed}
            for item in chunk:
                rows.append(Row(item.path, found.get(item.path, ()), item.error or errors.get(item.path)))
            update("features", len(rows))
            update("classified", len(rows))
    rows += [Row(item.path, error=failure) for item in items[len(rows) :]]
    return Result(setting, program, tuple(rows), features_ms, tuple(costs), failure)


def _open_classifier(args: argparse.Namespace, narrator: Narrator) -> tuple[Classifier, Setting]:
    if args.cluster is None:
        if args.certs is not None or args.insecure_loopback:
            raise ConfigError("--certs, --insecure-loopback: expected --cluster with them")
        protocol = args.protocol or "rep3"
        if find_protocol(protocol) is not None:
            warm_up_visibly(narrator, protocol, quiet=args.progress == "none")
        from sottovoce.serving.classifier import Classifier

        with feature_code_loading():
            graph = load_graph(args)
            local = Classifier(
                graph,
                calibrate=load_samples(args.calibrated, graph),
                protocol=protocol,
                comparison=args.comparison or "auto",
                network=args.network or "loopback",
                scores=args.scores or args.top_k > 1,
                batch_size=args.batch_size,
                lanes=args.lanes or 1,
                device=args.device or "cpu",
                deadline_s=args.deadline,
            ).open()
        assert local.opened is not None
        return local, Setting(local.opened.protocol, remote=False, plain_tcp=False)
    for option in (*MODEL_OPTIONS, "protocol", "comparison", "network", "lanes", "device"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option.replace('_', '-')}: with --cluster the deployment decides it")
    cluster, tls = load_role(args, "client")
    narrator.say(f"connects with {len(cluster.addresses)} parties")
    from sottovoce.serving.classifier import Classifier

    with feature_code_loading():
        remote = Classifier(
            cluster=cluster,
            certificates=tls,
            insecure_loopback=args.insecure_loopback,
            batch_size=args.batch_size,
            deadline_s=args.deadline,
        ).open()
    return remote, Setting(cluster.protocol, remote=True, plain_tcp=tls is None)


def _predict(
    classifier: Classifier, features: NDArray[np.float64], top_k: int, scores: bool
) -> list[tuple[Prediction, ...]]:
    """The top_k predictions of each row of features, best first."""
    from sottovoce.serving.results import best_labels

    if not scores:
        return [({"label": str(label), "score": None},) for label in classifier.predict(features)]
    best = best_labels(classifier.program.labels, classifier.predict_proba(features), top_k)
    return [tuple(places) for places in best]


def _cost(classifier: Classifier) -> RequestCost:
    cost = classifier.last_cost
    if cost is None:
        raise ConfigError("classify: expected the cost of a request, got none")
    return cost


def _after(update: Update, start: int) -> Callable[[int, str], None]:
    return lambda done, name: update("features", start + done)
