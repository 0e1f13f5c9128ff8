"""162 spectral features of a recording, each averaged over time, and the box that provably holds them.

In this order, all of librosa with its defaults at 22,050 Hz (windows of 2,048 samples every 512):

| columns | feature | box |
|---|---|---|
| 0 | zero-crossing rate | 0 … 1 |
| 1 to 12 | chroma of the power spectrogram | 0 … 1 |
| 13 to 32 | MFCC 0 to 19 | as in `models.speech.mfcc` |
| 33 | root mean square | 0 … MAX_PEAK |
| 34 to 161 | power in each of 128 mel bands | 0 … MEL_HIGH |

**The box** holds every recording whose samples lie within `MAX_PEAK`, whatever it sounds like:

* zero-crossing rate: a frame's crossings divided by its samples.
* chroma: librosa divides each frame by its largest value, and leaves a frame of zeros as it is. The values are sums of
  non-negative numbers, so a frame lies in 0 … 1.
* root mean square: a mean of squares of numbers within the peak. Rounding is monotone and MAX_PEAK^2 = 4 sums without
  rounding, so float32 does not leave the interval either.
* mel band m: with E and the filters fb of `models.speech.mfcc`, a frame's power M_m = sum_k fb[m, k] |X_k|^2 is at most
  E max_k fb[m, k], as E bounds the sum of the powers and the two bins outside the sum have weight 0.

A mean over frames stays in any interval that holds every frame; it is taken in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.models.speech.audio import MAX_PEAK, SAMPLE_RATE, WINDOW, Samples
from sottovoce.models.speech.mfcc import FEATURE_HIGH, FEATURE_LOW, Features, mel_bank, window_energy

N_SPECTRAL = 162
N_CHROMA = 12
N_MFCC_SPECTRAL = 20
_HOP = 512
_FLOAT32_SLACK = 2.0**-10
"""Far more than the relative rounding error of a 2,048-point transform and a sum of 1,025 terms in float32."""

# E max_k fb[m, k] and the slack, rounded up to whole numbers: part of the public program, as in models.speech.mfcc.
MEL_HIGH: tuple[float, ...] = (
    101914.0, 111448.0, 112543.0, 100819.0, 120983.0, 103008.0, 110354.0, 113637.0, 99724.0, 119888.0, 104103.0,
    109259.0, 114732.0, 98630.0, 118794.0, 105197.0, 108164.0, 115827.0, 97535.0, 117699.0, 106292.0, 107070.0,
    116921.0, 96757.0, 116604.0, 107387.0, 105975.0, 118016.0, 97852.0, 115510.0, 108481.0, 104881.0, 119110.0, 98947.0,
    114415.0, 109576.0, 103786.0, 119729.0, 96385.0, 113251.0, 92977.0, 99840.0, 103616.0, 93865.0, 87480.0, 84067.0,
    83269.0, 84758.0, 88237.0, 82006.0, 75434.0, 81836.0, 72606.0, 73005.0, 76267.0, 72664.0, 70089.0, 69448.0, 67669.0,
    61402.0, 62326.0, 59540.0, 61438.0, 57002.0, 54408.0, 53435.0, 53883.0, 53181.0, 48861.0, 50080.0, 49439.0, 47364.0,
    46621.0, 45672.0, 41726.0, 43641.0, 41506.0, 39995.0, 39594.0, 38873.0, 36582.0, 35933.0, 35458.0, 34028.0, 33328.0,
    32721.0, 32653.0, 31687.0, 29939.0, 29909.0, 28494.0, 27899.0, 27918.0, 26273.0, 25324.0, 25081.0, 24834.0, 24342.0,
    23788.0, 22365.0, 22219.0, 21466.0, 21111.0, 20305.0, 20060.0, 19270.0, 18814.0, 18452.0, 17739.0, 17517.0, 16922.0,
    16388.0, 16380.0, 15919.0, 15263.0, 14888.0, 14645.0, 14221.0, 13896.0, 13633.0, 13113.0, 12917.0, 12563.0, 12016.0,
    11769.0, 11413.0, 11300.0, 10975.0,
)  # fmt: skip


def _box(chroma: float, mfcc: Features, rms: float, mel: tuple[float, ...]) -> Features:
    box = np.concatenate([[chroma], np.full(N_CHROMA, chroma), mfcc[:N_MFCC_SPECTRAL], [rms], mel])
    box.setflags(write=False)
    return box


SPECTRAL_LOW: Features = _box(0.0, FEATURE_LOW, 0.0, (0.0,) * len(MEL_HIGH))
SPECTRAL_HIGH: Features = _box(1.0, FEATURE_HIGH, MAX_PEAK, MEL_HIGH)


def spectral162_mean(samples: Samples) -> Features:
    """Features of one recording: (162,) float64 within the box.

    samples: mono float32 at 22,050 Hz, as `load_audio` and `check_samples` give them.
    """
    import librosa  # here, because importing it takes seconds that users of feature arrays need not wait

    power = np.abs(librosa.stft(samples, n_fft=WINDOW, hop_length=_HOP)) ** 2  # (1025, frames)
    mel = librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE)
    frames = (
        librosa.feature.zero_crossing_rate(samples, frame_length=WINDOW, hop_length=_HOP),
        librosa.feature.chroma_stft(S=power, sr=SAMPLE_RATE, n_chroma=N_CHROMA, tuning=_tuning(power)),
        librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=N_MFCC_SPECTRAL),
        librosa.feature.rms(y=samples, frame_length=WINDOW, hop_length=_HOP),
        mel,
    )
    return np.concatenate([rows.mean(axis=1, dtype=np.float64) for rows in frames])


def derive_mel_high() -> Features:
    """The bounds of the mel bands that the module's docstring derives, unrounded: (128,)."""
    high: Features = window_energy() * mel_bank().max(axis=1) * (1 + _FLOAT32_SLACK)
    return high


def _tuning(power: npt.NDArray[Any]) -> float:
    """`librosa.estimate_tuning`, as chroma_stft calls it, without its warning for a recording without any pitch."""
    import librosa

    pitch, magnitude = librosa.piptrack(S=power, sr=SAMPLE_RATE, n_fft=WINDOW)
    pitched = pitch > 0
    if not pitched.any():
        return 0.0
    loud = pitched & (magnitude >= np.median(magnitude[pitched]))
    tuning: float = librosa.pitch_tuning(pitch[loud], bins_per_octave=N_CHROMA)
    return tuning
