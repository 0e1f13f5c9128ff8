"""The paper's CNN in PyTorch, for training on standardised features, and the recipe that trains it.

Same architecture as `models.zoo.paper`, written with matrix products instead of convolutions: on a CPU and at these
sizes that takes half the time. Parameters are named and shaped as in the weights file, conv1.bias as (128,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # the name that every PyTorch user knows

from sottovoce.models.training.fold import Standardisation
from sottovoce.models.zoo.paper import PARAMETERS

Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. The model card says which rows it was chosen on."""

    scale: float = 4.0
    epochs: int = 200
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    mixup: float = 0.4
    dropout_conv: float = 0.1
    dropout_dense: float = 0.3
    balance_shift: int = 5


def train(
    features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], recipe: Recipe, seed: int
) -> tuple[dict[str, npt.NDArray[np.float64]], Standardisation]:
    """Train on all the given rows: features (rows, 40), labels (rows,). The seed fixes the result on one machine.

    Returns the parameters for standardised inputs and the standardisation. AdamW, one cycle of the learning rate,
    cross-entropy on mixed pairs of rows (mixup), dropout. The dense weights are trained divided by one factor per
    position, its share of the initial activations' size: the first positions see the loudness (coefficient 0), up to
    50 times larger than the last coefficients, and would otherwise be all that is learnt early. The factor is
    multiplied in at the end.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    standardisation = Standardisation(features.mean(axis=0), recipe.scale)
    z = torch.tensor(standardisation.apply(features), dtype=torch.float32)
    y = torch.tensor(labels)
    parameters = initial_parameters(generator)
    with torch.no_grad():
        per_position = hidden_units(parameters, z).view(-1, 128, 10).square().mean((0, 1)).sqrt()
    divisor = (per_position / per_position.mean()).repeat(128)  # (1280,), row-major over (channels, positions)
    for parameter in parameters.values():
        parameter.requires_grad_()
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = -(-len(y) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=batches * recipe.epochs, pct_start=0.1
    )
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(y), generator=generator).split(recipe.batch):
            share = float(rng.beta(recipe.mixup, recipe.mixup))
            partners = rows[torch.randperm(len(rows), generator=generator)]
            mixed = share * z[rows] + (1 - share) * z[partners]
            logits = forward(_scaled(parameters, divisor), mixed, recipe, generator)
            loss = share * F.cross_entropy(logits, y[rows]) + (1 - share) * F.cross_entropy(logits, y[partners])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    trained = _scaled(parameters, divisor)
    return {name: p.detach().double().numpy() for name, p in trained.items()}, standardisation


def _scaled(parameters: Parameters, divisor: torch.Tensor) -> Parameters:
    return {**parameters, "dense.weight": parameters["dense.weight"] / divisor}


def initial_parameters(generator: torch.Generator) -> Parameters:
    """Uniform in ±1/sqrt(fan-in), PyTorch's own default."""

    def uniform(*shape: int, fan_in: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5

    parameters = {
        "conv1.weight": uniform(128, 1, 5, fan_in=5),
        "conv1.bias": uniform(128, fan_in=5),
        "conv2.weight": uniform(128, 128, 5, fan_in=640),
        "conv2.bias": uniform(128, fan_in=640),
        "dense.weight": uniform(8, 1280, fan_in=1280),
        "dense.bias": uniform(8, fan_in=1280),
    }
    count = sum(p.numel() for p in parameters.values())
    if count != PARAMETERS:
        raise RuntimeError(f"expected {PARAMETERS} parameters, got {count}")
    return parameters


def forward(
    parameters: Parameters, z: torch.Tensor, recipe: Recipe | None = None, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Logits (rows, 8) of standardised features z (rows, 40). With a recipe: training mode, with its dropout."""
    flat = hidden_units(parameters, z, recipe, generator)
    if recipe is not None:
        flat = _dropout(flat, recipe.dropout_dense, generator)
    return flat @ parameters["dense.weight"].T + parameters["dense.bias"]


def hidden_units(
    parameters: Parameters, z: torch.Tensor, recipe: Recipe | None = None, generator: torch.Generator | None = None
) -> torch.Tensor:
    """What the dense layer sees: (rows, 1280), row-major over (128 channels, 10 positions)."""
    rows = z.shape[0]
    windows = F.pad(z, (2, 2)).unfold(1, 5, 1)  # (rows, 40, 5)
    hidden = torch.relu(windows @ parameters["conv1.weight"][:, 0].T + parameters["conv1.bias"])
    pooled = hidden.view(rows, 10, 4, 128).mean(2)
    if recipe is not None:
        pooled = _dropout(pooled, recipe.dropout_conv, generator)
    padded = F.pad(pooled, (0, 0, 2, 2))  # (rows, 14, 128)
    windows = torch.cat([padded[:, tap : tap + 10] for tap in range(5)], dim=2)
    weight = parameters["conv2.weight"].permute(0, 2, 1).reshape(128, 640)
    hidden = torch.relu(windows @ weight.T + parameters["conv2.bias"])
    return hidden.transpose(1, 2).reshape(rows, 1280)


def _dropout(x: torch.Tensor, rate: float, generator: torch.Generator | None) -> torch.Tensor:
    """Written out because torch's dropout draws from the global generator only."""
    kept = torch.rand(x.shape, generator=generator) >= rate
    return x * kept / (1 - rate)
