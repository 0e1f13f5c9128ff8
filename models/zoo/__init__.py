"""Models that come with the package."""

from sottovoce.models.zoo.build import build, list_models, random_weights, trained_weights
from sottovoce.models.zoo.table import MODELS, ZooModel

__all__ = ["MODELS", "ZooModel", "build", "list_models", "random_weights", "trained_weights"]
