"""What only training needs, checked before it is imported."""

from __future__ import annotations

from importlib.util import find_spec

from sottovoce.engine.errors import ConfigError

EXTRAS = ("torch", "matplotlib")


def require_extras(names: tuple[str, ...] = EXTRAS) -> None:
    """Raise ConfigError, with the command that helps, where the extra `train` is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {' and '.join(missing)}: pip install -e '.[train]' in the clone of sottovoce"
        )
