"""Effects of emotions on voices whose bands, pitch and tempo are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset

from modeling import EmotionShift, Prosody
from training.shift import BAND_FILTERS, Voices, fit_band_filter, fit_class_shift, load_voices

EMOTIONS = ("neutral", "anger", "sadness")
PITCH = {"neutral": 0.0, "anger": 0.3, "sadness": -0.2}
DURATION = {"neutral": 0.0, "anger": -0.2, "sadness": 0.3}
BANDS = {"neutral": 0.0, "anger": 1.0, "sadness": -1.0}
BANDS_MEAN = np.mean(list(BANDS.values()))


def voice(emotion, speaker, sentence, generator):
    """Log-mel and prosody of a speaker with an own pitch, level and tempo."""
    frames = round(60 * np.exp(DURATION[emotion] + 0.1 * sentence + 0.1 * speaker))
    log_mel = -5 + 0.5 * speaker + 0.2 * sentence + generator.normal(0, 0.1, (frames, 8))
    log_mel[:, 4:] += BANDS[emotion]
    silence = np.full((20, 8), -11.0)
    log_mel = np.concatenate([silence, log_mel, silence]).astype(np.float32)
    melody = 0.1 * np.sin(np.linspace(0, 9, len(log_mel)))
    log_f0 = (np.log(110) + 0.4 * speaker + PITCH[emotion] + melody).astype(np.float32)
    voiced = np.repeat([False, True, False], [20, frames, 20])
    level = log_mel.mean(axis=1)
    return torch.from_numpy(log_mel), Prosody(log_f0, voiced, voiced * 1.0, level, level * 0 + 4.0)


def make_voices(cells):
    generator = np.random.default_rng(0)
    made = [voice(*cell, generator) for cell in cells]
    emotions, speakers, sentences = (list(column) for column in zip(*cells, strict=True))
    names = ([f"toy {x}" for x in column] for column in (speakers, sentences))
    return Voices([m for m, _ in made], [p for _, p in made], emotions, *names, ["toy"] * len(made))


ALL = [(e, who, what) for e in EMOTIONS for who in range(4) for what in range(5)]
# Sadness is heard of the highest voice alone, anger of the lowest two.
UNEVEN = [c for c in ALL if c[0] == "neutral" or c[1] in {"sadness": (3, 2), "anger": (0, 1)}[c[0]]]


@pytest.mark.parametrize("cells", [ALL, UNEVEN])
def test_effects_are_those_of_the_emotion_and_not_of_who_shows_it(cells):
    shift = fit_class_shift(make_voices(cells), EMOTIONS)
    for emotion in EMOTIONS:
        pitch = PITCH[emotion] - np.mean(list(PITCH.values()))
        duration = DURATION[emotion] - np.mean(list(DURATION.values()))
        bands = np.repeat([0, BANDS[emotion]], 4)
        assert float(shift.effect("pitch", emotion)) == pytest.approx(pitch, abs=0.12)
        assert float(shift.effect("duration", emotion)) == pytest.approx(duration, abs=0.12)
        np.testing.assert_allclose(shift.effect("bands", emotion, "toy"), bands, atol=0.3)


def test_a_band_filter_moves_no_pitch_and_no_tempo():
    voices = make_voices(ALL)
    for kind in BAND_FILTERS:
        shift = fit_band_filter(voices, EMOTIONS, kind)
        moved = shift(voices.log_mels[0], voices.prosodies[0], "anger", factors=(1.0, 1.0))
        np.testing.assert_allclose(moved.tempo_factor, 1)
        np.testing.assert_allclose(moved.pitch_factor, 1)
        change = moved.log_mel.mean(dim=0)
        assert change[4:].mean() > change[:4].mean() + 0.5


def test_only_towards_the_mean_depends_on_the_recording():
    voices = make_voices(ALL)
    for kind in BAND_FILTERS:
        shift = fit_band_filter(voices, EMOTIONS, kind)
        changes = [
            shift(mel, prosody, "anger").log_mel
            for mel, prosody in zip(voices.log_mels[:5:4], voices.prosodies[:5:4], strict=True)
        ]
        alike = torch.allclose(changes[0][0], changes[1][0], atol=1e-4)
        assert alike == (kind != "towards_mean")


def test_what_cannot_be_fitted_is_refused():
    voices = make_voices(ALL)
    with pytest.raises(ValueError, match=r"No recordings of \['fear'\] in 'toy'"):
        fit_class_shift(voices, (*EMOTIONS, "fear"))
    with pytest.raises(ValueError, match="Bad kind 'x', expected one of"):
        fit_band_filter(voices, EMOTIONS, "x")
    with pytest.raises(ValueError, match="Bad emotions"):
        EmotionShift(["anger", "anger"], ["toy"])


def test_recordings_without_a_voice_say_nothing_of_pitch():
    voices = make_voices(ALL)
    mute = [replace(p, voiced=np.zeros_like(p.voiced)) for p in voices.prosodies[:3]]
    some = replace(voices, prosodies=[*mute, *voices.prosodies[3:]])
    shift = fit_class_shift(some, EMOTIONS)
    assert torch.isfinite(shift.pitch).all()
    assert float(shift.effect("pitch", "anger")) > 0.2
    moved = shift(some.log_mels[0], some.prosodies[0], "anger")
    np.testing.assert_array_equal(moved.pitch_factor, 1)
    nobody = [replace(p, voiced=np.zeros_like(p.voiced)) for p in voices.prosodies]
    silent = fit_class_shift(replace(voices, prosodies=nobody), EMOTIONS)
    assert (silent.pitch == 0).all()
    assert float(silent.effect("duration", "sadness")) > 0.2


def test_voices_are_those_of_the_rows_that_are_asked_for():
    """Prosodies of the others, who are tested, need not be there."""
    generator = np.random.default_rng(0)
    table = {
        "audio": [b""] * 4,
        "corpus": ["toy", "toy", "emodb", "emodb"],
        "emotion": ["neutral", "anger", "sadness", "anger"],
        "speaker": ["1", "2", "1", "2"],
        "sentence": ["a", "a", "a", "b"],
    }
    labels = ClassLabel(names=list(EMOTIONS))
    dataset = Dataset.from_dict(table).cast_column("emotion", labels)
    made = [voice(emotion, i, i, generator) for i, emotion in enumerate(table["emotion"])]
    log_mels = [log_mel.numpy() for log_mel, _ in made]
    voices = load_voices(dataset, [3, 0, 2], log_mels, {i: made[i][1] for i in (0, 2, 3)})
    assert voices.emotions == ["anger", "neutral", "sadness"]
    assert voices.corpora == ["emodb", "toy", "emodb"]
    # Speakers and sentences of two corpora that go by one name are not the same.
    assert voices.speakers == ["emodb 2", "toy 1", "emodb 1"]
    assert voices.sentences == ["emodb b", "toy a", "emodb a"]
    for log_mel, prosody, row in zip(voices.log_mels, voices.prosodies, (3, 0, 2), strict=True):
        torch.testing.assert_close(log_mel, made[row][0])
        assert prosody is made[row][1]
