"""A dealer that works with a client must not learn more than the output, although it knows every dealt word.

The attack: two models that compute the same function (hidden units exchanged). The client's output cannot tell them
apart; the dealer's seeds and the parts of the answer could, if these were the shares that the computation ends in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.engine.local import LocalCluster, run_parties
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.kinds import Product
from sottovoce.engine.program import Linear, Program, Reshape, TensorSpec
from sottovoce.engine.protocols.beaver2.protocol import Beaver2
from sottovoce.engine.session import Output, share_input

I64 = NDArray[np.int64]
CONV = Linear(
    "c",
    "conv1d",
    (2, 1),
    (2, 1),
    0,
    TensorSpec("cw", (2, 2, 1), 0),
    TensorSpec("cb", (2, 1), 0),
    relu=True,
    compare_bits=32,
)
DENSE = Linear("d", "dense", (2,), (2,), 0, TensorSpec("dw", (2, 2), 0), TensorSpec("db", (2,), 0))
STEPS = (CONV, Reshape("r", (2, 1), (2,), 0), DENSE)
PROGRAM = Program("p", (2, 1), 0, (-100.0,), (100.0,), ("a", "b"), STEPS, 32, ("scores",))
INPUTS = np.array([[3, 10], [20, -1], [7, 9]])
CLIPS = len(INPUTS)


@dataclass(frozen=True)
class Model:
    w1: I64
    b1: I64
    w2: I64
    b2: I64

    def hidden(self) -> I64:
        return np.maximum(INPUTS @ self.w1.T + self.b1, 0)

    def tensors(self) -> dict[str, NDArray[np.uint64]]:
        return {
            "cw": ring(self.w1)[:, :, None].copy(),
            "cb": ring(self.b1)[:, None].copy(),
            "dw": ring(self.w2),
            "db": ring(self.b2),
        }


FIRST = Model(np.array([[3, 5], [-2, 7]]), np.array([1, 4]), np.array([[2, -9], [6, 11]]), np.array([8, -3]))
MODELS = (FIRST, Model(FIRST.w1[::-1], FIRST.b1[::-1], FIRST.w2[:, ::-1], FIRST.b2))


def ring(values: I64) -> NDArray[np.uint64]:
    return np.ascontiguousarray(values, np.int64).view(np.uint64)


def answers(cluster: LocalCluster) -> list[NDArray[np.uint64]]:
    """Both parts of the answer, as the client gets them."""
    assert cluster.dealer is not None
    cluster.dealer.prepare(CLIPS)
    fill, row = cluster.dealer.fill, cluster.row
    shape = (CLIPS, *PROGRAM.input_shape)
    slots = share_input(row, ring(INPUTS).reshape(shape), fill)

    def party(rank: int) -> tuple[Output, object]:
        return cluster.sessions[rank].run(row.receive(rank, slots[rank], shape, 0, fill), "scores")

    return [output.data for output, _ in run_parties([partial(party, rank) for rank in range(2)], cluster.close)]


def consistent(cluster: LocalCluster, part: NDArray[np.uint64], model: Model) -> bool:
    """Whether P_0's part is what this model would give: its bias share must then come out the same for all clips."""
    dealer = cluster.dealer
    assert dealer is not None
    layout, fill, clips = dealer.layout, dealer.fill, range(CLIPS)
    at = next(k for k, item in enumerate(layout.items) if isinstance(item, Product) and item.step.name == DENSE.name)
    a_0, a_1 = (
        list(layout.split("own", words_of("own", seed, clips, layout.own, fill)))[at]["a"].reshape(CLIPS, -1)
        for seed in dealer.seeds
    )
    derived = words_of("derived", dealer.seeds[0], clips, layout.derived, fill)
    c_0 = list(layout.split("derived", derived))[at]["c"].reshape(CLIPS, -1)
    b_0, b_1 = (mask_words(seed, DENSE, fill) for seed in dealer.mask_seeds)
    e = ring(model.w2) - b_0 - b_1
    d = ring(model.hidden()) - a_0 - a_1
    bias = part - (c_0 + d @ (b_0 + e).T + a_0 @ e.T)
    return bool((bias == bias[0]).all())


def guesses(protocol: str, true: Model) -> list[bool]:
    with LocalCluster(PROGRAM, true.tensors(), protocol) as cluster:
        part, other = answers(cluster)
        expected = ring(true.hidden() @ true.w2.T + true.b2)
        np.testing.assert_array_equal(part + other, expected)
        return [consistent(cluster, part, model) for model in MODELS]


@pytest.mark.parametrize("protocol", ["beaver2", "beaver2-fss"])
def test_the_answer_does_not_tell_models_of_one_function_apart(protocol: str) -> None:
    assert guesses(protocol, MODELS[0]) == [False, False]


@pytest.mark.parametrize("true", [0, 1])
def test_without_fresh_words_it_would(true: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Beaver2, "refresh", lambda self, x: x)
    assert guesses("beaver2", MODELS[true]) == [true == 0, true == 1]
