"""What recordings go through before a classifier is tested on them, always in the same way.

Every system hears the same changed recordings: what is random is drawn from a seed made of the
recording's corpus and name (`recording_seed`).
"""

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np

from evaluation.conditions import AS_RECORDED
from training.degradation import add_noise, add_reverb, change_level, compress_mp3, limit_band

TELEPHONE_BAND: Final = (300, 3_400)
REVERBERATION_SECONDS: Final = 0.5


def _as_recorded(wave: np.ndarray, rate: int, seed: int) -> np.ndarray:
    return wave


def _level(decibels: float) -> Callable[[np.ndarray, int, int], np.ndarray]:
    return lambda wave, rate, seed: change_level(wave, decibels)


def _noise(wave: np.ndarray, rate: int, seed: int) -> np.ndarray:
    return add_noise(wave, 10, np.random.default_rng(seed))


def _telephone(wave: np.ndarray, rate: int, seed: int) -> np.ndarray:
    return limit_band(wave, rate, *TELEPHONE_BAND)


def _mp3(wave: np.ndarray, rate: int, seed: int) -> np.ndarray:
    return compress_mp3(wave, rate, 32)


def _reverb(wave: np.ndarray, rate: int, seed: int) -> np.ndarray:
    return add_reverb(wave, rate, REVERBERATION_SECONDS, np.random.default_rng(seed))


# A mono wave `(samples,)`, its rate in Hz and the seed of the recording give a wave of that length.
SOUND_CONDITIONS: Final[dict[str, Callable[[np.ndarray, int, int], np.ndarray]]] = {
    AS_RECORDED: _as_recorded,
    "level_minus_20": _level(-20),
    "level_plus_20": _level(20),
    "noise_10db": _noise,
    "telephone": _telephone,
    "mp3_32k": _mp3,
    "reverb": _reverb,
}


def recording_seed(corpus: str, file: str, seed: int = 0) -> int:
    """Seed of what is random about one recording, whatever it is tested with."""
    return int.from_bytes(hashlib.sha256(f"{seed} {corpus} {file}".encode()).digest()[:8], "big")
