"""Pitch, energy and tempo of a voice, on the frames of the mel front end.

F0 is that of pYIN (Mauch & Dixon 2014) by librosa, which every installation has: WORLD's, by
pyworld, takes a quarter of the time, but comes without wheels, so that a stranger would need a
compiler for it. pYIN follows F0 through time, which is what guards against errors of an octave. A
frame is voiced if it is loud and repeats itself after its period, by the thresholds of Praat
(Boersma 1993).
"""

from dataclasses import dataclass

import librosa
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

LOWEST_SAMPLING_RATE = 8_000
# Hz, a range that holds shouting and sobbing of men and women.
F0_RANGE = (60.0, 600.0)
# Log F0 where nothing is voiced.
NO_F0 = float(np.log(150.0))
# Samples of a frame: 2.8 periods of the lowest F0 at 22 kHz.
F0_FRAME_SECONDS = 0.046
# Of F0, in semitones: finer takes longer, and interpolates no better.
F0_RESOLUTION = 0.2
# Of the Beta distribution of YIN's thresholds: that of librosa, (2, 18), hears next to no voice in
# what is as noisy as a quiet recording of RAVDESS.
THRESHOLDS = (2.0, 8.0)
# Praat's: correlation with itself a period later, and RMS relative to the loudest frame.
VOICING_THRESHOLD = 0.45
SILENCE_THRESHOLD = 0.03
# What is analysed at once, and how far beyond it is looked at: pYIN's memory grows with the length.
CHUNK_SECONDS, MARGIN_SECONDS = 20.0, 0.5
# Log of RMS that counts as silence, -100 dB.
SILENCE = float(np.log(1e-5))
# A nucleus of a syllable stands out by so many nepers (2 dB), and lasts.
NUCLEUS_DIP = 0.23
NUCLEUS_SMOOTHING_SECONDS = 0.03
TEMPO_WINDOW_SECONDS = 1.0


@dataclass(frozen=True)
class Prosody:
    """How something is said, frame by frame; every field is `(frames,)`.

    Args:
        log_f0: Natural logarithm of F0 in Hz, float32; interpolated where nothing is voiced.
        voiced: Whether a voice sounds.
        voicing: How well the sound repeats itself after its period, 0 to 1.
        energy: Natural logarithm of the RMS of full scale 1, at least that of -100 dB.
        tempo: Syllables a second nearby.
    """

    log_f0: np.ndarray
    voiced: np.ndarray
    voicing: np.ndarray
    energy: np.ndarray
    tempo: np.ndarray

    @property
    def f0(self) -> np.ndarray:
        """F0 in Hz, `(frames,)`, NaN where nothing is voiced."""
        return np.where(self.voiced, np.exp(self.log_f0), np.nan)


def extract_prosody(waveform: np.ndarray, sampling_rate: int, hop_length: int = 256) -> Prosody:
    """Prosody of a recording of any length.

    Args:
        waveform: Mono `(samples,)`, floating point, full scale 1.
        sampling_rate: In Hz, 8000 or more.
        hop_length: Samples between frames; the first is centred on the first sample.

    Returns:
        `samples // hop_length + 1` frames.

    Raises:
        ValueError: No samples, another shape or type, NaN, or a lower sampling rate.
    """
    waveform = checked_waveform(waveform)
    # A constant offset would repeat itself after any period.
    waveform = waveform - waveform.mean()
    if sampling_rate < LOWEST_SAMPLING_RATE:
        raise ValueError(
            f"Bad sampling_rate {sampling_rate}, expected {LOWEST_SAMPLING_RATE} Hz or more"
        )
    frames = len(waveform) // hop_length + 1
    f0 = _f0(waveform, sampling_rate, hop_length, frames)
    voicing = _voicing(waveform, sampling_rate / f0, hop_length, _frame(sampling_rate))
    energy = _energy(waveform, hop_length, frames)
    loud = energy > max(SILENCE, energy.max() + np.log(SILENCE_THRESHOLD))
    voiced = loud & (voicing > VOICING_THRESHOLD)
    return Prosody(
        log_f0=_through_gaps(np.log(f0), voiced).astype(np.float32),
        voiced=voiced,
        voicing=voicing.astype(np.float32),
        energy=energy.astype(np.float32),
        tempo=_tempo(energy, voiced, sampling_rate / hop_length).astype(np.float32),
    )


def checked_waveform(waveform: np.ndarray) -> np.ndarray:
    """A waveform as float64.

    Raises:
        ValueError: No samples, another shape or type, or NaN.
    """
    waveform = np.asarray(waveform)
    if waveform.dtype.kind != "f" or waveform.ndim != 1 or len(waveform) == 0:
        raise ValueError(
            f"Bad waveform of shape {waveform.shape} and type {waveform.dtype}, expected "
            "(samples,) of floating point, at least one"
        )
    if not np.isfinite(waveform).all():
        raise ValueError("Bad waveform with NaN or infinity, expected finite samples")
    return waveform.astype(np.float64)


def _frame(rate: int) -> int:
    """Samples of a frame of F0, an even number."""
    return 2 * (round(F0_FRAME_SECONDS * rate) // 2)


def _f0(waveform: np.ndarray, rate: int, hop: int, frames: int) -> np.ndarray:
    """F0 in Hz, `(frames,)`, also where nothing is voiced: what it would be."""
    f0 = np.full(frames, np.exp(NO_F0))
    chunk, margin = (round(seconds * rate / hop) for seconds in (CHUNK_SECONDS, MARGIN_SECONDS))
    for first in range(0, frames, chunk):
        start = max(0, first - margin)
        part = waveform[start * hop : (first + chunk + margin) * hop]
        peak = np.abs(part).max(initial=0)
        if peak == 0:
            continue
        found = librosa.pyin(
            part / peak,  # librosa takes what is quiet for silence
            fmin=F0_RANGE[0],
            fmax=F0_RANGE[1],
            sr=rate,
            frame_length=_frame(rate),
            hop_length=hop,
            resolution=F0_RESOLUTION,
            beta_parameters=THRESHOLDS,
            fill_na=None,
        )[0]
        own = found[first - start :][: min(chunk, frames - first)]
        f0[first : first + len(own)] = own
    return f0


def _voicing(waveform: np.ndarray, periods: np.ndarray, hop: int, length: int) -> np.ndarray:
    """Correlation `(frames,)`, 0 to 1, of a frame's first half with as much a period later."""
    padded = np.pad(waveform, length // 2)
    frames = librosa.util.frame(padded, frame_length=length, hop_length=hop, axis=0)
    half = length // 2
    lags = np.rint(periods[: len(frames)]).astype(int)
    first = frames[:, :half]
    later = np.take_along_axis(frames, lags[:, None] + np.arange(half), axis=1)
    energy = np.sqrt(np.square(first).sum(axis=1) * np.square(later).sum(axis=1))
    likeness = (first * later).sum(axis=1) / np.maximum(energy, np.finfo(np.float32).tiny)
    missing = len(periods) - len(frames)
    return np.pad(np.clip(likeness, 0, 1), (0, missing))


def _energy(waveform: np.ndarray, hop: int, frames: int) -> np.ndarray:
    """Natural logarithm of the RMS of frames of four hops."""
    padded = np.pad(waveform, 2 * hop)
    rms = librosa.feature.rms(y=padded, frame_length=4 * hop, hop_length=hop, center=False)[0]
    return np.log(np.maximum(rms[:frames], np.exp(SILENCE)))


def _through_gaps(log_f0: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Straight lines from voice to voice, the ends held."""
    if not voiced.any():
        return np.full(len(log_f0), NO_F0)
    frames = np.arange(len(log_f0))
    return np.interp(frames, frames[voiced], log_f0[voiced])


def _tempo(energy: np.ndarray, voiced: np.ndarray, frame_rate: float) -> np.ndarray:
    """Syllables a second: voiced peaks of the energy (de Jong & Wempe 2009), in a moving window."""
    smooth = gaussian_filter1d(energy, NUCLEUS_SMOOTHING_SECONDS * frame_rate)
    # What begins or ends loud is a peak as well.
    around = np.pad(smooth, 1, constant_values=SILENCE)
    nuclei = find_peaks(around, prominence=NUCLEUS_DIP)[0] - 1
    counts = np.zeros(len(energy))
    counts[nuclei[voiced[nuclei]]] = 1
    window = np.hanning(2 * round(TEMPO_WINDOW_SECONDS * frame_rate) + 1)
    # Less of the window lies within a recording at its ends.
    inside = np.convolve(np.ones(len(energy)), window, mode="full")
    total = np.convolve(counts, window, mode="full")
    centre = slice(len(window) // 2, len(window) // 2 + len(energy))
    return frame_rate * total[centre] / inside[centre]
