"""`sottovoce deploy`: the model's owner hands shares of its weights to the parties."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.connect import Subparsers, add_cluster_options, load_role
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import CALIBRATED, INSECURE, count, remark, stdout_console
from sottovoce.engine.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "deploy",
        help="hand shares of a model's weights to the parties",
        description="For the model's owner: compile MODEL, prove that nothing overflows, send every party the public "
        "program and its shares of the weights. The weights themselves do not leave this process.",
    )
    parser.add_argument("model", nargs="?", default="paper", metavar="MODEL", help="default: paper")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights (npz); default: those of the package")
    parser.add_argument(
        "--scores", action="store_true", help="let clients open scores, which reveal more of the model than labels do"
    )
    parser.add_argument(
        "--calibrated",
        type=Path,
        metavar="FEATURES.npy",
        help="trust ranges seen on these features instead of proving them; every result is marked CALIBRATED",
    )
    add_cluster_options(parser, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compile and deploy."""
    cluster, tls = load_role(args, "owner")
    from sottovoce.models.compile import compile_graph
    from sottovoce.models.zoo import build
    from sottovoce.serving.owner import deploy

    remark(f"opens the weights of {args.model}")
    graph = build(args.model, args.weights)
    calibrate = None if args.calibrated is None else load_features(args.calibrated, graph.input_shape)
    compiled = compile_graph(graph, outputs=("label", "scores") if args.scores else ("label",), calibrate=calibrate)
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
    console = stdout_console()
    console.print(f"deployed  {program.name} under {cluster.protocol}, program {program.digest.hex()}")
    console.print(f"clients may open  {' and '.join(program.outputs)}")
    console.print(
        "same label as in exact arithmetic where a clip's two largest logits differ by more than "
        f"{compiled.report.margin_bound:.3g}"
    )
    for mark, applies in ((CALIBRATED, program.calibrated), (INSECURE, tls is None)):
        if applies:
            console.print(mark, style="bold red")
    return Exit.OK


def load_features(path: Path, input_shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Sample features (clips, *input_shape) from an .npy file of these or of flat rows; nothing in it is unpickled.

    Raises ModelError.
    """
    import numpy as np

    try:
        with open(path, "rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"calibration features {path}: {error}") from None
    width = math.prod(input_shape)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.size % width or not array.size:
        raise ModelError(f"calibration features {path}: expected one array of real numbers (clips, {width})")
    return array.reshape(-1, *input_shape)
