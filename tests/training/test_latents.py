import pickle
from dataclasses import replace
from itertools import chain

import datasets
import numpy as np
import pytest
import torch
from toy_enhancer import LATENT_CHANNELS, STRIDE, make_denoiser, make_extractor, make_vae

from datasets_scripts import EMOTIONS, Fold
from modeling import EmotionDenoiser
from modeling.modeling_emotion_denoiser import CLARITY_UNSAID, CLEAR, UNCLEAR
from modeling.voice_rows import PITCH_UNIT, TEMPO_UNIT, mean_log_f0
from training.config import AugmentationConfig, DiffusionConfig, DiffusionStageConfig
from training.data import Corpora, load_corpora
from training.features import MelFeatures
from training.latents import (
    AutoencoderExamples,
    DenoiserExamples,
    bucket_loader,
    clarities,
    collate,
    encode_recordings,
    validation_batches,
    voices_of,
)
from training.pairs import Pairs, align_pairs
from training.prosodies import load_prosodies
from training.sampling import Crop

TIMESTEPS, ROWS = 1000, LATENT_CHANNELS * 20 + 2
STAGE = DiffusionStageConfig(crop_seconds=0.5)
NO_EMOTION = len(EMOTIONS)
# The denoiser below knows another corpus first.
NO_CORPUS, TOY = 2, 1
# Neither dropped nor its own target.
PLAIN = {
    "emotion_dropout": 0.0,
    "source_emotion_dropout": 0.0,
    "corpus_dropout": 0.0,
    "clarity_dropout": 0.0,
    "source_dropout": 0.0,
    "identity_probability": 0.0,
}


@pytest.fixture(scope="module")
def config(toy_spec):
    return DiffusionConfig(
        corpora={"toy_emotions": toy_spec},
        batch_size=6,
        emotion_dropout=0.25,
        source_emotion_dropout=0.35,
        corpus_dropout=0.15,
        clarity_dropout=0.45,
        source_dropout=0.2,
        identity_probability=0.1,
        style_self_probability=0.1,
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
def prosodies(corpora):
    rows = (*corpora.fold.train, *corpora.fold.validation)
    return load_prosodies(corpora.dataset, rows, make_extractor())


@pytest.fixture(scope="module")
def voices(features, prosodies):
    return voices_of(make_vae(), features, prosodies, list(prosodies))


@pytest.fixture(scope="module")
def pairs(corpora, features):
    """Of those who train, and of those who validate."""
    return {
        training: align_pairs(corpora, features.log_mels, rows, STRIDE)
        for training, rows in ((True, corpora.fold.train), (False, corpora.fold.validation))
    }


@pytest.fixture(scope="module")
def denoiser():
    settings = {n: v for n, v in make_denoiser().config.items() if not n.startswith("_")}
    return EmotionDenoiser(**settings | {"corpora": ["emodb", "toy_emotions"]})


@pytest.fixture(scope="module")
def examples(config, corpora, features, voices, pairs, denoiser):
    """Examples of those who train, or of those who validate, under changed settings."""

    def make(training=True, rows=None, paired=None, **settings):
        rows = rows or (corpora.fold.train if training else corpora.fold.validation)
        return DenoiserExamples(
            features,
            corpora,
            replace(voices, rows={row: voices.rows[row] for row in rows}),
            paired or pairs[training],
            denoiser,
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

    def test_somebody_with_one_recording_is_his_own_style(self, examples, corpora, source_of):
        row = corpora.fold.train[0]
        alone = examples(rows=[row], paired=Pairs({}, {row: {}}))
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


class TestVoices:
    def test_hold_scaled_latents_and_a_melody_about_zero(
        self, corpora, features, voices, prosodies
    ):
        vae = make_vae()
        for row, latents in encode_recordings(vae, features, corpora.fold.train[:3]):
            rows, prosody = torch.from_numpy(voices.rows[row]), prosodies[row]
            assert rows.shape == (ROWS, len(features.log_mels[row]) // STRIDE)
            scaled = latents.flatten(0, 1) * vae.config.scaling_factor
            torch.testing.assert_close(rows[:-2], scaled)
            frames = rows.shape[1] * STRIDE
            heard = prosody.log_f0[:frames].reshape(-1, STRIDE).mean(axis=1)
            ours = (rows[-2] + voices.pitch[row]) * PITCH_UNIT
            np.testing.assert_allclose(ours, heard, atol=1e-4)
            assert voices.pitch[row] * PITCH_UNIT == pytest.approx(mean_log_f0(prosody))
            assert (rows[-1] == 0).all()


class TestExamples:
    def test_depend_on_their_seed_alone(self, examples, corpora):
        made, row = examples(), corpora.fold.train[3]
        first, again, other = (made[Crop(row, 16, seed)] for seed in (5, 5, 6))
        for name, value in first.items():
            torch.testing.assert_close(value, again[name])
        assert not torch.equal(first["noise"], other["noise"])
        assert not torch.equal(first["latents"], other["latents"])

    def test_target_says_the_same_words_with_the_emotion_aimed_at(
        self, examples, corpora, features, voices, pairs, prosodies
    ):
        made, (row, *_) = examples(**PLAIN), corpora.fold.train
        columns = corpora.dataset.select_columns(["speaker", "sentence"])[:]
        whole = len(features.log_mels[row]) // STRIDE * STRIDE
        seen = set()
        for seed in range(20):
            example = made[Crop(row, whole, seed)]
            emotion = int(example["target"])
            (target,) = (
                other
                for other in corpora.fold.train
                if corpora.targets[other] == emotion
                and all(values[other] == values[row] for values in columns.values())
            )
            seen.add(emotion)
            torch.testing.assert_close(example["source"], torch.from_numpy(voices.rows[row]))
            path = pairs[True].alignments[row, target]
            inner = slice(2, -2)
            # Where in the target they are; a latent is that of the nearest or between two.
            places = np.arange(voices.rows[target].shape[1])
            for own, theirs in zip(example["latents"][:-2], voices.rows[target], strict=False):
                expected = np.interp(path.positions, places, theirs)
                np.testing.assert_allclose(own, expected, atol=1e-4)
            # Its pitch in relation to the source, and its tempo.
            pitch = example["latents"][-2] * PITCH_UNIT + mean_log_f0(prosodies[row])
            middles = path.positions * STRIDE + (STRIDE - 1) / 2
            heard = np.interp(
                middles, np.arange(len(prosodies[target].log_f0)), prosodies[target].log_f0
            )
            assert np.abs(pitch.numpy() - heard)[inner].mean() < 0.02
            np.testing.assert_allclose(
                example["latents"][-1] * TEMPO_UNIT, path.log_tempo, atol=1e-5
            )
        # Nobody says it twice in one emotion here.
        assert seen == set(range(len(EMOTIONS))) - {int(corpora.targets[row])}

    def test_source_and_target_are_cut_at_the_same_place(self, examples, corpora, voices):
        made, row = examples(**PLAIN | {"identity_probability": 1.0}), corpora.fold.train[0]
        whole, starts = torch.from_numpy(voices.rows[row]), set()
        for seed in range(10):
            example = made[Crop(row, 16, seed)]
            assert torch.equal(example["latents"], example["source"])
            (start,) = (
                s
                for s in range(whole.shape[1] - 3)
                if torch.equal(whole[:, s : s + 4], example["source"])
            )
            starts.add(start)
        assert len(starts) > 3

    def test_what_is_said_is_dropped_as_often_as_asked(self, examples, corpora):
        made, row = examples(), corpora.fold.train[0]
        drawn = collate([made[Crop(row, 16, seed)] for seed in range(400)])
        aim, carried = (drawn[name] == NO_EMOTION for name in ("target", "carried"))
        unsaid = drawn["clarity"] == CLARITY_UNSAID
        beside = drawn["source"].abs().sum(dim=(1, 2)) == 0
        for dropped, share in (
            (aim, 0.25),
            (carried, 0.35),
            (drawn["corpus"] == NO_CORPUS, 0.15),
            # Nothing is clear where no emotion is said.
            (unsaid, 1 - 0.75 * 0.55),
            (beside, 0.2),
        ):
            assert dropped.float().mean().item() == pytest.approx(share, abs=0.07)
        assert unsaid[aim].all()
        assert (drawn["carried"][~carried] == int(corpora.targets[row])).all()
        assert set(drawn["corpus"].tolist()) == {TOY, NO_CORPUS}
        # Each by itself: knowing one says nothing of another.
        assert carried[aim].float().mean().item() == pytest.approx(0.35, abs=0.15)

    def test_a_recording_is_its_own_target_as_often_as_asked(self, examples, corpora):
        made, row = examples(**PLAIN | {"identity_probability": 0.3}), corpora.fold.train[0]
        drawn = [made[Crop(row, 16, seed)] for seed in range(200)]
        same = [torch.equal(example["latents"], example["source"]) for example in drawn]
        assert np.mean(same) == pytest.approx(0.3, abs=0.1)
        emotions = [int(example["target"]) for example in drawn]
        assert same == [emotion == corpora.targets[row] for emotion in emotions]

    def test_who_has_no_pair_speaks_from_a_style_half_of_the_time(self, examples, corpora, voices):
        """Its source would be all that there is to say."""
        row, other = corpora.fold.train[:2]
        made = examples(rows=[row, other], paired=Pairs({}, {row: {}, other: {}}), **PLAIN)
        drawn = [made[Crop(row, 16, seed)] for seed in range(200)]
        dropped = [not example["source"].any() for example in drawn]
        assert np.mean(dropped) == pytest.approx(0.5, abs=0.1)
        for example, alone in zip(drawn, dropped, strict=True):
            assert int(example["target"]) == corpora.targets[row]
            assert alone or torch.equal(example["latents"], example["source"])

    def test_unsaid_is_dropped_from_all_emotions_alike(self, examples, corpora):
        """What guidance subtracts: the mixture of the six, and nothing else."""
        made = examples()
        shares = []
        for emotion in range(len(EMOTIONS)):
            rows = [row for row in corpora.fold.train if corpora.targets[row] == emotion]
            drawn = [made[Crop(row, 16, seed)] for row in rows for seed in range(60)]
            shares.append(np.mean([int(example["target"]) == NO_EMOTION for example in drawn]))
        assert shares == pytest.approx([0.25] * len(EMOTIONS), abs=0.1)

    def test_other_emotions_than_the_six_are_refused(
        self, config, corpora, features, voices, pairs, denoiser
    ):
        """They have no label, and would count as "unsaid" without being dropped."""
        row = corpora.fold.train[0]
        labels = [*EMOTIONS, "boredom"]
        targets = corpora.targets.tolist()
        targets[row] = labels.index("boredom")
        dataset = corpora.dataset.remove_columns("emotion").add_column(
            "emotion", targets, feature=datasets.ClassLabel(names=labels)
        )
        others = replace(corpora, dataset=dataset, labels=labels)
        assert others.six_emotions_train_rows == list(corpora.fold.train[1:])
        arguments = (voices, pairs[True], denoiser, config, STRIDE, TIMESTEPS)
        with pytest.raises(ValueError, match=r"Bad voices of \['boredom'\], expected emotions"):
            DenoiserExamples(features, others, *arguments)

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
                torch.testing.assert_close(value, other[name])

    def test_nothing_is_dropped_and_nobody_is_his_own_target(self, batches, corpora):
        for rows, batch in batches():
            assert batch["carried"].tolist() == corpora.targets[rows].tolist()
            assert (batch["target"] < NO_EMOTION).all()
            assert (batch["target"] != batch["carried"]).all()
            assert (batch["corpus"] == TOY).all()
            assert (batch["clarity"] != CLARITY_UNSAID).all()
            assert (batch["source"].abs().sum(dim=(1, 2)) > 0).all()

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
            for name in ("latents", "noise", "source"):
                assert batch[name].shape == (6, ROWS, length)
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
                torch.testing.assert_close(value, batch[name], rtol=0, atol=0)


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


def said(corpus="toy", emotion="anger", intensity=None, agreement=None):
    return {"corpus": corpus, "emotion": emotion, "intensity": intensity, "agreement": agreement}


@pytest.mark.parametrize(
    ("row", "clarity"),
    [
        (said(), CLARITY_UNSAID),
        (said(agreement=0.95), CLEAR),
        (said(agreement=0.8), UNCLEAR),
        (said(intensity="strong"), CLEAR),
        (said("ravdess", intensity="normal"), UNCLEAR),
        # Nothing of it is stronger.
        (said("ravdess", "neutral", intensity="normal"), CLEAR),
        (said("other", intensity="normal"), CLEAR),
        # Listeners know better than what was asked for.
        (said(intensity="strong", agreement=0.5), UNCLEAR),
        (said("ravdess", intensity="normal", agreement=1.0), CLEAR),
    ],
)
def test_clarity_is_what_the_corpus_knows(row, clarity):
    strong = said("ravdess", intensity="strong")
    labels = datasets.ClassLabel(names=list(EMOTIONS))
    dataset = datasets.Dataset.from_list([row, strong]).cast_column("emotion", labels)
    fold = Fold("everybody", "toy", 0, "everybody", (0, 1), (), ())
    assert clarities(Corpora(dataset, list(EMOTIONS), fold)) == [clarity, CLEAR]
