"""sottovoce: speech emotion recognition under secure multiparty computation.

    from sottovoce import Classifier

    with Classifier("paper") as classifier:
        classifier.classify("clip.wav")      # [{"label": "calm", "score": None}]

The names below load what they need when they are first used, so that `import sottovoce` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sottovoce.engine.errors import (
        AudioError,
        ConfigError,
        DeadlineError,
        FeatureError,
        FrameError,
        HandshakeError,
        InputError,
        MaskReuseError,
        ModelError,
        PeerClosedError,
        ProtocolError,
        RangeProofError,
        SecurityAbort,
        SottovoceError,
        TransportError,
    )
    from sottovoce.models.compile import compile_graph
    from sottovoce.serving.classifier import Classifier, PartialResultError, Prediction
    from sottovoce.serving.cluster import Cluster, load_cluster

__all__ = [
    "AudioError",
    "Classifier",
    "Cluster",
    "ConfigError",
    "DeadlineError",
    "FeatureError",
    "FrameError",
    "HandshakeError",
    "InputError",
    "MaskReuseError",
    "ModelError",
    "PartialResultError",
    "PeerClosedError",
    "Prediction",
    "ProtocolError",
    "RangeProofError",
    "SecurityAbort",
    "SottovoceError",
    "TransportError",
    "__version__",
    "compile_graph",
    "load_cluster",
]


def __getattr__(name: str) -> Any:
    if name in ("Classifier", "PartialResultError", "Prediction"):
        module = "sottovoce.serving.classifier"
    elif name in ("Cluster", "load_cluster"):
        module = "sottovoce.serving.cluster"
    elif name == "compile_graph":
        module = "sottovoce.models.compile"
    elif name in __all__:
        module = "sottovoce.engine.errors"
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
