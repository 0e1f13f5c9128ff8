"""Sealing: a key for each store, purpose and value, so that the fixed nonces never come twice under one."""

from __future__ import annotations

from itertools import product

import pytest
from cryptography.exceptions import InvalidTag

from sottovoce.engine.preprocessing.seal import NONCE_BYTES, SALT_BYTES, TAG_BYTES, Sealer, nonce

KEY = bytes(range(32))
ONE, OTHER = Sealer(KEY, bytes(16)), Sealer(KEY, b"1" * 16)


def test_no_two_values_share_a_key() -> None:
    """Under one key and nonce, equal texts would give equal ciphertexts."""
    boxes = [s.seal(purpose, bytes(40), b"") for s, purpose, _ in product((ONE, OTHER), ("a", "b"), range(5))]
    assert len({box[:SALT_BYTES] for box in boxes}) == len({box[SALT_BYTES:][:40] for box in boxes}) == 20
    assert {len(box) for box in boxes} == {SALT_BYTES + 40 + TAG_BYTES}


def test_segments_of_two_stores_have_two_keys() -> None:
    texts = [
        sealer.segment(name).encrypt(nonce(number), bytes(40), b"")[:40]
        for sealer, name, number in product((ONE, OTHER, Sealer(KEY[::-1], bytes(16))), (bytes(16), b"2" * 16), (0, 1))
    ]
    assert len(set(texts)) == 12
    assert len(nonce(1 << 64)) == NONCE_BYTES


def test_only_what_was_sealed_is_opened() -> None:
    box = ONE.seal("purpose", b"text", b"bound")
    assert ONE.unseal("purpose", box, b"bound") == b"text"
    for sealer, purpose, changed, bound in (
        (OTHER, "purpose", box, b"bound"),
        (Sealer(KEY[::-1], bytes(16)), "purpose", box, b"bound"),
        (ONE, "other", box, b"bound"),
        (ONE, "purpose", box, b"bount"),
        (ONE, "purpose", box[:-1], b"bound"),
        (ONE, "purpose", bytes([box[0] ^ 1]) + box[1:], b"bound"),
        (ONE, "purpose", box[:20], b"bound"),
        (ONE, "purpose", b"", b"bound"),
    ):
        with pytest.raises(InvalidTag):
            sealer.unseal(purpose, changed, bound)


def test_the_check_value_tells_keys_and_stores_apart() -> None:
    assert len({ONE.check, OTHER.check, Sealer(KEY[::-1], bytes(16)).check}) == 3
    assert ONE.check == Sealer(KEY, bytes(16)).check
    assert ONE.check not in KEY
