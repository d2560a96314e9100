from collections import Counter

import numpy as np
import pytest

from training.sampling import BucketBatchSampler, EpochSampler

ROWS = list(range(10, 60))
# Rows that do not train have lengths that would show.
LENGTHS = [3] * 10 + np.random.default_rng(0).integers(20, 200, size=50).tolist() + [999] * 10
MAX_FRAMES, MULTIPLE, BATCH_SIZE = 120, 4, 8


def bucket_batches(epoch=0, seed=7):
    sampler = EpochSampler(ROWS, [0] * len(ROWS), seed=seed)
    sampler.set_epoch(epoch)
    return list(BucketBatchSampler(sampler, LENGTHS, BATCH_SIZE, MAX_FRAMES, MULTIPLE))


def test_a_batch_is_equally_long_and_no_longer_than_its_shortest_recording():
    for epoch in range(5):
        for batch in bucket_batches(epoch):
            assert len(batch) == BATCH_SIZE
            (frames,) = {crop.frames for crop in batch}
            shortest = min(LENGTHS[crop.row] for crop in batch)
            assert frames % MULTIPLE == 0
            # Nothing more is lost than the rest of the division.
            assert frames == min(shortest, MAX_FRAMES) // MULTIPLE * MULTIPLE


def test_recordings_of_a_batch_are_about_equally_long():
    lost = total = 0
    for batch in bucket_batches():
        for crop in batch:
            total += min(LENGTHS[crop.row], MAX_FRAMES)
            lost += min(LENGTHS[crop.row], MAX_FRAMES) - crop.frames
    # Batches of 8 at random would lose 60 %.
    assert lost / total < 0.15


def test_every_epoch_differs_and_a_seed_decides_it():
    first = bucket_batches(0)
    assert bucket_batches(0) == first
    for other in (bucket_batches(1), bucket_batches(0, seed=8)):
        assert {crop.seed for batch in other for crop in batch}.isdisjoint(
            crop.seed for batch in first for crop in batch
        )
        assert [[c.row for c in batch] for batch in other] != [
            [c.row for c in batch] for batch in first
        ]


def test_short_and_long_batches_come_in_any_order():
    """Sorted ones would end every epoch with the longest recordings."""
    orders = [[batch[0].frames for batch in bucket_batches(epoch)] for epoch in range(6)]
    assert all(frames != sorted(frames) for frames in orders)
    assert len({tuple(np.argsort(frames)) for frames in orders}) > 1


def test_no_recording_twice_an_epoch_and_none_always_left_out():
    drawn = Counter()
    for epoch in range(20):
        rows = [crop.row for batch in bucket_batches(epoch) for crop in batch]
        assert len(rows) == len(set(rows)) == len(ROWS) // BATCH_SIZE * BATCH_SIZE
        drawn.update(rows)
    assert set(drawn) == set(ROWS)


@pytest.mark.parametrize("count", [8, 15, 16, 50])
def test_an_epoch_has_the_promised_number_of_batches(count):
    sampler = EpochSampler(ROWS[:count], [0] * count, seed=1)
    batches = BucketBatchSampler(sampler, LENGTHS, BATCH_SIZE, MAX_FRAMES, MULTIPLE)
    assert len(list(batches)) == len(batches) == count // BATCH_SIZE
