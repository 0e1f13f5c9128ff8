"""The peers that can be measured, by the names that the command line takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from sottovoce.bench.peers import crypten, spu
from sottovoce.bench.peers.mp_spdz.build import VARIANTS as MP_SPDZ_VARIANTS
from sottovoce.bench.peers.mp_spdz.system import MpSpdz
from sottovoce.bench.systems.base import System
from sottovoce.engine.errors import ConfigError

PEERS: Mapping[str, Callable[..., System]] = MappingProxyType(
    {
        "crypten": crypten.system,
        **{f"spu-{variant.kind.lower()}": partial(spu.system, variant.kind) for variant in spu.VARIANTS},
        **{f"mp-spdz-{protocol}": partial(MpSpdz, protocol) for protocol in MP_SPDZ_VARIANTS},
    }
)
"""Name to a function that makes the system. Those of MP-SPDZ take `build`, the folder of a build."""


def make_peers(names: Sequence[str] | None = None, *, mp_spdz: str | os.PathLike[str] | None = None) -> list[System]:
    """The systems of these names, all by default. mp_spdz: folder of a build. Raises ConfigError for another name."""
    for name in names or ():
        if name not in PEERS:
            raise ConfigError(f"peers: expected some of {', '.join(PEERS)}, got {name!r}")
    return [PEERS[name](build=mp_spdz) if name.startswith("mp-spdz-") else PEERS[name]() for name in names or PEERS]
