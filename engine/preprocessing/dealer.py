"""The dealer: a third party that sees no data, knows both parties' seeds and makes what follows from them.

P_0 draws its derived words from its own seed, so that it needs nothing from the dealer but common words; P_1 gets the
correction, uniform on its own because P_0's part is. The dealer must not work together with either party: with one
party's messages and its seeds it could read everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Item, Layout, Part, stored, views
from sottovoce.engine.preprocessing.kinds import Product
from sottovoce.engine.prg import Fill
from sottovoce.engine.tensors import U64
from sottovoce.kernels.products import ProductLayer

Seeds = tuple[bytes, bytes]
Columns = Mapping[Part, slice]


def weight_masks(layout: Layout, mask_seeds: Seeds, fill: Fill) -> dict[str, U64]:
    """B of every layer, by name."""
    steps = [item.step for item in layout.items if isinstance(item, Product)]
    return {s.name: mask_words(mask_seeds[0], s, fill) + mask_words(mask_seeds[1], s, fill) for s in steps}


def deal(layout: Layout, masks: Mapping[str, U64], seeds: Seeds, clips: range, fill: Fill) -> tuple[U64, U64]:
    """What follows: P_1's derived words (clips, layout.derived) and the common ones (clips, layout.common)."""
    own_0, own_1 = (words_of("own", seed, clips, layout.own, fill) for seed in seeds)
    derived = words_of("derived", seeds[0], clips, layout.derived, fill)  # P_0's, until P_1's take their place
    common = np.empty((len(clips), layout.common), np.uint64)
    _multiply(layout, masks, own_0, own_1, derived)
    for item, at in _places(layout):
        if not isinstance(item, Product):
            own = views(item, "own", own_0[:, at["own"]], cut=False), views(item, "own", own_1[:, at["own"]], cut=False)
            drawn = views(item, "derived", derived[:, at["derived"]], cut=False)
            fields = item.times(len(clips)).correct(own, drawn, None)
            derived[:, at["derived"]] = stored(item, "derived", fields, len(clips))
            common[:, at["common"]] = stored(item, "common", fields, len(clips))
    return derived, common


def _multiply(layout: Layout, masks: Mapping[str, U64], own_0: U64, own_1: U64, derived: U64) -> None:
    """C_0 becomes C_1 = (A_0 + A_1) * B - C_0 for all layers and clips in one call."""
    backend = CpuBackend()
    layers: list[ProductLayer] = []
    packed, b_at = [np.empty(0, np.uint64)], 0
    for item, at in _places(layout):
        if isinstance(item, Product):
            layers += item.layers(at["own"].start, b_at, at["derived"].start)
            packed.append(backend.pack_linear(item.step, masks[item.step.name]).reshape(-1))
            b_at += packed[-1].size
    backend.kernels.triple_products(tuple(layers), own_0, own_1, np.concatenate(packed), derived, derived)


def _places(layout: Layout) -> Iterator[tuple[Item, Columns]]:
    """Every item with its columns of each part."""
    ends: dict[Part, int] = {"own": 0, "derived": 0, "common": 0}
    for item in layout.items:
        starts = dict(ends)
        for part in ends:
            ends[part] += item.words(part)
        yield item, {part: slice(starts[part], ends[part]) for part in ends}
