"""Both keystreams against RFC 8439 and against the `cryptography` package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.kernels.cpu import prg

Fill = Callable[[np.ndarray, int, int, np.ndarray], None]
KEYS = {"chacha20": (8, np.uint32), "aes128": (16, np.uint8)}
FILLS: dict[str, Fill] = {"chacha20": prg.chacha20_fill, "aes128": prg.aes128_ctr_fill}
CIPHERS = pytest.mark.parametrize("cipher", list(FILLS))


def _key(cipher: str, rng: np.random.Generator) -> np.ndarray:
    size, dtype = KEYS[cipher]
    return np.frombuffer(rng.bytes(size * np.dtype(dtype).itemsize), dtype).copy()


def _library(cipher: str, key: np.ndarray, operation: int, chunk: int, words: int) -> np.ndarray:
    if cipher == "chacha20":
        nonce = bytes(4) + chunk.to_bytes(4, "little") + operation.to_bytes(8, "little")
        context = Cipher(algorithms.ChaCha20(key.tobytes(), nonce), None).encryptor()
    else:
        counter = operation.to_bytes(8, "big") + chunk.to_bytes(4, "big") + bytes(4)
        context = Cipher(algorithms.AES128(key.tobytes()), modes.CTR(counter)).encryptor()
    return np.frombuffer(context.update(bytes(8 * words)), "<u8")


@CIPHERS
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    operation=st.integers(0, 2**64 - 1),
    chunk=st.integers(0, 2**32 - 1),
    n=st.integers(0, 700),
)
def test_stream_equals_the_library(cipher: str, seed: int, operation: int, chunk: int, n: int) -> None:
    key = _key(cipher, np.random.default_rng(seed))
    out = np.zeros(n, np.uint64)
    FILLS[cipher](key, operation, chunk, out)
    np.testing.assert_array_equal(out, _library(cipher, key, operation, chunk, n))


@CIPHERS
def test_long_stream_equals_the_library(cipher: str) -> None:
    """Long enough for the block counter to reach its third byte."""
    key, out = _key(cipher, np.random.default_rng(9)), np.zeros(8 * 70_001, np.uint64)
    FILLS[cipher](key, 2**63 + 5, 7, out)
    np.testing.assert_array_equal(out, _library(cipher, key, 2**63 + 5, 7, out.size))


def test_chacha20_gives_the_block_of_rfc_8439() -> None:
    """Section 2.3.2: key 00 01 .. 1f, block counter 1, nonce 00 00 00 09 00 00 00 4a 00 00 00 00."""
    key = np.frombuffer(bytes(range(32)), "<u4").copy()
    out = np.zeros(16, np.uint64)
    prg.chacha20_fill(key, 0x4A000000, 0x09000000, out)
    assert out[8:].astype("<u8").tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_portable_aes_gives_the_same_bytes() -> None:
    key = _key("aes128", np.random.default_rng(2))
    for n in (0, 1, 2, 129):
        out, portable = np.zeros(n, np.uint64), np.ones(n, np.uint64)
        prg.aes128_ctr_fill(key, 2**64 - 2, 2**32 - 3, out)
        prg.portable_aes128_ctr_fill(key, 2**64 - 2, 2**32 - 3, portable)
        np.testing.assert_array_equal(out, portable)


@CIPHERS
def test_a_shorter_stream_is_a_prefix_and_positions_differ(cipher: str) -> None:
    key = _key(cipher, np.random.default_rng(4))
    long, short = np.zeros(300, np.uint64), np.zeros(77, np.uint64)
    FILLS[cipher](key, 5, 6, long)
    FILLS[cipher](key, 5, 6, short)
    np.testing.assert_array_equal(short, long[:77])
    for operation, chunk in ((6, 6), (5, 7), (5 << 32, 6), (6, 5)):
        FILLS[cipher](key, operation, chunk, short)
        assert not np.isin(short, long).any()


@CIPHERS
def test_refuses_malformed_arguments(cipher: str) -> None:
    out, key = np.zeros(4, np.uint64), _key(cipher, np.random.default_rng(0))
    for bad in (key[:-1], key.astype(np.int64), key.reshape(2, -1)):
        with pytest.raises(ValueError, match="the key must be"):
            FILLS[cipher](bad, 0, 0, out)
    for operation, chunk in ((2**64, 0), (-1, 0), (0, 2**32), (0, -1)):
        with pytest.raises(OverflowError):
            FILLS[cipher](key, operation, chunk, out)
    for bad_out in (np.zeros(4, np.int64), np.zeros(8, np.uint64)[::2], np.zeros((2, 2), np.uint64)):
        with pytest.raises(ValueError, match="out must be"):
            FILLS[cipher](key, 0, 0, bad_out)


@CIPHERS
def test_refuses_more_than_2_to_the_32_blocks(cipher: str) -> None:
    """The block counter has 32 bits: beyond them the stream would repeat itself. The array is only pretended."""
    blocks = {"chacha20": prg.CHACHA20_BLOCK_WORDS, "aes128": prg.AES_BLOCK_WORDS}[cipher]

    class Pretended(np.ndarray):
        @property
        def size(self) -> int:  # type: ignore[override]
            return (blocks << 32) + 1

    with pytest.raises(ValueError, match="blocks"):
        FILLS[cipher](_key(cipher, np.random.default_rng(0)), 0, 0, np.zeros(1, np.uint64).view(Pretended))
