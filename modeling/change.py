"""How a recording is to be changed: its spectrum, its pitch and its tempo."""

from typing import NamedTuple

import numpy as np
import torch

from .psola import FACTOR_RANGE


class Change(NamedTuple):
    """What is done to a recording, on its own frames.

    Attributes:
        log_mel: Added to natural logarithms of its mel magnitudes, `(frames, n_mels)`.
        pitch_factor: What F0 is multiplied with, `(frames,)`, 0.5 to 2.
        tempo_factor: How much faster it gets, `(frames,)`, 0.5 to 2.
    """

    log_mel: torch.Tensor
    pitch_factor: np.ndarray
    tempo_factor: np.ndarray

    def times(self, weight: float, of_spectrum: float | None = None) -> "Change":
        """So much of it, in logarithms: 0 is nothing, 1 all of it; of the spectrum as much, where
        it is not said how much of that."""
        return Change(
            self.log_mel * (weight if of_spectrum is None else of_spectrum),
            _limited(self.pitch_factor**weight),
            _limited(self.tempo_factor**weight),
        )

    def then(self, other: "Change") -> "Change":
        """This one, and another one on top of it."""
        return Change(
            self.log_mel + other.log_mel,
            _limited(self.pitch_factor * other.pitch_factor),
            _limited(self.tempo_factor * other.tempo_factor),
        )


def _limited(factor: np.ndarray) -> np.ndarray:
    return np.clip(factor, *FACTOR_RANGE)
