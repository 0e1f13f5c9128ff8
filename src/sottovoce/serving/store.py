"""A party's store as the party server uses it: opened for a model, bound to its weights, with what it cost to fill."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sottovoce.engine.cost import demand
from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.folder import FolderLock
from sottovoce.engine.preprocessing.index import INDEX_FILE, Index
from sottovoce.engine.preprocessing.opening import name_of
from sottovoce.engine.preprocessing.seal import Sealer
from sottovoce.engine.preprocessing.store import Store, StoreIdentity
from sottovoce.engine.preprocessing.supply import StorePreprocessing
from sottovoce.engine.preprocessing.vault import Header
from sottovoce.engine.prg import Fill
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.structs import parse_json
from sottovoce.serving.ledger import SegmentCost, cost_of, model_of, read


class WrongKeyError(PreprocessingError):
    """A store was made with another key."""


def prepare_command(rank: int | str = "RANK", clips: int | str = "N") -> str:
    """What a party runs to make material."""
    return f"`sottovoce prepare {rank} --clips {clips} --program FILE --store DIR --cluster FILE --certs DIR`"


@dataclass(frozen=True, slots=True)
class StoreAt:
    """Where a store is, and its key."""

    folder: Path
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Supply:
    """An open store of the model that is served. costs: of its segments."""

    preprocessing: StorePreprocessing
    costs: Sequence[SegmentCost]

    @property
    def left(self) -> int:
        """Clips that both parties still have."""
        return max(0, self.preprocessing.end - self.preprocessing.position)

    def refusal(self, clips: int) -> str:
        """Why a request of so many clips cannot be run; empty if it can. Nothing is consumed."""
        if clips <= self.left:
            return ""
        return (
            f"the request needs {clips:,} prepared clips, {self.left:,} are left; none was used. For more: stop both "
            f"parties, run `sottovoce prepare RANK --clips {clips - self.left} ...` at each, start them, deploy again"
        )

    def cost_of_next(self, clips: int) -> tuple[int, int] | None:
        """(ns, bytes) that the next clips cost, if it is known."""
        position = self.preprocessing.position
        return cost_of(self.costs, range(position, position + clips))


def look_into(at: StoreAt, rank: int, row: ProtocolRow) -> str:
    """What a party says about its store before there is a model.

    Raises PreprocessingError for what no model could use: there is none, it is damaged, of another party or protocol,
    or of another key (WrongKeyError).
    """
    header = _header(at.folder)
    program, layout = (b"", b"") if header is None else (header.program, header.layout)
    identity = StoreIdentity(program, row.name, rank, layout)
    if (
        header is not None
        and (header.protocol, header.rank) == (row.name, rank)
        and not hmac.compare_digest(Sealer(at.key, header.store).check, header.check)
    ):
        where = name_of(at.folder, identity)
        raise WrongKeyError(f"{where}: expected the key that it was made with, got another one")
    with Store.open(at.folder, key=at.key, identity=identity) as store:
        left = store.end - store.position
    return f"store {at.folder.name!r} for {_shown(model_of(read(at.folder)), program)}, clips prepared: {left:,}"


def open_supply(at: StoreAt, rank: int, program: Program, row: ProtocolRow, weights: bytes, fill: Fill) -> Supply:
    """The store for a deployment. weights: the tag of its weights. Raises PreprocessingError; nothing has changed."""
    if not weights:
        raise PreprocessingError(f"party {rank}: {row.name} needs a tag of the weights, which the owner did not send")
    layout = demand(program, row)
    identity = StoreIdentity(program.digest, row.name, rank, layout.digest)
    header, costs = _header(at.folder), read(at.folder)
    if header is not None and header.program != program.digest:
        raise PreprocessingError(
            f"{name_of(at.folder, identity)} is for {_shown(model_of(costs), header.program)}, not for "
            f"{_shown(program.name, program.digest)}: deploy that model, or prepare for this one at both "
            "parties: `sottovoce prepare RANK --program FILE --store NEW ...`"
        )
    store = Store.open(at.folder, key=at.key, identity=identity)
    try:
        if store.claimed is not None and not hmac.compare_digest(store.claimed, weights):
            raise PreprocessingError(
                f"{name_of(at.folder, identity)}: expected the weights that it was used with before, got others: the "
                "same masks would reveal their difference. Prepare a new store for these at both parties"
            )
        return Supply(StorePreprocessing(store, layout, fill), costs)
    except BaseException:
        store.close()
        raise


def _header(folder: Path) -> Header | None:
    """What a store says about itself in the clear; None where `Store.open` will say why it cannot be read."""
    if not (folder / INDEX_FILE).is_file():
        return None
    with suppress(PreprocessingError, OSError, msgspec.MsgspecError), ExitStack() as stack:
        stack.callback(FolderLock(folder, folder.name).release)
        index = Index(folder, folder.name)
        stack.callback(index.close)
        return parse_json(index.read()[0], Header)
    return None


def _shown(model: str, program: bytes) -> str:
    """A model for people."""
    return f"{model or 'a model'} (program {program.hex()[:8]})"
