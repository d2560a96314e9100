import numpy as np
import pytest
from voices import RATE, noise, silence, voice

from modeling import extract_prosody


@pytest.mark.parametrize("f0", [65, 80, 120, 220, 400, 550])
def test_pitch_of_a_voice_is_found_within_one_percent(f0):
    prosody = extract_prosody(voice(f0), RATE)
    found = np.exp(prosody.log_f0[prosody.voiced])
    assert prosody.voiced.mean() > 0.9
    assert np.median(found) == pytest.approx(f0, rel=0.01)
    # No octave in between.
    assert np.mean(np.abs(found / f0 - 1) < 0.03) > 0.95


def test_quiet_and_noisy_voices_have_a_pitch_too():
    """RAVDESS holds whole recordings that peak at -40 dB."""
    quiet = 0.01 * (voice(120) + noise(1.0, 0.02))
    prosody = extract_prosody(quiet.astype(np.float32), RATE)
    assert prosody.voiced.mean() > 0.8
    assert np.exp(np.median(prosody.log_f0[prosody.voiced])) == pytest.approx(120, rel=0.01)


def test_a_melody_is_followed():
    rising = np.linspace(150, 300, RATE)
    prosody = extract_prosody(voice(rising), RATE)
    middle = slice(8, -8)
    wanted = np.interp(np.arange(len(prosody.log_f0)) * 256, np.arange(RATE), rising)
    np.testing.assert_allclose(np.exp(prosody.log_f0)[middle], wanted[middle], rtol=0.03)


def test_level_changes_energy_by_itself_and_nothing_else():
    soft, loud = (extract_prosody(gain * voice(120), RATE) for gain in (0.1, 1.0))
    np.testing.assert_allclose(loud.energy - soft.energy, np.log(10), atol=1e-3)
    np.testing.assert_allclose(loud.log_f0, soft.log_f0, atol=1e-3)
    np.testing.assert_array_equal(loud.voiced, soft.voiced)


@pytest.mark.parametrize("sound", [silence(1.0), noise(1.0, 0.1), noise(0.002, 0.1)])
def test_what_is_no_voice_has_none(sound):
    prosody = extract_prosody(sound, RATE)
    assert len(prosody.log_f0) == len(sound) // 256 + 1
    assert prosody.voiced.mean() < 0.1
    assert np.isfinite(prosody.log_f0).all()
    assert (prosody.tempo < 0.5).all()


def test_a_long_recording_is_that_of_its_parts():
    """Where pieces of 20 s meet, the pitch goes on."""
    long = np.tile(voice(120), 25)
    prosody = extract_prosody(long, RATE)
    assert len(prosody.log_f0) == len(long) // 256 + 1
    assert prosody.voiced.mean() > 0.9
    np.testing.assert_allclose(np.exp(prosody.log_f0[prosody.voiced]), 120, rtol=0.03)


def test_tempo_counts_syllables():
    for rate in (2, 4):
        time = np.arange(3 * RATE) / RATE
        syllables = voice(np.full(3 * RATE, 120.0)) * (
            0.52 - 0.48 * np.cos(2 * np.pi * rate * time)
        )
        tempo = extract_prosody(syllables.astype(np.float32), RATE).tempo
        assert tempo[len(tempo) // 2] == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(0, np.float32), "at least one"),
        (np.zeros((2, 100), np.float32), r"shape \(2, 100\)"),
        (np.zeros(100, np.int16), "type int16"),
        (np.full(100, np.nan), "NaN"),
    ],
)
def test_what_is_no_waveform_is_refused(sound, message):
    with pytest.raises(ValueError, match=message):
        extract_prosody(sound, RATE)
    with pytest.raises(ValueError, match="Bad sampling_rate 4000"):
        extract_prosody(voice(120), 4000)
