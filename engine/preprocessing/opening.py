"""Making and opening a store's folder: what lies there is checked before any of it is used."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.durable import PRIVATE_FOLDER, make_private, os_errors, sync_folder
from sottovoce.engine.preprocessing.folder import SEGMENTS, FolderLock, check_names, remove_others
from sottovoce.engine.preprocessing.index import INDEX_FILE, Index, Witness, prepare_file
from sottovoce.engine.preprocessing.segment import Segment, SegmentFile
from sottovoce.engine.preprocessing.vault import Secrets, State, StoreIdentity, Vault, mark
from sottovoce.engine.prg import KEY_BYTES

PAIR_BYTES = 16
HOW = "`sottovoce prepare` makes one"
AGAIN = "make it again with `sottovoce prepare`"


class NoStoreError(PreprocessingError):
    """The folder is not there or empty, or the making of its store was stopped: one can be made there."""


@dataclass(slots=True)
class Contents:
    """What an open store consists of. where: stands in front of error texts. held: gives everything back."""

    folder: Path
    where: str
    vault: Vault
    own: Secrets
    state: State
    segments: list[Segment]
    index: Index
    witness: Witness
    held: ExitStack

    def file(self, segment: Segment) -> SegmentFile:
        """A segment's file, bound to this store."""
        return SegmentFile(
            path=self.folder / SEGMENTS / segment.file,
            segment=segment,
            cipher=self.vault.segment(segment),
            context=self.vault.header + self.own.pair,
            where=f"{self.where}: {segment}",
        )


def name_of(folder: Path, identity: StoreIdentity) -> str:
    """How error texts call a store. Peers may read them: they get to know the folder's name, not where it lies."""
    return f"party {identity.rank}: store {folder.absolute().name!r}"


def make(folder: Path, key: bytes, identity: StoreIdentity, pair: bytes) -> None:
    """An empty store; see `Store.create`. A making that was stopped is begun again."""
    where = name_of(folder, identity)
    if len(pair) != PAIR_BYTES:
        raise PreprocessingError(f"{where}: expected a pair id of {PAIR_BYTES} bytes, got {len(pair)}")
    vault = Vault.create(key, identity, where)
    with os_errors(where, "create"), ExitStack() as stack:
        if not folder.exists():
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        check_names(folder, where)
        make_private(folder)
        stack.callback(FolderLock(folder, where).release)
        prepare_file(folder)
        index = Index(folder, where)
        stack.callback(index.close)
        if not index.empty:
            raise PreprocessingError(f"{where}: create: expected an empty folder, got one that holds a store")
        _check_unused(folder, where)
        (folder / SEGMENTS).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        make_private(folder / SEGMENTS)
        Witness.create(folder, vault.seal("witness", mark(State())))
        sync_folder(folder)
        sync_folder(folder.absolute().parent)
        own = Secrets(pair, mask_seed=secrets.token_bytes(KEY_BYTES))
        index.create(vault.header, vault.seal("secrets", own), vault.seal("state", State()))


def load(folder: Path, key: bytes, identity: StoreIdentity) -> Contents:
    """A store's contents; what a crash left over is removed. Raises NoStoreError, PreprocessingError: see `Store`."""
    where = name_of(folder, identity)
    with os_errors(where, "open"), ExitStack() as stack:
        if not folder.exists():
            raise NoStoreError(f"{where}: expected a store, got none: {HOW}")
        check_names(folder, where)
        if not (folder / INDEX_FILE).is_file():
            raise NoStoreError(f"{where}: expected a store, got a folder without {INDEX_FILE}: {HOW}")
        stack.callback(FolderLock(folder, where).release)
        index = Index(folder, where)
        stack.callback(index.close)
        if index.empty:
            _check_unused(folder, where)
            raise NoStoreError(f"{where}: expected a store, got one whose making was stopped: {AGAIN}")
        contents = _contents(folder, where, key, identity, index, stack)
        for segment in contents.segments:
            if segment.stop > contents.state.position:
                contents.file(segment).check()
        remove_others(folder, {segment.file for segment in contents.segments})
        contents.held = stack.pop_all()
        return contents


def _contents(
    folder: Path, where: str, key: bytes, identity: StoreIdentity, index: Index, stack: ExitStack
) -> Contents:
    """Everything unsealed, complete and not older than its last use."""
    header, sealed_secrets, sealed_state, rows = index.read()
    vault = Vault.open(key, identity, header, where)
    own = vault.unseal("secrets", sealed_secrets, Secrets)
    state = vault.unseal("state", sealed_state, State)
    segments = [vault.unseal("segment", box, Segment) for _, box in rows]
    if [s.start for s in segments] != [start for start, _ in rows] or not _complete(segments, state):
        raise PreprocessingError(f"{where}: the index is damaged: segments are missing or out of order")
    witness = Witness(folder, where)
    stack.callback(witness.close)
    if vault.unseal("witness", witness.read(), bytes) > mark(state):
        raise PreprocessingError(
            f"{where}: the index is older than its last use: it was replaced, or lost its write-ahead log. "
            "Its material may have been used; make a new store"
        )
    return Contents(folder, where, vault, own, state, segments, index, witness, stack)


def _check_unused(folder: Path, where: str) -> None:
    """An empty index beside segments was lost, not left by a making that was stopped."""
    segments = folder / SEGMENTS
    if segments.is_dir() and any(segments.iterdir()):
        raise PreprocessingError(f"{where}: the index is damaged: empty, beside segments; make a new store")


def _complete(segments: Sequence[Segment], state: State) -> bool:
    """Whether the segments cover the unused clips without gap or overlap."""
    at = segments[0].start if segments else state.end
    if not at <= state.position <= state.end:
        return False
    for segment in segments:
        if segment.start != at:
            return False
        at = segment.stop
    return at == state.end
