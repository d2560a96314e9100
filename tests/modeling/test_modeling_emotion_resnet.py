import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_components import randomize
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
)

from datasets_scripts import decode_audio, load_corpus
from modeling import (
    EmotionFeatureExtractor,
    EmotionResNetConfig,
    EmotionResNetForAudioClassification,
)

EMOTIONS = ["neutral", "happiness", "sadness", "anger", "fear", "disgust"]
RESNET_50 = {
    "embedding_size": 64,
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (3, 4, 6, 3),
    "frame_strides": (1, 2, 2, 2),
    "layer_type": "bottleneck",
}


def build(layer_type="basic", **kwargs):
    sizes = {"embedding_size": 8, "hidden_sizes": (8, 16, 16), "depths": (1, 2, 1)}
    sizes |= {"frame_strides": (1, 2, 1), "projection_size": 16}
    config = EmotionResNetConfig(layer_type=layer_type, **(sizes | kwargs))
    return EmotionResNetForAudioClassification(config)


@pytest.fixture(scope="module", params=["basic", "bottleneck"])
def model(request):
    return randomize(build(request.param)).eval()


@pytest.fixture
def features():
    return torch.randn(4, 200, 80, generator=torch.Generator().manual_seed(1))


def padded_batch(clips, frames):
    """Clips in a batch whose padding holds noise, so that only the mask can hide it."""
    batch = 10 * torch.randn(len(clips), frames, 80, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(len(clips), frames, dtype=torch.long)
    for i, clip in enumerate(clips):
        batch[i, : len(clip)] = clip
        mask[i, : len(clip)] = 1
    return batch, mask


@pytest.fixture(scope="module")
@torch.no_grad()
def alone_and_padded(model):
    """Outputs of clips one by one, and in one batch that is padded to 861 frames."""
    generator = torch.Generator().manual_seed(1)
    lengths = (1, 2, 37, 64, 173, 200)
    clips = [torch.randn(length, 80, generator=generator) for length in lengths]
    options = {"output_attentions": True, "output_hidden_states": True}
    alone = [model(clip[None], **options) for clip in clips]
    batch, mask = padded_batch(clips, 861)
    return alone, model(batch, attention_mask=mask, **options)


class TestPadding:
    @pytest.mark.parametrize("name", ["logits", "embeddings"])
    def test_is_invisible(self, alone_and_padded, name):
        alone, padded = alone_and_padded
        expected = torch.cat([output[name] for output in alone])
        torch.testing.assert_close(padded[name], expected, atol=1e-4, rtol=1e-4)
        assert (expected[1:] - expected[:-1]).abs().max() > 0.01

    def test_gets_no_attention(self, alone_and_padded):
        alone, padded = alone_and_padded
        for output, attention in zip(alone, padded.attentions[0], strict=True):
            expected = output.attentions[0][0]
            frames = expected.shape[-1]
            torch.testing.assert_close(attention[..., :frames], expected, atol=1e-4, rtol=1e-4)
            assert (attention[..., frames:] == 0).all()

    def test_stays_zero_in_every_stage(self, alone_and_padded):
        alone, padded = alone_and_padded
        for stage, states in enumerate(padded.hidden_states):
            for output, state in zip(alone, states, strict=True):
                frames = output.hidden_states[stage].shape[-1]
                assert (state[..., frames:] == 0).all()

    def test_mask_of_ones_is_the_default(self, model, features):
        with torch.no_grad():
            masked = model(features, attention_mask=torch.ones(4, 200, dtype=torch.long))
            torch.testing.assert_close(masked.logits, model(features).logits)


class TestAttention:
    @pytest.fixture
    def attention(self, model, features):
        with torch.no_grad():
            return model(features, output_attentions=True).attentions[0]

    def test_is_one_map_over_frequency_and_time_per_emotion(self, attention):
        assert attention.shape == (4, 6, 10, 25)
        torch.testing.assert_close(attention.sum(dim=(2, 3)), torch.ones(4, 6))
        assert (attention >= 0).all()

    def test_each_emotion_looks_elsewhere(self, attention):
        for one in range(6):
            for other in range(one):
                distance = (attention[:, one] - attention[:, other]).abs().sum(dim=(1, 2))
                assert (distance > 0.05).all()

    def test_starts_even(self, features):
        attention = build()(features, output_attentions=True).attentions[0]
        torch.testing.assert_close(
            attention, torch.full_like(attention, 1 / attention[0, 0].numel())
        )

    def test_a_head_judges_by_its_own_map_alone(self, features):
        model = randomize(build()).eval()
        with torch.no_grad():
            before = model(features).logits
            model.heads.attention.deviation.weight[3] += 1.0
            after = model(features).logits
        changed = (after - before).abs().amax(dim=0) > 1e-6
        assert changed.tolist() == [False, False, False, True, False, False]


class TestOutputs:
    def test_default_names_the_six_emotions_in_order(self, features):
        model = build()
        assert model(features).logits.shape == (4, 6)
        assert list(model.config.id2label.values()) == EMOTIONS
        assert model.config.label2id == {name: i for i, name in enumerate(EMOTIONS)}

    def test_embedding_has_the_documented_size(self, model, features):
        assert model(features).embeddings.shape == (4, 32)

    def test_hidden_states_are_those_of_the_stem_and_of_each_stage(self, model, features):
        states = model(features, output_hidden_states=True).hidden_states
        assert [state.shape[1] for state in states] == [8, 8, 16, 16]
        assert [state.shape[3] for state in states] == [50, 50, 25, 25]

    def test_nothing_is_returned_that_was_not_asked_for(self, model, features):
        assert list(model(features).keys()) == ["logits", "embeddings"]

    def test_configuration_can_ask_for_more(self, features):
        model = build(output_hidden_states=True, output_attentions=True, return_dict=False)
        logits, embeddings, hidden_states, (attention,) = model(features)
        assert (logits.shape, embeddings.shape) == ((4, 6), (4, 32))
        assert len(hidden_states) == 4
        assert attention.shape[:2] == (4, 6)

    def test_plain_tuple(self, model, features):
        loss, logits, _ = model(
            features, labels=torch.zeros(4, dtype=torch.long), return_dict=False
        )
        assert loss.shape == ()
        assert logits.shape == (4, 6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_close(self, model, features, dtype):
        half = build(model.config.layer_type).eval()
        half.load_state_dict(model.state_dict())
        with torch.no_grad():
            logits = half.to(dtype)(features.to(dtype)).logits
            assert logits.dtype == dtype
            torch.testing.assert_close(
                logits.float().softmax(-1), model(features).logits.softmax(-1), atol=0.05, rtol=0
            )

    def test_autocast_is_close_and_heads_stay_in_full_precision(self, model, features):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = model(features).logits
        assert logits.dtype == torch.float32
        with torch.no_grad():
            expected = model(features).logits.softmax(-1)
        torch.testing.assert_close(logits.softmax(-1), expected, atol=0.05, rtol=0)

    @pytest.mark.parametrize("shape", [(4, 200, 64), (200, 80), (4, 1, 200, 80), (4, 80, 200)])
    def test_other_shapes_are_refused(self, model, shape):
        with pytest.raises(
            ValueError, match=r"Bad input_features of shape .* \(batch, frames, 80\)"
        ):
            model(torch.zeros(shape))

    def test_clip_without_a_real_frame_is_refused(self, model, features):
        mask = torch.ones(4, 200)
        mask[2] = 0
        with pytest.raises(ValueError, match="Bad attention_mask, expected a real frame"):
            model(features, attention_mask=mask)


class TestTraining:
    def test_gradients_reach_every_parameter(self, features):
        model = randomize(build(dropout=0.0)).train()
        model(features, labels=torch.tensor([0, 1, 2, 5])).loss.backward()
        largest = {name: p.grad.abs().max().item() for name, p in model.named_parameters()}
        assert [name for name, gradient in largest.items() if gradient < 1e-6] == []

    def test_a_fresh_model_has_no_dead_first_step(self, features):
        model = build().train()
        model(features, labels=torch.tensor([0, 1, 2, 5])).loss.backward()
        assert model.heads.attention.deviation.weight.grad.abs().max() > 1e-6
        assert model.emotion_resnet.stem.convolution.weight.grad.abs().max() > 1e-6

    def test_hard_labels_are_cross_entropy(self, model, features):
        labels = torch.tensor([0, 5, 2, 3])
        with torch.no_grad():
            output = model(features, labels=labels)
        torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, labels))

    def test_loss_of_soft_labels_is_the_mixture_of_the_losses(self, model, features):
        one, other = torch.tensor([0, 5, 2, 3]), torch.tensor([4, 1, 2, 0])
        mixed = 0.3 * F.one_hot(one, 6) + 0.7 * F.one_hot(other, 6)
        with torch.no_grad():
            losses = [model(features, labels=labels).loss for labels in (mixed, one, other)]
        torch.testing.assert_close(losses[0], 0.3 * losses[1] + 0.7 * losses[2])

    def test_learns_emotions_of_the_embedded_corpus(self, tmp_path):
        dataset = load_corpus("toy_emotions", speakers=2, repetitions=1, cache_dir=str(tmp_path))
        waves = [decode_audio(audio) for audio in dataset["audio"]]
        extractor = EmotionFeatureExtractor(mean=-6.0, std=2.5)
        batch = extractor(
            [samples for samples, _ in waves],
            sampling_rate=waves[0][1],
            padding="longest",
            return_tensors="pt",
        )
        torch.manual_seed(0)
        model = build().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        losses = []
        for _ in range(15):
            loss = model(**batch, labels=torch.tensor(dataset["emotion"][:])).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(np.log(6), abs=0.3)
        assert losses[-1] < 0.6 * losses[0]

    def test_trainer_of_transformers_trains_and_scores(self, tmp_path):
        """Logits alone reach `compute_metrics`, so that `argmax` works."""
        generator = torch.Generator().manual_seed(0)
        rows = [
            {
                "input_features": torch.randn(40, 80, generator=generator) + (i % 2),
                "attention_mask": torch.ones(40, dtype=torch.long),
                "labels": i % 2,
            }
            for i in range(16)
        ]
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=4,
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )

        def accuracy(prediction):
            predicted = prediction.predictions.argmax(axis=-1)
            return {"accuracy": float((predicted == prediction.label_ids).mean())}

        trainer = Trainer(
            build(num_labels=2, dropout=0.0),
            arguments,
            train_dataset=rows,
            eval_dataset=rows,
            compute_metrics=accuracy,
        )
        before = trainer.evaluate()
        trainer.train()
        after = trainer.evaluate()
        assert after["eval_loss"] < before["eval_loss"]
        assert 0 <= after["eval_accuracy"] <= 1
        assert trainer.predict(rows).predictions.shape == (16, 2)


class TestGraphs:
    """Nothing in the network depends on values, so that it can be exported and compiled whole."""

    @pytest.fixture
    def model(self):
        return randomize(build()).eval()

    @pytest.fixture
    def clips(self):
        """Features and mask of three clips, in a batch that the graph was not made with."""
        generator = torch.Generator().manual_seed(3)
        return padded_batch([torch.randn(n, 80, generator=generator) for n in (30, 90, 158)], 166)

    def test_export_takes_other_batches_and_lengths(self, model, features, clips):
        mask = torch.ones(4, 200, dtype=torch.long)
        sizes = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
        exported = torch.export.export(model, (features, mask), dynamic_shapes=(sizes, sizes))
        for batch in ((features, mask), clips):
            expected = model(*batch)
            found = exported.module()(*batch)
            torch.testing.assert_close(found.logits, expected.logits)
            torch.testing.assert_close(found.embeddings, expected.embeddings)

    def test_compiles_without_a_break(self, model, clips):
        # The graph is what could break; code is not generated, which takes a minute.
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(*clips).logits, model(*clips).logits)
        torch.compiler.reset()


class TestSelectEmotions:
    def test_keeps_the_named_heads_in_the_named_order(self, model, features):
        selected = model.select_emotions(["disgust", "neutral"])
        with torch.no_grad():
            expected = model(features).logits[:, [5, 0]]
            torch.testing.assert_close(selected(features).logits, expected)
        assert selected.config.id2label == {0: "disgust", 1: "neutral"}
        assert selected.config.label2id == {"disgust": 0, "neutral": 1}

    def test_leaves_the_model_as_it_was(self, model, features):
        with torch.no_grad():
            before = model(features).logits
            selected = model.select_emotions(["fear"])
            selected.heads.weight.zero_()
            selected.emotion_resnet.stem.convolution.weight.zero_()
            torch.testing.assert_close(model(features).logits, before)
        assert model.config.num_labels == 6

    def test_keeps_precision_and_mode(self):
        model = build().to(torch.bfloat16)
        assert model.select_emotions(["fear"]).dtype == torch.bfloat16
        assert model.train().select_emotions(["fear"]).training
        assert not model.eval().select_emotions(["fear"]).training

    def test_more_classes_than_emotions_can_be_reduced(self, features):
        names = ["boredom", *EMOTIONS]
        model = build(label2id={name: i for i, name in enumerate(names)}).eval()
        selected = model.select_emotions(EMOTIONS)
        assert list(selected.config.id2label.values()) == EMOTIONS
        assert selected(features).logits.shape == (4, 6)

    def test_unknown_emotions_are_refused(self, model):
        with pytest.raises(ValueError, match=r"No head for \['calm'\], expected emotions among"):
            model.select_emotions(["fear", "calm"])

    @pytest.mark.parametrize("emotions", [[], ["fear", "fear"]])
    def test_none_and_twice_are_refused(self, model, emotions):
        with pytest.raises(ValueError, match="expected one or more different ones"):
            model.select_emotions(emotions)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"layer_type": "wide"}, r"Bad layer_type 'wide', expected one of \['basic', 'bottl"),
            ({"depths": (2, 2)}, r"must match, got \[16, 32, 64, 96\] and \[2, 2\]"),
            ({"frame_strides": (2,)}, r"must match, got \[2\] and \[1, 2, 2, 1\]"),
            ({"dropout": 1.0}, "Bad dropout 1.0, expected 0 <= dropout < 1"),
            ({"dropout": -0.1}, "Bad dropout -0.1"),
        ],
    )
    def test_impossible_settings_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            EmotionResNetConfig(**settings)

    @pytest.mark.parametrize(
        "labels",
        [
            {"id2label": {0: "joy", 1: "boredom"}},
            {"label2id": {"joy": 0, "boredom": 1}},
            {"id2label": {"0": "joy", "1": "boredom"}, "label2id": {"joy": 0, "boredom": 1}},
        ],
    )
    def test_labels_are_those_of_the_data(self, labels):
        config = EmotionResNetConfig(**labels)
        assert config.id2label == {0: "joy", 1: "boredom"}
        assert config.label2id == {"joy": 0, "boredom": 1}
        assert config.num_labels == 2

    def test_number_of_labels_alone_gives_unnamed_ones(self):
        assert EmotionResNetConfig(num_labels=3).id2label == {i: f"LABEL_{i}" for i in range(3)}

    def test_round_trip(self, tmp_path):
        config = EmotionResNetConfig(**RESNET_50, num_mel_bins=64, dropout=0.3, id2label={0: "joy"})
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is EmotionResNetConfig
        assert loaded.to_diff_dict() == config.to_diff_dict()
        assert loaded.hidden_sizes == [256, 512, 1024, 2048]

    def test_resnet_50_of_the_paper_builds(self):
        with torch.device("meta"):
            model = EmotionResNetForAudioClassification(EmotionResNetConfig(**RESNET_50))
        # ResNet-50 without its head has 23.5 million; attention layers and heads add about a third.
        assert 23.5e6 < model.num_parameters() < 33e6
        trunk = model.emotion_resnet.modules()
        large = [m for m in trunk if isinstance(m, torch.nn.Conv2d) and m.bias is None]
        assert len(large) == 49 + 4

    def test_default_is_small(self):
        with torch.device("meta"):
            model = EmotionResNetForAudioClassification(EmotionResNetConfig())
        assert model.num_parameters() < 0.5e6


class TestSaving:
    def test_round_trip_gives_the_same_logits(self, model, features, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = EmotionResNetForAudioClassification.from_pretrained(tmp_path)
        assert not loaded.training
        assert (tmp_path / "model.safetensors").is_file()
        with torch.no_grad():
            torch.testing.assert_close(loaded(features).logits, model(features).logits)

    def test_loads_by_auto_class_in_process_without_trust(
        self, model_folder, emotion_classifier, features
    ):
        loaded = AutoModelForAudioClassification.from_pretrained(model_folder)
        assert type(loaded) is EmotionResNetForAudioClassification
        with torch.no_grad():
            expected = emotion_classifier.model(features).logits
            torch.testing.assert_close(loaded(features).logits, expected)

    def test_loads_by_auto_class_where_this_project_is_not_importable(
        self, fresh_process, emotion_classifier, wave
    ):
        assert fresh_process["importable"] == []
        assert fresh_process["model"] == "EmotionResNetForAudioClassification"
        batch = emotion_classifier.feature_extractor(wave, return_tensors="pt")
        with torch.no_grad():
            expected = emotion_classifier.model(**batch).logits
        torch.testing.assert_close(
            torch.tensor(fresh_process["logits"]), expected, atol=1e-5, rtol=1e-5
        )

    def test_trunk_is_kept_when_it_is_loaded_for_other_emotions(
        self, model_folder, emotion_classifier
    ):
        names = dict(enumerate(["calm", "surprise", *EMOTIONS]))
        label2id = {name: i for i, name in names.items()}
        loaded = AutoModelForAudioClassification.from_pretrained(
            model_folder, id2label=names, label2id=label2id, ignore_mismatched_sizes=True
        )
        assert loaded.heads.weight.shape[0] == 8
        old = emotion_classifier.model.emotion_resnet.state_dict()
        for name, value in loaded.emotion_resnet.state_dict().items():
            assert torch.equal(value, old[name]), name


@pytest.mark.parametrize("frame_strides", [(1, 1), (1, 2), (2, 2)])
def test_it_learns_in_channels_last_order(frame_strides):
    """In which a strided convolution of one position ends the process (PyTorch 2.11)."""
    config = EmotionResNetConfig(
        embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1), frame_strides=frame_strides
    )
    torch.manual_seed(0)
    model = EmotionResNetForAudioClassification(config).to(memory_format=torch.channels_last)
    features = torch.randn(6, 160, 80)
    labels = torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(model(features).logits, labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
