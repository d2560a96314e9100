"""What an enhancer left as it was: spectrum, melody, level and length of a recording.

Each measure compares an original with its enhanced version, sample by sample in time. A waveform is
`(samples,)` of floating point, mono, full scale at -1 and 1.

    preservation_metrics(originals, enhanced, sampling_rate=22_025)

F0 and voicing are those of `modeling.prosody`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modeling import EmotionFeatureExtractor, extract_prosody
from modeling.prosody import LOWEST_SAMPLING_RATE

DB_PER_NEPER = 20 / np.log(10)
# RMS of full scale = 1 that counts as silence, -100 dB: below the last bit of 16.
SILENCE = 1e-5

F0_FRAMES_PER_SECOND = 100
# Two points always lie on a line.
FEWEST_VOICED_FRAMES = 3


class F0Agreement(NamedTuple):
    """How alike two melodies are.

    Attributes:
        correlation: Pearson correlation of log F0 over the frames voiced in both, -1 to 1. NaN
            where it does not exist: fewer than three such frames, or F0 that never moves.
        shift_semitones: Median interval from the first to the second over the same frames, 12 for
            an octave up. NaN where no frame is voiced in both.
        voicing_agreement: Share of frames that are voiced in both or in neither, 0 to 1.
    """

    correlation: float
    shift_semitones: float
    voicing_agreement: float


def preservation_metrics(
    originals: Sequence[np.ndarray], enhanced: Sequence[np.ndarray], sampling_rate: int
) -> dict[str, float]:
    """Average all measures over recordings; the result is the "metrics" of a results record.

    Waveforms of different length are compared over the time that both have.

    Args:
        originals: Recordings, `(samples,)` each.
        enhanced: Their enhanced versions, in the same order.
        sampling_rate: Rate in Hz of all of them.

    Returns:
        "mel_distance_db", "f0_correlation", "f0_shift_semitones" and "level_difference_db" (both as
        distances, whatever their direction), "voicing_agreement" (0 to 1) and "length_difference"
        (0.1: a tenth longer or shorter). A recording without voiced frames counts in no mean of F0;
        where none has any, the mean is left out.

    Raises:
        ValueError: No recordings, unequal numbers of them, one that is empty, not mono, not
            floating point or not finite, or a sampling rate below 8 kHz.
    """
    if len(originals) != len(enhanced) or len(originals) == 0:
        raise ValueError(
            f"Bad number of recordings, {len(originals)} originals and {len(enhanced)} enhanced, "
            "expected as many of both, at least one"
        )
    extractor = EmotionFeatureExtractor()
    pairs = zip(originals, enhanced, strict=True)
    rows = [_compare(a, b, sampling_rate, extractor) for a, b in pairs]
    means = {name: _mean_of_known(row[name] for row in rows) for name in rows[0]}
    return {name: mean for name, mean in means.items() if not np.isnan(mean)}


def _compare(
    original: np.ndarray,
    enhanced: np.ndarray,
    sampling_rate: int,
    extractor: EmotionFeatureExtractor,
) -> dict[str, float]:
    """The measures of one recording; NaN where one does not exist."""
    original, enhanced = _as_wave(original), _as_wave(enhanced)
    length_difference = abs(len(enhanced) - len(original)) / len(original)
    common = min(len(original), len(enhanced))
    waves = original[:common], enhanced[:common]
    features = extractor(list(waves), sampling_rate=sampling_rate, padding=False, truncation=False)
    f0 = f0_correlation(*waves, sampling_rate)
    return {
        "mel_distance_db": mel_distance_db(*features["input_features"]),
        "f0_correlation": f0.correlation,
        "f0_shift_semitones": abs(f0.shift_semitones),
        "voicing_agreement": f0.voicing_agreement,
        "level_difference_db": abs(level_difference_db(*waves)),
        "length_difference": length_difference,
    }


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


# --- Measures ------------------------------------------------------------------------------------


def mel_distance_db(log_mel_a: np.ndarray, log_mel_b: np.ndarray) -> float:
    """Mean absolute difference of two spectrograms in dB, over all frames and bands.

    Args:
        log_mel_a: Natural logarithm of mel magnitudes `(frames, bands)`, real frames only.
        log_mel_b: The same of the other recording.

    Raises:
        ValueError: The shapes differ, or there are no frames.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (log_mel_a, log_mel_b))
    if a.shape != b.shape or a.ndim != 2 or a.size == 0:
        raise ValueError(
            f"Bad shapes {a.shape} and {b.shape}, expected (frames, bands), the same of both"
        )
    return float(DB_PER_NEPER * np.abs(a - b).mean())


def f0_correlation(wave_a: np.ndarray, wave_b: np.ndarray, sampling_rate: int) -> F0Agreement:
    """Compare the melodies of two recordings, 100 times a second.

    Two silent recordings agree: no frame is voiced in either. Gain changes nothing.

    Args:
        wave_a: `(samples,)`.
        wave_b: `(samples,)`, as long.
        sampling_rate: Rate in Hz of both.

    Raises:
        ValueError: Lengths differ, a waveform is none, or the sampling rate is below 8 kHz.
    """
    wave_a, wave_b = _as_waves(wave_a, wave_b)
    if sampling_rate < LOWEST_SAMPLING_RATE:
        raise ValueError(
            f"Bad sampling_rate {sampling_rate}, expected {LOWEST_SAMPLING_RATE} Hz or more"
        )
    hop_length = sampling_rate // F0_FRAMES_PER_SECOND
    a, b = (extract_prosody(wave, sampling_rate, hop_length) for wave in (wave_a, wave_b))
    both = a.voiced & b.voiced
    semitones_a, semitones_b = (12 / np.log(2) * p.log_f0[both] for p in (a, b))
    return F0Agreement(
        correlation=_correlation(semitones_a, semitones_b),
        shift_semitones=float(np.median(semitones_b - semitones_a)) if both.any() else np.nan,
        voicing_agreement=float(np.mean(a.voiced == b.voiced)),
    )


def level_difference_db(wave_a: np.ndarray, wave_b: np.ndarray) -> float:
    """Level (RMS) of the second recording above the first, in dB.

    Silence counts as -100 dB of full scale: two silent recordings are equally loud.

    Args:
        wave_a: `(samples,)`.
        wave_b: `(samples,)`, as long.

    Raises:
        ValueError: Lengths differ, or a waveform is none.
    """
    level_a, level_b = (max(_rms(wave), SILENCE) for wave in _as_waves(wave_a, wave_b))
    return float(20 * np.log10(level_b / level_a))


# --- Waveforms -----------------------------------------------------------------------------------


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < FEWEST_VOICED_FRAMES or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))


def _as_waves(wave_a: np.ndarray, wave_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wave_a, wave_b = _as_wave(wave_a), _as_wave(wave_b)
    if len(wave_a) != len(wave_b):
        raise ValueError(f"Bad lengths {len(wave_a)} and {len(wave_b)}, expected the same of both")
    return wave_a, wave_b


def _as_wave(wave: np.ndarray) -> NDArray[np.float64]:
    wave = np.asarray(wave)
    if wave.dtype.kind != "f":
        # PCM beside floating point would be 90 dB apart.
        raise ValueError(f"Bad type {wave.dtype} of a waveform, expected floating point")
    if wave.ndim != 1 or wave.size == 0:
        raise ValueError(f"Bad shape {wave.shape} of a waveform, expected (samples,), at least one")
    if not np.isfinite(wave).all():
        raise ValueError("Bad waveform with NaN or infinity, expected finite samples")
    return wave.astype(np.float64)
