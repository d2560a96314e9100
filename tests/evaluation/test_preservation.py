import json
import re

import numpy as np
import pytest

from evaluation.preservation import (
    f0_correlation,
    level_difference_db,
    mel_distance_db,
    preservation_metrics,
)

RATE = 22_025
SILENCE = np.zeros(RATE, dtype=np.float32)


def voice(seconds=1.0, octave=0.0, rate=RATE, fall=False):
    """A buzz of ten harmonics whose F0 swings around 150 Hz, `(samples,)` float32."""
    time = np.arange(round(seconds * rate)) / rate
    swing = 0.3 * np.sin(2 * np.pi * 1.5 * time) * (-1 if fall else 1)
    phase = 2 * np.pi * np.cumsum(150 * 2 ** (octave + swing)) / rate
    return (0.05 * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def noise(seconds=1.0, seed=0):
    return 0.05 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def test_the_same_sound_is_preserved_perfectly():
    metrics = preservation_metrics([voice(), voice(0.6)], [voice(), voice(0.6)], RATE)
    assert metrics == pytest.approx(
        {
            "mel_distance_db": 0,
            "f0_correlation": 1,
            "f0_shift_semitones": 0,
            "voicing_agreement": 1,
            "level_difference_db": 0,
            "length_difference": 0,
        }
    )


def test_gain_moves_level_and_spectrum_by_its_decibels_and_leaves_the_melody():
    quieter = 0.5 * voice()
    assert level_difference_db(voice(), quieter) == pytest.approx(-6.02, abs=0.01)
    assert level_difference_db(quieter, voice()) == pytest.approx(6.02, abs=0.01)
    metrics = preservation_metrics([voice() + noise()], [0.5 * (voice() + noise())], RATE)
    assert metrics["level_difference_db"] == pytest.approx(6.02, abs=0.01)
    assert metrics["mel_distance_db"] == pytest.approx(6.02, abs=0.01)
    assert metrics["f0_correlation"] == pytest.approx(1)
    assert metrics["voicing_agreement"] == 1


def test_louder_and_quieter_do_not_cancel_out():
    metrics = preservation_metrics([voice()] * 2, [2 * voice(), 0.5 * voice()], RATE)
    assert metrics["level_difference_db"] == pytest.approx(6.02, abs=0.01)


def test_mel_distance_is_in_decibels():
    log_mel = np.random.default_rng(0).normal(-4, 1, (50, 80)).astype(np.float32)
    assert mel_distance_db(log_mel, log_mel) == 0
    assert mel_distance_db(log_mel, log_mel + np.log(10)) == pytest.approx(20)
    assert mel_distance_db(log_mel, log_mel - np.log(10)) == pytest.approx(20)


@pytest.mark.parametrize("octave", [1.0, -1.0])
def test_an_octave_is_twelve_semitones_of_the_same_melody(octave):
    agreement = f0_correlation(voice(), voice(octave=octave), RATE)
    assert agreement.shift_semitones == pytest.approx(12 * octave, abs=0.2)
    assert agreement.correlation > 0.98
    assert agreement.voicing_agreement > 0.95


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_melodies_are_compared_at_any_rate(rate):
    agreement = f0_correlation(voice(rate=rate), voice(rate=rate, octave=0.5), rate)
    assert agreement.shift_semitones == pytest.approx(6, abs=0.2)
    assert agreement.correlation > 0.98


def test_an_opposite_melody_is_anticorrelated():
    assert f0_correlation(voice(), voice(fall=True), RATE).correlation < -0.95


def test_whispering_half_of_it_loses_half_of_the_voicing():
    half = RATE // 2
    whispered = np.concatenate([voice()[:half], noise()[half:]])
    agreement = f0_correlation(voice(), whispered, RATE)
    assert agreement.voicing_agreement == pytest.approx(0.5, abs=0.05)
    assert agreement.correlation > 0.95


def test_a_constant_offset_is_no_voice():
    assert f0_correlation(voice(), noise() + 0.5, RATE).voicing_agreement < 0.1


def test_silence_is_unvoiced_and_as_loud_as_silence():
    agreement = f0_correlation(SILENCE, SILENCE, RATE)
    assert np.isnan([agreement.correlation, agreement.shift_semitones]).all()
    assert agreement.voicing_agreement == 1
    assert level_difference_db(SILENCE, SILENCE) == 0
    assert f0_correlation(voice(), SILENCE, RATE).voicing_agreement < 0.1
    assert level_difference_db(np.ones(RATE), SILENCE) == pytest.approx(-100)


def test_recordings_without_a_voice_count_in_no_mean_of_f0():
    metrics = preservation_metrics([voice(), SILENCE], [voice(octave=1), SILENCE], RATE)
    assert metrics["f0_shift_semitones"] == pytest.approx(12, abs=0.2)
    silent = preservation_metrics([SILENCE], [SILENCE], RATE)
    assert set(metrics) - set(silent) == {"f0_correlation", "f0_shift_semitones"}
    json.dumps([metrics, silent], allow_nan=False)


def test_a_longer_version_is_compared_over_the_common_time():
    metrics = preservation_metrics([voice(1.0)], [np.pad(voice(1.0), (0, RATE // 10))], RATE)
    assert metrics["length_difference"] == pytest.approx(0.1, abs=1e-3)
    assert metrics["mel_distance_db"] == 0
    shorter = preservation_metrics([voice(1.0)], [voice(1.0)[: RATE // 2]], RATE)
    assert shorter["length_difference"] == pytest.approx(0.5, abs=1e-3)


def test_the_shortest_recording_has_measures():
    assert preservation_metrics([np.ones(1)], [np.ones(1)], RATE)["mel_distance_db"] == 0


def test_input_is_left_alone():
    original, enhanced = voice(), noise()
    before = original.copy(), enhanced.copy()
    preservation_metrics([original], [enhanced], RATE)
    np.testing.assert_array_equal((original, enhanced), before)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(0), "Bad shape (0,) of a waveform"),
        (np.zeros((2, 100)), "Bad shape (2, 100) of a waveform"),
        (np.zeros(100, dtype=np.int16), "Bad type int16 of a waveform, expected floating point"),
        (np.full(100, np.nan), "Bad waveform with NaN or infinity"),
    ],
)
def test_what_is_no_waveform_is_refused(wave, message):
    for compare in (
        lambda: f0_correlation(wave, wave, RATE),
        lambda: level_difference_db(wave, wave),
        lambda: preservation_metrics([wave], [wave], RATE),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            compare()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="Bad lengths 100 and 99, expected the same of both"):
        level_difference_db(np.ones(100), np.ones(99))
    with pytest.raises(ValueError, match=r"Bad shapes \(3, 80\) and \(4, 80\)"):
        mel_distance_db(np.ones((3, 80)), np.ones((4, 80)))
    with pytest.raises(ValueError, match=r"Bad shapes \(0, 80\)"):
        mel_distance_db(np.ones((0, 80)), np.ones((0, 80)))
    with pytest.raises(ValueError, match="1 originals and 0 enhanced, expected as many of both"):
        preservation_metrics([voice()], [], RATE)
    with pytest.raises(ValueError, match="0 originals and 0 enhanced"):
        preservation_metrics([], [], RATE)
    with pytest.raises(ValueError, match="Bad sampling_rate 1000, expected 8000 Hz or more"):
        f0_correlation(voice(), voice(), 1000)
