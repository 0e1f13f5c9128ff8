"""The dealer: a third party that sees no data, knows both parties' seeds and makes what follows from them.

P_0 draws its derived words from its own seed, so that it needs nothing from the dealer but common words; P_1 gets the
correction, uniform on its own because P_0's part is. The dealer must not work together with either party: with one
party's messages and its seeds it could read everything.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Layout, stored
from sottovoce.engine.preprocessing.kinds import Product
from sottovoce.engine.prg import Fill
from sottovoce.engine.tensors import U64

Seeds = tuple[bytes, bytes]


def weight_masks(layout: Layout, mask_seeds: Seeds, fill: Fill) -> dict[str, U64]:
    """B of every layer, by name."""
    steps = [item.step for item in layout.items if isinstance(item, Product)]
    return {s.name: mask_words(mask_seeds[0], s, fill) + mask_words(mask_seeds[1], s, fill) for s in steps}


def deal(layout: Layout, masks: Mapping[str, U64], seeds: Seeds, clips: range, fill: Fill) -> tuple[U64, U64]:
    """What follows: P_1's derived words (clips, layout.derived) and the common ones (clips, layout.common)."""
    own = [layout.split("own", words_of("own", seed, clips, layout.own, fill)) for seed in seeds]
    drawn = layout.split("derived", words_of("derived", seeds[0], clips, layout.derived, fill))
    derived, common = [], []
    for item, own_0, own_1, derived_0 in zip(layout.items, *own, drawn, strict=True):
        mask = masks[item.step.name] if isinstance(item, Product) else None
        fields = item.times(len(clips)).correct((own_0, own_1), derived_0, mask)
        derived.append(stored(item, "derived", fields, len(clips)))
        common.append(stored(item, "common", fields, len(clips)))
    return np.concatenate(derived, axis=1), np.concatenate(common, axis=1)
