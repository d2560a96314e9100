import pickle
from dataclasses import replace
from itertools import chain

import datasets
import numpy as np
import pytest
import torch
from toy_enhancer import LATENT_CHANNELS, STRIDE, make_extractor, make_vae

from datasets_scripts import EMOTIONS
from pipelines.emotion_enhancement import content_envelope, fold_frames
from training.config import AugmentationConfig, DiffusionConfig, DiffusionStageConfig
from training.data import load_corpora
from training.features import MelFeatures
from training.latents import (
    NO_EMOTION,
    AutoencoderExamples,
    DenoiserExamples,
    bucket_loader,
    collate,
    encode_moments,
    validation_batches,
)
from training.sampling import Crop

VECTOR_DIM, TIMESTEPS = 6, 1000
STAGE = DiffusionStageConfig(crop_seconds=0.5)


@pytest.fixture(scope="module")
def config(toy_spec):
    return DiffusionConfig(
        corpora={"toy_emotions": toy_spec},
        batch_size=6,
        emotion_dropout=0.25,
        vector_dropout=0.5,
        style_self_probability=0.1,
        content_warp=0.15,
    )


@pytest.fixture(scope="module")
def corpora(config):
    datasets.disable_progress_bars()
    return load_corpora(config)


@pytest.fixture(scope="module")
def features(corpora):
    features = MelFeatures(corpora.dataset, make_extractor(), crop_seconds=1.0)
    features.fit_statistics(corpora.fold.train)
    return features


@pytest.fixture(scope="module")
def vectors(corpora):
    return torch.randn(len(corpora.targets), VECTOR_DIM)


@pytest.fixture(scope="module")
def moments(corpora, features):
    rows = (*corpora.fold.train, *corpora.fold.validation)
    return dict(encode_moments(make_vae(), features, rows))


@pytest.fixture(scope="module")
def examples(config, corpora, features, vectors, moments):
    """Examples of those who train, or of those who validate, under changed settings."""

    def make(training=True, **settings):
        rows = corpora.fold.train if training else corpora.fold.validation
        return DenoiserExamples(
            features,
            corpora,
            {row: moments[row] for row in rows},
            vectors,
            replace(config, **settings),
            STRIDE,
            TIMESTEPS,
            training,
        )

    return make


@pytest.fixture(scope="module")
def source_of(features):
    """Finds the one recording that holds a stretch of features."""
    loaded = [features.load(row) for row in range(len(features.log_mels))]
    frames = np.concatenate(loaded)
    rows = np.repeat(np.arange(len(loaded)), [len(mel) for mel in loaded])

    def find(style):
        style = style.numpy()
        starts = np.flatnonzero(np.isclose(frames, style[0], atol=1e-5).all(axis=1))
        stretches = {start: frames[start : start + len(style)] for start in starts}
        (start,) = (i for i, s in stretches.items() if np.allclose(s, style, atol=1e-5))
        assert rows[start] == rows[start + len(style) - 1]
        return int(rows[start])

    return find


class TestStyle:
    @pytest.mark.parametrize("training", [True, False])
    def test_is_always_of_the_same_speaker_and_split(self, examples, corpora, source_of, training):
        made = examples(training)
        split = corpora.fold.train if training else corpora.fold.validation
        speakers = corpora.dataset["speaker"][:]
        for i, row in enumerate(split):
            source = source_of(made[Crop(row, 16, seed=i)]["style"])
            assert source in split
            assert speakers[source] == speakers[row]

    @pytest.mark.parametrize(
        ("probability", "low", "high"), [(0.0, 0, 0), (0.3, 0.1, 0.5), (1.0, 1, 1)]
    )
    def test_is_its_own_as_often_as_asked(
        self, examples, corpora, source_of, probability, low, high
    ):
        made = examples(style_self_probability=probability)
        row = corpora.fold.train[0]
        own = [source_of(made[Crop(row, 16, seed)]["style"]) == row for seed in range(40)]
        assert low <= np.mean(own) <= high

    def test_comes_with_every_emotion_so_that_it_says_none(self, examples, corpora, source_of):
        made, row = examples(style_self_probability=0.0), corpora.fold.train[0]
        sources = [source_of(made[Crop(row, 16, seed)]["style"]) for seed in range(60)]
        assert set(corpora.targets[sources]) == set(range(len(EMOTIONS)))

    def test_somebody_with_one_recording_is_his_own_style(
        self, config, corpora, features, vectors, moments, source_of
    ):
        row = corpora.fold.train[0]
        arguments = (config, STRIDE, TIMESTEPS)
        alone = DenoiserExamples(features, corpora, {row: moments[row]}, vectors, *arguments)
        for seed in range(5):
            assert source_of(alone[Crop(row, 16, seed)]["style"]) == row

    def test_padding_of_a_batch_is_masked(self, features):
        lengths = (30, 12, 21)
        batch = collate(
            [
                {"latents": torch.zeros(2), "style": torch.ones(n, 3), "style_mask": torch.ones(n)}
                for n in lengths
            ]
        )
        assert batch["style_mask"].sum(dim=1).tolist() == list(lengths)
        torch.testing.assert_close(batch["style"][..., 0], batch["style_mask"])


class TestExamples:
    def test_depend_on_their_seed_alone(self, examples, corpora):
        made, row = examples(), corpora.fold.train[3]
        first, again, other = (made[Crop(row, 16, seed)] for seed in (5, 5, 6))
        for name, value in first.items():
            torch.testing.assert_close(value, again[name], equal_nan=True)
        assert not torch.equal(first["noise"], other["noise"])
        assert not torch.equal(first["latents"], other["latents"])

    def test_content_belongs_to_the_latents(self, examples, corpora, features, moments):
        """Both are cut at the same frame."""
        made = examples(content_warp=0.0)
        row = corpora.fold.train[0]
        moments = moments[row].chunk(2)
        log_mel = features.log_mels[row]
        log_mel = torch.from_numpy(log_mel[: len(log_mel) // STRIDE * STRIDE])
        content = fold_frames(content_envelope(log_mel), STRIDE)
        assert content.shape[1:] == moments[0].shape[1:]
        starts = set()
        for seed in range(10):
            example = made[Crop(row, 16, seed)]
            (start,) = (
                s
                for s in range(content.shape[-1] - 3)
                if torch.allclose(content[..., s : s + 4], example["content"], atol=1e-5)
            )
            mean, deviation = (moment[..., start : start + 4] for moment in moments)
            error = (example["latents"] - mean) / deviation
            assert error.abs().max() < 6
            starts.add(start)
        assert len(starts) > 3

    def test_formants_of_the_content_are_moved_in_training_only(self, examples, corpora):
        row, validated = corpora.fold.train[0], corpora.fold.validation[0]
        still, moved = (examples(content_warp=warp) for warp in (0.0, 0.15))
        crops = [Crop(row, 16, seed) for seed in range(5)]
        for crop in crops:
            change = (still[crop]["content"] - moved[crop]["content"]).abs().max()
            assert change > 0.05
        still, moved = (examples(training=False, content_warp=warp) for warp in (0.0, 0.15))
        crop = Crop(validated, 16, 0)
        torch.testing.assert_close(still[crop]["content"], moved[crop]["content"])

    def test_emotion_and_vector_are_dropped_as_often_as_asked(self, examples, corpora, vectors):
        made, row = examples(), corpora.fold.train[0]
        drawn = [made[Crop(row, 16, seed)] for seed in range(300)]
        dropped = [int(example["emotion"]) == NO_EMOTION for example in drawn]
        heard = [bool(example["vector"].isfinite().all()) for example in drawn]
        assert np.mean(dropped) == pytest.approx(0.25, abs=0.08)
        assert np.mean(heard) == pytest.approx(0.75 * 0.5, abs=0.08)
        for example, no_emotion, heard_it in zip(drawn, dropped, heard, strict=True):
            # What the recogniser heard would give away the emotion.
            assert not (no_emotion and heard_it)
            if not no_emotion:
                assert int(example["emotion"]) == corpora.targets[row]
            if heard_it:
                torch.testing.assert_close(example["vector"], vectors[row])

    def test_no_emotion_is_dropped_from_all_emotions_alike(self, examples, corpora):
        """What guidance and the anchor subtract: the mixture of the six, and nothing else."""
        made = examples()
        shares = []
        for emotion in range(len(EMOTIONS)):
            rows = [row for row in corpora.fold.train if corpora.targets[row] == emotion]
            drawn = [made[Crop(row, 16, seed)] for row in rows for seed in range(60)]
            shares.append(np.mean([int(example["emotion"]) == NO_EMOTION for example in drawn]))
        assert shares == pytest.approx([0.25] * len(EMOTIONS), abs=0.1)

    def test_other_emotions_than_the_six_are_refused(
        self, config, corpora, features, vectors, moments
    ):
        """They have no label, and would count as "no emotion" without being dropped."""
        row = corpora.fold.train[0]
        labels = [*EMOTIONS, "boredom"]
        targets = corpora.targets.tolist()
        targets[row] = labels.index("boredom")
        dataset = corpora.dataset.remove_columns("emotion").add_column(
            "emotion", targets, feature=datasets.ClassLabel(names=labels)
        )
        others = replace(corpora, dataset=dataset, labels=labels)
        assert others.six_emotions_train_rows == list(corpora.fold.train[1:])
        with pytest.raises(ValueError, match=r"Bad moments of \['boredom'\], expected emotions"):
            DenoiserExamples(features, others, moments, vectors, config, STRIDE, TIMESTEPS)

    def test_timesteps_of_training_cover_the_schedule(self, examples, corpora):
        made, row = examples(), corpora.fold.train[0]
        steps = [int(made[Crop(row, 16, seed)]["timestep"]) for seed in range(200)]
        counts, _ = np.histogram(steps, bins=4, range=(0, TIMESTEPS))
        assert counts.min() > 25
        assert 0 <= min(steps) <= max(steps) < TIMESTEPS


class TestValidation:
    @pytest.fixture
    def batches(self, examples, config, corpora, features):
        made = examples(training=False)
        return lambda: list(validation_batches(made, config, STAGE, corpora, features, STRIDE))

    def test_every_validation_recording_once_and_nobody_else(self, batches, corpora):
        rows = list(chain.from_iterable(rows for rows, _ in batches()))
        assert sorted(rows) == sorted(corpora.fold.validation)

    def test_is_always_the_same(self, batches):
        for (rows, one), (again, other) in zip(batches(), batches(), strict=True):
            assert rows == again
            for name, value in one.items():
                torch.testing.assert_close(value, other[name], equal_nan=True)

    def test_nothing_is_dropped(self, batches, corpora, vectors):
        for rows, batch in batches():
            assert batch["emotion"].tolist() == corpora.targets[rows].tolist()
            torch.testing.assert_close(batch["vector"], vectors[rows])

    def test_timesteps_cover_the_quarters_alike(self, batches):
        counts = np.zeros(4)
        for rows, batch in batches():
            quarters = batch["timestep"] // (TIMESTEPS // 4)
            # The rows say which quarter it was, by which the losses are reported.
            assert quarters.tolist() == [row % 4 for row in rows]
            counts += np.bincount(quarters, minlength=4)
        assert counts.tolist() == [6, 6, 6, 6]


class TestLoader:
    @pytest.fixture
    def loader(self, examples, config, corpora, features):
        rows = corpora.fold.train
        return bucket_loader(examples(), config, STAGE, 1, corpora, rows, features, STRIDE)

    def test_epochs_are_full_batches_of_stackable_stretches(self, loader, config, corpora):
        batches = list(loader)
        assert len(batches) == len(corpora.fold.train) // config.batch_size
        for batch in batches:
            length = batch["latents"].shape[-1]
            assert batch["latents"].shape == (6, LATENT_CHANNELS, 20, length)
            assert batch["content"].shape == (6, STRIDE, 20, length)
            assert 0 < length * STRIDE <= 0.5 * 87

    def test_batch_larger_than_the_data(self, examples, config, corpora, features):
        config, rows = replace(config, batch_size=25), corpora.fold.train
        with pytest.raises(ValueError, match="Bad batch_size 25, expected at most 24"):
            bucket_loader(examples(), config, STAGE, 1, corpora, rows, features, STRIDE)

    def test_what_workers_are_given_can_be_sent_to_them(self, loader):
        """Those that are spawned, not forked, as on macOS and Windows."""
        examples, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        for crops, batch in zip(loader.batch_sampler, loader, strict=True):
            for name, value in collate([examples[crop] for crop in crops]).items():
                torch.testing.assert_close(value, batch[name], equal_nan=True, rtol=0, atol=0)


def test_autoencoder_hears_other_levels_but_the_same_for_a_seed(config, corpora, features):
    made = AutoencoderExamples(
        features, replace(config, augmentation=AugmentationConfig(level=6.0)), make_vae()
    )
    row = corpora.fold.train[0]
    first, again, other = (made[Crop(row, 40, seed)] for seed in (1, 1, 2))
    torch.testing.assert_close(first, again)
    assert first["features"].shape == (40, 80)
    assert first["noise"].shape == (LATENT_CHANNELS, 20, 10)
    levels = [made[Crop(row, 10_000 // 4 * 4, seed)]["features"].mean() for seed in range(8)]
    assert np.std(levels) > 0.05
    assert not torch.equal(first["noise"], other["noise"])


def test_autoencoder_validates_on_recordings_as_they_are(config, corpora, features):
    strong = replace(config, augmentation=AugmentationConfig(level=20.0, filter=6.0, masks=2))
    made = AutoencoderExamples(features, strong, make_vae(), training=False)
    row = corpora.fold.validation[0]
    whole = torch.from_numpy(features.load(row))
    example = made[Crop(row, len(whole) // STRIDE * STRIDE, seed=3)]["features"]
    starts = range(len(whole) - len(example) + 1)
    assert any(torch.equal(whole[s : s + len(example)], example) for s in starts)


class TestContent:
    """The envelope that the denoiser is told: words, and nothing of the emotion's loudness."""

    @pytest.fixture
    def log_mel(self, features, corpora):
        return torch.from_numpy(features.log_mels[corpora.fold.train[0]])

    def test_level_and_colour_do_not_matter(self, log_mel):
        envelope = content_envelope(log_mel)
        louder = log_mel + np.log(2)
        torch.testing.assert_close(content_envelope(louder), envelope, atol=1e-3, rtol=1e-3)
        brighter = log_mel + torch.linspace(-1, 1, 80)
        torch.testing.assert_close(content_envelope(brighter), envelope, atol=1e-3, rtol=1e-3)

    def test_liveliness_does_not_matter(self, log_mel):
        """Except in bands that hardly move, which are left quiet."""
        mean = log_mel.mean(dim=0)
        one, other = (content_envelope(mean + by * (log_mel - mean)) for by in (1.0, 1.5))
        moving = one.std(dim=0) > 0.99
        assert moving.sum() >= 10
        torch.testing.assert_close(one[:, moving], other[:, moving], atol=1e-3, rtol=1e-3)

    def test_follows_the_words(self, features, corpora):
        """Renditions of a sentence are more alike than sentences of one voice and emotion."""
        columns = corpora.dataset.select_columns(["speaker", "sentence"])[:]
        train = [row for row in corpora.fold.train if columns["speaker"][row] == "05"]

        def profile(row):
            envelope = content_envelope(torch.from_numpy(features.log_mels[row]))
            stretched = torch.nn.functional.interpolate(envelope.T[None], 64, mode="linear")
            return stretched.flatten()

        profiles = {row: profile(row) for row in train}
        same, other = [], []
        for one in train:
            for two in train:
                if one < two:
                    alike = torch.corrcoef(torch.stack([profiles[one], profiles[two]]))[0, 1]
                    equal = columns["sentence"][one] == columns["sentence"][two]
                    (same if equal else other).append(float(alike))
        assert np.mean(same) > np.mean(other) + 0.2

    def test_silence_is_silent(self):
        silence = torch.full((50, 80), -11.5)
        assert content_envelope(silence).abs().max() < 1e-3

    def test_folding_keeps_every_frame_and_band(self):
        envelope = torch.arange(24 * 20.0).reshape(24, 20)
        folded = fold_frames(envelope, STRIDE)
        assert folded.shape == (STRIDE, 20, 6)
        for frame in (0, 1, 5, 23):
            torch.testing.assert_close(folded[frame % 4, :, frame // 4], envelope[frame])
