"""The authors' features: parity with their calls, the provable box, batches with bad recordings in them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from sottovoce.engine.errors import AudioError
from sottovoce.models.speech.audio import MAX_PEAK, SAMPLE_RATE, load_audio
from sottovoce.models.speech.features import (
    FEATURE_HIGH,
    FEATURE_LOW,
    N_MFCC,
    derive_box,
    extract_features,
    mfcc40_mean,
)

FIXTURES = Path(__file__).with_name("fixtures")


def _fixture_recording() -> np.ndarray:
    spec = importlib.util.spec_from_file_location("make_mfcc40", FIXTURES / "make_mfcc40.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return np.asarray(module.recording())


def _noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, round(SAMPLE_RATE * seconds))


def test_features_equal_the_stored_ones_of_the_authors_calls(tmp_path: Path) -> None:
    path = tmp_path / "sweep.wav"
    soundfile.write(path, _fixture_recording(), 44_100, subtype="PCM_16")
    stored = json.loads((FIXTURES / "mfcc40.json").read_text())["mfcc40_mean"]
    got = mfcc40_mean(load_audio(path))
    assert got.shape == (N_MFCC,) and got.dtype == np.float64
    # float32 all the way: the last digits depend on the FFT of the machine.
    np.testing.assert_allclose(got, stored, rtol=0, atol=2e-3)


def test_the_mean_is_over_time_and_not_over_coefficients() -> None:
    samples = _noise().astype(np.float32)
    frames = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=N_MFCC)
    np.testing.assert_array_equal(mfcc40_mean(samples), frames.mean(axis=1).astype(np.float64))


def test_arrays_at_another_rate_are_resampled_first() -> None:
    t = np.arange(48_000) / 48_000
    high, low = (
        mfcc40_mean(0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate), rate)
        for n, rate in ((t.size, 48_000), (SAMPLE_RATE, SAMPLE_RATE))
    )
    np.testing.assert_allclose(high[:3], low[:3], rtol=0, atol=5.0)


def _impulse(at: int, size: int = SAMPLE_RATE, height: float = MAX_PEAK) -> np.ndarray:
    samples = np.zeros(size)
    samples[at] = height
    return samples


_T = np.arange(SAMPLE_RATE)
ADVERSARIAL = {
    "click in silence": _impulse(SAMPLE_RATE // 2),
    "click in a minute of silence": _impulse(1_000_000, 60 * SAMPLE_RATE, 1.1e-4),
    "single sample in the shortest recording": _impulse(0, 2_048),
    "faint click": _impulse(7, height=1.1e-4),
    "DC": np.full(SAMPLE_RATE, MAX_PEAK),
    "DC step": np.where(_T < 9_000, -MAX_PEAK, MAX_PEAK),
    "slow square wave": MAX_PEAK * np.sign(np.sin(2 * np.pi * 25.5 * _T / SAMPLE_RATE) + 1e-9),
    "square wave": MAX_PEAK * np.sign(np.sin(2 * np.pi * 440 * _T / SAMPLE_RATE) + 1e-9),
    "Nyquist": MAX_PEAK * np.where(_T % 2, 1.0, -1.0),
    "binary noise": MAX_PEAK * np.sign(_noise()),
    "uniform noise": MAX_PEAK * _noise(),
    "impulse train": np.where(_T % 512 == 0, MAX_PEAK, 0.0),
    "low tone": MAX_PEAK * np.sin(2 * np.pi * 26 * _T / SAMPLE_RATE),
    "high tone": MAX_PEAK * np.sin(2 * np.pi * 10_900 * _T / SAMPLE_RATE),
    "half the bands": MAX_PEAK * np.sinc((_T - SAMPLE_RATE / 2) / 8),
    "tone, then silence": np.where(_T < 2_048, MAX_PEAK * np.sin(_T / 9), 0.0),
    "sweep": MAX_PEAK * np.sin(2 * np.pi * (_T / 4) ** 2 / SAMPLE_RATE),
}


@pytest.mark.parametrize("signal", ADVERSARIAL)
def test_no_signal_leaves_the_box(signal: str) -> None:
    features = mfcc40_mean(ADVERSARIAL[signal])
    assert np.all(features >= FEATURE_LOW) and np.all(features <= FEATURE_HIGH)


def test_the_box_is_the_derived_one_rounded_outwards_and_no_wider() -> None:
    low, high = derive_box()
    assert np.all(low - FEATURE_LOW > 0.01) and np.all(FEATURE_HIGH - high > 0.01)
    assert low[0] - FEATURE_LOW[0] < 1 and FEATURE_HIGH[0] - high[0] < 1
    assert low[1:].min() - FEATURE_LOW[1] < 1 and FEATURE_HIGH[1] - high[1:].max() < 1


def test_the_bounds_of_coefficient_0_are_nearly_reached() -> None:
    """A box far from what sounds can reach would cost comparison bits for nothing, or hide a slip in the derivation."""
    assert mfcc40_mean(ADVERSARIAL["click in a minute of silence"])[0] < FEATURE_LOW[0] + 5
    assert mfcc40_mean(ADVERSARIAL["binary noise"])[0] > FEATURE_HIGH[0] - 60


def test_the_box_cannot_be_written_to() -> None:
    for box in (FEATURE_LOW, FEATURE_HIGH):
        assert box.shape == (N_MFCC,) and box.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            box[0] = 0.0


def test_one_bad_recording_does_not_lose_the_others(tmp_path: Path) -> None:
    good = tmp_path / "good.wav"
    soundfile.write(good, 0.5 * _noise(), SAMPLE_RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    recordings = [tmp_path / "empty.wav", good, np.zeros(SAMPLE_RATE), str(tmp_path / "none.wav"), _noise(seed=1)]
    seen: list[tuple[int, str]] = []
    batch = extract_features(iter(recordings), progress=lambda done, name: seen.append((done, name)))
    assert batch.indices == (1, 4) and batch.names == (str(good), "array 4")
    assert [(bad.index, bad.name) for bad in batch.failed] == [
        (0, str(tmp_path / "empty.wav")),
        (2, "array 2"),
        (3, str(tmp_path / "none.wav")),
    ]
    assert all(
        part in str(bad.error) for bad, part in zip(batch.failed, ("0 bytes", "silence", "no file"), strict=True)
    )
    assert all(isinstance(bad.error, AudioError) for bad in batch.failed)
    np.testing.assert_array_equal(batch.features[0], mfcc40_mean(load_audio(good)))
    np.testing.assert_array_equal(batch.features[1], mfcc40_mean(_noise(seed=1)))
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5]


def test_a_batch_without_a_usable_recording_has_no_rows() -> None:
    batch = extract_features([np.zeros(10)])
    assert batch.features.shape == (0, N_MFCC) and len(batch.failed) == 1 and batch.indices == ()


def test_the_real_recordings_and_rows_lie_in_the_box(shared_data: Path) -> None:
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as data:
        rows = data["X"]
    assert np.all(rows > FEATURE_LOW) and np.all(rows < FEATURE_HIGH)
    first = sorted((shared_data / "ravdess" / "Actor_01").glob("*.wav"))[0]
    features = mfcc40_mean(load_audio(first))
    # The republished files are 16 kHz copies: the low coefficients agree roughly, the others need not.
    assert abs(features[1] - rows[0, 1]) < 60
    assert np.all(features > FEATURE_LOW) and np.all(features < FEATURE_HIGH)
