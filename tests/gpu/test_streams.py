"""Keystreams of the CUDA kernels: published vectors, every position in a block, the end of the block counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu import prg
from sottovoce.kernels.gpu import ring, streams
from sottovoce.kernels.gpu.device import Keystream
from tests.gpu.compare import compare
from tests.gpu.devices import Awkward
from tests.gpu.require import needs_compiler
from tests.gpu.sanitizer import assert_clean
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.host import HostDevice, Mode
from tests.gpu.stream_cases import NAMES

pytestmark = needs_compiler

KEYS: dict[str, tuple[int, Any]] = {"chacha20": (8, np.uint32), "aes128": (16, np.uint8)}
CPU = {"chacha20": prg.chacha20_fill, "aes128": prg.aes128_ctr_fill}
GPU = {"chacha20": streams.chacha20_fill, "aes128": streams.aes128_ctr_fill}
CIPHERS = pytest.mark.parametrize("cipher", list(GPU))
STREAM_WORDS = 8 << 32
"""Words of an operation: 2^32 blocks of 8."""


@pytest.fixture
def device() -> HostDevice:
    return HostDevice("plain")


def _key(cipher: str, rng: np.random.Generator) -> np.ndarray:
    size, dtype = KEYS[cipher]
    return np.frombuffer(rng.bytes(size * np.dtype(dtype).itemsize), dtype).copy()


def _consume(device: HostDevice, stream: Keystream) -> DeviceArray:
    """0 + mask - 0, the mask generated inside the kernel."""
    zero, out = device.upload(np.zeros(stream.shape, np.uint64)), device.empty(stream.shape, np.uint64)
    ring.mask_zero(device, zero, stream, zero, out)
    return out


WAYS: dict[str, Callable[[HostDevice, Keystream], DeviceArray]] = {
    "in memory": streams.materialise,
    "inside a kernel": _consume,
}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def _host(device: HostDevice, words: DeviceArray) -> np.ndarray:
    return device.download(words).wait()


def _words(key: bytes) -> Any:
    return tuple(np.frombuffer(key, "<u8").tolist())


# ---- published vectors --------------------------------------------------------------------------------------------


def test_chacha20_gives_the_block_of_rfc_8439(device: HostDevice) -> None:
    """Section 2.3.2: key 00 01 .. 1f, block counter 1, nonce 00 00 00 09 00 00 00 4a 00 00 00 00."""
    key, out = np.frombuffer(bytes(range(32)), "<u4").copy(), device.empty((16,), np.uint64)
    streams.chacha20_fill(device, key, 0x4A000000, 0x09000000, out)
    assert _host(device, out)[8:].tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


@EACH_WAY
@pytest.mark.parametrize(
    ("key", "block", "nonce", "expected"),
    [
        (bytes(32), 0, 0, "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"),
        (bytes(31) + b"\x01", 1, 0, "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"),
        (b"\x00\xff" + bytes(30), 2, 0, "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"),
        (bytes(32), 0, 2 << 56, "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"),
    ],
    ids=["1", "3", "4", "5"],
)
def test_chacha20_gives_the_blocks_of_rfc_8439_appendix_a1(
    device: HostDevice, way: Any, key: bytes, block: int, nonce: int, expected: str
) -> None:
    """Test vectors 1, 3, 4 and 5, their first 32 bytes."""
    words = way(device, Keystream(_words(key), nonce, 8 * block, (4,)))
    assert _host(device, words).tobytes().hex() == expected


@pytest.mark.parametrize(
    ("key", "operation", "expected"),
    [
        ("00000000000000000000000000000000", 1 << 63, "3ad78e726c1ec02b7ebfe92b23d9ec34"),
        ("10a58869d74be5a374cf867cfb473859", 0, "6d251e6944b051e04eaa6fb4dbf78465"),
    ],
    ids=["VarTxt", "KeySbox"],
)
def test_aes_gives_the_blocks_of_the_aesavs(device: HostDevice, key: str, operation: int, expected: str) -> None:
    """AESAVS appendix B and D: VarTxt and KeySbox, of those whose last four bytes are a block counter of 0."""
    out = device.empty((2,), np.uint64)
    streams.aes128_ctr_fill(device, np.frombuffer(bytes.fromhex(key), np.uint8), operation, 0, out)
    assert _host(device, out).tobytes().hex() == expected


# ---- positions ----------------------------------------------------------------------------------------------------


@EACH_WAY
def test_keystream_from_every_word_of_a_block(device: HostDevice, rng: np.random.Generator, way: Any) -> None:
    """Every first mod 8, and counts on both sides of one and two blocks."""
    key, stream = _key("chacha20", rng), np.zeros(64, np.uint64)
    prg.chacha20_fill(key, 77, 0, stream)
    for first in range(8, 16):
        for count in range(1, 19):
            words = way(device, Keystream(_words(key.tobytes()), 77, first, (count,)))
            np.testing.assert_array_equal(_host(device, words), stream[first : first + count], f"{first}, {count}")


@CIPHERS
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 15, 16, 33, 4 * 4 * 512 + 5])
def test_fills_a_slice_and_nothing_beside_it(
    device: HostDevice, rng: np.random.Generator, cipher: str, offset: int, length: int
) -> None:
    """Aligned to 16 bytes or not; more than all threads at once; the key given on the host."""
    key, expected = _key(cipher, rng), np.zeros(length, np.uint64)
    whole = device.upload(np.full(length + 3, 7, np.uint64))
    GPU[cipher](device, key, 2**64 - 2, 2**32 - 3, whole[offset : offset + length])
    CPU[cipher](key, 2**64 - 2, 2**32 - 3, expected)
    got = _host(device, whole)
    np.testing.assert_array_equal(got[offset : offset + length], expected)
    assert (np.delete(got, slice(offset, offset + length)) == 7).all()


def test_materialised_words_have_the_shape_and_leave_the_device_alone_if_there_are_none(device: HostDevice) -> None:
    assert streams.materialise(device, Keystream((1, 2, 3, 4), 5, 6, (2, 0))).shape == (2, 0)
    assert not device.launches
    words = streams.materialise(device, Keystream((1, 2, 3, 4), 5, 3, (2, 5)))
    assert words.shape == (2, 5)
    flat = streams.materialise(device, Keystream((1, 2, 3, 4), 5, 3, (10,)))
    np.testing.assert_array_equal(_host(device, words).reshape(-1), _host(device, flat))


# ---- the end of an operation --------------------------------------------------------------------------------------


@EACH_WAY
def test_last_words_of_an_operation(device: HostDevice, rng: np.random.Generator, way: Any) -> None:
    """Block 2^32 - 1, as OpenSSL has it."""
    key = rng.bytes(32)
    nonce = (2**32 - 2).to_bytes(4, "little") + bytes(4) + (99).to_bytes(8, "little")
    blocks = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(128))
    words = way(device, Keystream(_words(key), 99, STREAM_WORDS - 11, (11,)))
    np.testing.assert_array_equal(_host(device, words), np.frombuffer(blocks, "<u8")[5:])


def test_a_keystream_ends_where_the_cpu_refuses() -> None:
    """One word more than 2^32 blocks: the counter would go on in the chunk's place."""
    for first, size in ((STREAM_WORDS - 3, 4), (STREAM_WORDS, 1), (-1, 1)):
        with pytest.raises(ValueError, match="2\\^32 blocks"):
            Keystream((1, 2, 3, 4), 0, first, (size,))


@CIPHERS
def test_fill_refuses_more_than_2_to_the_32_blocks(device: HostDevice, cipher: str) -> None:
    """In the CPU's words. The array is only pretended."""
    words = {"chacha20": prg.CHACHA20_BLOCK_WORDS, "aes128": prg.AES_BLOCK_WORDS}[cipher] << 32

    class Pretended(DeviceArray):
        size = words + 1

    class PretendedOnTheHost(np.ndarray):
        size = words + 1

    key, small = _key(cipher, np.random.default_rng(0)), device.empty((1,), np.uint64)
    with pytest.raises(ValueError, match="blocks") as here:
        GPU[cipher](device, key, 0, 0, Pretended(small._allocation, small._view))
    with pytest.raises(ValueError, match="blocks") as there:
        CPU[cipher](key, 0, 0, np.zeros(1, np.uint64).view(PretendedOnTheHost))
    assert str(here.value) == str(there.value)
    assert not device.launches


# ---- arguments ----------------------------------------------------------------------------------------------------


@CIPHERS
def test_refuses_malformed_arguments(device: HostDevice, cipher: str) -> None:
    out, key = device.empty((4,), np.uint64), _key(cipher, np.random.default_rng(0))
    strided = np.repeat(key, 2)[::2]
    for bad in (key[:-1], key.astype(np.int64), key.reshape(2, -1), strided, device.upload(key[:-1])):
        with pytest.raises(ValueError, match="the key must be"):
            GPU[cipher](device, bad, 0, 0, out)
    for operation, chunk in ((2**64, 0), (-1, 0), (0, 2**32), (0, -1)):
        with pytest.raises(OverflowError):
            GPU[cipher](device, key, operation, chunk, out)
    for bad_out in (device.empty((4,), np.int64), device.empty((8,), np.uint64)[::2]):
        with pytest.raises(ValueError, match="contiguous"):
            GPU[cipher](device, key, 0, 0, bad_out)
    assert not device.launches


@CIPHERS
def test_key_in_device_memory_gives_the_same_words(device: HostDevice, rng: np.random.Generator, cipher: str) -> None:
    key = _key(cipher, rng)
    first, second = device.empty((21,), np.uint64), device.empty((21,), np.uint64)
    GPU[cipher](device, key, 5, 6, first)
    GPU[cipher](device, device.upload(key), 5, 6, second)
    np.testing.assert_array_equal(_host(device, first), _host(device, second))


def test_aes_tables_are_set_up_by_no_more_blocks_than_run_at_once(device: HostDevice) -> None:
    """Many comparisons or words share a table."""
    assert streams.aes_grid(device, 1) == (1, 1, 1)
    assert streams.aes_grid(device, 257) == (2, 1, 1)
    assert streams.aes_grid(device, 1 << 40) == (streams.AES_BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors, 1, 1)


@pytest.mark.parametrize("mode", ["plain", "reversed"])
@pytest.mark.parametrize("name", NAMES)
def test_each_thread_comes_back_for_more(name: str, mode: Mode) -> None:
    compare(CATALOG[name], Awkward(mode))


def test_no_access_is_misaligned_or_beside_an_array() -> None:
    assert_clean(NAMES, "tests.gpu.stream_cases")
