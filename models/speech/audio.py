"""Recordings in: any common sound file or sample array becomes mono float32 at 22,050 Hz, or one clear `AudioError`.

The result equals `librosa.load(path, sr=22050, res_type="kaiser_fast")`, which is what the paper's authors call. We do
not call it: it hands files that libsndfile refuses to a second decoder and warns, it plays what is left of a truncated
file, and it reads files of any length into memory. Here libsndfile alone decodes (WAV, FLAC, Ogg Vorbis and Opus, MP3,
AIFF, AU, CAF, …), block by block, each block averaged over its channels; resampy's `kaiser_fast` filter resamples.

Limits, all checked before the samples are held in memory: `MAX_SECONDS` long, `MAX_RATE` Hz, `MAX_CHANNELS`; so the
samples of one recording take at most 300 s x 192,000 Hz x 4 bytes = 230 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import AudioError
from sottovoce.models.speech.containers import truncation

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 22_050
WINDOW = 2_048
"""Samples of one analysis window (93 ms): a shorter recording has no full frame."""
MAX_SECONDS = 300
MIN_RATE, MAX_RATE = 1_000, 192_000
MAX_CHANNELS = 64
SILENCE_PEAK = 1e-4
"""A recording that never exceeds this (-80 dBFS) is silent: its features would be those of the noise."""
MAX_PEAK = 2.0
"""Full scale is 1. Resampling overshoots a little at steps, and so do float files that were never clipped."""

_BLOCK = 1 << 16
_UNKNOWN_LENGTH = 1 << 62
_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


def load_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> Samples:
    """Read a sound file as mono float32 at `sample_rate` Hz: (samples,), peak at most `MAX_PEAK`.

    Raises AudioError, naming the file, for one that is missing, a directory, empty, truncated, not audio, without
    samples, silent, not finite, shorter than one analysis window, or beyond the limits of this module.
    """
    name = os.fspath(path)
    size = _checked_size(name)
    samples, rate = _decode(name, size)
    return _finish(samples, rate, sample_rate, name)


def check_samples(samples: npt.ArrayLike, sample_rate: int, name: str = "array") -> Samples:
    """Bring an array of samples to mono float32 at 22,050 Hz, with the same checks as a file.

    samples: (time,), or (time, channels) or (channels, time) where one side is at most 8 and shorter than the other.
    float32 and float64 are in -1 … 1; int16 and int32 are divided by their full scale. Others raise: an int64 or bool
    array has no agreed full scale. `name` is what errors call this recording.
    """
    array = np.asarray(samples)
    kind = array.dtype.name
    if kind not in ("float32", "float64", *_FULL_SCALE):
        raise _error(name, "float32, float64, int16 or int32 samples", f"dtype {kind}")
    if array.ndim not in (1, 2):
        raise _error(name, "samples of shape (time,), (time, channels) or (channels, time)", f"shape {array.shape}")
    if array.size == 0:
        raise _error(name, "at least one sample", f"an array of shape {array.shape}")
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)):
        raise _error(name, "a sample rate in whole Hz", f"{type(sample_rate).__name__}")
    rate = int(sample_rate)
    channel_axis = None
    if array.ndim == 2:
        channel_axis = int(np.argmin(array.shape))
        if min(array.shape) > 8 or (array.shape[0] == array.shape[1] and array.size > 1):
            raise _error(name, "a channel axis of at most 8, shorter than the time axis", f"shape {array.shape}")
    _check_limits(rate, 1 if channel_axis is None else array.shape[channel_axis], max(array.shape), name)
    # A float64 value beyond float32 becomes inf here and is refused below with the other non-finite ones.
    with np.errstate(over="ignore", invalid="ignore"):
        mono = array.astype(np.float32)
    if kind in _FULL_SCALE:
        mono = mono / np.float32(_FULL_SCALE[kind])
    if channel_axis is not None:
        _check_finite(mono.ravel(), 0, name)
        mono = mono.mean(axis=channel_axis, dtype=np.float32)
    return _finish(mono, rate, SAMPLE_RATE, name)


def _error(name: str, expected: str, got: str) -> AudioError:
    return AudioError(f"recording {name}: expected {expected}, got {got}")


def _checked_size(name: str) -> int:
    path = Path(name)
    try:
        if path.is_dir():
            raise _error(name, "a sound file", "a directory")
        if not path.exists():
            raise _error(name, "a sound file", "no file of that name")
        if not path.is_file():  # reading a pipe or a device could wait for ever
            raise _error(name, "a regular file", "a device, pipe or socket")
        size = path.stat().st_size
    except (OSError, ValueError) as problem:
        if isinstance(problem, AudioError):
            raise
        raise _error(name, "a sound file that can be read", f"{problem}") from None
    if size == 0:
        raise _error(name, "a sound file", "an empty file (0 bytes)")
    return size


def _decode(name: str, size: int) -> tuple[Samples, int]:
    """Decode a file to mono float32 at its own rate."""
    import soundfile  # here, because it loads a shared library that a caller of arrays never needs

    try:
        with open(name, "rb") as file:
            cut = truncation(file, size)
    except OSError as problem:
        raise _error(name, "a sound file that can be read", f"{problem.strerror}") from None
    try:
        with soundfile.SoundFile(os.fsencode(name)) as sound:  # soundfile encodes UTF-8 only; a name is any bytes
            if cut is not None:
                raise AudioError(f"recording {name} is truncated: {cut}")
            known = 0 <= sound.frames < _UNKNOWN_LENGTH
            _check_limits(sound.samplerate, sound.channels, sound.frames if known else 0, name)
            blocks = list(_mono_blocks(sound, MAX_SECONDS * sound.samplerate, name))
            samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
            # The length of an MP3 is an estimate, made from its size and its first frames.
            if known and samples.size < sound.frames and sound.format != "MP3":
                raise AudioError(
                    f"recording {name} is truncated: expected {sound.frames} samples per channel, got {samples.size}"
                )
            return samples, int(sound.samplerate)
    except AudioError:
        raise
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as problem:
        if cut is not None:
            raise AudioError(f"recording {name} is truncated: {cut}") from None
        reason = getattr(problem, "error_string", None) or str(problem)
        raise _error(
            name, "a sound file that libsndfile can decode (WAV, FLAC, Ogg, MP3, AIFF, …)", f"its answer {reason!r}"
        ) from None


def _mono_blocks(sound: Any, max_frames: int, name: str) -> Iterator[Samples]:
    done = 0
    while True:
        block = sound.read(_BLOCK, dtype="float32", always_2d=True)
        if block.shape[0] == 0:
            return
        _check_finite(block.ravel(), done * block.shape[1], name)
        done += block.shape[0]
        if done > max_frames:
            raise _error(name, f"at most {MAX_SECONDS} s", "a longer recording")
        yield block.mean(axis=1, dtype=np.float32)


def _check_limits(rate: int, channels: int, frames: int, name: str) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise _error(name, f"a sample rate of {MIN_RATE} to {MAX_RATE} Hz", f"{rate} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise _error(name, f"1 to {MAX_CHANNELS} channels", f"{channels}")
    if frames > MAX_SECONDS * rate:
        raise _error(name, f"at most {MAX_SECONDS} s", f"{frames / rate:.1f} s")


def _check_finite(values: Samples, offset: int, name: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        first = offset + int(np.argmin(finite))
        raise _error(name, "finite samples", f"NaN or infinity, first at sample {first}")


def _finish(mono: Samples, rate: int, target_rate: int, name: str) -> Samples:
    """The checks that files and arrays share, and the resampling. mono: (time,) float32 at `rate` Hz."""
    if not MIN_RATE <= target_rate <= MAX_RATE:
        raise _error(name, f"a target rate of {MIN_RATE} to {MAX_RATE} Hz", f"{target_rate} Hz")
    if mono.size == 0:
        raise _error(name, "at least one sample", "a recording of zero length")
    _check_finite(mono, 0, name)
    shortest = WINDOW / SAMPLE_RATE
    if mono.size < shortest * rate:
        raise _error(name, f"at least {shortest:.3f} s (one analysis window)", f"{mono.size / rate:.3f} s")
    peak = float(np.abs(mono).max())
    if peak <= SILENCE_PEAK:
        raise _error(name, f"a peak above {SILENCE_PEAK:g} of full scale", f"silence (peak {peak:g})")
    if rate != target_rate:
        mono = _resample(mono, rate, target_rate)
        peak = float(np.abs(mono).max())
    if peak > MAX_PEAK:
        raise _error(name, f"samples between -1 and 1 (peak at most {MAX_PEAK:g})", f"a peak of {peak:g}")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _resample(mono: Samples, rate: int, target_rate: int) -> Samples:
    import librosa  # here, because importing it takes longer than everything else in this module

    resampled: Samples = librosa.resample(mono, orig_sr=rate, target_sr=target_rate, res_type="kaiser_fast")
    return resampled
