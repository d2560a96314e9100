"""Emotion heads on every kind of encoder that is named, at toy size."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_components import make_wave
from toy_encoders import save_toy_encoder
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
)

from modeling import (
    EmotionTransformerConfig,
    EmotionTransformerFeatureExtractor,
    EmotionTransformerForAudioClassification,
)
from pipelines import EmotionClassificationPipeline

RATE = 16_000
KINDS = ("whisper", "wav2vec2", "wav2vec2-layer-norm", "hubert", "wavlm", "wav2vec2-bert")
EMOTIONS = ["neutral", "happiness", "sadness", "anger", "fear", "disgust"]


def voice(seconds, seed=0):
    return make_wave(seconds, RATE, seed)


def randomize_heads(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.heads.parameters(), model.layer_weights]:
            tensor.normal_(std=0.3, generator=generator)
        model.statistics[:, 0].normal_(generator=generator)
    return model.eval()


@pytest.fixture(scope="module", params=KINDS)
def classifier(request, tmp_path_factory):
    """Model and front end on one kind of encoder."""
    folder = save_toy_encoder(tmp_path_factory.mktemp("encoder"), request.param)
    model = EmotionTransformerForAudioClassification.from_encoder(
        folder, layers=(1, 3), projection_size=8, attention_size=4
    )
    return randomize_heads(model), EmotionTransformerFeatureExtractor.from_encoder(folder)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = save_toy_encoder(tmp_path_factory.mktemp("whisper"), dtype=torch.float16)
    model = EmotionTransformerForAudioClassification.from_encoder(folder, projection_size=8)
    return randomize_heads(model), EmotionTransformerFeatureExtractor.from_encoder(folder)


@torch.no_grad()
def logits_of(model, features, **kwargs):
    return model(**features, **kwargs).logits


def test_a_recording_says_the_same_alone_and_in_a_batch_with_longer_ones(classifier):
    model, extractor = classifier
    waves = [voice(0.5), voice(1.31, seed=1), voice(0.83, seed=2)]
    together = logits_of(model, extractor(waves, sampling_rate=RATE, return_tensors="pt"))
    for wave, expected in zip(waves, together, strict=True):
        alone = logits_of(model, extractor(wave, sampling_rate=RATE, return_tensors="pt"))[0]
        torch.testing.assert_close(alone, expected, atol=2e-4, rtol=2e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_the_folder_is_all_that_is_needed(classifier, tmp_path):
    model, extractor = classifier
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
    features = AutoFeatureExtractor.from_pretrained(tmp_path)
    before = logits_of(model, extractor(voice(0.7), sampling_rate=RATE, return_tensors="pt"))
    after = logits_of(loaded, features(voice(0.7), sampling_rate=RATE, return_tensors="pt"))
    torch.testing.assert_close(before, after)


def test_level_means_nothing(classifier):
    model, extractor = classifier
    wave = voice(0.9)
    here, louder = (
        logits_of(model, extractor(w, sampling_rate=RATE, return_tensors="pt"))
        for w in (wave, 10 * wave)
    )
    torch.testing.assert_close(here, louder, atol=1e-3, rtol=1e-3)


class TestEncoder:
    def test_is_cut_after_the_last_layer_that_is_heard(self, classifier):
        model, _ = classifier
        names = {
            name for name in model.encoder.state_dict() if re.search(r"(^|\.)layers\.2\.", name)
        }
        assert names
        assert not [n for n in model.encoder.state_dict() if re.search(r"(^|\.)layers\.3\.", n)]

    def test_is_frozen_in_single_precision_whatever_the_checkpoint_holds(self, whisper):
        model, extractor = whisper
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        model.train()
        output = model(
            **extractor([voice(0.5)] * 2, sampling_rate=RATE, return_tensors="pt"),
            labels=torch.tensor([0, 1]),
        )
        output.loss.backward()
        model.eval()
        assert all(p.grad is None for p in model.encoder.parameters())
        assert model.heads.weight.grad.abs().sum() > 0
        model.zero_grad()

    def test_hears_what_whisper_itself_hears(self, whisper, tmp_path):
        """On 30 s, where Whisper's own forward can be asked."""
        model, extractor = whisper
        features = extractor(voice(30.0), sampling_rate=RATE, return_tensors="pt")
        own = model.encoder(
            features["input_features"].transpose(1, 2), output_hidden_states=True
        ).hidden_states
        frames, _ = model.encode(features["input_features"])
        size = model.config.encoder.d_model
        for i, layer in enumerate(model.config.layers[:2]):
            expected = own[layer].unflatten(1, (-1, 2)).mean(dim=2)
            torch.testing.assert_close(
                frames[..., i * size : (i + 1) * size], expected, atol=1e-4, rtol=1e-4
            )

    def test_costs_what_a_recording_lasts(self, whisper):
        _, extractor = whisper
        features = extractor(voice(1.0), sampling_rate=RATE, return_tensors="pt")
        assert features["input_features"].shape == (1, 100, 80)

    def test_last_layers_train_when_asked(self, tmp_path):
        folder = save_toy_encoder(tmp_path)
        model = EmotionTransformerForAudioClassification.from_encoder(folder)
        model.train_encoder(last=1)
        trained = {n for n, p in model.encoder.named_parameters() if p.requires_grad}
        assert trained
        assert all(name.startswith("layers.2.") for name in trained)
        with pytest.raises(ValueError, match="Bad number of layers 7, expected 1 to 3"):
            model.train_encoder(last=7)

    @pytest.mark.parametrize("layers", [(), (0, 1), (5,), (2, 2)])
    def test_layers_that_are_not_there_are_refused(self, layers, tmp_path):
        folder = save_toy_encoder(tmp_path)
        with pytest.raises(
            ValueError, match=r"Bad layers .*, expected different ones among 1 to 4"
        ):
            EmotionTransformerForAudioClassification.from_encoder(folder, layers=layers)


class TestCalibration:
    def test_a_room_has_the_statistics_of_its_recordings_and_three_of_unknown_origin(self, whisper):
        model, extractor = whisper
        waves = [voice(0.6, seed) for seed in range(4)]
        inputs = [extractor(w, sampling_rate=RATE, return_tensors="pt") for w in waves]
        model.calibrate([x["input_features"][0] for x in inputs], name="room")
        frames = torch.cat([model.encode(x["input_features"])[0][0] for x in inputs])
        (mean, std), (unknown_mean, unknown_std) = model.statistics_of("room"), model.statistics[0]
        torch.testing.assert_close(mean, (4 * frames.mean(0) + 3 * unknown_mean) / 7)
        variance = (4 * frames.var(0, correction=0) + 3 * unknown_std**2) / 7
        torch.testing.assert_close(std, variance.sqrt())
        model.forget("room")
        assert model.names == []

    def test_pipeline_keeps_it_under_a_name_and_saves_it(self, whisper, tmp_path):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        waves = [voice(0.6, seed) for seed in range(4)]
        pipe.calibrate(waves, name="desk", speakers=["a", "a", "b", "b"])
        assert model.names == ["desk", "desk/a", "desk/b"]
        plain, here, of_a = (pipe(waves[0], corpus=c) for c in (None, "desk", "desk/a"))
        assert plain != here != of_a
        pipe.save_pretrained(tmp_path)
        again = EmotionClassificationPipeline(
            model=AutoModelForAudioClassification.from_pretrained(tmp_path),
            feature_extractor=AutoFeatureExtractor.from_pretrained(tmp_path),
        )
        scores = {g["label"]: g["score"] for g in again(waves[0], corpus="desk")}
        for guess in here:
            assert scores[guess["label"]] == pytest.approx(guess["score"], abs=1e-5)
        for name in ("desk", "desk/a", "desk/b"):
            model.forget(name)

    def test_a_list_is_calibrated_by_itself(self, whisper):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        waves = [voice(0.6, seed) for seed in range(3)]
        pipe.calibrate(waves, name="these")
        expected = pipe(waves, corpus="these")
        model.forget("these")
        assert pipe(waves, calibrate=True) == expected
        assert pipe(iter(waves), calibrate=True) == expected
        assert model.names == []
        with pytest.raises(ValueError, match="expected one"):
            pipe(waves, calibrate=True, corpus="these")

    def test_calibrating_again_forgets_the_voices_of_before(self, whisper):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        waves = [voice(0.6, seed) for seed in range(2)]
        pipe.calibrate(waves, name="desk", speakers=np.array(["a", "b"]))
        pipe.calibrate(waves, name="desk2", speakers=["a", "b"])
        pipe.calibrate(waves, name="desk", speakers=iter(["c", "c"]))
        assert model.names == ["desk", "desk/c", "desk2", "desk2/a", "desk2/b"]
        for name in ("desk", "desk2"):
            model.forget(name)
        assert model.names == []

    @pytest.mark.parametrize(
        "one", [voice(0.4), np.stack([voice(0.4)] * 2, axis=1), "a.wav", Path("a.wav"), b"RIFF"]
    )
    def test_one_recording_cannot_calibrate_itself(self, whisper, one):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        with pytest.raises(ValueError, match="one recording, expected a list of several"):
            pipe(one, calibrate=True)

    def test_what_is_meant_as_a_name_is_said(self, whisper):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        with pytest.raises(ValueError, match="Bad calibrate 'me', expected True or False"):
            pipe([voice(0.4)] * 2, calibrate="me")
        with pytest.raises(ValueError, match="Bad name 'these recordings'"):
            pipe.calibrate([voice(0.4)] * 2, name="these recordings")

    def test_batches_mix_nothing(self, whisper):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        waves = [voice(0.4 + 0.2 * seed, seed) for seed in range(3)]
        pipe.calibrate(waves, name="room")
        for one, other in zip(
            pipe(waves, corpus="room"), pipe(waves, corpus="room", batch_size=3), strict=True
        ):
            scores = {g["label"]: g["score"] for g in other}
            assert all(scores[g["label"]] == pytest.approx(g["score"], abs=1e-4) for g in one)
        model.forget("room")

    @pytest.mark.parametrize(
        ("recordings", "options", "message"),
        [
            ([], {"name": "x"}, "[Ee]mpty|no recordings"),
            ([voice(0.3)], {"name": ""}, "Bad name ''"),
            ([voice(0.3)], {"name": "x", "speakers": ["a", "b"]}, "got 2 for 1"),
            ([voice(0.3)], {"name": "x", "speakers": "a"}, "Bad speakers 'a'"),
            ([voice(0.3)], {"name": "x", "speakers": [None]}, "Bad speaker None of recording 0"),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_is_kept(
        self, whisper, recordings, options, message
    ):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        with pytest.raises(ValueError, match=message):
            pipe.calibrate(recordings, **options)
        assert model.names == []

    def test_a_name_that_nothing_is_held_under_is_refused(self, whisper):
        model, extractor = whisper
        pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
        with pytest.raises(ValueError, match="Bad corpus 'nowhere'"):
            pipe(voice(0.3), corpus="nowhere")


def test_temperature_makes_scores_flatter_and_changes_no_verdict(whisper):
    model, extractor = whisper
    features = extractor(voice(0.8), sampling_rate=RATE, return_tensors="pt")
    sharp = logits_of(model, features).softmax(-1)
    model.config.score_temperature = 3.0
    flat = logits_of(model, features).softmax(-1)
    model.config.score_temperature = 1.0
    assert flat.max() < sharp.max()
    assert flat.argmax() == sharp.argmax()


def test_frames_of_a_cached_encoder_give_what_the_recording_gives(whisper):
    model, extractor = whisper
    features = extractor([voice(0.5), voice(0.9)], sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        frames, mask = model.encode(**features)
        cached = model(frames=model.normalize(frames), attention_mask=mask).logits
    torch.testing.assert_close(cached, logits_of(model, features))
    with pytest.raises(ValueError, match="either"):
        model()


def test_export_takes_other_batches_and_lengths(whisper):
    model, extractor = whisper
    batches = [
        extractor([voice(seconds) for seconds in lengths], return_tensors="pt")
        for lengths in ((0.5, 0.9), (1.3, 0.2, 0.7))
    ]
    sizes = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(
        model, tuple(batches[0].values()), dynamic_shapes=(sizes, sizes)
    ).module()
    for batch in batches:
        found = exported(*batch.values())
        torch.testing.assert_close(found.logits, logits_of(model, batch))


def test_trainer_of_transformers_measures_logits(whisper, tmp_path):
    model, extractor = whisper
    features = extractor([voice(0.5)] * 4, sampling_rate=RATE, return_tensors="pt")
    rows = [
        {"input_features": x, "attention_mask": m, "labels": i}
        for i, (x, m) in enumerate(zip(*features.values(), strict=True))
    ]
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), report_to=[], use_cpu=True),
        eval_dataset=rows,
        compute_metrics=lambda p: {"hits": float((p.predictions.argmax(-1) == p.label_ids).sum())},
    )
    assert 0 <= trainer.evaluate()["eval_hits"] <= 4


def test_silence_and_single_samples_have_finite_scores(classifier):
    model, extractor = classifier
    for wave in (np.zeros(8_000, np.float32), np.ones(1, np.float32), voice(0.03)):
        features = extractor(wave, sampling_rate=RATE, return_tensors="pt")
        assert torch.isfinite(logits_of(model, features)).all()


def test_configuration_refuses_what_cannot_be():
    for name, value in (("dropout", 1.0), ("score_temperature", 0.0), ("frame_stride", 0)):
        with pytest.raises(ValueError, match=f"Bad {name} {value}"):
            EmotionTransformerConfig(**{name: value})


@pytest.mark.slow
def test_loads_where_this_project_is_not_importable(whisper, tmp_path):
    model, extractor = whisper
    pipe = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
    pipe.save_pretrained(tmp_path / "model")
    expected = {g["label"]: g["score"] for g in pipe(voice(0.7))}
    np.save(tmp_path / "wave.npy", voice(0.7))
    script = Path(__file__).parents[1] / "fresh_transformer.py"
    command = [sys.executable, "-I", str(script), str(tmp_path / "model")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["importable"] == []
    scores = {g["label"]: g["score"] for g in report["guesses"]}
    assert scores == pytest.approx(expected, abs=1e-4)
    assert report["calibrated"] != report["guesses"]
