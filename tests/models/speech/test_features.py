"""The feature sets: parity with librosa's own calls, the provable boxes, batches with bad recordings in them."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from types import ModuleType

import librosa
import numpy as np
import pytest
import soundfile
from tests.signals import ADVERSARIAL, noise

from sottovoce.engine.errors import ConfigError
from sottovoce.models.speech.audio import MAX_PEAK, SAMPLE_RATE, WINDOW, check_samples, load_audio
from sottovoce.models.speech.features import FEATURE_SETS, FeatureSet, get_feature_set
from sottovoce.models.speech.mfcc import CLIP_SAMPLES, FEATURE_HIGH, FEATURE_LOW, N_MFCC, derive_box, mfcc40_mean
from sottovoce.models.speech.spectral import MEL_HIGH, SPECTRAL_HIGH, derive_mel_high

FIXTURES = Path(__file__).with_name("fixtures")


def _fixture_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_mfcc40", FIXTURES / "make_mfcc40.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The recording of the stored features, as it comes from its file."""
    path = tmp_path_factory.mktemp("recording") / "sweep.wav"
    soundfile.write(path, _fixture_module().recording(), 44_100, subtype="PCM_16")
    return load_audio(path)


def _compute(features: FeatureSet, samples: np.ndarray) -> np.ndarray:
    return features.compute(check_samples(samples, SAMPLE_RATE))


# ---- parity -------------------------------------------------------------------------------------------------------


def test_features_equal_the_stored_ones_of_the_authors_calls(recording: np.ndarray) -> None:
    stored = json.loads((FIXTURES / "mfcc40.json").read_text())["mfcc40_mean"]
    got = mfcc40_mean(recording)
    assert got.shape == (N_MFCC,) and got.dtype == np.float64
    # float32 all the way: the last digits depend on the FFT of the machine.
    np.testing.assert_allclose(got, stored, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(FEATURE_SETS["mfcc40-mean"].compute(recording), got)


def test_spectral_features_equal_the_stored_ones_of_librosas_calls(recording: np.ndarray) -> None:
    stored = np.array(json.loads((FIXTURES / "feature_sets.json").read_text())["spectral162-mean"])
    got = FEATURE_SETS["spectral162-mean"].compute(recording)
    assert got.shape == (162,) and got.dtype == np.float64
    np.testing.assert_allclose(got[13:33], stored[13:33], rtol=0, atol=2e-3)
    others = np.r_[0:13, 33:162]
    np.testing.assert_allclose(got[others], stored[others], rtol=1e-4, atol=2e-5)


def test_frames_equal_the_stored_ones_of_librosas_calls(recording: np.ndarray) -> None:
    stored = np.array(json.loads((FIXTURES / "feature_sets.json").read_text())["mfcc40-frames151"])
    got = FEATURE_SETS["mfcc40-frames151"].compute(recording)
    assert got.shape == (40, 151) and got.dtype == np.float64
    frames = list(_fixture_module().FRAMES)
    np.testing.assert_allclose(got[:, frames], stored.reshape(N_MFCC, -1), rtol=0, atol=2e-3)


def test_a_clip_is_cut_at_its_end_and_padded_at_its_end() -> None:
    features = FEATURE_SETS["mfcc40-frames151"]
    long = noise(4.0).astype(np.float32)
    np.testing.assert_array_equal(_compute(features, long), _compute(features, long[:CLIP_SAMPLES]))
    short = _compute(features, long[:SAMPLE_RATE])
    padded = np.concatenate([long[:SAMPLE_RATE], np.zeros(SAMPLE_RATE, dtype=np.float32)])
    np.testing.assert_array_equal(_compute(features, padded), short)
    # 43 hops to a second: the last window that hears it is centred 2 hops later.
    assert short[0, :46].min() > short[0, 46:].max() and np.ptp(short[:, 46:], axis=1).max() == 0


@pytest.mark.parametrize("signal", ["sweep", "DC", "click in silence", "long noise"])
def test_spectral_features_are_librosas_defaults(signal: str) -> None:
    samples = check_samples(ADVERSARIAL[signal], SAMPLE_RATE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set", UserWarning)
        chroma = librosa.feature.chroma_stft(y=samples)
    parts = (
        librosa.feature.zero_crossing_rate(samples),
        chroma,
        librosa.feature.mfcc(y=samples),
        librosa.feature.rms(y=samples),
        librosa.feature.melspectrogram(y=samples),
    )
    expected = np.concatenate([frames.mean(axis=1, dtype=np.float64) for frames in parts])
    np.testing.assert_array_equal(FEATURE_SETS["spectral162-mean"].compute(samples), expected)


def test_the_mean_is_over_time_and_not_over_coefficients() -> None:
    samples = noise().astype(np.float32)
    frames = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=N_MFCC)
    np.testing.assert_array_equal(mfcc40_mean(samples), frames.mean(axis=1).astype(np.float64))


def test_arrays_at_another_rate_are_resampled_first() -> None:
    t = np.arange(48_000) / 48_000
    high, low = (
        mfcc40_mean(0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate), rate)
        for n, rate in ((t.size, 48_000), (SAMPLE_RATE, SAMPLE_RATE))
    )
    np.testing.assert_allclose(high[:3], low[:3], rtol=0, atol=5.0)


# ---- boxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", FEATURE_SETS.values(), ids=FEATURE_SETS)
@pytest.mark.parametrize("signal", ADVERSARIAL)
def test_no_signal_leaves_the_box(signal: str, features: FeatureSet) -> None:
    row = _compute(features, ADVERSARIAL[signal])
    assert row.shape == features.row_shape and row.dtype == np.float64
    values = row.reshape(features.input_shape)
    assert np.all(values >= features.low) and np.all(values <= features.high)


def test_no_tone_in_the_middle_of_a_band_leaves_the_box() -> None:
    """Nothing concentrates power in one band as a square wave does: its fundamental exceeds the peak."""
    t = np.arange(2 * WINDOW) / SAMPLE_RATE
    features = FEATURE_SETS["spectral162-mean"]
    for frequency in librosa.mel_frequencies(130, fmax=SAMPLE_RATE / 2)[1:-1:8]:
        sine = np.sin(2 * np.pi * frequency * t)
        for tone in (sine, np.sign(sine + 1e-9)):
            values = _compute(features, MAX_PEAK * tone)
            assert np.all(values >= features.low[0]) and np.all(values <= features.high[0])


def test_the_box_is_the_derived_one_rounded_outwards_and_no_wider() -> None:
    low, high = derive_box()
    assert np.all(low - FEATURE_LOW > 0.01) and np.all(FEATURE_HIGH - high > 0.01)
    assert low[0] - FEATURE_LOW[0] < 1 and FEATURE_HIGH[0] - high[0] < 1
    assert low[1:].min() - FEATURE_LOW[1] < 1 and FEATURE_HIGH[1] - high[1:].max() < 1
    np.testing.assert_array_equal(np.ceil(derive_mel_high()), MEL_HIGH)


def test_the_boxes_of_the_other_sets_are_made_of_these() -> None:
    spectral, frames = FEATURE_SETS["spectral162-mean"], FEATURE_SETS["mfcc40-frames151"]
    assert spectral.low.shape == spectral.high.shape == (1, 162) and frames.low.shape == frames.high.shape == (40, 151)
    np.testing.assert_array_equal(spectral.low[0], [0] * 13 + FEATURE_LOW[:20].tolist() + [0] * 129)
    np.testing.assert_array_equal(spectral.high[0], [1] * 13 + FEATURE_HIGH[:20].tolist() + [MAX_PEAK, *MEL_HIGH])
    np.testing.assert_array_equal(frames.low - FEATURE_LOW[:, None], np.zeros((40, 151)))
    np.testing.assert_array_equal(frames.high - FEATURE_HIGH[:, None], np.zeros((40, 151)))


def test_the_bounds_of_the_spectral_features_are_nearly_reached() -> None:
    features = FEATURE_SETS["spectral162-mean"]
    reached = np.max([_compute(features, ADVERSARIAL[name]) for name in ("Nyquist", "DC", "square wave")], axis=0)
    assert reached[0] > 0.96 and reached[1:13].max() > 0.99 and 0.98 < reached[33] / MAX_PEAK <= 1
    narrow = _compute(features, ADVERSARIAL["square wave of a narrow band"])[34:] / MEL_HIGH
    assert 0.3 < narrow.max() < 1


def test_the_bounds_of_coefficient_0_are_nearly_reached() -> None:
    """A box far from what sounds can reach would cost comparison bits for nothing, or hide a slip in the derivation."""
    assert mfcc40_mean(ADVERSARIAL["click in a minute of silence"])[0] < FEATURE_LOW[0] + 5
    assert mfcc40_mean(ADVERSARIAL["binary noise"])[0] > FEATURE_HIGH[0] - 60


def test_the_box_cannot_be_written_to() -> None:
    boxes = [side for features in FEATURE_SETS.values() for side in (features.low, features.high)]
    for box in (FEATURE_LOW, FEATURE_HIGH, SPECTRAL_HIGH, *boxes):
        assert box.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            box[..., 0] = 0.0


def test_an_unknown_feature_set_is_refused_with_the_names_there_are() -> None:
    assert get_feature_set("mfcc40-mean") is FEATURE_SETS["mfcc40-mean"]
    assert {name: row.row_shape for name, row in FEATURE_SETS.items()} == {
        "mfcc40-mean": (40,),
        "spectral162-mean": (162,),
        "mfcc40-frames151": (40, 151),
    }
    with pytest.raises(ConfigError, match="expected one of mfcc40-mean, spectral162-mean, mfcc40-frames151, got 'x'"):
        get_feature_set("x")


def test_the_real_recordings_and_rows_lie_in_the_box(shared_data: Path) -> None:
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as data:
        rows = data["X"]
    assert np.all(rows > FEATURE_LOW) and np.all(rows < FEATURE_HIGH)
    first = sorted((shared_data / "ravdess" / "Actor_01").glob("*.wav"))[0]
    features = mfcc40_mean(load_audio(first))
    # The republished files are 16 kHz copies: the low coefficients agree roughly, the others need not.
    assert abs(features[1] - rows[0, 1]) < 60
    assert np.all(features > FEATURE_LOW) and np.all(features < FEATURE_HIGH)
