"""Statistics that frames are normalised with, and what a frozen encoder hears."""

from dataclasses import replace

import numpy as np
import pytest
from toy_encoders import save_toy_encoder

from datasets_scripts import load_corpus
from modeling import (
    EmotionFeatureExtractor,
    EmotionTransformerFeatureExtractor,
    EmotionTransformerForAudioClassification,
)
from training.config import AugmentationConfig, DegradationConfig, StatisticsConfig
from training.features import HiddenStateFeatures, MelFeatures
from training.hidden_states import encode_recordings
from training.statistics import Moments, pooled_statistics

PLAIN = AugmentationConfig()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return load_corpus("toy_emotions", speakers=4, repetitions=1, cache_dir=cache)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = save_toy_encoder(tmp_path_factory.mktemp("encoder"))
    model = EmotionTransformerForAudioClassification.from_encoder(folder, projection_size=8)
    return model, EmotionTransformerFeatureExtractor.from_encoder(folder)


def test_moments_give_what_all_frames_together_give():
    generator = np.random.default_rng(0)
    frames = [generator.normal(3, 2, (n, 5)) for n in (4, 9, 1, 20)]
    mean, std = Moments(frames).statistics([0, 1, 3])
    together = np.concatenate([frames[0], frames[1], frames[3]])
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, together.std(axis=0), rtol=1e-5)


def test_unknown_origin_is_every_corpus_alike():
    a = (np.float32([0.0]), np.float32([1.0]))
    b = (np.float32([4.0]), np.float32([1.0]))
    mean, std = pooled_statistics([a, b])
    assert mean == pytest.approx(2)
    assert std == pytest.approx(5**0.5)


def draw(features, statistics, row=0):
    changed = replace(statistics, recordings=(3, 3))
    features.statistics = changed
    return features.augment(row, PLAIN, np.random.default_rng(0))


def test_training_is_normalised_as_asked(corpus):
    features = MelFeatures(corpus, EmotionFeatureExtractor(), 10.0)
    features.fit_statistics(range(len(corpus)))
    named = draw(features, StatisticsConfig())
    np.testing.assert_allclose(named, features.load(0), atol=1e-5)
    voice = draw(features, StatisticsConfig(corpus=0, speaker=1))
    assert np.abs(voice - named).max() > 1e-2


def test_statistics_of_training_speakers_alone_are_held(corpus):
    extractor = EmotionFeatureExtractor()
    features = MelFeatures(corpus, extractor, 1.0)
    rows = list(range(len(corpus) // 2))
    features.fit_statistics(rows)
    expected = np.concatenate([features.log_mels[row] for row in rows]).mean(axis=0)
    np.testing.assert_allclose(
        extractor.corpus_statistics["toy_emotions"]["mean"], expected, rtol=1e-4
    )
    np.testing.assert_allclose(extractor.mean, expected, rtol=1e-4)


def test_encoder_is_asked_once_and_copies_differ(corpus, encoder):
    model, extractor = encoder
    noisy = DegradationConfig(noise_probability=1.0, noise_snr=(5, 5))
    rows = corpus.select(range(6))
    features = HiddenStateFeatures(rows, model, extractor, 0.5, copies=1, degradation=noisy)
    features.fit_statistics(range(6))
    assert model.names == ["toy_emotions"]
    clean, degraded = features.versions
    assert [len(x) for x in clean] == [len(x) for x in degraded]
    assert not np.array_equal(clean[0], degraded[0])
    again = encode_recordings(rows.select_columns(["audio"]), model, extractor, noisy, 1)
    np.testing.assert_array_equal(again[3], degraded[3])
    batch = features.collate([features.load(0), features.load(1)])
    assert batch["frames"].shape[0::2] == (2, model.config.num_channels)
    assert model(**batch).logits.shape == (2, 6)
    model.forget("toy_emotions")
