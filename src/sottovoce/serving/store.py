"""A party's store as the party server uses it: opened for a model, bound to its weights, with what it cost to fill."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sottovoce.engine.cost import demand
from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.opening import name_of
from sottovoce.engine.preprocessing.store import Store, StoreIdentity
from sottovoce.engine.preprocessing.supply import StorePreprocessing
from sottovoce.engine.prg import Fill
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.serving.ledger import SegmentCost, cost_of, read

HOW = "`sottovoce prepare RANK --cluster FILE --program FILE --clips N --store DIR` at each party"


@dataclass(frozen=True, slots=True)
class StoreAt:
    """Where a store is, and its key."""

    folder: Path
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Supply:
    """An open store of the model that is served. costs: of its segments."""

    rank: int
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
        missing = clips - self.left
        return (
            f"P{self.rank}: preprocessing: the request needs {clips} clips, {self.left} are left, {missing} are "
            f"missing; nothing was used. The parties stop, run `sottovoce prepare RANK --cluster FILE --program FILE "
            f"--clips {missing} --store DIR`, and start again"
        )

    def cost_of_next(self, clips: int) -> tuple[int, int] | None:
        """(ns, bytes) that the next clips cost, if it is known."""
        position = self.preprocessing.position
        return cost_of(self.costs, range(position, position + clips))


def open_supply(at: StoreAt, rank: int, program: Program, row: ProtocolRow, weights: bytes, fill: Fill) -> Supply:
    """The store for a deployment. weights: the tag of its weights. Raises PreprocessingError; nothing has changed."""
    if not weights:
        raise PreprocessingError(f"party {rank}: {row.name} needs a tag of the weights, which the owner did not send")
    layout = demand(program, row)
    identity = StoreIdentity(program.digest, row.name, rank, layout.digest)
    store = Store.open(at.folder, key=at.key, identity=identity)
    try:
        if store.claimed is not None and not hmac.compare_digest(store.claimed, weights):
            raise PreprocessingError(
                f"{name_of(at.folder, identity)}: expected the weights that it was used with before, got others: the "
                f"same masks would reveal their difference. Make new stores for these weights: {HOW}"
            )
        return Supply(rank, StorePreprocessing(store, layout, fill), read(at.folder))
    except BaseException:
        store.close()
        raise
