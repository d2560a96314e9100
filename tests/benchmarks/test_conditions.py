import numpy as np
import pytest

from benchmarks.conditions import SOUND_CONDITIONS, recording_seed
from evaluation.conditions import CONDITIONS

RATE = 16_000
TONE = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)


def decibels(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)))


@pytest.mark.parametrize("name", SOUND_CONDITIONS)
def test_conditions_keep_length_and_are_the_same_every_time(name):
    assert name in CONDITIONS
    before = TONE.copy()
    one, two = (SOUND_CONDITIONS[name](TONE, RATE, 7) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == TONE.shape
    assert one.dtype == np.float32
    np.testing.assert_array_equal(TONE, before)


def test_conditions_do_what_their_names_say():
    def change(name, wave=TONE, seed=0):
        return SOUND_CONDITIONS[name](wave, RATE, seed)

    assert decibels(change("level_minus_20")) == pytest.approx(decibels(TONE) - 20)
    assert decibels(change("level_plus_20")) == pytest.approx(decibels(TONE) + 20)
    noise = change("noise_10db") - TONE
    assert decibels(TONE) - decibels(noise) == pytest.approx(10, abs=0.01)
    low = np.sin(2 * np.pi * 60 * np.arange(RATE) / RATE).astype(np.float32)
    assert decibels(change("telephone", low)) < decibels(low) - 40
    assert decibels(change("telephone")) == pytest.approx(decibels(TONE), abs=0.5)
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    assert np.abs(click)[1000:].sum() == 0
    assert np.abs(change("reverb", click))[1000:].sum() > 0.1


def test_noise_depends_on_the_recording_alone():
    seeds = {recording_seed(*key) for key in [("emodb", "a"), ("emodb", "b"), ("ravdess", "a")]}
    assert len(seeds) == 3
    assert recording_seed("emodb", "a") == recording_seed("emodb", "a")
    assert recording_seed("emodb", "a", seed=1) not in seeds
