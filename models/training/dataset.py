"""What a network is trained on: features, labels and speakers, from a file of features or a folder of recordings."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import InputError
from sottovoce.models.npz import open_npz, read_array
from sottovoce.models.training.augment import augmented_recordings
from sottovoce.models.training.splits import MIXED_BLOCKS, speaker_groups

if TYPE_CHECKING:
    from sottovoce.models.speech.cache import FeatureCache
    from sottovoce.models.speech.corpora import Corpus, CorpusListing
    from sottovoce.models.speech.extract import FeatureBatch

Float = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Progress = Callable[[int, str], None]

MAX_FILE_BYTES = 1 << 32
_KEYS = ("X", "y")
_OPTIONAL = ("labels", "speaker", "block")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """features: (rows, channels, time). labels: (rows,), indices into `names`. groups: (rows,), the speaker's number.

    copies: (copies, rows, channels, time), augmented versions of the rows; only those of training rows are used.
    source: facts for the model card: name, sha256, …
    """

    features: Float = field(repr=False)
    labels: Indices = field(repr=False)
    groups: Indices = field(repr=False)
    names: tuple[str, ...]
    source: Mapping[str, Any]
    copies: Float | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def rows_with_copies(self, rows: Indices) -> tuple[Float, Indices]:
        """Features and labels of the given rows, followed by their augmented versions."""
        if self.copies is None:
            return self.features[rows], self.labels[rows]
        every = [self.features[rows], *(copy[rows] for copy in self.copies)]
        return np.concatenate(every), np.tile(self.labels[rows], len(every))


def load_features(
    path: str | os.PathLike[str],
    input_shape: tuple[int, ...],
    names: Sequence[str] | None = None,
    default_names: Sequence[str] = (),
) -> TrainingSet:
    """Read an npz file of features: X (rows, …), y (rows,) class numbers from 0, and who speaks.

    X: each row holds the numbers of `input_shape`, (channels, time). Who speaks: `speaker` (rows,), whole numbers or
    texts, or `block` (rows,) as in the RAVDESS feature file, whose mixed blocks stay together. The classes' names are
    `names`, else the file's `labels`, else `default_names`. Raises InputError that names the file; nothing in it is
    unpickled.
    """
    where = Path(path)
    arrays = _read_npz(where)
    x, y = arrays["X"], arrays["y"]
    if x.dtype.kind not in "fiu" or x.ndim < 2 or math.prod(x.shape[1:]) != math.prod(input_shape) or not len(x):
        raise InputError(f"{where}: expected X (rows, {' * '.join(map(str, input_shape))}), got {x.dtype} {x.shape}")
    features = x.astype(np.float64).reshape(len(x), *input_shape)
    if not np.isfinite(features).all():
        raise InputError(f"{where}: expected finite numbers in X, got NaN or infinity")
    if y.dtype.kind not in "iu" or y.shape != (len(x),) or int(y.min()) < 0:
        raise InputError(f"{where}: expected y ({len(x)},), class numbers from 0, got {y.dtype} {y.shape}")
    if names is None:
        names = [str(name) for name in arrays.get("labels", default_names)]
    if int(y.max()) >= len(names):
        raise InputError(
            f"{where}: expected class numbers below {len(names)}, one label each, got {int(y.max())}; name all "
            "classes: --labels A,B,… or an array `labels` in the file"
        )
    return TrainingSet(
        features,
        y.astype(np.int64),
        _speakers(where, arrays, len(x)),
        tuple(names),
        {"name": where.name, "sha256": hashlib.sha256(where.read_bytes()).hexdigest(), **_note(arrays)},
    )


def _read_npz(where: Path) -> dict[str, npt.NDArray[Any]]:
    with open_npz(where, MAX_FILE_BYTES, str(where), "features", InputError) as archive:
        found = [entry.filename for entry in archive.infolist()]
        names = [name for name in (*_KEYS, *_OPTIONAL) if f"{name}.npy" in found]
        twice = [name for name in names if found.count(f"{name}.npy") > 1]
        if twice:
            raise InputError(f"{where}: expected each array once, got {' and '.join(twice)} twice")
        arrays = {name: read_array(archive, name) for name in names}
    missing = [name for name in _KEYS if name not in arrays]
    if missing:
        raise InputError(f"{where}: expected arrays X and y, got none named {' or '.join(missing)}")
    return arrays


def _speakers(where: Path, arrays: Mapping[str, npt.NDArray[Any]], rows: int) -> Indices:
    name = "speaker" if "speaker" in arrays else "block"
    if name not in arrays:
        raise InputError(f"{where}: expected an array `speaker` ({rows},), who speaks in each row, got none")
    values = arrays[name]
    if values.shape != (rows,) or values.dtype.kind not in "iuU":
        raise InputError(f"{where}: expected {name} ({rows},), numbers or texts, got {values.dtype} {values.shape}")
    return speaker_groups(values) if name == "block" else _numbered(values)


def _note(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    if "speaker" in arrays:
        return {}
    mixed = ", ".join(map(str, MIXED_BLOCKS))
    return {"note": f"A block of rows is one speaker, except that blocks {mixed} mix speakers and stay together."}


def _numbered(values: npt.ArrayLike) -> Indices:
    return np.unique(values, return_inverse=True)[1].astype(np.int64).reshape(-1)


def extract_corpus(
    listing: CorpusListing,
    feature_set: str,
    *,
    copies: int = 0,
    seed: int = 0,
    jobs: int = 1,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> TrainingSet:
    """Features of a corpus's recordings; those that cannot be read are left out and counted in `source`.

    copies: augmented versions of each recording, drawn by `seed`. progress(done, name): over all of them.
    """
    from sottovoce.models.speech.extract import extract_features
    from sottovoce.models.speech.features import get_feature_set

    shape = get_feature_set(feature_set).input_shape
    paths = [utterance.path for utterance in listing.utterances]
    batch = extract_features(paths, feature_set, progress=progress, jobs=jobs, cache=cache)
    if not len(batch.indices):
        raise InputError(f"corpus {listing.corpus.name}: expected recordings that can be read, got none")
    kept = [listing.utterances[index] for index in batch.indices]
    present = {utterance.label for utterance in kept}
    names = tuple(label for label in listing.corpus.labels if label in present)
    features = batch.features.reshape(-1, *shape)
    versions = []
    for copy in range(copies):
        recordings = augmented_recordings([utterance.path for utterance in kept], [seed, 5, copy])
        moved = _moved(progress, (copy + 1) * len(paths))
        versions.append(_filled(features, extract_features(recordings, feature_set, progress=moved)))
    labels = np.array([names.index(utterance.label) for utterance in kept], dtype=np.int64)
    groups = _numbered([utterance.speaker for utterance in kept])
    digest = hashlib.sha256(features.tobytes() + labels.tobytes() + groups.tobytes()).hexdigest()
    source = {
        **corpus_facts(listing.corpus),
        "sha256": digest,
        "skipped": len(listing.skipped),
        "unreadable": len(batch.failed),
    }
    return TrainingSet(features, labels, groups, names, source, np.stack(versions) if versions else None)


def of_corpus(data: TrainingSet, corpus: Corpus) -> TrainingSet:
    """`data` from a file of features, with what is known about the corpus that they were extracted from."""
    return replace(data, source={**data.source, **corpus_facts(corpus), "file": data.source["name"]})


def corpus_facts(corpus: Corpus) -> dict[str, Any]:
    """What a model card says about a corpus, whoever copied it."""
    return {"name": corpus.name, "title": corpus.title, "citation": corpus.cite, "licence": corpus.licence}


def _filled(features: Float, batch: FeatureBatch) -> Float:
    """An augmented version of all rows: one that gave no features (silent, say) is the row itself."""
    version = features.copy()
    version[list(batch.indices)] = batch.features.reshape(-1, *features.shape[1:])
    return version


def _moved(progress: Progress | None, start: int) -> Progress | None:
    return None if progress is None else lambda done, name: progress(start + done, name)
