"""Corpora of emotional speech: how their files are named, and a folder of them as a list of labelled utterances."""

from sottovoce.models.speech.corpora.common import COMMON_LABELS, to_common
from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Utterance
from sottovoce.models.speech.corpora.reader import CorpusListing, Duplicate, Skipped, read_corpus
from sottovoce.models.speech.corpora.table import CORPORA, get_corpus

__all__ = [
    "COMMON_LABELS",
    "CORPORA",
    "Corpus",
    "CorpusListing",
    "Duplicate",
    "Excluded",
    "Skipped",
    "Utterance",
    "get_corpus",
    "read_corpus",
    "to_common",
]
