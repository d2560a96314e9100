"""What the page does with recordings, without the page."""

from pathlib import Path

import numpy as np
import pytest
from toy_encoders import save_toy_encoder
from transformers import AutoFeatureExtractor, Wav2Vec2ForSequenceClassification

from datasets_scripts import EMOTIONS
from space import actions
from space.actions import Models, calibrate, enhance, forget, recognise

REFUSED = {
    "text.wav": "'text.wav' cannot be read as a recording, expected wav, flac, ogg or mp3",
    "a minute and more.ogg": "lasts 61 seconds, expected 0.25 to 60",
    "click.wav": "lasts 0.1 seconds, expected 0.25 to 60",
    "silence.wav": "'silence.wav' is silent, expected somebody who speaks",
    "many_channels.flac": "has 8 channels at 96000 Hz, expected at most two",
}
# As few as a result takes.
QUICK = {"method": "diffusion", "num_inference_steps": 2, "num_noises": 1}


class TestUploads:
    @pytest.mark.parametrize("name", REFUSED)
    @pytest.mark.parametrize("action", [recognise, enhance])
    def test_what_is_no_recording_of_speech_is_refused_in_one_sentence(
        self, models, uploads, action, name
    ):
        with pytest.raises(ValueError, match=REFUSED[name]) as error:
            action(models, uploads / name)
        assert str(uploads) not in str(error.value)
        assert "\n" not in str(error.value)

    def test_nothing_is_refused(self, models):
        with pytest.raises(ValueError, match="no recording yet"):
            recognise(models, None)

    def test_noise_is_heard_but_means_nothing(self, models, uploads):
        result = recognise(models, uploads / "noise & hum.wav")
        assert result.warnings == (
            "There is hardly any speech in 'noise & hum.wav': emotions that are named mean "
            "nothing.",
        )

    def test_who_speaks_longer_than_the_classifier_listens_is_told(self, models, uploads):
        (warning,) = recognise(models, uploads / "twelve_seconds.flac").warnings
        assert warning == "The classifier hears the first 10 seconds."


@pytest.fixture(scope="module")
def heard(models, uploads):
    return recognise(models, uploads / "speech_0.wav")


class TestRecognise:
    def test_probabilities_are_those_of_the_pipeline(self, heard, models, uploads):
        result = heard
        alone = models.classifier(str(uploads / "speech_0.wav"))
        assert result.probabilities == {guess["label"]: guess["score"] for guess in alone}
        assert set(result.probabilities) == set(EMOTIONS)
        assert result.warnings == ()

    def test_pictures_are_of_this_recording(self, heard, models, uploads):
        first, second = heard, recognise(models, uploads / "speech_1.wav")
        for picture in (first.attention, first.pitch):
            assert min(picture.size) > 100
        assert first.pitch != second.pitch
        assert first.attention != second.attention

    def test_other_peoples_classifiers_have_no_maps_of_emotions(self, uploads, tmp_path):
        name = save_toy_encoder(tmp_path, "wav2vec2")
        model = Wav2Vec2ForSequenceClassification.from_pretrained(name, num_labels=3)
        model.save_pretrained(tmp_path)
        AutoFeatureExtractor.from_pretrained(name).save_pretrained(tmp_path)
        other = Models(name)
        result = recognise(other, uploads / "speech_0.wav")
        assert result.attention is None
        assert set(result.probabilities) == {"LABEL_0", "LABEL_1", "LABEL_2"}
        with pytest.raises(ValueError, match="holds no statistics"):
            calibrate(other, [uploads / "speech_0.wav"])


class TestEnhance:
    def test_what_is_heard_is_made_clearer(self, heard, models, uploads):
        made = enhance(models, uploads / "speech_0.wav", **QUICK, vocoder="source_filter")
        assert made.method == "diffusion"
        assert made.emotion == max(made.before, key=made.before.get)
        assert made.before == heard.probabilities
        assert set(made.after) == set(EMOTIONS)
        assert len(made.samples) / made.sampling_rate == pytest.approx(1.29, abs=0.02)
        assert made.pitch.width > made.pitch.height
        assert made.change.width > made.change.height

    def test_the_shift_makes_clearer_and_both_convert(self, heard, models, uploads):
        own = max(heard.probabilities, key=heard.probabilities.get)
        other = "fear" if own != "fear" else "anger"
        for emotion, method in ((None, "shift"), (own, "shift"), (other, "both")):
            assert enhance(models, uploads / "speech_0.wav", emotion).method == method

    def test_converted_sound_has_the_level_that_the_enhancer_gave_it(self, models, uploads):
        """A page that made everything equally loud would take the arousal away."""
        settings = {"method": "shift", "intensity": 1.5}
        made = enhance(models, uploads / "speech_0.wav", "anger", **settings)
        alone = models.enhancer(
            str(uploads / "speech_0.wav"),
            emotion="anger",
            source_emotion=max(made.before, key=made.before.get),
            **settings,
        )
        assert made.emotion == "anger"
        np.testing.assert_allclose(made.samples / 32_767, alone.audios[0], atol=1e-4)

    def test_settings_out_of_range_are_refused(self, models, uploads):
        with pytest.raises(ValueError, match="Bad strength 2, expected 0 to 1"):
            enhance(models, uploads / "speech_0.wav", strength=2)


class TestCalibrate:
    def test_a_voice_changes_what_is_heard_for_whoever_calibrated(self, heard, models, uploads):
        voice = calibrate(models, [uploads / f"speech_{i}.wav" for i in (1, 2, 3)])
        calibrated = recognise(models, uploads / "speech_0.wav", voice)
        assert calibrated.probabilities != heard.probabilities
        assert calibrated.attention != heard.attention
        made = enhance(models, uploads / "speech_0.wav", voice=voice, **QUICK)
        assert made.before == calibrated.probabilities
        assert recognise(models, uploads / "speech_0.wav").probabilities == heard.probabilities
        forget(models, voice)
        assert voice not in models.classifier.names
        with pytest.raises(ValueError, match="calibrate again"):
            recognise(models, uploads / "speech_0.wav", voice)
        forget(models, voice)

    def test_so_many_are_held_and_the_oldest_gives_way(self, models, uploads, monkeypatch):
        monkeypatch.setattr(actions, "MOST_VOICES", 2)
        names = [calibrate(models, [uploads / "speech_1.wav"]) for _ in range(3)]
        assert models.voices == names[1:]
        assert names[0] not in models.classifier.names
        for name in names:
            forget(models, name)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ([], "Got 0 recordings to calibrate with, expected 1 to 20"),
            (["speech_0.wav"] * 21, "Got 21 recordings"),
            (["speech_0.wav", "text.wav"], "'text.wav' cannot be read"),
            (["speech_0.wav", "noise & hum.wav"], "hardly any speech in 'noise & hum"),
        ],
    )
    def test_what_is_no_voice_is_refused(self, models, uploads, names, message):
        with pytest.raises(ValueError, match=message):
            calibrate(models, [uploads / name for name in names])
        assert models.voices == []


class TestModels:
    def test_are_those_in_the_box_or_of_the_environment(self, monkeypatch):
        monkeypatch.delenv("SPEECH_EMOTION_CLASSIFIER", raising=False)
        monkeypatch.setenv("SPEECH_EMOTION_ENHANCER", "somebody/enhancer")
        named = Models.of_environment()
        assert named.classifier_name == actions.CLASSIFIER
        assert named.enhancer_name == "somebody/enhancer"

    def test_a_missing_box_names_the_variable(self, uploads):
        with pytest.raises(ValueError, match="no classifier in the box, expected one that SPEECH_"):
            recognise(Models(Path("nowhere")), uploads / "speech_0.wav")

    def test_visitors_do_not_see_folders_and_the_log_says_why(self, models, uploads, caplog):
        broken = Models(models.classifier_name, str(uploads))
        with pytest.raises(ValueError, match="enhancer cannot be loaded; the log") as error:
            enhance(broken, uploads / "speech_0.wav")
        assert str(uploads) not in str(error.value)
        assert str(uploads) in caplog.text
