"""What the gates need. Without it they are skipped, with the reason; in CI (SOTTOVOCE_GATES set) they fail."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.gpu.shim.build import compiler

MUST_RUN = "SOTTOVOCE_GATES"
_HAS_NVRTC = all(importlib.util.find_spec(name) for name in ("cupy", "nvidia"))


def _needs(what: str, there: bool) -> pytest.MarkDecorator:
    """Skips without it; where the gates must run they meet its absence themselves, and fail."""
    return pytest.mark.skipif(not there and not os.environ.get(MUST_RUN), reason=f"needs {what}")


needs_compiler = _needs("a C++ compiler (g++, or CXX)", compiler() is not None)
needs_nvrtc = _needs("NVRTC: pip install sottovoce[gates]", _HAS_NVRTC)
