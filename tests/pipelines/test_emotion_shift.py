"""Recordings moved by an emotion's mean effect, and by denoising on top; what `"auto"` takes."""

import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from toy_enhancer import get_dummy_components

from datasets_scripts import EMOTIONS
from modeling import extract_prosody
from pipelines import EmotionEnhancementPipeline, load_enhancer
from pipelines.emotion_enhancement import AMOUNTS

RATE = 22_025


@pytest.fixture(scope="module")
def pipe():
    return EmotionEnhancementPipeline(**get_dummy_components())


@pytest.fixture(scope="module")
def vowel():
    time = np.arange(RATE) / RATE
    melody = 150 * (1 + 0.1 * np.sin(2 * np.pi * 2 * time))
    phase = 2 * np.pi * np.cumsum(melody) / RATE
    return (0.02 * sum(np.cos(k * phase) for k in range(1, 20))).astype(np.float32)


def pitch_of(sound):
    prosody = extract_prosody(sound, RATE)
    return prosody.log_f0[prosody.voiced]


def shift(pipe, sound, **settings):
    """As far as asked for and no further."""
    settings = {"corpus": "emodb", "method": "shift", "rerank": False, **settings}
    return pipe(sound, RATE, **settings).audios[0]


def test_an_emotion_is_made_clearer_by_its_mean_effect(pipe, vowel):
    angrier = shift(pipe, vowel, emotion="anger", source_emotion="anger")
    moved, before = pitch_of(angrier), pitch_of(vowel)
    assert np.median(moved) - np.median(before) == pytest.approx(0.7 * 0.3, abs=0.02)
    assert moved.std() > 1.05 * before.std()
    assert len(angrier) / len(vowel) == pytest.approx(np.exp(-0.7 * 0.2), rel=0.01)


def test_converting_takes_the_source_emotion_away(pipe, vowel):
    sad = shift(pipe, vowel, emotion="sadness", source_emotion="anger")
    assert np.median(pitch_of(sad)) - np.median(pitch_of(vowel)) == pytest.approx(-0.69, abs=0.03)
    assert len(sad) / len(vowel) == pytest.approx(np.exp(1.5 * 0.4), rel=0.01)


def test_intensity_says_how_far_and_nothing_leaves_the_recording(pipe, vowel):
    once, half = (
        np.median(
            pitch_of(shift(pipe, vowel, emotion="anger", source_emotion="anger", intensity=i))
        )
        for i in (1.0, 0.5)
    )
    before = np.median(pitch_of(vowel))
    assert half - before == pytest.approx((once - before) / 2, abs=0.02)
    for settings in ({"emotion": "anger", "intensity": 0.0}, {"emotion": "fear"}):
        same = shift(pipe, vowel, **{"source_emotion": settings["emotion"], **settings})
        np.testing.assert_allclose(same, vowel, atol=1e-4)


def test_the_level_stays(pipe, vowel):
    angrier = shift(pipe, vowel, emotion="anger", source_emotion="neutral")
    assert np.sqrt(np.mean(angrier**2)) == pytest.approx(np.sqrt(np.mean(vowel**2)), rel=1e-3)


def test_nothing_exceeds_full_scale(pipe, vowel):
    loud = (vowel / np.abs(vowel).max()).astype(np.float32)
    for emotion in ("anger", "sadness"):
        assert np.abs(shift(pipe, loud, emotion=emotion, source_emotion="neutral")).max() <= 1


def test_what_the_classifier_hears_stands_in_for_what_is_not_said(pipe, vowel):
    output = pipe([vowel, vowel], RATE, method="shift", emotion=["anger", None])
    assert output.emotions[0] == "anger"
    assert output.emotions[1] in pipe.emotions
    assert [len(log_mel) for log_mel in output.log_mels] == [
        len(audio) // 256 + 1 for audio in output.audios
    ]
    # An unknown room takes the mean of both corpora.
    assert len(output.audios[0]) > 0


def test_what_is_carried_is_made_clearer_where_nothing_is_aimed_at(pipe, vowel):
    clearer = pipe(vowel, RATE, corpus="emodb", source_emotion="anger", rerank=False)
    assert clearer.emotions == ["anger"]
    assert clearer.methods == ["shift"]
    named = shift(pipe, vowel, emotion="anger", source_emotion="anger")
    np.testing.assert_array_equal(clearer.audios[0], named)


def guesses(sure):
    """What a classifier of sound says that knows the six emotions, and these."""
    scores = dict.fromkeys(EMOTIONS, 0.0) | sure
    return [{"label": label, "score": score} for label, score in scores.items()]


def test_a_listener_is_asked_instead_of_the_recogniser(vowel):
    """Anybody's classifier of sound, with labels of its own; here one that hears boredom."""
    pipe = EmotionEnhancementPipeline(**get_dummy_components())
    own = pipe(vowel, RATE, corpus="emodb").emotions[0]
    other = next(emotion for emotion in pipe.emotions if emotion != own)
    given = []

    def listener(recording, top_k):
        given.append((len(recording["array"]), recording["sampling_rate"], top_k))
        return guesses({"boredom": 0.6, other: 0.4})

    pipe.listener = listener
    made = pipe(vowel, RATE, corpus="emodb", rerank=False)
    assert made.emotions == [other]
    assert given[0] == (len(vowel), RATE, None)
    named = shift(pipe, vowel, emotion=other, source_emotion=other)
    np.testing.assert_array_equal(made.audios[0], named)


class TestReranking:
    """Of versions that go less far and further the first is kept that listeners are sure of."""

    WANTED: ClassVar = {
        **{"emotion": "anger", "source_emotion": "neutral", "corpus": "emodb"},
        "method": "shift",
    }

    @staticmethod
    def prefers_length(seconds):
        """A listener that is surest of anger in what lasts so long."""

        def listener(recording, top_k):
            away = abs(len(recording["array"]) / recording["sampling_rate"] - seconds)
            return guesses({"fear": away, "anger": 1 - away})

        return listener

    @staticmethod
    def is_sure_from(far, seconds):
        """A listener that hears anger in what is so many seconds longer or shorter, or more."""

        def listener(recording, top_k):
            changed = abs(len(recording["array"]) / recording["sampling_rate"] - seconds)
            sure = float(changed >= far)
            return guesses({"fear": 1 - sure, "anger": sure})

        return listener

    def unranked(self, listened, sound, intensity):
        told = {**self.WANTED, "intensity": intensity, "rerank": False}
        return listened(sound, RATE, **told).audios[0]

    @pytest.fixture
    def listened(self):
        return EmotionEnhancementPipeline(**get_dummy_components())

    @pytest.mark.parametrize("amount", AMOUNTS)
    def test_keeps_what_the_listener_hears_it_best_in(self, listened, vowel, amount):
        as_far = self.unranked(listened, vowel, amount)
        listened.listener = self.prefers_length(len(as_far) / RATE)
        made = listened(vowel, RATE, **self.WANTED)
        assert made.amounts == [amount]
        assert made.methods == ["shift"]
        assert len(made.audios[0]) == len(as_far)
        # Further than asked for go pitch and tempo alone.
        same = np.allclose(made.audios[0], as_far, atol=1e-4)
        assert same == (amount <= 1)
        pitches = [np.median(pitch_of(sound)) for sound in (made.audios[0], as_far)]
        assert pitches[0] == pytest.approx(pitches[1], abs=0.01)

    def test_changes_no_more_than_it_takes(self, listened, vowel):
        """Listeners who are sure of the emotion from some change on hear the least of that."""
        versions = [self.unranked(listened, vowel, amount) for amount in AMOUNTS]
        lengths = [len(version) for version in versions]
        assert lengths == sorted(lengths) or lengths == sorted(lengths, reverse=True)
        far = abs(lengths[1] - len(vowel)) / RATE
        listened.listener = self.is_sure_from(far - 0.01, len(vowel) / RATE)
        listened.classifier.heads.bias.data[listened.emotions.index("anger")] = 99.0
        made = listened(vowel, RATE, **self.WANTED)
        assert made.amounts == [AMOUNTS[1]]
        np.testing.assert_allclose(made.audios[0], versions[1], atol=1e-4)

    def test_both_have_to_be_sure(self, listened, vowel):
        """And where they never are, the mean of both says what is heard best."""
        listened.listener = self.is_sure_from(0.0, len(vowel) / RATE)
        listened.classifier.heads.bias.data[listened.emotions.index("fear")] = 99.0
        # The listener is sure of all, the recogniser of none: the first is the best of equals.
        assert listened(vowel, RATE, **self.WANTED).amounts == [AMOUNTS[0]]
        last = self.unranked(listened, vowel, AMOUNTS[-1])
        listened.listener = self.prefers_length(len(last) / RATE)
        assert listened(vowel, RATE, **self.WANTED).amounts == [AMOUNTS[-1]]

    def test_asks_nobody_who_knows_some_of_the_emotions_only(self, listened, vowel):
        """Who hears neutral in all that is no fear would have the wrong one made clearer."""
        listened.listener = lambda recording, top_k: [
            {"label": "fear", "score": 0.1},
            {"label": "angry", "score": 0.9},
        ]
        for wanted in (self.WANTED, {"corpus": "emodb"}):
            with pytest.raises(ValueError, match=r"Bad listener with labels \['fear', 'angry'\]"):
                listened(vowel, RATE, **wanted)

    def test_tries_no_version_twice_where_pitch_and_tempo_stay(self, listened, vowel):
        heard = []

        def never_sure(recording, top_k):
            heard.append(recording["array"])
            return guesses({})

        listened.listener = never_sure
        listened.classifier.heads.bias.data[listened.emotions.index("fear")] = 99.0
        listened(vowel, RATE, **self.WANTED, vocoder="source_filter")
        assert len(heard) == 2
        assert not np.array_equal(*heard)

    def test_chooses_for_each_recording_alone(self, listened, vowel):
        short = vowel[: RATE // 2]
        apart = [listened(sound, RATE, **self.WANTED) for sound in (vowel, short)]
        together = listened([vowel, short], RATE, **self.WANTED)
        assert together.amounts == [one.amounts[0] for one in apart]
        for sound, one in zip(together.audios, apart, strict=True):
            np.testing.assert_allclose(sound, one.audios[0], atol=1e-6)

    def test_converts_by_both_and_makes_clearer_by_the_shift(self, listened, vowel):
        """Where nobody says how, as came out best."""
        emotions = {"emotion": ["anger", "fear"], "source_emotion": "anger", "corpus": "emodb"}
        for rerank in (True, False):
            made = listened([vowel, vowel], RATE, **emotions, rerank=rerank)
            assert made.methods == ["shift", "both"]

    def test_is_for_denoising_as_well(self, listened, vowel):
        listened.listener = self.prefers_length(0.1)
        settings = {"num_inference_steps": 2, "num_noises": 1, "corpus": "emodb"}
        for method in ("diffusion", "both"):
            noise = torch.Generator().manual_seed(0)
            told = {**self.WANTED, **settings, "method": method, "generator": noise}
            made = listened(vowel, RATE, **told)
            assert made.methods == [method]
            assert made.amounts[0] in AMOUNTS
            assert np.isfinite(made.audios[0]).all()

    @pytest.mark.parametrize("bad", [1, "yes", None])
    def test_is_switched_on_or_off(self, listened, vowel, bad):
        with pytest.raises(ValueError, match=f"Bad rerank {bad!r}, expected True or False"):
            listened(vowel, RATE, **self.WANTED, rerank=bad)


def test_a_saved_shift_moves_alike(pipe, vowel, tmp_path):
    pipe.save_pretrained(tmp_path)
    settings = {"emotion": "anger", "source_emotion": "neutral"}
    before = shift(pipe, vowel, **settings)
    loaded = DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True)
    np.testing.assert_allclose(shift(loaded, vowel, **settings), before, atol=1e-5)
    np.testing.assert_allclose(shift(load_enhancer(tmp_path), vowel, **settings), before, atol=1e-5)


def test_a_model_without_a_shift_says_so_and_does_without(vowel, tmp_path):
    parts = {**get_dummy_components(), "shift": None}
    EmotionEnhancementPipeline(**parts).save_pretrained(tmp_path)
    for loaded in (
        DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True),
        load_enhancer(tmp_path),
    ):
        with pytest.raises(ValueError, match="Bad method 'shift', expected 'diffusion'"):
            shift(loaded, vowel, emotion="anger")
        assert loaded(vowel, RATE, source_emotion="anger").methods == ["diffusion"]


class TestAuto:
    def test_makes_clearer_by_the_shift_and_converts_by_both(self, pipe, vowel):
        settings = {"corpus": "emodb", "source_emotion": "anger", "rerank": False}
        output = pipe([vowel] * 3, RATE, emotion=["anger", "sadness", None], **settings)
        assert output.methods == ["shift", "both", "shift"]
        assert output.emotions == ["anger", "sadness", "anger"]
        shifted = shift(pipe, vowel, emotion="anger", source_emotion="anger")
        np.testing.assert_array_equal(output.audios[0], shifted)
        np.testing.assert_array_equal(output.audios[2], shifted)

    @pytest.mark.parametrize(
        "setting",
        [
            {"strength": 0.3},
            {"guidance_scale": 1.0},
            {"num_inference_steps": 2},
            {"num_noises": 1},
            {"reference": np.ones(900, np.float32)},
            {"callback_on_step_end": lambda *_: {}},
        ],
        ids=lambda setting: next(iter(setting)),
    )
    def test_settings_of_the_diffusion_are_listened_to(self, pipe, vowel, setting):
        """They mean that it is wanted; the shift, asked for by name, refuses them."""
        given = {"emotion": "anger", "source_emotion": "anger", **setting}
        assert pipe(vowel[:4_000], RATE, **given).methods == ["both"]
        with pytest.raises(ValueError, match=re.escape(f"Got {[*setting]} for method 'shift'")):
            pipe(vowel, RATE, method="shift", **given)

    def test_another_vocoder_moves_the_spectrum_alone(self, pipe, vowel):
        """By the method that it would have been moved by, too."""
        given = {"emotion": "anger", "source_emotion": "anger", "vocoder": "source_filter"}
        made = pipe(vowel, RATE, **given)
        assert made.methods == ["shift"]
        # Whose tempo is another one.
        assert len(shift(pipe, vowel, emotion="anger", source_emotion="anger")) != len(vowel)
        assert abs(len(made.audios[0]) - len(vowel)) <= pipe.feature_extractor.hop_length
        assert np.abs(made.audios[0][: len(vowel)] - vowel[: len(made.audios[0])]).max() > 1e-3

    def test_intensity_is_of_both(self, pipe, vowel):
        given = {"emotion": "anger", "source_emotion": "anger", "intensity": 0.5, "rerank": False}
        output = pipe(vowel, RATE, corpus="emodb", **given)
        assert output.methods == ["shift"]
        half = shift(pipe, vowel, emotion="anger", source_emotion="anger", intensity=0.5)
        np.testing.assert_array_equal(output.audios[0], half)


class TestBoth:
    SAID: ClassVar = {
        **{"emotion": "anger", "source_emotion": "neutral", "corpus": "emodb"},
        "rerank": False,
    }

    def test_without_denoising_it_is_the_shift(self, pipe, vowel):
        plain = pipe(vowel, RATE, method="both", strength=0.0, **self.SAID)
        assert plain.methods == ["shift"]
        np.testing.assert_array_equal(plain.audios[0], shift(pipe, vowel, **self.SAID))

    def test_adds_half_of_what_denoising_changes_to_the_shift(self, pipe, vowel):
        def spectrum(method, strength):
            """Without its level, which is that of the recording whatever is done."""
            settings = {"vocoder": "source_filter", "num_noises": 1, "strength": strength}
            generator = torch.Generator().manual_seed(0)
            made = pipe(vowel, RATE, method=method, generator=generator, **settings, **self.SAID)
            assert made.methods == [method if strength else method.replace("both", "shift")]
            return made.log_mels[0] - made.log_mels[0].mean()

        added = spectrum("both", 1.0) - spectrum("both", 0.0)
        alone = spectrum("diffusion", 1.0) - spectrum("diffusion", 0.0)
        share = float((added * alone).sum() / alone.square().sum())
        assert share == pytest.approx(0.5, abs=0.1)
