"""CrypTen as a system under test."""

from __future__ import annotations

from typing import Final

from sottovoce.bench.peers.environment import Recipe
from sottovoce.bench.peers.python_peer import PythonPeer
from sottovoce.bench.systems.base import Description

VERSION: Final = "0.4.1"
PRECISION_BITS: Final = 16

RECIPE: Final = Recipe(
    package="crypten",
    version=VERSION,
    variable="SOTTOVOCE_CRYPTEN_PYTHON",
    steps=(
        ("torch==2.13.0", "numpy==2.4.6", "omegaconf==2.3.0", "PyYAML==6.0.3"),
        # It asks for "sklearn", which cannot be installed any more, and for packages that inference does not use.
        ("--no-deps", f"crypten=={VERSION}"),
    ),
    pythons=("3.11", "3.12"),
)


def system(device: str = "cpu", python: str | None = None) -> PythonPeer:
    """CrypTen with two parties and its default provider of triples. device: torch's name; python: see PythonPeer."""
    return PythonPeer(
        name="crypten beaver" + (f" on {device}" if device != "cpu" else ""),
        module=__name__,
        recipe=RECIPE,
        description=Description(
            system="crypten",
            version=VERSION,
            protocol="beaver",
            adversary="semi-honest",
            security="NOT SECURE as run here: a computing party makes the triples and knows them all",
            parties=2,
            encrypted=False,
            settings={
                "ring": "64 bits",
                "fraction bits": str(PRECISION_BITS),
                "triples": "its default provider (TFP), inside the measured time",
                "argmax": "its own, all pairs compared at once: the fastest of its methods",
                "threads": "OMP_NUM_THREADS=1",
                "patch": "its ONNX converter is not imported",
            },
            device=device,
        ),
        environment={"OMP_NUM_THREADS": "1"},
        options={"precision_bits": PRECISION_BITS, "max_method": "pairwise", "device": device},
        python=python,
    )
