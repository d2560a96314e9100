"""Mean and deviation of frames over any set of recordings, without reading the frames again."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Statistics: TypeAlias = tuple[np.ndarray, np.ndarray]
# A channel that hardly moves in a few recordings must not be blown up.
SMALLEST_STD = 1e-4


class Moments:
    """Sums over the frames of each recording.

    Args:
        frames: `(frames, channels)` of each recording.
    """

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.counts = np.array([len(recording) for recording in frames], dtype=np.float64)
        self.sums = np.stack([r.sum(axis=0, dtype=np.float64) for r in frames])
        self.squares = np.stack([np.square(r, dtype=np.float64).sum(axis=0) for r in frames])

    def statistics(self, rows: Sequence[int] | np.ndarray) -> Statistics:
        """Mean and deviation `(channels,)`, float32, over all frames of `rows`."""
        rows = np.asarray(rows)
        count = self.counts[rows].sum()
        mean = self.sums[rows].sum(axis=0) / count
        return _from_moments(mean, self.squares[rows].sum(axis=0) / count)


def pooled_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of a mixture to which every part contributes alike, however large it is."""
    means, deviations = (np.stack(values).astype(np.float64) for values in zip(*parts, strict=True))
    return _from_moments(means.mean(axis=0), (deviations**2 + means**2).mean(axis=0))


def _from_moments(mean: np.ndarray, square: np.ndarray) -> Statistics:
    std = np.sqrt(np.maximum(square - mean**2, SMALLEST_STD**2))
    return mean.astype(np.float32), std.astype(np.float32)
