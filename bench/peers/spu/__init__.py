"""SPU, the secure processing unit of SecretFlow, as systems under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sottovoce.bench.peers.environment import Recipe
from sottovoce.bench.peers.python_peer import PythonPeer
from sottovoce.bench.systems.base import Description

VERSION: Final = "0.9.5"
FRACTION_BITS: Final = 18

RECIPE: Final = Recipe(
    package="spu",
    version=VERSION,
    variable="SOTTOVOCE_SPU_PYTHON",
    steps=((f"spu=={VERSION}", "jax[cpu]==0.4.34", "numpy==1.26.4", "scipy==1.17.1"),),
    pythons=("3.11",),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One of its protocols; kind: its name in SPU. security: for humans."""

    kind: str
    parties: int
    security: str
    triples: str = "none: the protocol needs none"


VARIANTS: Final[tuple[Variant, ...]] = (
    Variant("ABY3", 3, "one of three parties may be dishonest"),
    Variant(
        "SEMI2K",
        2,
        "NOT SECURE as run here: a computing party makes the triples and knows them all",
        "its default provider (first party), inside the measured time",
    ),
    Variant("CHEETAH", 2, "one of two parties may be dishonest", "oblivious transfer, inside the measured time"),
)


def system(kind: str) -> PythonPeer:
    """SPU with one of `VARIANTS`, by its kind."""
    variant = next(variant for variant in VARIANTS if variant.kind == kind)
    protocol = kind.lower()
    return PythonPeer(
        name=f"spu {protocol}",
        module=__name__,
        recipe=RECIPE,
        description=Description(
            system="spu",
            version=VERSION,
            protocol=protocol,
            adversary="semi-honest",
            security=variant.security,
            parties=variant.parties,
            encrypted=False,
            settings={
                "ring": "64 bits",
                "fraction bits": str(FRACTION_BITS),
                "triples": variant.triples,
                "argmax": "tournament of comparisons",
                "threads": "its default",
                "link": "brpc, its defaults",
            },
        ),
        options={"protocol": kind, "fraction_bits": FRACTION_BITS},
    )
