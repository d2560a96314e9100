"""Pairs of recordings of one sentence by one speaker, aligned in time.

They say how the same person says the same with another emotion, which is what the denoiser learns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d

from modeling.modeling_emotion_shift import active_frames

from .data import Corpora

# Log-mel bands that make one band of the content: wide enough to lose the harmonics.
CONTENT_POOLING = 4
# Spread that a band of the content has at least, in nepers: silence stays silence.
SMALLEST_SPREAD = 0.5
# Frames that are aligned as one: a quarter of the time, and finer than a syllable by far.
FRAMES_OF_A_STEP = 2
# Tempo is the slope of the path, smoothed over so many frames, and at most doubled.
TEMPO_SMOOTHING, LARGEST_LOG_TEMPO = 15.0, 0.7


class Alignment(NamedTuple):
    """Where the target of a pair is when its source is somewhere, on the source's latents.

    Attributes:
        positions: Latent frames of the target, `(length,)`, rising.
        log_tempo: How much faster the target is there, as a natural logarithm, `(length,)`.
    """

    positions: np.ndarray
    log_tempo: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Who may be the target of whom.

    Args:
        alignments: By rows of source and target.
        targets: For each row, those that it is aligned with, by emotion.
    """

    alignments: dict[tuple[int, int], Alignment]
    targets: dict[int, dict[int, list[int]]]

    def draw(
        self, row: int, own_emotion: int, own_probability: float, generator: np.random.Generator
    ) -> int | None:
        """A target for a source: of its own emotion, or of one of the others that there are.

        Args:
            row: The source.
            own_emotion: Its emotion.
            own_probability: How often its own is taken, where that and others are there.
            generator: What it is drawn with.

        Returns:
            A row, or `None` where nothing is aligned with the source.
        """
        by_emotion = self.targets.get(row, {})
        others = sorted(set(by_emotion) - {own_emotion})
        own = own_emotion in by_emotion and (generator.random() < own_probability or not others)
        if not own and not others:
            return None
        emotion = own_emotion if own else others[int(generator.integers(len(others)))]
        rows = by_emotion[emotion]
        return rows[int(generator.integers(len(rows)))]


def align_pairs(
    corpora: Corpora, log_mels: Sequence[np.ndarray], rows: Sequence[int], stride: int
) -> Pairs:
    """Align all recordings of one sentence by one speaker with each other.

    Args:
        corpora: Who says what.
        log_mels: Log-mels `(frames, n_mels)` of all rows, not normalised.
        rows: Which recordings; no others are in a pair.
        stride: Frames of one of the latents.
    """
    alignments: dict[tuple[int, int], Alignment] = {}
    targets: dict[int, dict[int, list[int]]] = {row: {} for row in rows}
    for group in same_words(corpora, rows):
        mels = {row: torch.from_numpy(log_mels[row]) for row in group}
        contents = {row: _steps(mel) for row, mel in mels.items()}
        for one, other in combinations(group, 2):
            path = _path(contents[one], contents[other])
            for source, target, steps in ((one, other, path), (other, one, path[:, ::-1])):
                alignments[source, target] = _alignment(steps, mels[source], stride)
                targets[source].setdefault(int(corpora.targets[target]), []).append(target)
    return Pairs(alignments, targets)


def same_words(corpora: Corpora, rows: Sequence[int]) -> Iterator[list[int]]:
    """Groups of two recordings or more of one sentence by one speaker; those of none are alone."""
    table = corpora.dataset.select_columns(["corpus", "speaker", "sentence"])[:]
    keys = list(zip(table["corpus"], table["speaker"], table["sentence"], strict=True))
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        if keys[row][2] is not None:
            groups.setdefault(keys[row], []).append(row)
    return (group for group in groups.values() if len(group) > 1)


def content_envelope(log_mel: torch.Tensor) -> torch.Tensor:
    """What makes the words: the coarse envelope without level, tilt and pitch.

    Bands are pooled until harmonics are gone; over the recording each then has mean 0 and the same
    spread (cepstral mean and variance normalisation, Viikki & Laurila 1998, on log energies), which
    takes away how loud, how bright and how lively the voice is: those carry arousal.

    Args:
        log_mel: Natural logarithms of mel magnitudes `(frames, n_mels)` of a whole recording.

    Returns:
        `(frames, n_mels / 4)`.
    """
    pooled = F.avg_pool1d(log_mel[None], CONTENT_POOLING)[0]
    centred = pooled - pooled.mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt().clamp(min=SMALLEST_SPREAD)
    return centred / spread


def _steps(log_mel: torch.Tensor) -> np.ndarray:
    """Content on steps of the alignment, `(steps, bands)`."""
    content = content_envelope(log_mel)
    count = min(FRAMES_OF_A_STEP, len(content))
    return F.avg_pool1d(content.T[None], count)[0].T.numpy()


def _path(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Steps of source and target that belong together, `(pairs, 2)`, in rising order."""
    squares = np.square(source).sum(1)[:, None] + np.square(target).sum(1)
    costs = np.sqrt(np.maximum(squares - 2 * source @ target.T, 0))
    _, path = librosa.sequence.dtw(C=costs)
    return path[::-1]


def _alignment(path: np.ndarray, source: torch.Tensor, stride: int) -> Alignment:
    frames, length = len(source), len(source) // stride
    steps, first = np.unique(path[:, 0], return_index=True)
    # Where several steps of the target belong to one of the source, their mean.
    means = np.add.reduceat(path[:, 1], first) / np.diff(np.append(first, len(path)))
    middles = (steps + 0.5) * FRAMES_OF_A_STEP - 0.5
    positions = np.interp(np.arange(frames), middles, (means + 0.5) * FRAMES_OF_A_STEP - 0.5)
    slope = np.gradient(gaussian_filter1d(positions, TEMPO_SMOOTHING, mode="nearest"))
    tempo = -np.log(np.maximum(slope, np.exp(-2 * LARGEST_LOG_TEMPO)))
    tempo = np.clip(tempo, -LARGEST_LOG_TEMPO, LARGEST_LOG_TEMPO)
    spoken = np.flatnonzero(active_frames(source).numpy())
    tempo[: spoken[0]] = tempo[spoken[-1] + 1 :] = 0

    def on_latents(values: np.ndarray) -> np.ndarray:
        return values[: length * stride].reshape(length, stride).mean(axis=1).astype(np.float32)

    centred = (on_latents(positions) - (stride - 1) / 2) / stride
    return Alignment(centred, on_latents(tempo))


def warp(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows `(rows, target length)` on the source's latents, `(rows, length)`, by straight lines."""
    last = rows.shape[1] - 1
    places = np.clip(positions, 0, last)
    left = np.floor(places).astype(int)
    weight = places - left
    return rows[:, left] * (1 - weight) + rows[:, np.minimum(left + 1, last)] * weight
