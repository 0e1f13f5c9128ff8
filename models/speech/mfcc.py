"""MFCCs of a recording, and the box that provably holds them.

`mfcc40_mean`, the authors' features, is `librosa.feature.mfcc(y=samples, sr=22050, n_mfcc=40).mean(axis=1)`: Hann
windows of 2,048 samples every 512, power spectrum, 128 mel bands (Slaney), decibels with a floor 80 dB under the
recording's loudest band and never under -100 dB, orthonormal DCT-II, coefficients 0 to 39, mean over the frames.
`mfcc40_frames` keeps the 151 frames of the recording's first 3.5 s.

**The box.** `FEATURE_LOW` and `FEATURE_HIGH` bound every coefficient of every recording whose samples lie within
`MAX_PEAK`, whatever it sounds like; `derive_box` computes the bounds from the filter bank and a test compares. With d
the (128,) decibels of one frame and c_k the k-th row of the DCT:

* coefficient 0 from below: d >= -100 in each of 128 bands and c_0 = 1/sqrt(128), so at least -100 sqrt(128).
* coefficient 0 from above: by Parseval a window's powers at the bins strictly between 0 and the Nyquist frequency
  sum to at most E = 2048 sum(hann^2) peak^2 / 2; the other two bins have mel weight 0. With p_m the largest weight of
  band m and a_m = 1/p_m, sum_m a_m M_m <= E max_k sum_m a_m fb[m, k] =: E g. The floor is at most 80 dB under the
  loudest possible band, so a band's value is at most 10 log10(M_m + e), e = 1e-8 E max p (which exceeds the other
  floor, 1e-10); by the inequality of the means sum_m ln(M_m + e) <= 128 ln((E g + e sum a) / 128) - sum_m ln a_m.
* coefficient k >= 1: c_k sums to 0 and d lies in an interval of 80 dB, so |sum c_k d| <= 80 sum(positive part of c_k).

A mean over frames stays in any interval that holds every frame. A recording that is cut, or padded with silence, is a
recording (and one that is silent after cutting has -100 dB everywhere), so one frame has the same bounds as the mean.
What lies outside the box is no feature vector.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sottovoce.models.speech.audio import MAX_PEAK, SAMPLE_RATE, WINDOW, Samples, check_samples

N_MFCC = 40
FRAMES = 151
CLIP_SAMPLES = 77_175
"""3.5 s at 22,050 Hz: 1 + 77,175 // 512 = 151 frames."""
_N_MELS = 128
_TOP_DB = 80.0
_FLOOR_DB = -100.0

Features = npt.NDArray[np.float64]


def _frozen(first: float, others: float) -> Features:
    box = np.full(N_MFCC, others, dtype=np.float64)
    box[0] = first
    box.setflags(write=False)
    return box


# Written out, rounded outwards to whole numbers, because they are part of the public program, whose hash must not
# depend on a library's last digit.
FEATURE_LOW: Features = _frozen(-1132.0, -419.0)
FEATURE_HIGH: Features = _frozen(302.0, 419.0)


def mfcc40_mean(samples: npt.ArrayLike, sample_rate: int = SAMPLE_RATE, name: str = "array") -> Features:
    """Features of one recording: (40,) float64 within the box.

    samples: as `check_samples` takes them (it also resamples to 22,050 Hz, and raises AudioError).
    """
    import librosa  # here, because importing it takes seconds that users of feature arrays need not wait

    ready = check_samples(samples, sample_rate, name)
    features: Features = librosa.feature.mfcc(y=ready, sr=SAMPLE_RATE, n_mfcc=N_MFCC).mean(axis=1).astype(np.float64)
    return features


def mfcc40_frames(samples: Samples) -> Features:
    """40 MFCCs of each of 151 frames, (40, 151) float64, of the first 3.5 s, padded with zeros at the end.

    samples: mono float32 at 22,050 Hz, as `load_audio` and `check_samples` give them.
    """
    import librosa

    clip = np.zeros(CLIP_SAMPLES, dtype=np.float32)
    clip[: samples.size] = samples[:CLIP_SAMPLES]
    features: Features = librosa.feature.mfcc(y=clip, sr=SAMPLE_RATE, n_mfcc=N_MFCC).astype(np.float64)
    return features


def window_energy() -> float:
    """E: the most that one window's powers at the bins strictly between 0 and the Nyquist frequency can sum to."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return WINDOW * float(np.sum(hann**2)) * MAX_PEAK**2 / 2


def mel_bank() -> Features:
    """librosa's 128 mel filters, (128, 1025)."""
    import librosa

    bank: Features = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=_N_MELS).astype(np.float64)
    return bank


def derive_box() -> tuple[Features, Features]:
    """The bounds that the module's docstring derives, unrounded: low and high, (40,) each."""
    bank, energy = mel_bank(), window_energy()
    peaks = bank.max(axis=1)
    scaled = 1.0 / peaks
    overlap = float((scaled[:, None] * bank).sum(axis=0).max())
    floor = 10 ** (-_TOP_DB / 10) * energy * float(peaks.max())
    log_sum = _N_MELS * np.log((energy * overlap + floor * scaled.sum()) / _N_MELS) - np.log(scaled).sum()
    k = np.arange(N_MFCC)[:, None]
    m = np.arange(_N_MELS)[None, :]
    dct = np.sqrt(2 / _N_MELS) * np.cos(np.pi * k * (2 * m + 1) / (2 * _N_MELS))
    high = _TOP_DB * np.maximum(dct, 0).sum(axis=1)
    low = -high
    low[0] = _FLOOR_DB * np.sqrt(_N_MELS)
    high[0] = 10 / np.log(10) * log_sum / np.sqrt(_N_MELS)
    return low, high
