"""What a classifier is made from, kept as it was given: scikit-learn's conventions for parameters."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.transport.tls import TlsContexts
from sottovoce.models.graph import Graph
from sottovoce.models.load import ModelSource, Side, WeightsSource
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.comparison import AUTO

DEFAULT_MODEL = "paper"


class Parameters:
    """The parameters of `Classifier` and `AsyncClassifier`, as attributes of the same names.

    Nothing is opened, read or checked here: parameters can be got, set and cloned without a file or a party being
    there. What is wrong with one shows when the classifier is opened.
    """

    def __init__(
        self,
        model: ModelSource = DEFAULT_MODEL,
        *,
        weights: WeightsSource | None = None,
        labels: Sequence[str] | None = None,
        features: str | None = None,
        input_low: Side | None = None,
        input_high: Side | None = None,
        calibrate: ArrayLike | None = None,
        protocol: str = "rep3",
        comparison: str = AUTO,
        network: str = "loopback",
        cluster: Cluster | str | os.PathLike[str] | None = None,
        certificates: str | os.PathLike[str] | TlsContexts | None = None,
        insecure_loopback: bool = False,
        scores: bool = False,
        batch_size: int = 256,
        jobs: int = 1,
        lanes: int = 1,
        device: str = "cpu",
        deadline_s: float = 60.0,
    ) -> None:
        self.model = model
        self.weights = weights
        self.labels = labels
        self.features = features
        self.input_low = input_low
        self.input_high = input_high
        self.calibrate = calibrate
        self.protocol = protocol
        self.comparison = comparison
        self.network = network
        self.cluster = cluster
        self.certificates = certificates
        self.insecure_loopback = insecure_loopback
        self.scores = scores
        self.batch_size = batch_size
        self.jobs = jobs
        self.lanes = lanes
        self.device = device
        self.deadline_s = deadline_s
        self._set_up()

    def _set_up(self) -> None:
        """Make what is no parameter."""

    def _before_change(self) -> None:
        """Parameters are about to change."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name; `deep` is there for scikit-learn: no parameter has parameters of its own."""
        return {name: getattr(self, name) for name in _defaults()}

    def set_params(self, **params: Any) -> Self:
        """Set some parameters; an open classifier is closed first, and opens again with them. Raises ConfigError."""
        unknown = sorted(set(params) - set(_defaults()))
        if unknown:
            raise ConfigError(f"set_params: expected some of {', '.join(_defaults())}, got {', '.join(unknown)}")
        self._before_change()
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_clone__(self) -> Self:
        """For `sklearn.base.clone`: closed, with copies of the parameters. TLS contexts, which cannot be copied and
        do not change, are taken over."""
        taken = {id(value): value for value in (self.certificates,) if isinstance(value, TlsContexts)}
        return type(self)(**copy.deepcopy(self.get_params(), taken))

    def __repr__(self) -> str:
        changed = (
            f"{name}={_short(value)}"
            for name, value in self.get_params().items()
            if value is not (default := _defaults()[name]) and not (_is_plain(value) and value == default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"


def _defaults() -> dict[str, Any]:
    signature = inspect.signature(Parameters.__init__)
    return {name: field.default for name, field in list(signature.parameters.items())[1:]}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | os.PathLike)


def _short(value: object) -> str:
    """What a parameter is, never what is in a model, in weights or in features."""
    if isinstance(value, Graph):
        return f"<Graph {value.name!r}>"
    if isinstance(value, bytes | bytearray):
        return f"<{len(value):,} bytes>"
    if isinstance(value, TlsContexts):
        return f"<certificates of {value.identity}>"
    if isinstance(value, Mapping):
        return f"<{len(value)} arrays>"
    if isinstance(value, np.ndarray):
        return f"<array {value.shape} {value.dtype}>"
    if isinstance(value, list | tuple) and not all(isinstance(item, str) for item in value):
        return f"<{type(value).__name__} of {len(value)}>"
    return repr(value)
