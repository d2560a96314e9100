import numpy as np
import pytest
from voices import RATE, noise, silence, voice

from modeling import extract_prosody
from modeling.psola import pitch_marks, psola, time_map


def move(sound, pitch=1.0, tempo=1.0):
    return psola(sound, RATE, extract_prosody(sound, RATE), pitch, tempo)


def pitch_of(sound):
    prosody = extract_prosody(sound, RATE)
    return np.exp(np.median(prosody.log_f0[prosody.voiced]))


def envelope_peaks(sound):
    """Hz of the two lowest formants."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    peaks = []
    for low, high in ((300, 900), (1100, 2000)):
        band = (frequencies > low) & (frequencies < high)
        peaks.append(np.average(frequencies[band], weights=spectrum[band]))
    return np.array(peaks)


SPEECH = np.concatenate([silence(0.1), voice(140, 0.4), noise(0.15, 0.03), voice(180, 0.4)])


@pytest.mark.parametrize("sound", [SPEECH, voice(120), noise(0.5, 0.1), silence(0.3)])
def test_unchanged_the_recording_itself_comes_back(sound):
    np.testing.assert_allclose(move(sound), sound, atol=1e-6)


@pytest.mark.parametrize("f0", [80, 120, 220, 400])
@pytest.mark.parametrize("factor", [0.8, 1.25, 1.45])
def test_pitch_is_moved_within_one_percent_and_the_length_stays(f0, factor):
    sound = voice(f0)
    moved = move(sound, factor)
    assert len(moved) == len(sound)
    assert pitch_of(moved) / pitch_of(sound) == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.3, 1.8])
def test_tempo_is_moved_and_the_pitch_stays(factor):
    moved = move(SPEECH, tempo=factor)
    assert len(moved) == pytest.approx(len(SPEECH) / factor, abs=1)
    assert pitch_of(move(voice(150), tempo=factor)) == pytest.approx(150, rel=0.01)


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_formants_stay(factor):
    sound = voice(110)
    np.testing.assert_allclose(
        envelope_peaks(move(sound, factor)), envelope_peaks(sound), rtol=0.05
    )


def test_contours_vary_in_time():
    sound = voice(150, 2.0)
    frames = len(sound) // 256 + 1
    moved = move(sound, np.linspace(0.8, 1.4, frames))
    prosody = extract_prosody(moved, RATE)
    wanted = np.log(150 * np.linspace(0.8, 1.4, frames))
    np.testing.assert_allclose(prosody.log_f0[10:-10], wanted[10:-10], atol=0.03)
    slow_then_fast = np.where(np.arange(frames) < frames / 2, 0.5, 2.0)
    assert len(move(sound, tempo=slow_then_fast)) == pytest.approx(len(sound) * 1.25, rel=0.02)


@pytest.mark.parametrize(("pitch", "tempo"), [(1.3, 1.0), (0.8, 1.0), (1.0, 0.7), (1.0, 1.4)])
def test_joins_do_not_click(pitch, tempo):
    """A click is energy where the voice has next to none: above its highest harmonic, 9 kHz."""
    sound = np.concatenate([voice(140, 0.5), silence(0.1), voice(200, 0.5)])
    assert high_frequency_peak(move(sound, pitch, tempo)) < 2.5 * high_frequency_peak(sound)


def high_frequency_peak(sound):
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE) < 9_500] = 0
    return np.abs(np.fft.irfft(spectrum, len(sound))).max()


def test_stretched_noise_does_not_buzz():
    """Repeated grains would sound at the rate of the repetition."""
    moved = move(noise(1.0, 0.1), tempo=0.5)
    likeness = np.correlate(moved, moved[:20_000], "valid")[20:2_000]
    assert np.abs(likeness).max() < 0.5 * np.dot(moved[:20_000], moved[:20_000])


def test_marks_fall_once_a_period():
    sound = voice(120)
    marks, voiced = pitch_marks(sound, RATE, extract_prosody(sound, RATE))
    periods = np.diff(marks)[voiced[:-1] & voiced[1:]]
    assert np.median(periods) == pytest.approx(RATE / 120, rel=0.01)
    assert np.ptp(periods) < 0.1 * RATE / 120


def test_the_shortest_sound_and_a_long_one():
    assert len(move(noise(0.002, 0.1), 1.2, 0.5)) == 2 * len(noise(0.002, 0.1))
    long = np.tile(SPEECH, 58)
    assert len(move(long, 1.2, 1.1)) == pytest.approx(len(long) / 1.1, abs=1)


def test_the_time_map_leads_back_to_the_source():
    frames = len(SPEECH) // 256 + 1
    tempo = np.linspace(0.6, 1.6, frames)
    positions = time_map(tempo, len(SPEECH))
    assert len(positions) == len(move(SPEECH, tempo=tempo)) // 256 + 1
    assert positions[0] == 0
    assert (np.diff(positions) > 0).all()
    assert positions[-1] == pytest.approx(frames - 1, abs=2)
    np.testing.assert_allclose(time_map(1.0, len(SPEECH)), np.arange(frames))


def test_what_cannot_be_is_refused():
    sound, prosody = voice(120), extract_prosody(voice(120), RATE)
    with pytest.raises(ValueError, match=r"Bad pitch_factor 3, expected 0\.5 to 2"):
        psola(sound, RATE, prosody, 3)
    with pytest.raises(ValueError, match=r"Bad tempo_factor of shape \(3,\)"):
        psola(sound, RATE, prosody, 1.0, np.ones(3))
    with pytest.raises(ValueError, match="Bad prosody of 87 frames, expected 44"):
        psola(sound[: RATE // 2], RATE, prosody)
    with pytest.raises(ValueError, match="expected"):
        psola(sound, RATE, prosody, float("nan"))
