"""Models that come with the package."""

from sottovoce.models.zoo.build import build, list_models

__all__ = ["build", "list_models"]
