import time

import numpy as np
import pytest

from datasets_scripts import EMOTIONS, decode_audio, load_corpus, protocol_folds
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE, make_voice, synthesize


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return load_corpus("toy_emotions", cache_dir=str(tmp_path_factory.mktemp("cache")))


def features(row):
    """Level, length, and mean and spread of a coarse log spectrum."""
    samples, rate = decode_audio(row["audio"])
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256]
    power = np.abs(np.fft.rfft(frames * np.hanning(1024), axis=1)) ** 2
    edges = np.unique(np.geomspace(4, 500, 33).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1) + 1e-3)
    return np.r_[np.log(len(samples) / rate), bands.mean(axis=0), bands.std(axis=0)]


def test_corpus_is_balanced(toys):
    assert len(toys) == 8 * 6 * 2 * 2
    cells = {(row["speaker"], row["emotion"], row["sentence"]) for row in toys}
    assert len(cells) == 8 * 6 * 2
    genders = dict(zip(toys["speaker"], toys["gender"], strict=True))
    assert list(genders.values()) == ["male", "female"] * 4


def test_recordings_are_short_clean_and_different(toys):
    recordings = [decode_audio(row["audio"]) for row in toys]
    assert {rate for _, rate in recordings} == {16_000}
    assert all(0.9 <= len(samples) / rate <= 1.6 for samples, rate in recordings)
    peaks = [np.abs(samples).max() for samples, _ in recordings]
    assert min(peaks) > 0.02
    assert max(peaks) < 1.0
    assert len({samples.tobytes() for samples, _ in recordings}) == len(toys)


def test_same_seed_same_sound_and_another_seed_another():
    one = synthesize(make_voice(3, seed=5), "anger", "s1", 1)
    assert np.array_equal(one, synthesize(make_voice(3, seed=5), "anger", "s1", 1))
    assert not np.array_equal(one, synthesize(make_voice(3, seed=6), "anger", "s1", 1))


def test_more_speakers_do_not_change_the_first(toys, tmp_path):
    few = load_corpus(
        "toy_emotions", "all", cache_dir=str(tmp_path), speakers=2, repetitions=1, seed=0
    )
    by_file = {row["file"]: row["audio"]["bytes"] for row in toys}
    assert len(few) == 2 * 6 * 2
    assert all(by_file[row["file"]] == row["audio"]["bytes"] for row in few)


def test_emotions_differ_as_described():
    def measure(emotion, of):
        voices = [make_voice(speaker, seed=0) for speaker in range(1, 9)]
        return np.mean([of(synthesize(voice, emotion, "s1", 1)) for voice in voices])

    def level(samples):
        return 10 * np.log10(np.mean(samples**2))

    def brightness(samples):
        power = np.abs(np.fft.rfft(samples)) ** 2
        return np.sum(np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE) * power) / power.sum()

    assert measure("sadness", level) + 3 < measure("neutral", level) < measure("anger", level) - 3
    assert measure("fear", len) < measure("neutral", len) < measure("sadness", len)
    assert measure("sadness", brightness) < measure("anger", brightness)


def test_emotion_is_learnable_from_other_speakers_but_not_trivial(toys):
    data = np.stack([features(row) for row in toys])
    emotions = np.array(toys["emotion"][:])
    hits = []
    for fold in protocol_folds(toys, "speaker_independent"):
        train, test = list(fold.train + fold.validation), list(fold.test)
        mean, std = data[train].mean(axis=0), data[train].std(axis=0)
        design, unseen = (
            np.c_[(data[rows] - mean) / std, np.ones(len(rows))] for rows in (train, test)
        )
        targets = np.eye(len(EMOTIONS))[emotions[train]]
        ridge = 10 * np.eye(design.shape[1])
        weights = np.linalg.solve(design.T @ design + ridge, design.T @ targets)
        hits.append((unseen @ weights).argmax(axis=1) == emotions[test])
    assert 0.5 < np.mean(hits) < 0.98


def test_synthesis_is_fast():
    voice = make_voice(1, seed=0)
    start = time.process_time()
    for emotion in EMOTIONS:
        synthesize(voice, emotion, "s1", 1)
    assert time.process_time() - start < 6 * 10 / 192


@pytest.mark.parametrize(("emotion", "sentence"), [("joy", "s1"), ("fear", "s3")])
def test_unknown_words_are_refused(emotion, sentence):
    with pytest.raises(ValueError, match="expected one of"):
        synthesize(make_voice(1, seed=0), emotion, sentence, 1)
