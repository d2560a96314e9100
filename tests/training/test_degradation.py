"""What rooms, lines and codecs do to sound, measured on the sound."""

import numpy as np
import pytest
from scipy.signal import welch

from training.config import DegradationConfig
from training.degradation import (
    add_noise,
    add_reverb,
    change_level,
    compress_mp3,
    degrade,
    equalise,
    limit_band,
)

RATE = 16_000


def generator():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def wave():
    return (0.1 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)


def power(wave, low, high):
    frequencies, density = welch(wave, RATE, nperseg=1024)
    return density[(frequencies >= low) & (frequencies < high)].mean()


def decibels(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: change_level(w, -20),
        lambda w: add_noise(w, 10, generator(), slope=1),
        lambda w: equalise(w, np.array([3.0, -3.0])),
        lambda w: limit_band(w, RATE, 300, 3400),
        lambda w: add_reverb(w, RATE, 0.4, generator()),
        lambda w: compress_mp3(w, RATE, 32),
        lambda w: degrade(w, RATE, DegradationConfig(20, 8, 1, (5, 30), 1), generator()),
    ],
)
@pytest.mark.parametrize("samples", [16_000, 4_001, 40, 0])
def test_length_and_type_stay_and_silence_stays_finite(wave, change, samples):
    for given in (wave[:samples], np.zeros(samples, np.float32)):
        changed = change(given)
        assert changed.shape == given.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()


def test_level_moves_by_the_decibels(wave):
    assert decibels((change_level(wave, -20) ** 2).mean() / (wave**2).mean()) == pytest.approx(-20)


@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_noise_has_its_ratio_and_colour(wave, slope):
    noise = add_noise(wave, 10, generator(), slope=slope) - wave
    assert decibels((wave**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.1)
    fall = decibels(power(noise, 500, 700) / power(noise, 5000, 7000))
    assert fall == pytest.approx(10 * slope, abs=2)


def test_telephone_keeps_its_band_only(wave):
    line = limit_band(wave, RATE, 300, 3400)
    assert decibels(power(line, 600, 2500) / power(wave, 600, 2500)) == pytest.approx(0, abs=1)
    assert decibels(power(line, 6000, 8000) / power(wave, 6000, 8000)) < -25
    assert decibels(power(line, 0, 100) / power(wave, 0, 100)) < -25


def test_a_room_goes_on_after_the_sound_and_decays():
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    room = add_reverb(click, RATE, 0.4, generator())
    assert room[100] == pytest.approx(1, abs=1e-5)
    early, late = room[200:1000], room[5000:5800]
    # 4800 samples are 0.3 s, three quarters of the time in which 60 dB are lost.
    assert decibels((early**2).mean() / (late**2).mean()) == pytest.approx(45, abs=4)


def test_mp3_of_few_bits_loses_more():
    time = np.arange(2 * RATE) / RATE
    wave = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 40)).astype(np.float32) / 4

    def loss(kbit):
        coded = compress_mp3(wave, RATE, kbit)
        spectrum, before = np.abs(np.fft.rfft(coded)), np.abs(np.fft.rfft(wave))
        return np.square(spectrum - before).sum() / np.square(before).sum()

    assert loss(8) > 2 * loss(64)
    assert loss(64) < 0.05


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_025, 24_414, 48_000])
@pytest.mark.parametrize("kbit", [16, 32, 64])
def test_mp3_stays_in_time_at_any_rate(rate, kbit):
    time = np.arange(rate) / rate
    wave = (np.sin(2 * np.pi * (300 * time + 400 * time**2)) * np.sin(9 * time)).astype(np.float32)
    coded = compress_mp3(wave, rate, kbit)
    assert np.corrcoef(coded, wave)[0, 1] > 0.95


def test_nothing_asked_for_changes_nothing(wave):
    np.testing.assert_array_equal(degrade(wave, RATE, DegradationConfig(), generator()), wave)
