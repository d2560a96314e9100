"""Which recordings an epoch draws, with everything that is random about each of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One training example to be made.

    Args:
        row: Row of the recording.
        partner: Row that mixup mixes into it, or -1.
        share: Share of the recording itself in the mixture, 0.5 to 1.
        seed: Seed of its augmentation.
    """

    row: int
    partner: int = -1
    share: float = 1.0
    seed: int = 0


class EpochSampler(Sampler[Draw]):
    """Draws an epoch's examples, balanced over classes, from `(seed, epoch)` alone.

    Since partner, share and seed are part of a draw, an example is the same whichever process or
    worker makes it, and a resumed run makes the same examples as an uninterrupted one.

    Args:
        rows: Rows of the training recordings.
        classes: Class of each of them, any hashable.
        seed: Seed of the run and stage.
        balance: 0 draws every recording once an epoch; 1 draws all classes equally often.
        mixup_alpha: Parameter of mixup's Beta distribution.
        mixup_probability: Share of examples that are mixed.
    """

    def __init__(
        self,
        rows: Sequence[int],
        classes: Sequence[object],
        seed: int,
        balance: float = 0.0,
        mixup_alpha: float = 0.3,
        mixup_probability: float = 0.0,
    ) -> None:
        self.rows = np.asarray(rows)
        self.seed = seed
        self.mixup_alpha = mixup_alpha
        self.mixup_probability = mixup_probability
        self.epoch = 0
        _, inverse, counts = np.unique(
            np.asarray([str(c) for c in classes]), return_inverse=True, return_counts=True
        )
        self.expected = (counts[inverse] / counts.mean()) ** -balance
        self.expected *= len(self.rows) / self.expected.sum()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = self.rows[generator.permutation(self._drawn(generator))]
        partners = generator.permutation(order)
        mixed = generator.random(len(order)) < self.mixup_probability
        shares = generator.beta(self.mixup_alpha, self.mixup_alpha, size=len(order))
        shares = np.maximum(shares, 1 - shares)
        seeds = generator.integers(2**62, size=len(order))
        for row, partner, mix, share, seed in zip(
            order, partners, mixed, shares, seeds, strict=True
        ):
            draw = Draw(int(row), seed=int(seed))
            yield draw._replace(partner=int(partner), share=float(share)) if mix else draw

    def _drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Positions drawn this epoch: each about as often as expected (systematic sampling).

        Unlike drawing with replacement, no recording is missed or repeated by mere chance.
        """
        ends = np.cumsum(self.expected[shuffle := generator.permutation(len(self.rows))])
        ticks = np.arange(len(self.rows)) + generator.random()
        return shuffle[np.searchsorted(ends, ticks).clip(max=len(self.rows) - 1)]


class Crop(NamedTuple):
    """A stretch of one recording; all of a batch are equally long.

    Args:
        row: Row of the recording.
        frames: Length of the stretch.
        seed: Seed of all that is random about it.
    """

    row: int
    frames: int
    seed: int


class BucketBatchSampler(Sampler[list[Crop]]):
    """Batches of stretches of recordings that are about equally long, so that nothing is padded.

    A batch is as long as its shortest recording, or as `max_frames`.

    Args:
        sampler: Draws the recordings of an epoch.
        lengths: Frames of every row of the dataset.
        batch_size: Stretches in a batch.
        max_frames: Longest stretch.
        multiple: Stretches are multiples of so many frames long.
    """

    def __init__(
        self,
        sampler: EpochSampler,
        lengths: Sequence[int],
        batch_size: int,
        max_frames: int,
        multiple: int,
    ) -> None:
        self.sampler = sampler
        # accelerate divides batches between processes by these.
        self.batch_size, self.drop_last = batch_size, True
        self.lengths = lengths
        self.max_frames = max_frames
        self.multiple = multiple

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[list[Crop]]:
        draws = sorted(self.sampler, key=lambda draw: min(self.lengths[draw.row], self.max_frames))
        generator = np.random.default_rng((self.sampler.seed, self.sampler.epoch, 1))
        # Which of the shortest are left over differs from epoch to epoch.
        first = int(generator.integers(len(draws) % self.batch_size + 1))
        for batch in first + self.batch_size * generator.permutation(len(self)):
            yield self._crops(draws[batch : batch + self.batch_size])

    def _crops(self, draws: Sequence[Draw]) -> list[Crop]:
        frames = min(self.max_frames, *(self.lengths[draw.row] for draw in draws))
        frames = max(frames // self.multiple, 1) * self.multiple
        return [Crop(draw.row, frames, draw.seed) for draw in draws]
