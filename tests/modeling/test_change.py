"""Changes that are done one on top of the other, and in part."""

import numpy as np
import torch

from modeling.change import Change


def make_change(level, pitch, tempo):
    return Change(torch.full((5, 4), level), np.full(5, pitch), np.full(5, tempo))


def test_one_on_top_of_the_other_is_the_same_in_either_order():
    one, other = make_change(0.5, 1.2, 0.8), make_change(-0.2, 1.5, 1.0)
    for both in (one.then(other), other.then(one)):
        torch.testing.assert_close(both.log_mel, torch.full((5, 4), 0.3))
        np.testing.assert_allclose(both.pitch_factor, 1.8)
        np.testing.assert_allclose(both.tempo_factor, 0.8)


def test_two_halves_are_the_whole():
    whole = make_change(0.5, 1.44, 0.64)
    half = whole.times(0.5)
    np.testing.assert_allclose(half.pitch_factor, 1.2)
    for one, other in zip(half.then(half), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert not whole.times(0).log_mel.any()


def test_nothing_goes_further_than_a_waveform_can():
    much = make_change(0.5, 1.8, 0.6)
    for change in (much.then(much), much.times(3)):
        assert (change.pitch_factor == 2).all()
        assert (change.tempo_factor == 0.5).all()


def test_of_the_spectrum_another_part_may_be_taken():
    some = make_change(0.5, 1.44, 0.64).times(1.5, 1.0)
    torch.testing.assert_close(some.log_mel, torch.full((5, 4), 0.5))
    np.testing.assert_allclose(some.pitch_factor, 1.44**1.5)
