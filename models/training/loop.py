"""The training loop: one network on the given rows, the same in every run on one machine. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sottovoce.models.graph import Graph
from sottovoce.models.training.network import Dropout, Network, Tensors, equalised, forward, to_graph, to_network
from sottovoce.models.training.recipe import EarlyStopping, Recipe, class_weights

_BATCH = 128
_SAMPLE = 1024
"""Rows that `equalised` looks at."""
_LEAST_CYCLE = 11
"""Steps of the learning rate's cycle: PyTorch divides by a tenth of them less one."""

EpochDone = Callable[[int], None]
"""epoch_done(epochs so far)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """z: (rows, channels, time) float64, standardised; labels: (rows,) int64."""

    z: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curves. The loss is that of the mixed and noisy batches; validation: None without."""

    loss: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """graph: the trained network for standardised features. kept: the epoch whose weights it has, from 1."""

    graph: Graph
    history: tuple[Epoch, ...]
    kept: int


def fit(
    graph: Graph,
    rows: Rows,
    recipe: Recipe,
    seed: int,
    *,
    validation: Rows | None = None,
    device: str = "cpu",
    epoch_done: EpochDone | None = None,
) -> Fitted:
    """Train `graph` from the weights that it has on all of `rows`; the seed fixes batches, mixup, noise and dropout.

    On a CPU the result is the same in every run, for which PyTorch is set to one thread and deterministic algorithms.

    AdamW, one cycle of the learning rate over `recipe.epochs`, cross-entropy. With validation rows and patience the
    best epoch's weights are kept and training ends when no better one comes.
    """
    torch.set_num_threads(1)  # the order of a sum, hence its last bits, depends on the number of threads
    torch.use_deterministic_algorithms(device == "cpu")
    network = to_network(graph, device)
    if recipe.equalise:
        network = equalised(network, _tensor(rows.z[:_SAMPLE], device))
    batches = _Batches(rows, recipe, seed, device, len(graph.labels))
    parameters = [parameter.requires_grad_() for parameter in network.parameters.values()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(batches.per_epoch * recipe.epochs, _LEAST_CYCLE), pct_start=0.1
    )
    averaged = _copy(network)
    stopping = EarlyStopping(recipe.patience) if recipe.patience and validation is not None else None
    history: list[Epoch] = []
    best, kept, step = averaged, recipe.epochs, 0
    for number in range(1, recipe.epochs + 1):
        total = 0.0
        for loss, count in batches.losses(network):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            _follow(averaged, network, min(recipe.average, step / (step + 10)))  # the first weights are soon forgotten
            total += float(loss.detach()) * count
        epoch = Epoch(total / len(rows.labels))
        if validation is not None:
            epoch = replace(epoch, **_score(averaged, validation, device))
        history.append(epoch)
        if epoch_done is not None:
            epoch_done(number)
        if stopping is not None:
            if stopping.better(epoch.validation_accuracy or 0.0, epoch.validation_loss or 0.0):
                best, kept = _copy(averaged), number
            elif stopping.over:
                break
    return Fitted(to_graph(best if stopping is not None else averaged), tuple(history), kept)


class _Batches:
    """Rows in a new order in each epoch, mixed and noisy as the recipe says, and the loss on them."""

    def __init__(self, rows: Rows, recipe: Recipe, seed: int, device: str, classes: int) -> None:
        self._recipe, self._device = recipe, device
        self._z = _tensor(rows.z, device)
        self._labels = torch.tensor(rows.labels, device=device)
        self._weights = _tensor(class_weights(rows.labels, classes, recipe.class_weights), device)
        self._order = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator(device).manual_seed(seed)
        self._shares = np.random.default_rng([seed, 2])
        self._dropout = Dropout(recipe.dropout_hidden, recipe.dropout_dense, self._noise)
        self.per_epoch = -(-len(rows.labels) // recipe.batch)

    def losses(self, network: Network) -> Iterator[tuple[torch.Tensor, int]]:
        """(loss, number of rows) of each batch of one epoch."""
        recipe = self._recipe
        for chosen in torch.randperm(len(self._labels), generator=self._order).split(recipe.batch):
            partners = chosen[torch.randperm(len(chosen), generator=self._order)]
            share = float(self._shares.beta(recipe.mixup, recipe.mixup)) if recipe.mixup else 1.0
            mixed = share * self._z[chosen] + (1 - share) * self._z[partners]
            if recipe.noise:
                mixed = mixed + recipe.noise * torch.randn(mixed.shape, generator=self._noise, device=self._device)
            logits = forward(network, mixed, self._dropout)
            loss = share * self._loss(logits, chosen)
            if share < 1:
                loss = loss + (1 - share) * self._loss(logits, partners)
            yield loss, len(chosen)

    def _loss(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        smoothing = self._recipe.label_smoothing
        return F.cross_entropy(logits, self._labels[rows], weight=self._weights, label_smoothing=smoothing)


def _tensor(values: npt.NDArray[np.float64], device: str) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _copy(network: Network) -> Network:
    def clones(tensors: Tensors) -> Tensors:
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    return replace(network, parameters=clones(network.parameters), constants=clones(network.constants))


def _follow(averaged: Network, network: Network, decay: float) -> None:
    """averaged <- decay * averaged + (1 - decay) * network; the statistics of batch-norms are taken as they are."""
    with torch.no_grad():
        for name, tensor in averaged.parameters.items():
            tensor.lerp_(network.parameters[name], 1 - decay)
        for name, tensor in averaged.constants.items():
            tensor.copy_(network.constants[name])


def _score(network: Network, rows: Rows, device: str) -> dict[str, float]:
    """Loss and accuracy on rows, as fields of an Epoch."""
    with torch.no_grad():
        logits = torch.cat([forward(network, part) for part in _tensor(rows.z, device).split(_BATCH)])
        labels = torch.tensor(rows.labels, device=device)
        correct = (logits.argmax(1) == labels).double().mean()
        return {"validation_loss": float(F.cross_entropy(logits, labels)), "validation_accuracy": float(correct)}
