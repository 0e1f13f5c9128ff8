"""`sottovoce deploy`: the model's owner hands shares of its weights to the parties."""

from __future__ import annotations

import argparse

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers, add_cluster_options, load_role
from sottovoce.cli.exits import Exit
from sottovoce.cli.model import DEFAULT_MODEL, add_model_options, load_graph, load_samples
from sottovoce.cli.output import (
    count,
    errors_as_json,
    has_random_weights,
    labelled,
    remark,
    show_marks,
    stdout_console,
    write_json,
)


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "deploy",
        help="hand shares of a model's weights to the parties",
        description="For the model's owner: compile MODEL, prove that nothing overflows, send every party the public "
        "program and its shares of the weights. The weights themselves do not leave this process.",
    )
    add_model_options(parser, positional=True)
    parser.add_argument(
        "--scores", action="store_true", help="let clients open scores, which reveal more of the model than labels do"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_cluster_options(parser, required=True)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Compile and deploy."""
    cluster, tls = load_role(args, "owner")
    from sottovoce.models.compiler.compile import compile_graph
    from sottovoce.serving.owner import deploy

    remark(f"opens the weights of {args.model or DEFAULT_MODEL}")
    graph = load_graph(args)
    compiled = compile_graph(
        graph,
        outputs=("label", "scores") if args.scores else ("label",),
        calibrate=load_samples(args.calibrated, graph),
    )
    program = compiled.program
    how = "ranges CALIBRATED on samples" if program.calibrated else "proves that no value overflows"
    remark(f"compiles {count(compiled.report.model_parameters, 'parameter')}; {how}")
    remark(f"sends each of {len(cluster.addresses)} parties the program and shares of the weights, never a weight")
    deploy(
        compiled,
        cluster,
        tls,
        deadline_s=args.deadline,
        insecure_loopback=args.insecure_loopback,
        on_event=remark,
    )
    if args.json:
        write_json(
            {
                "version": __version__,
                "model": program.name,
                "program": program.digest.hex(),
                "protocol": cluster.protocol,
                "outputs": list(program.outputs),
                "calibrated": program.calibrated,
                "random_weights": has_random_weights(program),
                "encrypted": tls is not None,
                "margin_bound": compiled.report.margin_bound,
            }
        )
        return Exit.OK
    console = stdout_console()
    within = ", if the clip stays within the calibrated ranges" if program.calibrated else ""
    for label, text in (
        ("deployed", f"{program.name} under {cluster.protocol}"),
        ("program", program.digest.hex()),
        ("clients", f"may open {' and '.join(program.outputs)}"),
        (
            "labels",
            "the same as in exact arithmetic where a clip's two largest logits differ by more than "
            f"{compiled.report.margin_bound:.3g}{within}",
        ),
    ):
        console.print(labelled(label, text), soft_wrap=True)
    show_marks(console, program, encrypted=tls is not None)
    return Exit.OK
