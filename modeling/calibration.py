"""Statistics of frames that features are normalised with: of a corpus, a room, or one voice."""

from collections.abc import Iterable
from typing import Any

import torch

# A channel that hardly moves in a few recordings must not be blown up.
SMALLEST_STD = 1e-4
# A few recordings say little of what a voice can do: it is as if so many of unknown origin had been
# among them. Chosen on validation speakers.
PRIOR_RECORDINGS = 3


def frame_statistics(frames: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation `(channels,)` over all frames of several recordings.

    Args:
        frames: `(frames, channels)` of each recording; one is in memory at a time.

    Raises:
        ValueError: No recordings.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for recording in frames:
        # Sums of squares of thousands of frames want more than single precision.
        recording = recording.detach().to("cpu", torch.float64)
        count += len(recording)
        total = total + recording.sum(dim=0)
        squares = squares + recording.square().sum(dim=0)
    if not count:
        raise ValueError("Got no recordings to calibrate with, expected at least one")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=SMALLEST_STD**2).sqrt()
    return mean.float(), std.float()


def with_prior(
    statistics: tuple[Any, Any], unknown: tuple[Any, Any], recordings: int
) -> tuple[Any, Any]:
    """Statistics of a few recordings, drawn towards those of recordings of unknown origin.

    Args:
        statistics: Mean and deviation of the recordings, arrays or tensors `(channels,)`.
        unknown: Mean and deviation of unknown origin.
        recordings: How many recordings they are of.
    """
    share = recordings / (recordings + PRIOR_RECORDINGS)
    (mean, std), (unknown_mean, unknown_std) = statistics, unknown
    variance = share * std**2 + (1 - share) * unknown_std**2
    return share * mean + (1 - share) * unknown_mean, variance**0.5


def calibration_groups(
    name: str, count: int, speakers: Iterable[str] | None = None
) -> dict[str, list[int]]:
    """Recordings behind each set of statistics: all under `name`, a speaker's under `name/speaker`.

    Args:
        name: Name of the room, voice or corpus.
        count: Number of recordings.
        speakers: Speaker of each recording, if known.

    Raises:
        ValueError: No name, no recordings, or not one speaker for each of them.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"Bad name {name!r}, expected a text that is not empty")
    if not count:
        raise ValueError("Got no recordings to calibrate with, expected at least one")
    groups = {name: list(range(count))}
    if speakers is None:
        return groups
    if isinstance(speakers, str):
        raise ValueError(f"Bad speakers {speakers!r}, expected one for each recording")
    named = list(speakers)
    if len(named) != count:
        raise ValueError(f"Bad speakers, got {len(named)} for {count} recordings")
    for index, speaker in enumerate(named):
        if speaker is None or str(speaker) == "":
            raise ValueError(f"Bad speaker {speaker!r} of recording {index}, expected a name")
        groups.setdefault(f"{name}/{speaker}", []).append(index)
    return groups


def belongs_to(name: str, calibrated: str) -> bool:
    """Whether `name` is of a calibration: its own, or that of one of its speakers."""
    return name == calibrated or name.startswith(f"{calibrated}/")
