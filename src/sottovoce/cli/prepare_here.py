"""A dealer and two parties' `sottovoce prepare`, as child processes on loopback: for trying out and measuring."""

from __future__ import annotations

import json
import queue
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.cli.exits import CommandError, Exit
from sottovoce.cli.output import printable

if TYPE_CHECKING:
    from sottovoce.engine.program import Program
    from sottovoce.serving.processes import Child

PARTIES = 2
_DONE = re.compile(r"P\d has (\d+) of \d+ clips")
_POLL_S = 0.05
_LAST_LINES = 3


def prepare_here(
    program: Program,
    protocol: str,
    clips: int,
    folder: Path,
    key: Path | None,
    source: str = "dealer",
    tell: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Leave folder/p0 and folder/p1; each party's JSON. key: of both stores. Raises CommandError: who failed, how."""
    from sottovoce.engine.transport.certificates import create_certificates, role_folder
    from sottovoce.engine.transport.tls import Identity
    from sottovoce.serving.cluster import Cluster, free_addresses
    from sottovoce.serving.processes import Children, interrupted_by_sigterm

    addresses = free_addresses(PARTIES + 1)
    dealt = source == "dealer"
    with tempfile.TemporaryDirectory(prefix="sottovoce-prepare-") as name, interrupted_by_sigterm():
        base = Path(name)
        *_, authority = create_certificates(base / "certs", PARTIES, dealer=() if dealt else None)
        shutil.rmtree(authority)
        cluster = Cluster(addresses[:PARTIES], protocol, dealer=addresses[PARTIES] if dealt else None)
        (base / "cluster.toml").write_text(cluster.to_toml())
        (base / "program.json").write_bytes(program.to_json())
        common = ["--cluster", str(base / "cluster.toml"), "--stop-at-eof", "--progress"]
        with Children(base) as children:
            if dealt:
                certs = base / "certs" / role_folder(Identity.dealer())
                children.start("Dealer", ["dealer", *common, "none", "--certs", str(certs)], base)
            parties = []
            for rank in range(PARTIES):
                certs = base / "certs" / role_folder(Identity.party(rank))
                arguments = [
                    *("prepare", str(rank), "--json", "--program", str(base / "program.json"), "--source", source),
                    *("--clips", str(clips), "--store", str((folder / f"p{rank}").absolute())),
                    *([] if key is None else ["--store-key", str(key.absolute())]),
                ]
                command = [*arguments, *common, "lines", "--certs", str(certs)]
                parties.append(children.start(f"P{rank}", command, base))
            while any(child.status != 0 for child in parties):
                _look(children.all, parties)
                try:
                    role, line = children.events.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if role == "P1" and (found := _DONE.search(line)):
                    tell(int(found[1]))
            for child in parties:
                child.join(_POLL_S)
            return [json.loads(child.output) for child in parties]


def _look(everybody: list[Child], parties: list[Child]) -> None:
    """Raise CommandError for a child that has failed; the dealer never ends by itself."""
    for child in everybody:
        if child.status is None or (child.status == 0 and child in parties):
            continue
        for other in parties:
            other.terminate()
        child.join(1.0)
        known = child.status in (Exit.USAGE, Exit.TRANSPORT, Exit.SECURITY)
        lines = "; ".join(printable(line) for line in list(child.last_lines)[-_LAST_LINES:])
        raise CommandError(
            f"prepare: {child.role} ended with status {child.status}: {lines}",
            Exit(child.status) if known else Exit.INTERNAL,
        )
