"""`MelVocoder`'s method "psola": the waveform is moved, then filtered."""

import numpy as np
import pytest
import torch
from voices import RATE, noise, voice

from modeling import EmotionFeatureExtractor, MelVocoder, extract_prosody

# Soft enough to become louder without being scaled down.
SOUND = 0.5 * torch.from_numpy(np.concatenate([voice(130, 0.6), noise(0.2, 0.02), voice(180, 0.6)]))


@pytest.fixture(scope="module")
def vocoder():
    return MelVocoder()


def log_mel(sound):
    extractor = EmotionFeatureExtractor()
    features = extractor(sound.numpy(), padding=False, truncation=False)["input_features"][0]
    return torch.from_numpy(features)


def test_with_its_own_log_mel_and_no_move_the_recording_comes_back(vocoder):
    sound = vocoder(log_mel(SOUND), SOUND, method="psola")
    torch.testing.assert_close(sound, SOUND, atol=1e-4, rtol=0)


def test_pitch_moves_and_the_log_mel_is_obeyed(vocoder):
    sound, louder = (
        vocoder(log_mel(SOUND) + more, SOUND, method="psola", pitch_factor=1.25)
        for more in (0.0, 0.5)
    )
    found = extract_prosody(sound.numpy()[: RATE // 2], RATE)
    assert np.exp(np.median(found.log_f0[found.voiced])) == pytest.approx(130 * 1.25, rel=0.01)
    power = louder.square().mean() / sound.square().mean()
    assert 0.5 * np.log(power) == pytest.approx(0.5, abs=0.02)


def test_gains_follow_the_tempo(vocoder):
    """The first half is to be 12 dB louder, and the whole twice as slow."""
    wanted = log_mel(SOUND)
    wanted[: len(wanted) // 2] += 12 / 20 * np.log(10)
    slow = vocoder(wanted, SOUND, method="psola", tempo_factor=0.5)
    plain = vocoder(log_mel(SOUND), SOUND, method="psola", tempo_factor=0.5)
    assert len(slow) == pytest.approx(2 * len(SOUND), abs=1)
    ratio = [
        10 * np.log10(slow[span].square().mean() / plain[span].square().mean())
        for span in (slice(2_000, 20_000), slice(40_000, 58_000))
    ]
    assert ratio == pytest.approx([12, 0], abs=1.5)


def test_what_another_method_cannot_do_is_refused(vocoder):
    for method in ("griffin_lim", "source_filter"):
        with pytest.raises(ValueError, match=rf"Got \['pitch_factor'\] for method '{method}'"):
            vocoder(log_mel(SOUND), SOUND, method=method, pitch_factor=1.2)
    with pytest.raises(
        ValueError, match="Bad waveform None, expected the source of method 'psola'"
    ):
        vocoder(log_mel(SOUND), method="psola")
    with pytest.raises(ValueError, match=r"Bad tempo_factor 4, expected 0\.5 to 2"):
        vocoder(log_mel(SOUND), SOUND, method="psola", tempo_factor=4)
