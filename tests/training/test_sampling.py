from collections import Counter

import numpy as np
import pytest

from training.sampling import EpochSampler

ROWS = list(range(100, 200))
CLASSES = [("emodb", 0)] * 70 + [("emodb", 1)] * 25 + [("ravdess", 0)] * 5


def sampler(**settings):
    return EpochSampler(ROWS, CLASSES, **({"seed": 7} | settings))


def draws(epoch=0, **settings):
    made = sampler(**settings)
    made.set_epoch(epoch)
    return list(made)


def drawn_classes(**settings):
    class_of = dict(zip(ROWS, CLASSES, strict=True))
    return Counter(class_of[draw.row] for draw in draws(**settings))


def test_draws_depend_on_seed_and_epoch_alone():
    settings = {"balance": 0.5, "mixup_probability": 0.5}
    used = sampler(**settings)
    for epoch in (5, 0, 3):
        used.set_epoch(epoch)
        assert list(used) == draws(epoch, **settings)
    assert draws(0, **settings) != draws(1, **settings)
    assert draws(0, **settings) != draws(0, seed=8, **settings)


def test_without_balance_every_recording_comes_once_in_another_order():
    first, second = ([draw.row for draw in draws(epoch)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == ROWS
    assert first != second


def test_balance_draws_rare_classes_more_often():
    as_they_come, half, equal = (drawn_classes(balance=balance) for balance in (0.0, 0.5, 1.0))
    rare, common = ("ravdess", 0), ("emodb", 0)
    assert as_they_come[rare] == 5
    assert as_they_come[rare] < half[rare] < equal[rare]
    assert as_they_come[common] > half[common] > equal[common]
    # Every recording is drawn floor or ceil of its share, so a class of n is within n of it.
    totals = sum((drawn_classes(balance=1.0, seed=seed) for seed in range(50)), Counter())
    for total in totals.values():
        assert total / 50 == pytest.approx(100 / 3, rel=0.05)


def test_every_recording_comes_as_often_as_expected_or_once_more():
    made = sampler(balance=1.0)
    assert made.expected.sum() == pytest.approx(len(ROWS))
    for epoch in range(20):
        made.set_epoch(epoch)
        counts = Counter(draw.row for draw in made)
        times = np.array([counts[row] for row in ROWS])
        assert (times >= np.floor(made.expected)).all()
        assert (times <= np.ceil(made.expected)).all()


def test_an_epoch_has_the_promised_length():
    for balance in (0.0, 0.3, 1.0):
        assert len(draws(balance=balance)) == len(sampler(balance=balance)) == len(ROWS)


def test_mixup_names_partner_and_share():
    mixed = [draw for epoch in range(10) for draw in draws(epoch, mixup_probability=0.4)]
    partnered = [draw for draw in mixed if draw.partner >= 0]
    assert len(partnered) / len(mixed) == pytest.approx(0.4, abs=0.05)
    assert {draw.partner for draw in partnered} <= set(ROWS)
    shares = [draw.share for draw in partnered]
    assert 0.5 <= min(shares) < 0.55
    assert 0.95 < max(shares) <= 1
    assert {draw.share for draw in mixed if draw.partner < 0} == {1.0}


def test_examples_have_seeds_of_their_own():
    seeds = [draw.seed for epoch in range(3) for draw in draws(epoch)]
    assert len(set(seeds)) == len(seeds)
