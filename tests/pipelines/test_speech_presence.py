import numpy as np
import pytest
from scipy.signal import butter, lfilter, sawtooth, sosfilt

from datasets_scripts import decode_audio, load_corpus
from pipelines import speech_score

RATE = 16_000
SECONDS = 2.0
TIME = np.arange(int(SECONDS * RATE)) / RATE


def noise(slope=0.0, seed=0):
    """Noise whose power falls with frequency: 0 is white, 1 pink, 2 brown."""
    generator = np.random.default_rng(seed)
    spectrum = generator.standard_normal((len(TIME) // 2 + 1, 2)) @ np.array([1, 1j])
    sound = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** (slope / 2), len(TIME))
    return 0.3 * sound / np.abs(sound).max()


def clicks(count, ringing=False):
    sound = np.zeros(len(TIME))
    sound[np.random.default_rng(1).integers(0, len(TIME), count)] = 0.9
    return resonate(sound, 900.0) if ringing else sound


def resonate(sound, frequency, bandwidth=80.0):
    radius = np.exp(-np.pi * bandwidth / RATE)
    angle = 2 * np.pi * frequency / RATE
    ringing = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], sound)
    return 0.8 * ringing / np.abs(ringing).max()


def harmonics(frequency, count=14):
    tones = [np.sin(2 * np.pi * frequency * k * TIME + k * k) / k for k in range(1, count)]
    return 0.2 * np.sum(tones, axis=0)


OTHER_SOUNDS = {
    "zeros": np.zeros(len(TIME)),
    "dither": np.random.default_rng(2).standard_normal(len(TIME)) / 2**15,
    "offset": np.full(len(TIME), 0.3),
    "low_tone": 0.3 * np.sin(2 * np.pi * 150 * TIME),
    "high_tone": 0.3 * np.sin(2 * np.pi * 2_000 * TIME),
    "harmonic_tone": harmonics(200.0),
    "sawtooth": 0.3 * sawtooth(2 * np.pi * 120 * TIME),
    "vowel": resonate(resonate(sawtooth(2 * np.pi * 120 * TIME), 700.0), 1_200.0),
    "hum": harmonics(50.0),
    "hum_in_noise": harmonics(60.0) + 0.1 * noise(),
    "tone_in_noise": 0.3 * np.sin(2 * np.pi * 220 * TIME) + 0.2 * noise(),
    "white_noise": noise(0.0),
    "pink_noise": noise(1.0),
    "brown_noise": noise(2.0),
    "swelling_noise": noise(1.0) * (1 + np.sin(2 * np.pi * 4 * TIME)) / 2,
    "few_clicks": clicks(4),
    "many_clicks": clicks(80),
    "ringing_clicks": clicks(20, ringing=True),
    "beeps": 0.3 * np.sin(2 * np.pi * 1_000 * TIME) * (np.sin(2 * np.pi * 3 * TIME) > 0),
}


@pytest.fixture(scope="module")
def spoken():
    """Synthetic speech of several emotions and voices, with its rate."""
    corpus = load_corpus("toy_emotions", speakers=2, repetitions=1)
    return [decode_audio(audio) for audio in corpus["audio"]]


@pytest.mark.parametrize("name", OTHER_SOUNDS)
@pytest.mark.parametrize("decibels", [0, -40])
def test_other_sounds(name, decibels):
    wave = 10 ** (decibels / 20) * OTHER_SOUNDS[name]
    assert speech_score(wave, RATE) < 0.2


@pytest.mark.parametrize(
    "change",
    [
        lambda wave, rate: wave,
        lambda wave, rate: 0.01 * wave,
        lambda wave, rate: add_noise(wave),
        lambda wave, rate: telephone(wave, rate),
        lambda wave, rate: np.concatenate([np.zeros(5 * rate), wave, np.zeros(15 * rate)]),
    ],
    ids=["as_recorded", "quiet", "noisy", "telephone", "in_silence"],
)
def test_speech(spoken, change):
    scores = [speech_score(change(wave, rate), rate) for wave, rate in spoken]
    assert min(scores) > 0.8


def add_noise(wave):
    """White noise, 10 dB below the speech."""
    level = np.sqrt(np.square(wave).mean() / 10)
    return wave + level * np.random.default_rng(0).standard_normal(len(wave))


def telephone(wave, rate):
    return sosfilt(butter(6, [300, 3_400], "bandpass", fs=rate, output="sos"), wave)


@pytest.mark.parametrize("samples", [1, 10, 400])
def test_short_sounds_have_none(samples):
    assert speech_score(noise()[:samples], RATE) < 0.2


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 9)), np.array([0.1, np.nan])])
def test_no_sound_is_refused(wave):
    with pytest.raises(ValueError, match="Bad wave of shape .*expected finite samples"):
        speech_score(wave, RATE)
