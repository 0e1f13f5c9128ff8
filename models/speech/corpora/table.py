"""The table of corpora. A new corpus is a new file beside this one and a new row here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sottovoce.engine.errors import ConfigError
from sottovoce.models.speech.corpora import crema_d, emodb, ravdess, savee, tess
from sottovoce.models.speech.corpora.corpus import Corpus

CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {module.CORPUS.name: module.CORPUS for module in (ravdess, tess, crema_d, emodb, savee)}
)


def get_corpus(name: str) -> Corpus:
    """The corpus `name`. Raises ConfigError that lists the names there are."""
    if name not in CORPORA:
        raise ConfigError(f"corpus: expected one of {', '.join(CORPORA)}, got {name!r}")
    return CORPORA[name]
