"""Recordings in: formats, rates and channel counts that work, and one clear error for each that does not."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from sottovoce.engine.errors import AudioError
from sottovoce.models.speech.audio import MAX_SECONDS, SAMPLE_RATE, check_samples, load_audio
from sottovoce.models.speech.demo_clip import demo_clip_path


def tone(rate: int = SAMPLE_RATE, seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    """(time, channels) float64: a 300 Hz tone, softer in each further channel."""
    t = np.arange(round(rate * seconds)) / rate
    return np.stack([0.5 / (c + 1) * np.sin(2 * np.pi * 300 * t) for c in range(channels)], axis=1)


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate", "channels"),
    [
        ("wav", "PCM_16", 22_050, 1),
        ("wav", "PCM_U8", 8_000, 1),
        ("wav", "PCM_24", 48_000, 2),
        ("wav", "PCM_32", 32_000, 1),
        ("wav", "FLOAT", 44_100, 2),
        ("wav", "DOUBLE", 16_000, 6),
        ("flac", "PCM_16", 48_000, 1),
        ("ogg", "VORBIS", 44_100, 2),
        ("ogg", "OPUS", 48_000, 1),
        ("mp3", "MPEG_LAYER_III", 44_100, 1),
        ("aiff", "PCM_16", 11_025, 1),
        ("au", "PCM_16", 22_050, 1),
        ("caf", "PCM_16", 22_050, 1),
    ],
)
def test_common_formats_load_as_librosa_loads_them(
    tmp_path: Path, suffix: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype=subtype)
    got = load_audio(path)
    expected, _ = librosa.load(path, sr=SAMPLE_RATE, res_type="kaiser_fast")
    assert got.dtype == np.float32 and got.ndim == 1 and got.flags.c_contiguous
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_a_recording_of_many_blocks_is_joined_without_a_seam(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * (1 << 16) + 17).astype(np.float32)
    path = tmp_path / "long.wav"
    soundfile.write(path, noise, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(path), noise)


def _write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate, subtype=subtype)


def _truncated(suffix: str, subtype: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"bad.{suffix}"
        _write(path, tone(seconds=2) + 0.01 * np.random.default_rng(1).normal(size=(44_100, 1)), subtype=subtype)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path

    return make


def _file(content: bytes, name: str = "bad.wav") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _sound(samples: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _write(folder / "bad.wav", samples, rate, subtype)
        return folder / "bad.wav"

    return make


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "bad.wav")
    return folder / "bad.wav"


def _with(value: float) -> np.ndarray:
    samples = tone(channels=2)
    samples[5_000, 1] = value
    return samples


def _wav_header(rate: int = SAMPLE_RATE, data_bytes: int = 0) -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, min(2 * rate, 0xFFFFFFFF), 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + data_bytes, b"WAVE") + fmt + struct.pack("<4sI", b"data", data_bytes)


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "bad.wav", "no file of that name"),
    "directory": (lambda folder: folder, "a directory"),
    "pipe": (_fifo, "a device, pipe or socket"),
    "null byte in the name": (lambda folder: folder / "bad\0.wav", "no file of that name"),
    "empty": (_file(b""), r"an empty file \(0 bytes\)"),
    "text": (_file(b"this is not a sound file\n" * 50), "libsndfile can decode"),
    "text named raw": (_file(b"this is not a sound file\n" * 50, "bad.raw"), "libsndfile can decode"),
    "zeros": (_file(bytes(5_000), "bad.mp3"), "libsndfile can decode"),
    "png": (_file(b"\x89PNG\r\n\x1a\n" + bytes(500), "bad.png"), "libsndfile can decode"),
    "header only, cut": (_file(_wav_header(data_bytes=2_000)[:30]), "truncated"),
    "wav, cut": (_truncated("wav", "PCM_16"), "truncated: expected 88200 bytes"),
    "aiff, cut": (_truncated("aiff", "PCM_16"), "truncated"),
    "flac, cut": (_truncated("flac", "PCM_16"), "truncated|libsndfile"),
    "ogg, cut": (_truncated("ogg", "VORBIS"), "truncated: expected a last page"),
    "au, cut": (_truncated("au", "PCM_16"), "truncated: expected 88200 bytes"),
    "no samples": (_file(_wav_header()), "zero length"),
    "too short": (_sound(tone(seconds=0.05)), r"at least 0\.093 s .*got 0\.050 s"),
    "silent": (_sound(np.zeros((22_050, 2))), "silence"),
    "nearly silent": (_sound(1e-5 * tone()), "silence"),
    "nan": (_sound(_with(np.nan)), "NaN or infinity, first at sample 10001"),
    "infinite": (_sound(_with(np.inf)), "NaN or infinity, first at sample 10001"),
    "beyond float32": (_sound(_with(1e300), subtype="DOUBLE"), "NaN or infinity"),
    "far over full scale": (_sound(50 * tone()), "got a peak of 2[45]"),
    "too long": (_sound(np.zeros((1_000 * (MAX_SECONDS + 1), 1)), 1_000, "PCM_U8"), "at most 300 s, got 301.0 s"),
    "rate too low": (_sound(tone(), 500), "1000 to 192000 Hz, got 500 Hz"),
    "rate too high": (_file(_wav_header(rate=2_000_000, data_bytes=8) + bytes(8)), "got 2000000 Hz"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_each_bad_file_has_its_own_error_that_names_the_file(tmp_path: Path, case: str) -> None:
    make, message = BAD_FILES[case]
    path = make(tmp_path)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(path)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_name_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9\n.wav"
    with open(name, "wb") as file:
        file.write(demo_clip_path().read_bytes())
    np.testing.assert_array_equal(load_audio(os.fsdecode(name)), load_audio(demo_clip_path()))


def test_the_search_for_samples_ends(tmp_path: Path) -> None:
    path = tmp_path / "zeros.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 1 << 20) + b"WAVE")
    os.truncate(path, 1 << 20)  # an empty chunk every 8 bytes
    with pytest.raises(AudioError, match=r"zeros\.wav is truncated: .*got 10000 others"):
        load_audio(path)


def test_a_truncated_mp3_is_a_shorter_mp3(tmp_path: Path) -> None:
    """The limit that the documentation states: MP3 has no reliable length to compare with."""
    path = tmp_path / "whole.mp3"
    soundfile.write(path, tone(seconds=2), SAMPLE_RATE, subtype="MPEG_LAYER_III")
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0.3 * load_audio(path).size < load_audio(cut).size < 0.7 * load_audio(path).size


def test_an_unreadable_file_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _sound(tone())(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the suite may run as root, whom no file mode stops
    with pytest.raises(AudioError, match="Permission denied"):
        load_audio(path)


def test_a_wav_streamed_through_a_pipe_has_no_length_in_its_header_and_still_loads(tmp_path: Path) -> None:
    samples = (tone() * 32_767).astype("<i2")
    path = tmp_path / "streamed.wav"
    path.write_bytes(_wav_header(data_bytes=0xFFFFFFFF - 36)[:-4] + b"\xff\xff\xff\xff" + samples.tobytes())
    np.testing.assert_array_equal(load_audio(path), (samples[:, 0] / 32_768).astype(np.float32))


def test_the_bundled_clip_is_what_its_note_says() -> None:
    path = demo_clip_path()
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
    assert 2 < info.duration < 6 and path.stat().st_size < 150_000
    assert load_audio(path).size == info.frames


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
@pytest.mark.parametrize("layout", ["mono", "time first", "channels first"])
def test_arrays_of_every_layout_and_dtype_give_the_same_samples(dtype: str, layout: str) -> None:
    stereo = tone(channels=2)
    array = {"mono": stereo.mean(axis=1), "time first": stereo, "channels first": stereo.T}[layout]
    if dtype.startswith("int"):
        array = np.round(array * (np.iinfo(dtype).max + 1))
    got = check_samples(array.astype(dtype), SAMPLE_RATE)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_allclose(got, stereo.mean(axis=1), rtol=0, atol=4e-5)


def test_arrays_are_resampled_as_files_are(tmp_path: Path) -> None:
    path = _sound(tone(48_000), 48_000)(tmp_path)
    np.testing.assert_array_equal(check_samples(tone(48_000)[:, 0], 48_000), load_audio(path))


def test_the_callers_array_is_left_alone() -> None:
    array = tone()[:, 0].astype(np.float32)
    before = array.copy()
    check_samples(array, 44_100)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (tone()[:, 0].astype(np.int64), SAMPLE_RATE, "got dtype int64"),
        (tone()[:, 0].astype(complex), SAMPLE_RATE, "got dtype complex128"),
        (np.array(["a"]), SAMPLE_RATE, "got dtype <U1|got dtype str"),
        (np.float64(0.5), SAMPLE_RATE, r"got shape \(\)"),
        (np.zeros((2, 3, 4)), SAMPLE_RATE, r"got shape \(2, 3, 4\)"),
        (np.zeros(0), SAMPLE_RATE, "at least one sample"),
        (np.zeros((0, 2)), SAMPLE_RATE, "at least one sample"),
        (np.ones((9, 4_000)), SAMPLE_RATE, "channel axis"),
        (np.ones((8, 8)), SAMPLE_RATE, "channel axis"),
        (_with(np.nan), SAMPLE_RATE, "NaN or infinity"),
        (_with(1e300), SAMPLE_RATE, "NaN or infinity"),
        (np.zeros(22_050), SAMPLE_RATE, "silence"),
        (tone(seconds=0.05)[:, 0], SAMPLE_RATE, "one analysis window"),
        (1e12 * tone()[:, 0], SAMPLE_RATE, "a peak of"),
        (tone()[:, 0], 0, "got 0 Hz"),
        (tone()[:, 0], 22_050.5, "whole Hz, got float"),
        (tone()[:, 0], True, "whole Hz, got bool"),
        (np.ones(1_000 * (MAX_SECONDS + 1)), 1_000, "at most 300 s"),
    ],
)
def test_each_bad_array_has_its_own_error(array: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(AudioError, match=f"recording mine: .*{message}"):
        check_samples(array, rate, "mine")
