from dataclasses import replace

import datasets
import numpy as np
import pytest
import soundfile
import torch

from datasets_scripts import EMOTIONS, decode_audio
from modeling import EmotionFeatureExtractor
from training.config import AugmentationConfig, ClassifierConfig, StageConfig
from training.data import (
    TrainingExamples,
    evaluation_loader,
    load_corpora,
    soft_cross_entropy,
    train_loader,
)
from training.features import MelFeatures, WaveformFeatures, crop, mix
from training.sampling import Draw

pytestmark = pytest.mark.filterwarnings("ignore:(emodb|ravdess) .* has:UserWarning")

EMODB_SPEAKERS = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """Small EmoDB and RAVDESS of noise, with all their emotions, and a cache for them."""
    datasets.disable_progress_bars()
    folder, cache = tmp_path_factory.mktemp("corpora"), str(tmp_path_factory.mktemp("cache"))
    emodb = [f"{s}a0{t}{e}a" for s in EMODB_SPEAKERS for t in (1, 4) for e in "WLEAFTN"]
    ravdess = [
        f"03-01-{emotion:02d}-01-{statement:02d}-01-{actor:02d}"
        for actor in range(1, 25)
        for emotion in range(1, 9)
        for statement in (1, 2)
    ]
    generator = np.random.default_rng(0)
    for corpus, stems in (("emodb", emodb), ("ravdess", ravdess)):
        (folder / corpus).mkdir()
        for stem in stems:
            noise = 0.1 * generator.standard_normal(800)
            soundfile.write(folder / corpus / f"{stem}.wav", noise, 16_000)
    return {
        name: {"data_dir": str(folder / name), "cache_dir": cache} for name in ("emodb", "ravdess")
    }


@pytest.fixture(scope="module")
def toy_config(tmp_path_factory):
    spec = {"speakers": 6, "repetitions": 1, "cache_dir": str(tmp_path_factory.mktemp("toy"))}
    return ClassifierConfig(corpora={"toy_emotions": spec}, batch_size=8, crop_seconds=0.5)


@pytest.fixture(scope="module")
def toy(toy_config):
    return load_corpora(toy_config)


@pytest.fixture(scope="module")
def toy_features(toy_config, toy):
    features = MelFeatures(toy.dataset, EmotionFeatureExtractor(), toy_config.crop_seconds)
    features.fit_statistics(toy.fold.train)
    return features


def load(specs, protocol, fold=0):
    everything = [StageConfig(emotions="all")]
    return load_corpora(
        ClassifierConfig(corpora=specs, protocol=protocol, fold=fold, stages=everything)
    )


def test_a_classifier_of_the_six_reads_no_other_recordings(specs):
    corpora = load_corpora(ClassifierConfig(corpora=specs))
    assert corpora.labels == list(EMOTIONS)
    assert set(corpora.targets) == set(range(6))


def people(corpora, rows):
    columns = corpora.dataset.select_columns(["corpus", "speaker"])[:]
    return {(columns["corpus"][row], columns["speaker"][row]) for row in rows}


def test_labels_are_the_six_and_then_the_others(specs):
    corpora = load(specs, "speaker_independent")
    assert corpora.labels == [*EMOTIONS, "boredom", "calm", "surprise"]
    assert corpora.dataset.features["emotion"].names == corpora.labels
    for row in (0, 5, 200, 500):
        stem = corpora.dataset["file"][row].split("/")[-1].removesuffix(".wav")
        emotion = corpora.labels[corpora.targets[row]]
        german = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness"}
        codes = ["neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"]
        letters = german | {"T": "sadness", "N": "neutral"}
        code = stem.split("-")[2] if "-" in stem else None
        assert emotion == (codes[int(code) - 1] if code else letters[stem[5]])


@pytest.mark.parametrize("fold", [0, 5, 6, 9])
def test_nobody_tested_or_validated_ever_trains(specs, fold):
    corpora = load(specs, "speaker_independent", fold)
    splits = corpora.fold.splits
    train, validation, test = (people(corpora, rows) for rows in splits.values())
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert {corpus for corpus, _ in test} == {corpus for corpus, _ in train} == {"emodb", "ravdess"}
    # Each corpus has its own fold of that number, counted round.
    actors = {f"{4 * (fold % 6) + i:02d}" for i in (1, 2, 3, 4)}
    assert test == {("emodb", EMODB_SPEAKERS[fold]), *(("ravdess", actor) for actor in actors)}
    emotions = corpora.targets[[*splits["validation"], *splits["test"]]]
    assert set(emotions) == set(range(len(EMOTIONS)))


def test_other_emotions_of_training_speakers_train(specs):
    corpora = load(specs, "speaker_independent")
    targets, train = corpora.targets, corpora.fold.train
    others = [row for row in train if targets[row] >= len(EMOTIONS)]
    names = {corpora.labels[targets[row]] for row in others}
    assert names == {"boredom", "calm", "surprise"}
    assert people(corpora, others) == people(corpora, set(train) - set(others))


@pytest.mark.parametrize(
    ("fold", "source", "target"), [(0, "emodb", "ravdess"), (1, "ravdess", "emodb")]
)
def test_cross_corpus_trains_on_one_and_tests_on_all_of_the_other(specs, fold, source, target):
    corpora = load(specs, "cross_corpus", fold)
    splits = {name: people(corpora, rows) for name, rows in corpora.fold.splits.items()}
    assert {corpus for corpus, _ in splits["train"] | splits["validation"]} == {source}
    assert {corpus for corpus, _ in splits["test"]} == {target}
    assert not splits["train"] & splits["validation"]
    of_target = np.asarray(corpora.dataset["corpus"]) == target
    assert len(corpora.fold.test) == (of_target & (corpora.targets < len(EMOTIONS))).sum()


def test_sentence_independent_trains_on_no_tested_sentence(specs):
    corpora = load(specs, "sentence_independent")
    columns = corpora.dataset.select_columns(["corpus", "sentence"])[:]
    said = {
        name: {(columns["corpus"][row], columns["sentence"][row]) for row in rows}
        for name, rows in corpora.fold.splits.items()
    }
    assert not said["train"] & said["test"]
    assert not said["validation"] & said["test"]


def test_paper_split_shares_speakers_but_no_recording(specs):
    corpora = load(specs, "paper")
    splits = corpora.fold.splits
    six = int((corpora.targets < len(EMOTIONS)).sum())
    assert len(splits["test"]) == pytest.approx(six / 5, abs=2)
    assert sum(len(rows) for rows in splits.values()) == len(set().union(*splits.values()))
    assert set().union(*splits.values()) == set(range(len(corpora.dataset)))


def test_negative_fold_is_refused(specs):
    with pytest.raises(ValueError, match="Bad fold -1, expected 0 to "):
        load(specs, "paper", -1)


def test_rows_of_a_stage(specs):
    corpora = load(specs, "speaker_independent")
    everything = corpora.train_rows(StageConfig(emotions="all"))
    assert sorted(everything) == sorted(corpora.fold.train)
    six = corpora.train_rows(StageConfig())
    assert set(corpora.targets[six]) == set(range(len(EMOTIONS)))
    one = corpora.train_rows(StageConfig(emotions="all", corpora=["emodb"]))
    assert {corpora.dataset["corpus"][row] for row in one} == {"emodb"}
    assert set(one) < set(everything)
    with pytest.raises(ValueError, match=r"names \['iemocap'\], expected \['emodb', 'ravdess'\]"):
        corpora.train_rows(StageConfig(corpora=["emodb", "iemocap"]))


def test_stage_without_recordings_is_refused(specs):
    corpora = load(specs, "cross_corpus", 0)
    with pytest.raises(ValueError, match="has no training recordings"):
        corpora.train_rows(StageConfig(corpora=["ravdess"]))


def test_statistics_are_those_of_training_rows(toy, toy_features):
    plain = EmotionFeatureExtractor()
    mels = []
    for row in toy.fold.train:
        wave, rate = decode_audio(toy.dataset[row]["audio"])
        clip = plain(wave, sampling_rate=rate, padding=False)["input_features"][0]
        mels.append(clip)
    stacked = np.concatenate(mels).astype(float)
    statistics = toy_features.feature_extractor.corpus_statistics["toy_emotions"]
    np.testing.assert_allclose(statistics["mean"], stacked.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(statistics["std"], stacked.std(axis=0), atol=1e-4)
    loaded = np.concatenate([toy_features.load(row) for row in toy.fold.train])
    np.testing.assert_allclose(loaded.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(loaded.std(axis=0), 1, atol=1e-3)


def test_one_cache_serves_all_folds(toy, toy_features):
    other = EmotionFeatureExtractor(mean=3.0, std=2.0)
    features = MelFeatures(toy.dataset, other, crop_seconds=0.5)
    for row in (0, 40):
        np.testing.assert_array_equal(features.log_mels[row], toy_features.log_mels[row])


def stage_config(config, **stage):
    return replace(config, stages=[StageConfig(**stage)])


def test_training_batch(toy_config, toy, toy_features):
    config = stage_config(toy_config, label_smoothing=0.12)
    loader = train_loader(config, toy, toy_features, 0, len(EMOTIONS))
    batches = list(loader)
    assert len(batches) == len(toy.fold.train) // 8
    for batch in batches:
        frames = batch["input_features"].shape[1]
        assert batch["input_features"].shape == (8, frames, 80)
        assert frames <= toy_features.crop_length
        assert batch["attention_mask"].shape == (8, frames)
        assert batch["labels"].shape == (8, len(EMOTIONS))
        torch.testing.assert_close(batch["labels"].sum(dim=1), torch.ones(8))
        assert batch["labels"].max() == pytest.approx(0.88 + 0.02)
        assert batch["labels"].min() == pytest.approx(0.02)


def test_an_epoch_is_the_same_again_and_another_is_not(toy_config, toy, toy_features):
    strong = AugmentationConfig(tempo=0.2, level=6, noise_probability=0.5, masks=1)
    config = stage_config(toy_config, mixup_probability=0.5, augmentation=strong)

    def epoch(number):
        loader = train_loader(config, toy, toy_features, 0, len(EMOTIONS))
        loader.sampler.set_epoch(number)
        return next(iter(loader))

    torch.testing.assert_close(epoch(1)["input_features"], epoch(1)["input_features"])
    assert not torch.equal(epoch(1)["labels"], epoch(2)["labels"])


def test_workers_that_are_spawned_make_the_same_batches(toy_config, toy, toy_features):
    """As on macOS and Windows, where nothing is forked."""
    here = train_loader(toy_config, toy, toy_features, 0, len(EMOTIONS))
    spawned = train_loader(replace(toy_config, num_workers=2), toy, toy_features, 0, len(EMOTIONS))
    spawned.multiprocessing_context = "spawn"
    for one, other in zip(here, spawned, strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


def test_example_of_a_draw_carries_both_labels(toy, toy_features):
    examples = TrainingExamples(toy_features, toy.targets, len(toy.labels), StageConfig())
    row = toy.fold.train[0]
    partner = next(r for r in toy.fold.train if toy.targets[r] != toy.targets[row])
    _, alone = examples[Draw(row, seed=3)]
    assert alone[toy.targets[row]] == 1
    mixed, target = examples[Draw(row, partner, share=0.7, seed=3)]
    assert target[toy.targets[row]] == pytest.approx(0.7)
    assert target[toy.targets[partner]] == pytest.approx(0.3)
    assert len(mixed) == toy_features.crop_length


def test_batch_larger_than_the_data_is_refused(toy_config, toy, toy_features):
    with pytest.raises(ValueError, match="Bad batch_size 25, expected at most 24"):
        train_loader(replace(toy_config, batch_size=25), toy, toy_features, 0, len(EMOTIONS))


def test_evaluation_sees_each_whole_recording_once(toy_config, toy, toy_features):
    rows = toy.fold.test
    loader = evaluation_loader(replace(toy_config, batch_size=5), toy_features, rows)
    seen, lengths = [], []
    for batch in loader:
        seen += batch["row"].tolist()
        lengths += batch["attention_mask"].sum(dim=1).tolist()
    assert sorted(seen) == sorted(rows)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths == [len(toy_features.load(row)) for row in seen]


def test_waveforms_are_resampled_for_their_model(toy):
    class Extractor:
        sampling_rate = 8_000

    features = WaveformFeatures(toy.dataset, Extractor(), crop_seconds=0.5)
    wave, rate = decode_audio(toy.dataset[0]["audio"])
    assert rate == 16_000
    assert features.load(0).dtype == np.float32
    assert len(features.load(0)) == pytest.approx(len(wave) / 2, abs=1)
    assert features.crop_length == 4_000


def test_crop_reaches_both_ends():
    example = np.arange(10)
    crops = [crop(example, 4, np.random.default_rng(seed)) for seed in range(100)]
    assert {tuple(c) for c in crops} == {tuple(range(start, start + 4)) for start in range(7)}
    np.testing.assert_array_equal(crop(example, 20, np.random.default_rng(0)), example)


def test_mix_covers_the_longer_one():
    long, short = np.ones((5, 2), dtype=np.float32), np.full((3, 2), 2.0, dtype=np.float32)
    mixed = mix(long, short, 0.75)
    np.testing.assert_allclose(mixed[:, 0], [1.25, 1.25, 1.25, 0.75, 0.75])
    np.testing.assert_allclose(mix(short, long, 0.75)[:, 0], [1.75, 1.75, 1.75, 0.25, 0.25])


def test_soft_cross_entropy_of_certain_labels_is_the_usual_one():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 5, 2, 2])
    certain = torch.nn.functional.one_hot(labels, 6).float()
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(soft_cross_entropy(logits, certain), expected)
