"""Keystreams: the ciphers' own words, one purpose to a sub-key, every position once."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import MaskReuseError, ProtocolError
from sottovoce.engine.prg import CIPHERS, KEY_BYTES, MAX_OPERATION, KeyStream, PairStreams, derive

KEY = bytes(range(KEY_BYTES))
BACKEND = CpuBackend()


def stream(cipher: str = "aes128ctr", label: str = "a", key: bytes = KEY) -> KeyStream:
    return KeyStream(key, cipher, BACKEND, label)


def reference(cipher: str, key: bytes, operation: int, words: int) -> np.ndarray:
    """The words of one operation from the `cryptography` package, as engine/prg.py describes them."""
    if cipher == "aes128ctr":
        counter = operation.to_bytes(8, "big") + bytes(8)
        encryptor = Cipher(algorithms.AES128(key[:16]), modes.CTR(counter)).encryptor()
    else:
        state = bytes(8) + operation.to_bytes(8, "little")
        encryptor = Cipher(algorithms.ChaCha20(key, state), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * words)), "<u8")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_words_are_the_ciphers_own(cipher: str) -> None:
    s = stream(cipher)
    sub_key = derive(KEY, "a")
    for operation, words in ((0, 1), (1, 100), (2, 7), (1 << 33, 20), (MAX_OPERATION - 1, 3)):
        (got,) = s.draw_at(operation, words)
        np.testing.assert_array_equal(got, reference(cipher, sub_key, operation, words))


def test_derive_is_hkdf_expand() -> None:
    """RFC 5869, 2.3, one block: HMAC(PRK, info || 0x01)."""
    expected = hmac.new(KEY, b"sottovoce/1/some label\x01", hashlib.sha256).digest()
    assert derive(KEY, "some label") == expected


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_derive_refuses_other_keys(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"expected a key of 32 bytes, got {length}"):
        derive(bytes(length), "x")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_one_draw_is_cut_without_overlap(cipher: str) -> None:
    parts = stream(cipher).draw(3, 0, 5, 64)
    assert [p.size for p in parts] == [3, 0, 5, 64]
    np.testing.assert_array_equal(np.concatenate(parts), stream(cipher).draw(72)[0])


@pytest.mark.parametrize("cipher", CIPHERS)
def test_operations_labels_and_keys_give_other_words(cipher: str) -> None:
    s = stream(cipher)
    drawn = [s.draw(64)[0] for _ in range(50)]
    drawn += [stream(cipher, label).draw(64)[0] for label in ("b", "a/masks", "a/dealing", "")]
    drawn.append(stream(cipher, key=KEY[::-1]).draw(64)[0])
    words = np.concatenate(drawn)
    assert len(np.unique(words)) == words.size


def test_both_holders_get_the_same_words() -> None:
    one, other = (PairStreams.of(KEY, "aes128ctr", BACKEND, "slot 0") for _ in range(2))
    for words in (1, 1000, 3):
        np.testing.assert_array_equal(one.masks.draw(words)[0], other.masks.draw(words)[0])
    np.testing.assert_array_equal(one.dealing.draw(9)[0], other.dealing.draw(9)[0])


def test_masks_and_dealing_differ() -> None:
    pair = PairStreams.of(KEY, "aes128ctr", BACKEND, "slot 0")
    assert not (pair.masks.draw(100)[0] == pair.dealing.draw(100)[0]).any()


def test_a_position_is_given_once() -> None:
    s = stream()
    s.draw(4)
    s.draw_at(10, 4)
    assert s.position == 11
    for past in (0, 5, 10):
        with pytest.raises(MaskReuseError, match=rf"'a': expected an operation id of at least 11, got {past}"):
            s.draw_at(past, 4)
    assert s.position == 11  # a refusal uses nothing up
    s.draw(4)


def test_a_failed_draw_is_spent() -> None:
    """A fill that fails after the position was taken must not leave it to be taken again."""

    class Failing(CpuBackend):
        def fill(self, *args: object) -> None:
            raise RuntimeError("no device")

    s = KeyStream(KEY, "aes128ctr", Failing(), "a")
    with pytest.raises(RuntimeError):
        s.draw(4)
    assert s.position == 1
    with pytest.raises(RuntimeError):
        s.for_kernel(4)
    assert s.position == 2


def test_words_for_a_kernel_are_those_of_a_draw_and_spent_like_them() -> None:
    mine, theirs = stream(), stream()
    for a, b in zip(mine.for_kernel(5, 3), theirs.draw(5, 3), strict=True):
        assert (a == b).all()
    assert mine.position == theirs.position == 1


def test_an_empty_draw_is_a_position_too() -> None:
    """Both holders draw in the same order, also where there is nothing to mask."""
    s = stream()
    s.draw(0)
    assert s.position == 1


def test_operations_end() -> None:
    s = stream()
    with pytest.raises(ProtocolError, match="operation ids end"):
        s.draw_at(MAX_OPERATION, 1)
    s.draw_at(MAX_OPERATION - 1, 1)
    with pytest.raises(ProtocolError, match="operation ids end"):
        s.draw(1)


def test_unknown_cipher() -> None:
    with pytest.raises(ProtocolError, match="expected a cipher of"):
        stream("rc4")


def test_observer_sees_every_draw() -> None:
    seen: list[tuple[str, int, int]] = []
    s = KeyStream(KEY, "chacha20", BACKEND, "a", lambda *draw: seen.append(draw))
    s.draw(3, 4)
    s.draw_at(7, 1)
    with pytest.raises(MaskReuseError):
        s.draw_at(2, 1)
    assert seen == [("a", 0, 7), ("a", 7, 1)]


def test_a_negative_length_is_refused() -> None:
    """Lengths that cancel would make two masks of one draw overlap."""
    with pytest.raises(ProtocolError, match="lengths"):
        stream().draw(10, -3, 3)
