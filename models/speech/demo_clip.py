"""The clip that `sottovoce demo` classifies: a few seconds of synthetic speech (see `make_demo_clip.sh`)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

DEMO_CLIP_NOTE = (
    "synthetic speech made with espeak-ng, nobody's voice: its label says nothing about how good the model is"
)


def demo_clip_path() -> Path:
    """Where the bundled clip lies: mono, 16 bit, 22,050 Hz WAV."""
    return Path(str(files("sottovoce.models.speech") / "data" / "demo.wav"))
