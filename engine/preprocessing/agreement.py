"""Before the first use, two parties compare what they have prepared, and go on where both can."""

from __future__ import annotations

from typing import Final

import numpy as np

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.base import Preprocessing
from sottovoce.engine.transport.base import Transport

AGREE_TAG: Final = 0x6000
PAIR_BYTES: Final = 16


def agree(transport: Transport, preprocessing: Preprocessing) -> None:
    """Exchange pair, position and end; skip to the later position and stop at the nearer end.

    After a crash one party may have marked clips that the other did not. Raises PreprocessingError if the two sources
    were not made together; the other party finds out too.
    """
    rank, peer = transport.rank, 1 - transport.rank
    pair = np.frombuffer(preprocessing.pair, np.uint8)
    mine = np.array([preprocessing.position, preprocessing.end], "<u8")
    other_pair, theirs = np.empty(PAIR_BYTES, np.uint8), np.empty(2, "<u8")
    transport.send(peer, AGREE_TAG, [pair, mine])
    transport.recv(peer, AGREE_TAG, [other_pair, theirs])
    if other_pair.tobytes() != preprocessing.pair:
        raise PreprocessingError(
            f"party {rank}: preprocessing: expected a store that was prepared together with that of party {peer}, "
            f"got one of another pair; run `sottovoce prepare` at both parties"
        )
    position, end = int(max(mine[0], theirs[0])), int(min(mine[1], theirs[1]))
    preprocessing.agree(position, max(position, end))
