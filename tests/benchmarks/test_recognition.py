"""The series of folds, really trained on a few synthetic voices, and the records it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml
from small_corpora import write_emodb

from benchmarks import recognition
from datasets_scripts import EMOTIONS
from evaluation import read_records
from evaluation.predictions import read_predictions

pytestmark = pytest.mark.filterwarnings("ignore::datasets_scripts.recordings.CorpusWarning")
ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = ("as_recorded", "corpus_unnamed", "level_minus_20", "calibrated_speaker_3")
SHORT = {
    "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "stages": [{"name": "only", "epochs": 1, "learning_rate": 0.01}],
    "batch_size": 6,
    "crop_seconds": 0.5,
    "mixed_precision": "no",
}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The folder of a series of two folds, and what repeats the command with further options."""
    folder = tmp_path_factory.mktemp("series")
    (folder / "emodb").mkdir()
    write_emodb(folder / "emodb")
    (folder / "short.yaml").write_text(yaml.safe_dump(SHORT))
    arguments = ["--corpus", f"emodb={folder / 'emodb'}", "--folds", "0", "2"]
    arguments += ["--config", str(folder / "short.yaml"), "--runs", str(folder / "runs")]
    arguments += ["--output", str(folder / "results/records.json"), "--examples"]
    arguments += ["--plots", str(folder / "plots"), "--conditions", *CONDITIONS]
    cache = str(folder / "prepared")

    def run(*options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
            patch.setenv("HF_DATASETS_CACHE", cache)
            recognition.main([*arguments, *options])

    command = [sys.executable, "-m", "benchmarks.recognition", *arguments, "--processes", "2"]
    environment = os.environ | {"HF_DATASETS_CACHE": cache}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, run


def records_of(folder):
    return {record["condition"]: record for record in read_records(folder / "results")}


def test_record_scores_the_predictions_of_all_folds_together(series):
    folder, _ = series
    record = records_of(folder)["as_recorded"]
    folds = sorted((folder / "runs/speaker_independent").glob("fold_?"))
    predictions = [p for f in folds for p in json.loads((f / "predictions.json").read_text())]
    hits = [
        EMOTIONS[max(range(6), key=p["probabilities"].__getitem__)] == p["emotion"]
        for p in predictions
    ]
    assert record["metrics"]["WA"] == pytest.approx(sum(hits) / len(hits))
    assert record["folds"] == 2
    assert [fold["speakers"] for fold in record["per_fold"]] == [["03"], ["09"]]


def test_every_condition_has_its_record_and_its_predictions(series):
    folder, _ = series
    records = records_of(folder)
    assert set(records) == set(CONDITIONS)
    kept = read_predictions(folder / "results" / records["as_recorded"]["predictions"])
    tested = {row["file"] for row in kept if row["condition"] == "as_recorded"}
    assert records["calibrated_speaker_3"]["predictions"] is None
    for condition in CONDITIONS[:-1]:
        own = [row for row in kept if row["condition"] == condition]
        assert {row["file"] for row in own} == tested
    heard = {
        condition: [r["probability_of_emotion"] for r in kept if r["condition"] == condition]
        for condition in CONDITIONS[:-1]
    }
    # One corpus: unknown origin is that corpus. A change of level and of statistics is heard.
    assert heard["corpus_unnamed"] == pytest.approx(heard["as_recorded"], abs=2e-3)
    assert heard["level_minus_20"] != heard["as_recorded"]
    metrics = [records[name]["metrics"]["ECE"] for name in ("as_recorded", CONDITIONS[-1])]
    assert metrics[0] != metrics[1]


def test_collecting_again_trains_nothing_and_keeps_when_and_how_it_was_measured(series):
    folder, run = series
    weights = folder / "runs/speaker_independent/fold_0/model/model.safetensors"
    before, made = weights.stat().st_mtime_ns, records_of(folder)["as_recorded"]["provenance"]
    (folder / "results/records.json").unlink()
    metrics = folder / "runs/speaker_independent/fold_0/metrics.json"
    kept = metrics.read_text()
    old = json.loads(kept)
    old[0]["provenance"]["commit"] = "an-older-commit"
    metrics.write_text(json.dumps(old))
    run("--collect_only")
    metrics.write_text(kept)
    assert weights.stat().st_mtime_ns == before
    again = records_of(folder)["as_recorded"]["provenance"]
    assert again["date"] == made["date"]
    assert "an-older-commit" in again["commit"]


def test_examples_are_drawn(series):
    drawn = {path.name for path in (series[0] / "plots").glob("*.png")}
    assert {"history.png", *(f"emodb_{what}.png" for what in recognition.EXAMPLES)} <= drawn


def test_collecting_under_other_flags_is_refused(series):
    with pytest.raises(ValueError, match="Bad run .*expected .*'seed': 1"):
        series[1]("--collect_only", "--seed", "1")


def test_a_fold_that_fails_is_named_and_leaves_its_log(series, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("batch_size: 100000\n")
    with pytest.raises(RuntimeError, match=r"1 folds failed, see .*fold_1\.log"):
        series[1]("--config", str(bad), "--runs", str(tmp_path / "runs"), "--folds", "1")
    log = tmp_path / "runs/speaker_independent/fold_1.log"
    assert "Bad batch_size 100000" in log.read_text()
