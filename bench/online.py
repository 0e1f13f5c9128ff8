"""How long a request takes, from shares sent to answers in hand: three party processes on this machine.

`python -m sottovoce.bench [--batch 1 128] [--repeat N] [--lanes L] [--insecure-loopback] [--json]`. Sharing and
opening are listed apart; starting, connecting and the first requests (warm-up) are not timed. Median and quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.tls import Identity, load_tls
from sottovoce.kernels.warmup import warm_up
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.zoo import MODELS, build, list_models, random_weights
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.owner import deploy

WARM_UPS = 3
SEED = 0
TABLE_WIDTH = 150


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Of the repetitions, in ms."""

    lower: float
    median: float
    upper: float


@dataclass(frozen=True, slots=True)
class Row:
    """One batch size. compute_ms, wait_ms: means over the parties; bytes_sent: of each party, for the whole batch."""

    batch: int
    repeat: int
    online_ms: Quartiles
    compute_ms: Quartiles
    wait_ms: Quartiles
    sharing_ms: Quartiles
    opening_ms: Quartiles
    clips_per_s: float
    bytes_sent: tuple[int, ...]
    rounds: int
    input_bytes: int
    output_bytes: int


@contextlib.contextmanager
def parties(compiled: Compiled, *, lanes: int, insecure: bool) -> Iterator[RemoteCluster]:
    """Three `sottovoce party` processes with the model on them, and a client's connections."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        create_certificates(folder / "certs", clients=["alice"], owners=["bob"])
        cluster = Cluster(free_addresses(3), lanes=lanes)
        (folder / "cluster.toml").write_text(cluster.to_toml())
        for rank in range(3):
            command = [sys.executable, "-m", "sottovoce", "party", str(rank), "--stop-at-eof"]
            command += ["--cluster", str(folder / "cluster.toml")]
            certs = folder / "certs" / role_folder(Identity.party(rank))
            command += ["--insecure-loopback"] if insecure else ["--certs", str(certs)]
            log = stack.enter_context(open(folder / f"party{rank}.log", "w"))
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        def tls(role: Identity) -> Any:
            return None if insecure else load_tls(folder / "certs" / role_folder(role))

        deploy(compiled, cluster, tls(Identity("owner", "bob")), insecure_loopback=insecure)
        yield stack.enter_context(RemoteCluster(cluster, tls(Identity("client", "alice")), insecure_loopback=insecure))


def measure(client: RemoteCluster, encoded: NDArray[np.uint64], repeat: int) -> Row:
    """`repeat` timed requests of one batch."""
    for _ in range(WARM_UPS):
        client.run(encoded)
    costs = [client.run(encoded)[1] for _ in range(repeat)]
    online = _quartiles([c.online_ms for c in costs])
    last = costs[-1]
    return Row(
        batch=len(encoded),
        repeat=repeat,
        online_ms=online,
        compute_ms=_quartiles([_mean(c.party_ms) - _mean(c.party_wait_ms) for c in costs]),
        wait_ms=_quartiles([_mean(c.party_wait_ms) for c in costs]),
        sharing_ms=_quartiles([c.sharing_ms for c in costs]),
        opening_ms=_quartiles([c.opening_ms for c in costs]),
        clips_per_s=1000 * len(encoded) / online.median,
        bytes_sent=last.bytes_sent,
        rounds=last.rounds,
        input_bytes=last.input_bytes,
        output_bytes=last.output_bytes,
    )


def sample_input(compiled: Compiled, batch: int) -> NDArray[np.uint64]:
    """Random features in the declared box: the time does not depend on them."""
    program = compiled.program
    rng = np.random.default_rng(SEED)
    size = int(np.prod(program.input_shape))
    return encode_input(program, rng.uniform(program.input_low, program.input_high, (batch, size)))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": [round(v, 2) for v in os.getloadavg()],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m sottovoce.bench", description=__doc__)
    parser.add_argument("--model", default="paper", choices=list_models())
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 128])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--insecure-loopback", action="store_true", help="plain TCP; marked in the table")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    warm_up()
    conditions = machine()
    trained = MODELS[args.model].weights is not None
    compiled = compile_graph(build(args.model, None if trained else random_weights(args.model, 0)))
    with parties(compiled, lanes=args.lanes, insecure=args.insecure_loopback) as client:
        rows = [measure(client, sample_input(compiled, batch), args.repeat) for batch in args.batch]
    links = "plain TCP on loopback, INSECURE" if args.insecure_loopback else "mutual TLS 1.3 on loopback"
    model = args.model if trained else f"{args.model} (random weights)"
    title = f"{model}, rep3, three processes, {args.lanes} lane(s), {links}"
    if args.json:
        print(json.dumps({"title": title, "machine": conditions, "rows": [asdict(r) for r in rows]}, indent=2))
    else:
        Console(width=TABLE_WIDTH).print(_table(title, rows))
        print("; ".join(f"{key} {value}" for key, value in conditions.items()))
    return 0


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(
        title=title,
        width=TABLE_WIDTH,
        caption="ms: median (quartiles) of the requests; compute, wait: mean of the parties",
    )
    for column in ("batch", "online", "compute", "wait", "sharing", "opening", "clips/s", "MB/party", "rounds"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row.batch),
            *(_text(q) for q in (row.online_ms, row.compute_ms, row.wait_ms, row.sharing_ms, row.opening_ms)),
            f"{row.clips_per_s:.0f}",
            f"{sum(row.bytes_sent) / len(row.bytes_sent) / 1e6:.3f}",
            str(row.rounds),
        )
    return table


def _text(q: Quartiles) -> str:
    return f"{q.median:.2f} ({q.lower:.2f}-{q.upper:.2f})"


def _quartiles(values: Sequence[float]) -> Quartiles:
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return Quartiles(float(lower), float(median), float(upper))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
