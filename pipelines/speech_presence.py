"""Whether there is speech in a recording, from the sound alone.

Nothing is learned and nothing downloaded. Three things that speech has at once, and silence, tones,
hum, noise and clicks do not: voiced sound, whose spectrum changes as the mouth moves, and whose
level rises and falls with the syllables. Voicing is measured as in Boersma, "Accurate short-term
analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound" (1993);
the change of level with the syllables goes back to Scheirer & Slaney, "Construction and evaluation
of a robust multifeature speech/music discriminator" (1997).

This file is copied to the Hub beside the pipeline, hence it imports nothing of this project.
"""

import math
from typing import Any

import numpy as np
import soxr

# A score below says that nobody speaks.
LEAST_SPEECH = 0.5
# Telephone speech has nothing above, and less is computed.
SAMPLING_RATE = 8_000
# The transform has room for the longest period without wrapping round.
WINDOW, HOP, N_FFT = 320, 80, 512
LONGEST_SECONDS = 10.0
PITCH = (60.0, 500.0)
BAND_EDGES = np.geomspace(150.0, 3_600.0, 21)
# Frames that count are at most so far below the loudest, and above what 24 bits can hold.
RANGE_DB, FLOOR_DB = 25.0, -115.0
VOICED, LARGEST_DIP = 0.5, 0.3
# Frames over which band energies are averaged, so that noise alone changes little.
SMOOTHING = 5
# What each measure is in the middle between speech and other sound, and the steepness there.
# Chosen between the recordings of acted speech (also quiet, noisy and through a telephone) with the
# least of it, and the synthetic sounds with the most of it.
VOICED_SECONDS = (0.1, 40.0)
SPECTRAL_CHANGE_DB = (2.4, 6.0)
LEVEL_CHANGE_DB = (1.8, 3.0)


def speech_score(wave: np.ndarray, sampling_rate: int) -> float:
    """How sure it is that there is speech in a recording.

    Args:
        wave: Samples `(samples,)`, floats in -1 to 1.
        sampling_rate: Their rate in Hz.

    Returns:
        0 to 1: near 1 for speech, also quiet, noisy (10 dB) or band-limited; below 0.5 for silence,
        steady tones and buzzes, hum, noise and clicks. It is the weakest of three evidences
        (seconds that are voiced, change of their spectrum, change of level), of the stretch of 10
        to 20 s where that is strongest.

    Raises:
        ValueError: Samples of another shape, none, or some that are not finite.
    """
    samples = np.asarray(wave, dtype=np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"Bad wave of shape {samples.shape}, expected finite samples (samples,)")
    if sampling_rate != SAMPLING_RATE:
        samples = soxr.resample(samples, sampling_rate, SAMPLING_RATE, quality="MQ")
    parts = max(1, int(len(samples) / SAMPLING_RATE / LONGEST_SECONDS))
    return max(_score(part) for part in np.array_split(samples, parts))


def _score(samples: np.ndarray) -> float:
    power = _power(samples)
    level = 10 * np.log10(power.sum(axis=1) + 1e-14)
    active = (level > np.percentile(level, 98) - RANGE_DB) & (level > FLOOR_DB)
    voiced = active & _is_voiced(power)
    if not voiced.any():
        return 0.0
    evidences = (
        _sigmoid(voiced.sum() * HOP / SAMPLING_RATE, *VOICED_SECONDS),
        _sigmoid(_spectral_change(power, voiced), *SPECTRAL_CHANGE_DB),
        _sigmoid(level[active].std(), *LEVEL_CHANGE_DB),
    )
    return min(evidences)


def _power(samples: np.ndarray) -> np.ndarray:
    """Mean squares `(frames, bins)` of windows of 40 ms, from 60 Hz to the top of a telephone."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window = np.hanning(WINDOW).astype(np.float32)
    centred = frames - frames.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred * window, N_FFT)) ** 2
    frequencies = _frequencies()
    inside = (frequencies >= PITCH[0]) & (frequencies <= BAND_EDGES[-1])
    return power * inside * (2 / N_FFT / np.square(window).sum())


def _frequencies() -> np.ndarray:
    return np.fft.rfftfreq(N_FFT, 1 / SAMPLING_RATE)


def _is_voiced(power: np.ndarray) -> np.ndarray:
    """Whether each frame repeats itself at a rate that voices have, `(frames,)`.

    The autocorrelation is divided by that of the window, peaks at the period, and falls before.
    Sound without harmonics, be it a rumble, falls slowly and only once.
    """
    longest, shortest = (round(SAMPLING_RATE / pitch) for pitch in PITCH)
    window = np.abs(np.fft.rfft(np.hanning(WINDOW), N_FFT)) ** 2
    expected = np.fft.irfft(window).astype(np.float32)[: longest + 1]
    correlation = np.fft.irfft(power)[:, : longest + 1]
    correlation = correlation / (correlation[:, :1] + 1e-20) / (expected / expected[0])
    at, before, after = (correlation[:, shortest + i : longest + i] for i in (0, -1, 1))
    peaks = np.where((at >= before) & (at >= after), at, -1.0)
    highest = peaks.max(axis=1)
    # The first of the peaks that are about equally high: the others are multiples of the period.
    period = shortest + (peaks >= 0.9 * highest[:, None]).argmax(axis=1)
    lowest = np.minimum.accumulate(correlation, axis=1)[np.arange(len(period)), period]
    return (highest > VOICED) & (lowest < LARGEST_DIP)


def _spectral_change(power: np.ndarray, voiced: np.ndarray) -> float:
    """By how many dB bands of voiced frames differ from their usual share of the level."""
    cuts = np.searchsorted(_frequencies(), BAND_EDGES)
    bands = np.add.reduceat(power[:, : cuts[-1]], cuts[:-1], axis=1) / np.diff(cuts)
    sums = np.cumsum(np.pad(bands, ((SMOOTHING // 2 + 1, SMOOTHING // 2), (0, 0))), axis=0)
    smooth = (sums[SMOOTHING:] - sums[:-SMOOTHING])[voiced]
    log_bands = 10 * np.log10(np.maximum(smooth, 0) + 1e-14)
    # What lies far below the strongest band is noise, whose shape says nothing.
    log_bands = np.maximum(log_bands, log_bands.max(axis=1, keepdims=True) - RANGE_DB)
    shape = log_bands - log_bands.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.square(shape - np.median(shape, axis=0)).mean()))


def _sigmoid(value: Any, middle: float, steepness: float) -> float:
    return 1 / (1 + math.exp(-min(max(steepness * (float(value) - middle), -50.0), 50.0)))
