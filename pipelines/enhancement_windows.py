"""Long recordings in windows that overlap: what is denoised at once, and how it is joined again.

This file is copied to the Hub beside the pipeline, hence it imports nothing of this project.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

WINDOW_SECONDS = 10.0
OVERLAP_SECONDS = 1.0
# What is denoised at once: so that a long recording with several noises still fits in memory.
BATCH_SECONDS = 160.0


@dataclass(frozen=True)
class Aim:
    """What a recording is denoised towards, as the denoiser's indices.

    Args:
        target: Emotion to aim at.
        carried: Emotion that the recording carries.
        corpus: Whose manner of speaking.
        style: Tokens `(tokens, size)`.
    """

    target: int
    carried: int
    corpus: int
    style: torch.Tensor


@dataclass(frozen=True)
class Window:
    """A stretch of one recording, or all of it, with everything that it is denoised from.

    Args:
        clip: Index of the recording.
        start: First frame of the stretch.
        features: Z-scored log-mels `(frames, n_mels)`, frames padded to a multiple of the stride.
        melody: Log F0 less the mean of the recording, `(frames,)`.
        aim: Where to.
        noise: `(rows, latent frames)`.
        frames: Frames without padding.
        seed: Of the noise that some schedulers add in their steps.
    """

    clip: int
    start: int
    features: torch.Tensor
    melody: torch.Tensor
    aim: Aim
    noise: torch.Tensor
    frames: int
    seed: int


def pad_frames(values: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last frame of `(frames, ...)` up to a multiple of so many."""
    missing = -len(values) % multiple
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def cut_windows(
    whole: Window, longest: int, overlap: int, stride: int, seeds: Iterator[int]
) -> Iterator[Window]:
    """Stretches of a recording that overlap.

    Args:
        whole: All of it, padded to a multiple of `stride`.
        longest: Frames of a stretch, a multiple of `stride`.
        overlap: Frames that neighbours share, a multiple of `stride`.
        stride: Frames of one of the latents.
        seeds: One for each stretch.
    """
    total = len(whole.features)
    for start in range(0, max(total - overlap, 1), longest - overlap):
        stop = min(start + longest, total)
        yield Window(
            whole.clip,
            start,
            whole.features[start:stop],
            whole.melody[start:stop],
            whole.aim,
            whole.noise[:, start // stride : stop // stride],
            min(stop, whole.frames) - start,
            next(seeds),
        )


def batches(windows: Sequence[Window], frames: int) -> Iterator[list[Window]]:
    """Windows that can be stacked, at most so many frames at a time: nothing sees padding."""
    groups: dict[int, list[Window]] = {}
    for window in windows:
        groups.setdefault(len(window.features), []).append(window)
    for length, group in groups.items():
        count = max(1, frames // length)
        for first in range(0, len(group), count):
            yield group[first : first + count]


class CrossFade:
    """Windows of several recordings joined again; where they overlap, one fades into the other.

    Args:
        frames: Of each recording.
        size: Values of a frame.
        overlap: Frames that neighbouring windows share.
    """

    def __init__(self, frames: Sequence[int], size: int, overlap: int) -> None:
        self.sums = [torch.zeros(count, size) for count in frames]
        self.weights = [torch.zeros(count, 1) for count in frames]
        self.overlap = overlap

    def add(self, window: Window, values: torch.Tensor) -> None:
        """Values `(frames or more, size)` of a window; several of one place are averaged."""
        span = slice(window.start, window.start + window.frames)
        fade = self._fade(window.frames)
        self.sums[window.clip][span] += fade * values[: window.frames].float().cpu()
        self.weights[window.clip][span] += fade

    def joined(self) -> list[torch.Tensor]:
        """Values `(frames, size)` of each recording."""
        return [total / weight for total, weight in zip(self.sums, self.weights, strict=True)]

    def _fade(self, frames: int) -> torch.Tensor:
        """Weights `(frames, 1)` that rise and fall within the overlap; positive everywhere."""
        position = torch.arange(1, frames + 1)
        return torch.minimum(position, position.flip(0)).clamp(max=self.overlap)[:, None] / (
            self.overlap
        )
