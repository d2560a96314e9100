"""Source-filter synthesis of emotional voices (Fant, 1960).

A glottal pulse train with jitter, shimmer and breath noise drives a cascade of formant resonators
(Klatt, 1980). How emotions change pitch, level, rate and spectral tilt follows the review of
Juslin and Laukka (2003), in size and direction only roughly.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.signal import lfilter, sosfilt

SAMPLING_RATE: Final = 16_000
BLOCK: Final = 160  # Formants change every 10 ms.
MIN_SECONDS, MAX_SECONDS = 0.9, 1.6
NEUTRAL_SECONDS: Final = 1.2
NEUTRAL_DB: Final = -27.0  # RMS level re full scale: peaks of the loudest voice stay below it.
ROOM_DB: Final = -66.0  # RMS level of the room: no recording has empty bands.

# First three formants in Hz of a male vocal tract (Peterson and Barney, 1952).
VOWELS: Final = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
HIGHER_FORMANTS: Final = (3500, 4500)
BANDWIDTHS: Final = (80, 90, 120, 180, 250)
# The consonant of a syllable is a dip of the level: `m` hums on, `t` is silence and a burst.
SENTENCES: Final = {
    "s1": ("ma", "ti", "mo", "ta", "me"),
    "s2": ("tu", "me", "ta", "mi", "to"),
}


@dataclass(frozen=True)
class Style:
    """How an emotion differs from the neutral voice of the same speaker.

    Args:
        pitch: Shift of the mean pitch in semitones.
        range: Size of the pitch movements, as a factor.
        slope: Pitch change from start to end in semitones.
        level: Level in dB.
        rate: Speaking rate, as a factor.
        tilt: Spectral tilt in dB per octave; positive is brighter.
        jitter: Irregularity of the pulses, as a factor.
        breath: Level of the breath noise in dB.
        tremor: Depth of a 6 Hz vibration of the pitch in semitones.
    """

    pitch: float = 0.0
    range: float = 1.0
    slope: float = -2.0
    level: float = 0.0
    rate: float = 1.0
    tilt: float = 0.0
    jitter: float = 1.0
    breath: float = 0.0
    tremor: float = 0.0


STYLES: Final = {
    "neutral": Style(),
    "happiness": Style(4.0, 2.2, 0.0, 4.0, 1.1, 2.0),
    "sadness": Style(-1.0, 0.5, -3.0, -6.0, 0.84, -3.0, breath=4.0),
    "anger": Style(3.0, 1.6, -5.0, 8.0, 1.12, 4.0, jitter=2.0),
    "fear": Style(7.0, 0.8, 2.0, -1.0, 1.2, 1.0, jitter=1.5, breath=10.0, tremor=1.0),
    "disgust": Style(-2.5, 1.2, -4.0, -1.0, 0.9, -1.0, jitter=4.0),
}


@dataclass(frozen=True)
class Voice:
    """A speaker: the neutral voice, and how strongly emotions change it.

    Args:
        speaker: Number of the speaker, from 1.
        seed: Seed that the voice and its variation are drawn with.
        gender: `"male"` or `"female"`.
        pitch: Mean pitch in Hz.
        formants: Factor of all formants, large for a short vocal tract.
        rate: Speaking rate, as a factor.
        tilt: Spectral tilt in dB per octave.
        level: Level in dB.
        breath: Level of the breath noise in dB.
        expression: Factor of all changes that an emotion makes.
    """

    speaker: int
    seed: int
    gender: str
    pitch: float
    formants: float
    rate: float
    tilt: float
    level: float
    breath: float
    expression: float


def make_voice(speaker: int, seed: int) -> Voice:
    """The voice of a speaker: men have odd numbers, women even ones."""
    draw = np.random.default_rng((seed, speaker))
    female = speaker % 2 == 0
    return Voice(
        speaker=speaker,
        seed=seed,
        gender="female" if female else "male",
        pitch=draw.uniform(165, 225) if female else draw.uniform(90, 140),
        formants=draw.uniform(1.1, 1.24) if female else draw.uniform(0.94, 1.08),
        rate=draw.uniform(0.96, 1.04),
        tilt=draw.normal(0, 1.0),
        level=draw.normal(0, 1.5),
        breath=draw.normal(0, 2.0),
        expression=draw.uniform(0.8, 1.15),
    )


def synthesize(voice: Voice, emotion: str, sentence: str, repetition: int) -> np.ndarray:
    """One utterance, deterministic in its arguments.

    Returns:
        Samples in -1 to 1 at 16 kHz, float64, `(samples,)`, 0.9 to 1.6 s long.

    Raises:
        ValueError: An unknown emotion or sentence.
    """
    if emotion not in STYLES:
        raise ValueError(f"Bad emotion '{emotion}', expected one of {list(STYLES)}")
    if sentence not in SENTENCES:
        raise ValueError(f"Bad sentence '{sentence}', expected one of {list(SENTENCES)}")
    words = (list(STYLES).index(emotion), list(SENTENCES).index(sentence), repetition)
    draw = np.random.default_rng((voice.seed, voice.speaker, *words))
    style = STYLES[emotion]
    size = _num_samples(voice, style, draw)
    pitch = _pitch(voice, style, size, draw)
    source = _source(voice, style, pitch, draw) * _envelope(SENTENCES[sentence], size, draw)
    speech = _resonate(source, _formants(SENTENCES[sentence], size, voice))
    level = NEUTRAL_DB + voice.level + _amount(voice, style.level, draw, 1.0)
    room = 10 ** (ROOM_DB / 20) * draw.standard_normal(size)
    return _set_level(speech, level) + room


def _amount(voice: Voice, change: float, draw: np.random.Generator, spread: float) -> float:
    """What an emotion changes in this voice this time: never the same twice."""
    return voice.expression * change + draw.normal(0, spread)


def _num_samples(voice: Voice, style: Style, draw: np.random.Generator) -> int:
    rate = voice.rate * style.rate * np.exp(draw.normal(0, 0.04))
    seconds = np.clip(NEUTRAL_SECONDS / rate, MIN_SECONDS, MAX_SECONDS)
    return int(seconds * SAMPLING_RATE) // BLOCK * BLOCK


def _pitch(voice: Voice, style: Style, size: int, draw: np.random.Generator) -> np.ndarray:
    """Pitch in Hz of each sample: level, slope, an accent per syllable, tremor and jitter."""
    time = np.linspace(0, 1, size)
    liveliness = max(0.2, 1 + _amount(voice, style.range - 1, draw, 0.2))
    accents = liveliness * np.interp(time, np.linspace(0, 1, 11), draw.normal(0, 1.2, 11))
    mean = _amount(voice, style.pitch, draw, 0.6)
    line = _amount(voice, style.slope, draw, 0.8) * (time - 0.5)
    angle = 2 * np.pi * 6 * time * size / SAMPLING_RATE + draw.uniform(0, 2 * np.pi)
    tremor = voice.expression * style.tremor * np.sin(angle)
    # New every 5 ms, about once a period.
    jitter = np.repeat(draw.normal(0, 0.12 * style.jitter, size // 80 + 1), 80)[:size]
    return voice.pitch * 2 ** ((mean + line + accents + tremor + jitter) / 12)


def _source(voice: Voice, style: Style, pitch: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Derivative of the glottal flow (Rosenberg, 1971) plus breath noise, tilted."""
    phase = np.cumsum(pitch) / SAMPLING_RATE
    shimmer = 1 + 0.05 * style.jitter * draw.standard_normal(int(phase[-1]) + 1)
    flow = _rosenberg(phase % 1) * shimmer[phase.astype(int)]
    pulses = np.diff(flow, prepend=0) / 0.05
    noise = 0.05 * draw.standard_normal(len(pitch)) * (0.3 + flow)
    noise *= 10 ** ((voice.breath + _amount(voice, style.breath, draw, 1.0)) / 20)
    return _tilt(pulses + noise, voice.tilt + _amount(voice, style.tilt, draw, 0.5))


def _rosenberg(phase: np.ndarray) -> np.ndarray:
    """Glottal flow, 0 to 1, at a phase of the period, 0 to 1."""
    opening, closing = 0.4, 0.16
    rise = 0.5 * (1 - np.cos(np.pi * phase / opening))
    fall = np.cos(0.5 * np.pi * (phase - opening) / closing)
    flow = np.where(phase < opening, rise, fall)
    return np.where(phase < opening + closing, flow, 0.0)


def _tilt(signal: np.ndarray, tilt: float) -> np.ndarray:
    """Tilt a spectrum by about `tilt` dB per octave between 0.5 and 4 kHz, with one real pole."""
    strength = float(np.clip(tilt / 8, -0.9, 0.9))
    if strength < 0:
        return lfilter([1 + strength], [1, strength], signal)
    return lfilter([1, -strength], [1], signal)


def _envelope(syllables: tuple[str, ...], size: int, draw: np.random.Generator) -> np.ndarray:
    """Amplitude of each sample: consonants dip, a fade in and out."""
    time, gain = [0.0], [0.0]
    for index, syllable in enumerate(syllables):
        start = index / len(syllables)
        dip = 0.3 if syllable[0] == "m" else 0.02
        vowel = draw.uniform(0.8, 1.0)
        time += [start + 0.01, start + 0.05, start + 0.09, start + 0.15]
        gain += [dip, dip, vowel, vowel]
    return np.interp(np.linspace(0, 1, size), [*time, 1.0], [*gain, 0.0])


def _formants(syllables: tuple[str, ...], size: int, voice: Voice) -> np.ndarray:
    """Formant frequencies in Hz of each block, `(blocks, formants)`, gliding between vowels."""
    targets = np.array([(*VOWELS[syllable[1]], *HIGHER_FORMANTS) for syllable in syllables])
    centres = (np.arange(len(syllables)) + 0.6) / len(syllables)
    time = (np.arange(size // BLOCK) + 0.5) / (size // BLOCK)
    formants = np.stack([np.interp(time, centres, track) for track in targets.T], axis=1)
    return voice.formants * formants


def _resonate(source: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Filter block by block through a cascade of resonators, whose state is carried on."""
    sections = _resonators(formants)
    state = np.zeros((sections.shape[1], 2))
    blocks = []
    for block, section in zip(source.reshape(-1, BLOCK), sections, strict=True):
        filtered, state = sosfilt(section, block, zi=state)
        blocks.append(filtered)
    return np.concatenate(blocks)


def _resonators(formants: np.ndarray) -> np.ndarray:
    """Second-order sections of unit gain at 0 Hz, `(blocks, formants, 6)` (Klatt, 1980)."""
    radius = np.exp(-np.pi * np.array(BANDWIDTHS) / SAMPLING_RATE)
    # A short vocal tract can lift the highest formant to where it would alias.
    angle = 2 * np.pi * np.minimum(formants, 0.45 * SAMPLING_RATE) / SAMPLING_RATE
    a1, a2 = -2 * radius * np.cos(angle), np.broadcast_to(radius**2, formants.shape)
    ones, zeros = np.ones_like(formants), np.zeros_like(formants)
    return np.stack([1 + a1 + a2, zeros, zeros, ones, a1, a2], axis=-1)


def _set_level(signal: np.ndarray, level: float) -> np.ndarray:
    """Scale to an RMS level in dB re full scale, as far as the peaks allow."""
    signal = signal * 10 ** (level / 20) / np.sqrt(np.mean(signal**2))
    return signal / max(1.0, np.abs(signal).max() / 0.99)
