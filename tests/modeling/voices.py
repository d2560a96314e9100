"""Synthetic voices of known pitch: harmonics through three formants."""

import numpy as np
from scipy.signal import lfilter

RATE = 22_025
FORMANTS = ((500, 80), (1500, 120), (2500, 160))


def voice(f0, seconds=1.0):
    """A vowel `(samples,)` of a pitch in Hz, or of one a sample, with a little jitter."""
    f0 = np.broadcast_to(f0, round(seconds * RATE)) if np.ndim(f0) == 0 else np.asarray(f0)
    drift = np.cumsum(np.random.default_rng(0).normal(size=len(f0))) / np.sqrt(len(f0))
    phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.003 * drift)) / RATE
    harmonics = int(9000 / f0.max())
    sound = sum(np.cos(k * phase) for k in range(1, harmonics + 1))
    for frequency, width in FORMANTS:
        radius = np.exp(-np.pi * width / RATE)
        angle = 2 * np.pi * frequency / RATE
        sound = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], sound)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def noise(seconds, level):
    return np.random.default_rng(1).normal(0, level, round(seconds * RATE)).astype(np.float32)


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)
