import sys
from contextlib import redirect_stdout
from io import StringIO

import datasets
import numpy as np
import pytest

pytest.importorskip("opensmile")
pytest.importorskip("sklearn")

from small_corpora import dataset_of, speak, write_corpora

from benchmarks.baseline import extract_features
from benchmarks.opensmile_svm import main, opensmile_svm
from datasets_scripts import EMOTIONS
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE
from evaluation import read_predictions, read_records

pytestmark = pytest.mark.filterwarnings(
    "ignore::datasets_scripts.recordings.CorpusWarning", "ignore:Segment too short"
)
CHANCE = 1 / len(EMOTIONS)
PROTOCOLS = ("speaker_independent", "paper", "cross_corpus")


@pytest.fixture(scope="module")
def run_program(tmp_path_factory):
    """Run the program on two small corpora; gives the results folder and what was printed."""
    folder = tmp_path_factory.mktemp("opensmile")
    corpora, cache = write_corpora(folder), ["--cache", str(folder / "cache")]

    def run(results, protocols=PROTOCOLS):
        output, printed = folder / results / "opensmile_svm.json", StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "prepared")
            main([*corpora, *cache, "--protocols", *protocols, "--output", str(output)])
        return output.parent, printed.getvalue()

    return run


@pytest.fixture(scope="module")
def first_run(run_program):
    return run_program("first")


def test_the_script_writes_a_record_per_corpus_and_protocol(first_run):
    folder, printed = first_run
    records = read_records(folder)
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
        assert f"{record['corpus']}, {record['protocol']}: WA" in printed
        assert record["provenance"]["command"].startswith("python -m benchmarks.opensmile_svm")


def test_predictions_without_probabilities_are_kept_beside_the_records(first_run):
    folder, _ = first_run
    for record in read_records(folder):
        rows = read_predictions(folder / record["predictions"])
        right = [row["emotion"] == row["prediction"] for row in rows]
        assert np.mean(right) == pytest.approx(record["metrics"]["WA"])
        assert {row["probability_of_prediction"] for row in rows} == {None}


def test_emotions_of_unseen_voices_are_recognised(first_run):
    records = [r for r in read_records(first_run[0]) if r["corpus"] == "emodb"]
    of_emodb = {r["protocol"]: r for r in records}["speaker_independent"]
    assert of_emodb["metrics"]["UA"] > 4 * CHANCE
    names = [fold["name"] for fold in of_emodb["per_fold"]]
    assert names == ["speakers_03", "speakers_08", "speakers_09", "speakers_10"]


def test_a_second_run_takes_the_features_from_the_cache(first_run, run_program):
    def kept():
        return {path: path.stat().st_mtime_ns for path in cache.glob("*.arrow")}

    folder, _ = first_run
    cache = folder.parent / "cache"
    before = kept()
    again = read_records(run_program("second", ["cross_corpus"])[0])
    assert len(before) == 2
    assert kept() == before
    assert [r["metrics"] for r in again] == [r["metrics"] for r in read_records(folder)[-2:]]


def test_features_follow_the_rows_and_not_an_older_cache(tmp_path):
    happy, sad = speak(1, "happiness"), speak(1, "sadness")
    features = extract_features(opensmile_svm(), dataset_of(happy, sad), tmp_path)
    assert features.shape == (2, 1, 6373)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(
        extract_features(opensmile_svm(), dataset_of(sad, happy), tmp_path), features[::-1]
    )


def test_stereo_and_clipped_sound_is_heard_as_mono_within_full_scale(tmp_path):
    mono = speak(1, "anger")
    loud = 1.5 * mono / np.abs(mono).max()
    clipped = np.clip(loud, -1, 32767 / 32768)
    dataset = dataset_of(mono, np.stack([mono, mono], axis=1), loud, clipped)
    features = extract_features(opensmile_svm(), dataset, tmp_path)
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_array_equal(features[2], features[3])


def test_a_recording_too_short_for_the_features_is_named(tmp_path):
    dataset = dataset_of(speak(1, "fear"), np.zeros(SAMPLING_RATE // 100))
    with pytest.raises(ValueError, match=r"no features for '1.wav' of 0.010 s"):
        extract_features(opensmile_svm(), dataset, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "emo=here"], "Bad corpus 'emo', expected one of"),
        (["--corpus", "emodb=here", "--protocols", "cross_corpus"], "needs two corpora"),
        (["--corpus", "emodb=here", "--protocols", "random"], "invalid choice: 'random'"),
        (["--corpus", "emodb=here", "--conditions", "loud"], "Bad condition 'loud', expected"),
        (["--corpus", "emodb=here", "--conditions", "calibrated"], "Bad condition 'calibrated'"),
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
