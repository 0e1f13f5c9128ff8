"""The CUDA sources: units of kernels in `cuda/`, each compiled as prelude, header of its family, unit."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "cuda"
ARCHITECTURES = ("sm_80", "sm_90")
"""What the tests compile for: A100 and H100."""
OPTIONS = ("--std=c++17",)


def units() -> tuple[str, ...]:
    """The names of all units."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.cu")))


@lru_cache
def source(unit: str) -> str:
    """A unit's whole text: prelude, its family's header (linear.cuh for linear and linear_triples) if any, unit."""
    family = f"{unit.split('_')[0]}.cuh"
    names = ("prelude.cuh", *([family] if (FOLDER / family).exists() else []), f"{unit}.cu")
    return "".join(f'#line 1 "{name}"\n{(FOLDER / name).read_text()}\n' for name in names)
