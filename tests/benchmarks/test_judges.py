"""Judges of emotion on toy voices: what they hear depends on the sound alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_corpora import speak
from toy_encoders import save_toy_encoder

from benchmarks.judges import EMOTION_JUDGES, Lesson, TimeDelayJudge, build_judges
from benchmarks.mel_judge import JudgeConfig
from datasets_scripts import EMOTIONS
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE
from modeling import EmotionFeatureExtractor
from pipelines.audio_inputs import resample

EXTRACTOR = EmotionFeatureExtractor()
TINY = JudgeConfig(
    front_channels=4, channels=16, pooled_channels=16, embedding_size=16, epochs=3, batch_size=8
)


def lesson(voices):
    rows = [(voice, emotion) for voice in voices for emotion in EMOTIONS]
    sounds = [torch.from_numpy(speak(*row)) for row in rows]
    waves = [resample(s, SAMPLING_RATE, EXTRACTOR.sampling_rate).numpy() for s in sounds]
    labels = [emotion for _, emotion in rows]
    return Lesson(waves, ["toy"] * len(rows), labels, [str(row) for row in rows])


@pytest.fixture(scope="module")
def known():
    return lesson(range(1, 5))


def test_all_judges_say_probabilities_in_the_order_of_the_emotions(known, tmp_path):
    encoder = save_toy_encoder(tmp_path / "whisper")
    judges = build_judges(
        (*EMOTION_JUDGES[:2],), known, EXTRACTOR, tmp_path, tmp_path / "features", [0], encoder
    )
    assert list(judges) == list(EMOTION_JUDGES[:2])
    new = lesson([5])
    for judge in judges.values():
        probabilities = judge.predict_proba(new.waves, new.corpora)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        heard = [EMOTIONS[i] for i in probabilities.argmax(axis=1)]
        # Chance is a sixth.
        assert np.mean(np.asarray(heard) == new.labels) >= 0.5


def test_a_network_is_the_same_however_many_threads_compute_it(known, tmp_path):
    """One seed used to differ by up to nine points: sums over threads depend on their number."""
    before = torch.get_num_threads()
    said = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            folder = tmp_path / str(threads)
            judge = TimeDelayJudge(known, EXTRACTOR, folder, (0,), TINY)
            said.append(judge.predict_proba(known.waves, known.corpora))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*said)


def test_several_seeds_are_heard_as_their_mean(known, tmp_path):
    short = replace(TINY, epochs=1)
    alone = [TimeDelayJudge(known, EXTRACTOR, tmp_path, (seed,), short) for seed in (0, 1)]
    both = TimeDelayJudge(known, EXTRACTOR, tmp_path, (0, 1), short)
    mean = np.mean([judge.predict_proba(known.waves, known.corpora) for judge in alone], axis=0)
    np.testing.assert_allclose(both.predict_proba(known.waves, known.corpora), mean, rtol=1e-6)


def test_a_judge_that_cannot_be_had_is_said_and_nobody_is_an_error(known, tmp_path, capsys):
    missing = str(tmp_path / "no_such_encoder")
    arguments = (known, EXTRACTOR, tmp_path, tmp_path / "features", [0], missing)
    judges = build_judges(["opensmile-svm", "whisper-regression"], *arguments)
    assert list(judges) == ["opensmile-svm"]
    assert f"No '{missing}' here: one judge fewer" in capsys.readouterr().err
    with pytest.raises(ValueError, match="None of the judges"):
        build_judges(["whisper-regression"], *arguments)
    with pytest.raises(ValueError, match=r"Bad judges \['mother'\], expected some of"):
        build_judges(["mother"], *arguments)
