"""A folder of recordings as a list of labelled utterances, each once, and of what was left out and why.

Only names are read, and the bytes of files that claim to be the same utterance. Rules:

* Every file with the extension of a sound or video file is an utterance, a duplicate, or skipped with a reason.
* Hidden folders are not entered, links to folders are not followed (they may form rings), hidden files are skipped.
* **An utterance is used once.** Corpora are republished with their tree inside itself, in two formats or at two rates;
  a copy on the other side of a split would make a model look better than it is. Of several files of one utterance the
  first is used in this order: lossless before lossy, shallow before deep, then by path. The others are duplicates if
  their bytes are equal, and skipped as another version if not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.containers import LOSSY_SUFFIXES, SOUND_SUFFIXES
from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Utterance
from sottovoce.models.speech.corpora.table import CORPORA, get_corpus

VIDEO = frozenset((".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".webm", ".wmv"))
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_MAX_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A file with the same bytes as the one that is used."""

    path: Path
    original: Path


@dataclass(frozen=True, slots=True)
class CorpusListing:
    """What a folder holds of a corpus. utterances, skipped and duplicates are each in the order of their paths."""

    corpus: Corpus
    utterances: tuple[Utterance, ...] = field(repr=False)
    skipped: tuple[Skipped, ...] = field(repr=False)
    duplicates: tuple[Duplicate, ...] = field(repr=False)


def read_corpus(folder: str | os.PathLike[str], name: str | None = None) -> CorpusListing:
    """List the utterances in a folder and all below it.

    name: of the corpus, as in the table; without it, the one corpus whose rule fits any of the files. Raises
    InputError for a folder that cannot be read, holds no utterance, or holds those of several corpora and no name was
    given; ConfigError for a name that is not in the table.
    """
    root = Path(folder)
    corpus = None if name is None else get_corpus(name)
    skipped: list[Skipped] = []
    files = sorted(_walk(root, skipped))
    names = {path: PurePath(root.resolve().name, path.relative_to(root)) for path in files}
    if corpus is None:
        corpus = _detect(root, names)
    found: dict[tuple[str, str, str, str, int], list[Utterance]] = {}
    for path, inside in names.items():
        try:
            parsed = corpus.parse(inside)
        except InputError as problem:
            parsed = Excluded(str(problem))
        if isinstance(parsed, Utterance) and _is_lfs_pointer(path):
            parsed = Excluded("a Git LFS pointer in place of the recording: run git lfs pull where it was cloned")
        if isinstance(parsed, Excluded):
            skipped.append(Skipped(path, parsed.reason))
        else:
            found.setdefault(parsed.identity, []).append(replace(parsed, path=path))
    utterances: list[Utterance] = []
    duplicates: list[Duplicate] = []
    for same in found.values():
        kept, *others = sorted(same, key=_preference)
        utterances.append(kept)
        for other in others:
            if _same_bytes(kept.path, other.path):
                duplicates.append(Duplicate(other.path, kept.path))
            else:
                reason = f"another version of {os.fspath(kept.path)!r}: an utterance is used once"
                skipped.append(Skipped(other.path, reason))
    if not utterances:
        why = f": all {len(skipped)} were left out, such as {_example(skipped)}" if skipped else ""
        raise InputError(f"corpus {_shown(root)}: expected recordings of {corpus.title}, got none{why}")
    return CorpusListing(
        corpus,
        tuple(sorted(utterances, key=lambda utterance: utterance.path)),
        tuple(sorted(skipped, key=lambda skip: skip.path)),
        tuple(sorted(duplicates, key=lambda duplicate: duplicate.path)),
    )


def _walk(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Sound files in no particular order; what else has a reason to be named goes to `skipped`."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except (OSError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else str(problem)
            if folder == root:
                raise InputError(f"corpus {_shown(root)}: expected a folder that can be read, got: {reason}") from None
            skipped.append(Skipped(folder, f"the folder cannot be read: {reason}"))
            continue
        for entry in entries:
            path, suffix = folder / entry.name, PurePath(entry.name).suffix.lower()
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(path)
            elif entry.is_dir():
                skipped.append(Skipped(path, "a link to a folder is not followed"))
            elif suffix in VIDEO:
                skipped.append(Skipped(path, "a video file: only sound files are read"))
            elif suffix in SOUND_SUFFIXES:
                if entry.name.startswith("."):
                    skipped.append(Skipped(path, "a hidden file (macOS writes ._ files beside copied ones)"))
                elif not entry.is_file():
                    skipped.append(Skipped(path, "not a regular file, or a broken link"))
                else:
                    yield path


def _detect(root: Path, names: dict[Path, PurePath]) -> Corpus:
    matches = {
        corpus.name: fitting
        for corpus in CORPORA.values()
        if (fitting := [inside for inside in names.values() if _fits(corpus, inside)])
    }
    if len(matches) == 1:
        return CORPORA[next(iter(matches))]
    if not matches:
        rules = ", ".join(f"{corpus.example} ({corpus.name})" for corpus in CORPORA.values())
        got = ", ".join(repr(str(inside)) for inside in list(names.values())[:3])
        raise InputError(
            f"corpus {_shown(root)}: expected sound files named as in a known corpus, {rules}; got "
            + (f"{len(names)} others, such as {got}" if names else "no sound file")
        )
    found = " and ".join(
        f"{len(fitting)} of {CORPORA[name].title}, such as {str(fitting[0])!r}" for name, fitting in matches.items()
    )
    raise InputError(
        f"corpus {_shown(root)}: expected the recordings of one corpus, got {found}; give a folder with one of them, "
        f"or name the one to read (--corpus {next(iter(matches))})"
    )


def _fits(corpus: Corpus, inside: PurePath) -> bool:
    try:
        corpus.parse(inside)
    except InputError:
        return False
    return True


def _preference(utterance: Utterance) -> tuple[bool, int, Path]:
    path = utterance.path
    return path.suffix.lower() in LOSSY_SUFFIXES, len(path.parts), path


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        return first.stat().st_size == second.stat().st_size and _digest(first) == _digest(second)
    except OSError:
        return False


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _is_lfs_pointer(path: Path) -> bool:
    try:
        if path.stat().st_size > _LFS_MAX_BYTES:
            return False
        with open(path, "rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False  # whoever reads the recording reports it


def _example(skipped: list[Skipped]) -> str:
    first = min(skipped, key=lambda skip: skip.path)
    return f"{os.fspath(first.path)!r} ({first.reason})"


def _shown(root: Path) -> str:
    return repr(os.fspath(root))
