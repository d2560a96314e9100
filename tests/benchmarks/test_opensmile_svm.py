import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("opensmile")
pytest.importorskip("sklearn")

from datasets import Audio, Dataset

import benchmarks
from benchmarks.opensmile_svm import extract_features, main, predict_fold
from datasets_scripts import EMOTIONS, Fold
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE, make_voice, synthesize
from evaluation import read_records

ROOT = Path(benchmarks.__file__).parents[1]
CHANCE = 1 / len(EMOTIONS)
PROTOCOLS = ("speaker_independent", "paper", "cross_corpus")
PROGRESS = "Computing ComParE 2016"


def speak(voice, emotion, sentence="s1"):
    return synthesize(make_voice(voice, seed=0), emotion, sentence, repetition=1)


def dataset_of(*recordings):
    """A dataset of float recordings at the rate of the synthetic voices."""
    files = [BytesIO() for _ in recordings]
    for file, samples in zip(files, recordings, strict=True):
        soundfile.write(file, samples, SAMPLING_RATE, format="WAV", subtype="FLOAT")
    audio = [{"bytes": file.getvalue(), "path": f"{i}.wav"} for i, file in enumerate(files)]
    return Dataset.from_dict({"audio": audio}).cast_column("audio", Audio(decode=False))


def write_emodb(folder):
    """Four synthetic voices under the names of EmoDB."""
    for voice, speaker in enumerate(("03", "08", "10", "09"), start=1):
        for letter, emotion in zip("NFTWAE", EMOTIONS, strict=True):
            for sentence, code in (("s1", "a01"), ("s2", "a02")):
                path = folder / f"{speaker}{code}{letter}a.wav"
                soundfile.write(path, speak(voice, emotion, sentence), SAMPLING_RATE)


def write_ravdess(folder):
    """Three other synthetic voices, of three folds, under the names of RAVDESS."""
    for voice, actor in enumerate(("01", "06", "09"), start=5):
        for code, emotion in zip(("01", "03", "04", "05", "06", "07"), EMOTIONS, strict=True):
            path = folder / f"03-01-{code}-01-01-01-{actor}.wav"
            soundfile.write(path, speak(voice, emotion), SAMPLING_RATE)


@pytest.fixture(scope="module")
def run_script(tmp_path_factory):
    """Launch the script on two small corpora of synthetic voices; gives records and messages."""
    folder = tmp_path_factory.mktemp("opensmile")
    for name, write in (("emodb", write_emodb), ("ravdess", write_ravdess)):
        (folder / name).mkdir()
        write(folder / name)
    corpora = [f"--corpus={name}={folder / name}" for name in ("emodb", "ravdess")]
    environment = os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}

    def run(results, protocols=PROTOCOLS):
        output = folder / results / "opensmile_svm.json"
        command = [sys.executable, "-m", "benchmarks.opensmile_svm", *corpora, "--protocols"]
        command += [*protocols, "--output", str(output), "--cache", str(folder / "cache")]
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return read_records(output.parent), result

    return run


@pytest.fixture(scope="module")
def first_run(run_script):
    return run_script("first")


def test_the_script_writes_a_record_per_corpus_and_protocol(first_run):
    records, result = first_run
    folds = {(record["corpus"], record["protocol"]): record["folds"] for record in records}
    assert folds == {
        ("emodb", "speaker_independent"): 4,
        ("ravdess", "speaker_independent"): 3,
        ("emodb", "paper"): 5,
        ("ravdess", "paper"): 5,
        ("emodb", "cross_corpus"): 1,
        ("ravdess", "cross_corpus"): 1,
    }
    assert {record["system"] for record in records} == {"opensmile-compare2016-svm"}
    for record in records:
        tested = {"emodb": 48, "ravdess": 18}[record["corpus"]]
        assert np.sum(record["metrics"]["confusion_matrix"]) == tested
        assert sum(fold["n"] for fold in record["per_fold"]) == tested
        assert f"{record['corpus']}, {record['protocol']}: WA" in result.stdout
        assert record["provenance"]["command"].startswith("python -m benchmarks.opensmile_svm")


def test_emotions_of_unseen_voices_are_recognised(first_run):
    records, _ = first_run
    of_emodb = {r["protocol"]: r for r in records if r["corpus"] == "emodb"}["speaker_independent"]
    assert of_emodb["metrics"]["UA"] > 4 * CHANCE
    names = [fold["name"] for fold in of_emodb["per_fold"]]
    assert names == ["speakers_03", "speakers_08", "speakers_09", "speakers_10"]


def test_a_second_run_takes_the_features_from_the_cache(first_run, run_script):
    records, result = first_run
    again, second = run_script("second", ["cross_corpus"])
    assert PROGRESS in result.stderr
    assert PROGRESS not in second.stderr
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records[-2:]]


def test_features_follow_the_rows_and_not_an_older_cache(tmp_path):
    happy, sad = speak(1, "happiness"), speak(1, "sadness")
    features = extract_features(dataset_of(happy, sad), tmp_path)
    assert features.shape == (2, 6373)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(
        extract_features(dataset_of(sad, happy), tmp_path), features[::-1]
    )


def test_stereo_and_clipped_sound_is_heard_as_mono_within_full_scale(tmp_path):
    mono = speak(1, "anger")
    loud = 1.5 * mono / np.abs(mono).max()
    clipped = np.clip(loud, -1, 32767 / 32768)
    dataset = dataset_of(mono, np.stack([mono, mono], axis=1), loud, clipped)
    features = extract_features(dataset, tmp_path)
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_array_equal(features[2], features[3])


@pytest.mark.filterwarnings("ignore:Segment too short")
def test_a_recording_too_short_for_the_features_is_named(tmp_path):
    dataset = dataset_of(speak(1, "fear"), np.zeros(SAMPLING_RATE // 100))
    with pytest.raises(ValueError, match=r"no features for '1.wav' of 0.010 s"):
        extract_features(dataset, tmp_path)


def test_predictions_know_nothing_of_the_tested_rows():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 6
    features = generator.normal(size=(60, 20)) + labels[:, None]
    fold = Fold("paper", "toy_emotions", 0, "", tuple(range(30)), tuple(range(30, 40)), (40, 41))
    predicted = predict_fold(fold, features, labels)
    labels[40:] = 0
    features[41:] *= 1000
    assert predict_fold(fold, features, labels)[0] == predicted[0]
    # Validation rows train as well: without their class it is never predicted.
    labels[:30] = 0
    labels[30:40] = 5
    assert set(predict_fold(fold, features, labels)) <= {0, 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "emo=here"], "Bad corpus 'emo', expected one of"),
        (["--corpus", "emodb=here", "--protocols", "cross_corpus"], "needs two corpora"),
        (["--corpus", "emodb=here", "--protocols", "random"], "invalid choice: 'random'"),
    ],
)
def test_a_bad_command_line_is_refused_at_once(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", ["opensmile", "sklearn.svm"])
def test_a_missing_extra_is_named(module, monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.opensmile_svm")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"'{module}'.*speech-emotion-diffusion\[baselines\]"):
        import benchmarks.opensmile_svm  # noqa: F401
