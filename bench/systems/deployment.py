"""The files of one deployment of ours, and the processes that make its preprocessing: those that a user starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.bench.systems.base import Job
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.preprocessing.segment import Source
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.structs import parse_json
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.tls import Identity
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.onnx import export_onnx, import_onnx
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.processes import Child, Children

START_S: Final = 240.0
"""For the first start on a machine, which compiles kernels."""
DEADLINE_S: Final = 120.0
CLIP_S: Final = 5.0
"""For the material of one clip, however it is made."""
CLIPS: Final = 512
"""Up to so many are prepared at once for the requests that a batch size should get."""
MATERIAL_BYTES: Final = 8_000_000_000
"""Of one batch size, on the disk, in both stores together."""
OWNER: Final = "bob"
CLIENT: Final = "alice"


class Prepared(msgspec.Struct, frozen=True):
    """What `sottovoce prepare --json` says of one party. bytes_sent: by a dealer to it, or by it to the other party."""

    elapsed_ms: float
    bytes_sent: int
    stored_bytes: int


class Deployment:
    """Cluster file, certificates, model, and stores where the protocol needs some.

    Node `rank` is a party's; then come the client's, which is the owner's too, and where there is one the dealer's.
    """

    def __init__(self, row: ProtocolRow, job: Job, folder: Path) -> None:
        self.row = row
        self.folder = folder
        self.job = job
        self.cluster = folder / "cluster.toml"
        self.model = folder / "model.onnx"
        self.certificates = folder / "certs" if job.encrypted else None
        self._program = folder / "program.json"
        self._dealer_node = row.parties + 1
        folder.mkdir()
        places = job.addresses(nodes_of(row))
        dealer = places[self._dealer_node] if row.preprocessing else None
        described = Cluster(places[: row.parties], row.name, job.lanes, dealer)
        self.cluster.write_text(described.to_toml(), encoding="utf-8")
        if self.certificates is not None:
            create_certificates(
                self.certificates,
                parties=row.parties,
                clients=[CLIENT],
                owners=[OWNER],
                dealer=() if row.preprocessing else None,
            )
        self.model.write_bytes(export_onnx(job.graph))
        program = compile_graph(import_onnx(self.model)).program
        self._program.write_bytes(program.to_json())
        layout = demand(program, row)
        self._clip_bytes = 8 * (layout.derived + 2 * layout.common)

    def party(self, children: Children, rank: int, options: Sequence[str]) -> Child:
        """Start a party; it serves until its standard input ends."""
        store = self._store(rank) if self.row.preprocessing else ()
        words = ["party", str(rank), "--stop-at-eof", "--deadline", f"{DEADLINE_S:g}", *store, *options]
        return self._start(children, f"P{rank}", words, Identity.party(rank), rank)

    def requests(self, batch: int, least: int, most: int) -> int:
        """For how many requests of that size to prepare. Raises ConfigError if `least` is too much for the disk."""
        wanted = min(most, max(least, CLIPS // batch))
        room = MATERIAL_BYTES // (self._clip_bytes * batch)
        if room < least:
            expected = f"at most {MATERIAL_BYTES / 1e9:g} GB of preprocessed material for a batch size"
            got = least * batch * self._clip_bytes / 1e9
            raise ConfigError(f"bench: {self.row.name}: expected {expected}, got {got:.3g} GB for {least} of {batch}")
        return min(wanted, room)

    def clips(self, batches: Sequence[int], least: int, most: int) -> int:
        """For the requests of the first of the sizes and, as long as the disk has room, of those after it.

        Raises ConfigError as `requests`.
        """
        total = batches[0] * self.requests(batches[0], least, most)
        for batch in batches[1:]:
            more = batch * min(most, max(least, CLIPS // batch))
            if (total + more) * self._clip_bytes > MATERIAL_BYTES:
                break
            total += more
        return total

    def prepare(self, clips: int, source: Source) -> tuple[Prepared, ...]:
        """Add so many clips to the parties' stores, which nobody may have open. By rank."""
        with Children(self.folder) as children:
            if source == "dealer":
                words = ["dealer", "--stop-at-eof", "--deadline", f"{DEADLINE_S:g}"]
                self._start(children, "dealer", words, Identity.dealer(), self._dealer_node)
            parties = []
            for rank in range(self.row.parties):
                words = ["prepare", str(rank), "--program", str(self._program), "--source", source]
                words += ["--clips", str(clips), *self._store(rank), "--deadline", f"{DEADLINE_S:g}", "--json"]
                parties.append(self._start(children, f"prepare-P{rank}", words, Identity.party(rank), rank))
            end = time.monotonic() + START_S + CLIP_S * clips
            for child in parties:
                child.join(max(end - time.monotonic(), 0.0))
            return tuple(map(_prepared, parties))

    def _start(self, children: Children, name: str, words: Sequence[str], role: Identity, node: int) -> Child:
        credentials = ["--insecure-loopback"]
        if self.certificates is not None:
            credentials = ["--certs", str(self.certificates / role_folder(role))]
        words = [*words, "--cluster", str(self.cluster), *credentials]
        return children.start(name, words, self.folder, self.job.network.prefix(node))

    def _store(self, rank: int) -> tuple[str, ...]:
        """Options. The key is no secret of anybody's: the store goes when the measurement ends."""
        return "--store", str(self.folder / f"store{rank}"), "--store-key", str(self.folder / f"store{rank}.key")


def nodes_of(row: ProtocolRow) -> int:
    """How many nodes of a network a deployment takes: the parties, the client, and where there is one the dealer."""
    return row.parties + 1 + row.preprocessing


def _prepared(child: Child) -> Prepared:
    if child.status:
        words = " ".join(child.last_lines)[-400:]
        raise WorkerFailed(f"{child.role}: expected it to end well, got status {child.status}; its last words: {words}")
    try:
        return parse_json(child.output, Prepared)
    except msgspec.MsgspecError:
        raise WorkerFailed(f"{child.role}: expected a JSON object, got other text") from None
