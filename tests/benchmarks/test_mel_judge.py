import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mel_judge import JudgeConfig, MelJudge, split_half
from training.config import AugmentationConfig

TINY = JudgeConfig(
    front_channels=4,
    channels=16,
    pooled_channels=24,
    embedding_size=16,
    epochs=20,
    batch_size=8,
    learning_rate=1e-2,
    crop_seconds=0.4,
    augmentation=AugmentationConfig(tempo=0.1, level=6.0, filter=2.0, masks=1),
)
LABELS = ("falling", "flat", "rising")


def toy_mel(label, generator):
    """A line that moves through the bands as the label says, in noise, 40 to 80 frames."""
    frames = int(generator.integers(40, 80))
    log_mel = generator.normal(-6, 0.5, (frames, 80))
    slope = (LABELS.index(label) - 1) * 0.6
    line = generator.uniform(30, 50) + slope * (np.arange(frames) - frames / 2)
    for offset in (-1, 0, 1):
        log_mel[np.arange(frames), np.rint(line).astype(int) + offset] += 4
    return log_mel.astype(np.float32)


def toy_corpus(size=60, seed=0):
    generator = np.random.default_rng(seed)
    labels = [LABELS[i % 3] for i in range(size)]
    return [toy_mel(label, generator) for label in labels], labels


@pytest.fixture(scope="module")
def judge():
    return MelJudge.fit(*toy_corpus(), seed=0, config=TINY)


def test_a_judge_learns_what_it_can_tell_of_sounds_it_never_heard(judge):
    log_mels, labels = toy_corpus(90, seed=1)
    # Chance is a third.
    assert np.mean(judge.predict(log_mels) == labels) > 0.8
    assert judge.classes.tolist() == sorted(LABELS)


def test_probabilities_sum_to_one_and_peak_at_the_prediction(judge):
    log_mels, _ = toy_corpus(9, seed=1)
    probabilities = judge.predict_proba(log_mels)
    assert probabilities.shape == (9, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    peaks = judge.classes[probabilities.argmax(axis=1)]
    assert peaks.tolist() == judge.predict(log_mels).tolist()


def test_what_else_is_in_the_batch_changes_nothing(judge):
    log_mels, _ = toy_corpus(40, seed=1)
    log_mels[0] = np.concatenate(log_mels[:10])
    together = judge.predict_proba(log_mels)
    alone = np.concatenate([judge.predict_proba([log_mel]) for log_mel in log_mels])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_shortest_recording_is_judged(judge):
    assert np.isfinite(judge.predict_proba([np.zeros((1, 80))])).all()


def test_a_seed_decides_the_weights_and_leaves_the_global_generator():
    import torch

    short = replace(TINY, epochs=1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, other = (
        MelJudge.fit(*toy_corpus(24), seed=seed, config=short).network.state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_input_is_left_alone(judge):
    log_mels, labels = toy_corpus(24)
    before = [log_mel.copy() for log_mel in log_mels]
    MelJudge.fit(log_mels, labels, seed=0, config=replace(TINY, epochs=1))
    judge.predict(log_mels)
    for log_mel, copy in zip(log_mels, before, strict=True):
        np.testing.assert_array_equal(log_mel, copy)


def test_groups_take_away_the_level_of_a_corpus():
    quiet, labels = toy_corpus(45)
    loud = [log_mel + 10.0 for log_mel in quiet]
    groups = ["loud"] * 45 + ["quiet"] * 45
    judge = MelJudge.fit(loud + quiet, labels * 2, seed=0, groups=groups, config=TINY)
    log_mels, _ = toy_corpus(12, seed=2)
    louder = [log_mel + 10.0 for log_mel in log_mels]
    np.testing.assert_allclose(
        judge.predict_proba(louder, ["loud"] * 12),
        judge.predict_proba(log_mels, ["quiet"] * 12),
        atol=0.01,
    )
    # Chance is a third.
    assert np.mean(judge.predict(louder, ["loud"] * 12) == labels[:12]) > 0.6


def test_a_saved_judge_judges_the_same(judge, tmp_path):
    log_mels, _ = toy_corpus(9, seed=1)
    judge.save(tmp_path / "new" / "judge")
    loaded = MelJudge.load(tmp_path / "new" / "judge")
    np.testing.assert_array_equal(loaded.predict_proba(log_mels), judge.predict_proba(log_mels))
    assert loaded.predict(log_mels).tolist() == judge.predict(log_mels).tolist()
    assert loaded.config == judge.config


def test_groups_and_numbers_for_labels_survive_saving(tmp_path):
    log_mels, labels = toy_corpus(24)
    numbers, groups = [LABELS.index(label) for label in labels], ["a", "b"] * 12
    config = replace(TINY, epochs=1)
    judge = MelJudge.fit(log_mels, numbers, seed=0, groups=groups, config=config)
    judge.save(tmp_path)
    loaded = MelJudge.load(tmp_path)
    assert loaded.classes.tolist() == [0, 1, 2]
    assert loaded.predict(log_mels, groups).tolist() == judge.predict(log_mels, groups).tolist()


def test_a_folder_without_a_whole_judge_is_refused(judge, tmp_path):
    judge.save(tmp_path)
    (tmp_path / "judge.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a judge, missing 'judge.safetensors'"):
        MelJudge.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing 'judge.json'"):
        MelJudge.load(tmp_path / "nothing")


MELS, NAMES = toy_corpus(8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "Bad log_mels of length 0, expected at least one recording"),
        (([m[:, :40] for m in MELS], NAMES), "of recording 0, expected (frames, 80)"),
        (([*MELS[:7], np.zeros((0, 80))], NAMES), "Bad shape (0, 80) of recording 7"),
        (([*MELS[:7], np.full((5, 80), np.nan)], NAMES), "Bad recording 7 with NaN"),
        ((MELS, NAMES[:7]), "Bad labels of length 7, expected 8"),
        ((MELS, ["flat"] * 8), "expected at least two classes, got ['flat']"),
        ((MELS[:7], NAMES[:7]), "expected at least one batch of 7 recordings"),
    ],
)
def test_what_cannot_be_learned_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MelJudge.fit(*arguments, seed=0, config=TINY)


def test_what_cannot_be_judged_is_refused(judge):
    with pytest.raises(ValueError, match=r"Bad shape \(5, 64\) of recording 1"):
        judge.predict([MELS[0], np.zeros((5, 64))])
    with pytest.raises(ValueError, match="Bad log_mels of length 0"):
        judge.predict([])
    with pytest.raises(ValueError, match=r"Bad group 'emodb', expected one of \[None\]"):
        judge.predict(MELS, ["emodb"] * 8)
    with pytest.raises(ValueError, match="Bad groups of length 1, expected 8"):
        judge.predict(MELS, ["emodb"])


def test_a_group_that_was_not_trained_on_is_refused():
    config = replace(TINY, epochs=1)
    judge = MelJudge.fit(MELS, NAMES, seed=0, groups=["a", "b"] * 4, config=config)
    with pytest.raises(ValueError, match=r"Bad group 'c', expected one of \['a', 'b'\]"):
        judge.predict(MELS, ["a", "c"] * 4)
    with pytest.raises(ValueError, match=r"Bad group None, expected one of \['a', 'b'\]"):
        judge.predict(MELS)


def recordings(speakers=4, sentences=3, emotions=5, takes=2):
    """Speaker, sentence and emotion of each recording, all combinations."""
    grid = np.indices((speakers, sentences, emotions, takes))[:3].reshape(3, -1)
    return [[str(value) for value in column] for column in grid]


def test_halves_are_disjoint_complete_and_know_everybody():
    speakers, sentences, emotions = recordings()
    first, second = split_half(speakers, sentences, emotions, seed=0)
    assert sorted([*first, *second]) == list(range(len(speakers)))
    assert {speakers[i] for i in first} == {speakers[i] for i in second} == set(speakers)


def test_two_takes_of_a_sentence_and_emotion_are_parted():
    columns = recordings()
    for half in split_half(*columns, seed=0):
        cells = list(zip(*([column[i] for i in half] for column in columns), strict=True))
        assert len(set(cells)) == len(cells)


def test_sentences_and_emotions_are_divided_evenly_where_each_was_said_once():
    speakers, sentences, emotions = recordings(sentences=10, emotions=7, takes=1)
    first, second = split_half(speakers, sentences, emotions, seed=0)
    for column in (sentences, emotions):
        kinds = [Counter((speakers[i], column[i]) for i in half) for half in (first, second)]
        assert max(abs(kinds[0][k] - kinds[1][k]) for k in kinds[0] | kinds[1]) <= 3
    assert abs(len(first) - len(second)) <= 4


def test_a_seed_decides_the_halves():
    first, again, other = (split_half(*recordings(), seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_speaker_who_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="Bad speaker 'b' with one recording, expected two"):
        split_half(["a", "a", "b"], "xyz", "xyz", seed=0)
    with pytest.raises(ValueError, match="Bad sentences of length 1, expected 2"):
        split_half(["a", "a"], "x", "xy", seed=0)
    with pytest.raises(ValueError, match="Bad speakers of length 0"):
        split_half([], [], [], seed=0)
