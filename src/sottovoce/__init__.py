"""sottovoce: speech emotion recognition under secure multiparty computation.

    from sottovoce import Classifier

    with Classifier("paper") as classifier:
        classifier.classify("clip.wav")      # [{"label": "calm", "score": None}]

The names below load what they need when they are first used, so that `import sottovoce` is quick.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sottovoce.engine.errors import (
        AudioError,
        ConfigError,
        DeadlineError,
        DeviceMemoryError,
        FeatureError,
        FrameError,
        HandshakeError,
        InputError,
        MaskReuseError,
        ModelError,
        PeerClosedError,
        PreprocessingError,
        ProtocolError,
        RangeProofError,
        SecurityAbort,
        SottovoceError,
        TransportError,
    )
    from sottovoce.models.compiler.compile import compile_graph
    from sottovoce.models.graph import Graph
    from sottovoce.models.load import load_model
    from sottovoce.models.onnx import export_onnx
    from sottovoce.models.speech.extract import extract_features
    from sottovoce.models.zoo import list_models, random_weights
    from sottovoce.serving.aio import AsyncClassifier
    from sottovoce.serving.classifier import Classifier
    from sottovoce.serving.cluster import Cluster, load_cluster
    from sottovoce.serving.results import PartialResultError, Prediction

__all__ = [
    "AsyncClassifier",
    "AudioError",
    "Classifier",
    "Cluster",
    "ConfigError",
    "DeadlineError",
    "DeviceMemoryError",
    "FeatureError",
    "FrameError",
    "Graph",
    "HandshakeError",
    "InputError",
    "MaskReuseError",
    "ModelError",
    "PartialResultError",
    "PeerClosedError",
    "Prediction",
    "PreprocessingError",
    "ProtocolError",
    "RangeProofError",
    "SecurityAbort",
    "SottovoceError",
    "TransportError",
    "__version__",
    "compile_graph",
    "export_onnx",
    "extract_features",
    "list_models",
    "load_cluster",
    "load_model",
    "random_weights",
]

_ERRORS = "engine.errors"
_HOME = MappingProxyType(
    {
        "AsyncClassifier": "serving.aio",
        "Classifier": "serving.classifier",
        "Cluster": "serving.cluster",
        "Graph": "models.graph",
        "PartialResultError": "serving.results",
        "Prediction": "serving.results",
        "compile_graph": "models.compiler.compile",
        "export_onnx": "models.onnx",
        "extract_features": "models.speech.extract",
        "list_models": "models.zoo",
        "load_cluster": "serving.cluster",
        "load_model": "models.load",
        "random_weights": "models.zoo",
    }
)
"""Where the names that are no errors are defined."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, _ERRORS)}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
