"""`sottovoce models`: the zoo."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, make_table, stdout_console, write_json

if TYPE_CHECKING:
    from sottovoce.models.graph import Graph
    from sottovoce.models.zoo import ZooModel


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "models",
        help="list the models that come with the package",
        description="The zoo: architectures by name. One without weights of its own takes yours (--weights) or random "
        "ones (--random-weights SEED); an .onnx file can stand wherever such a name can.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """List them."""
    from sottovoce.models.zoo import MODELS, build, random_weights

    graphs = {name: build(name, random_weights(name, 0)) for name in MODELS}
    if args.json:
        rows = [_as_json(MODELS[name], graph) for name, graph in graphs.items()]
        write_json({"version": __version__, "models": rows})
        return Exit.OK
    shown = make_table(("name", "input", "features"), ("parameters", "labels"), ("weights",))
    for name, graph in graphs.items():
        weights = "none shipped" if MODELS[name].weights is None else "shipped"
        shape = "x".join(map(str, graph.input_shape))
        shown.add_row(name, shape, graph.features, f"{graph.parameters:,}", str(len(graph.labels)), weights)
    console = stdout_console()
    console.print(shown)
    console.print()
    for line in (
        "input: channels x time of one clip's features",
        "none shipped: --weights FILE (npz), or --random-weights SEED to see the cost",
    ):
        console.print(line)
    return Exit.OK


def _as_json(model: ZooModel, graph: Graph) -> dict[str, Any]:
    return {
        "name": model.name,
        "layers": model.layers,
        "input_shape": list(graph.input_shape),
        "parameters": graph.parameters,
        "features": model.features,
        "labels": list(model.labels),
        "weights_shipped": model.weights is not None,
    }
