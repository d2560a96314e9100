"""The series of folds, really trained on the embedded corpus, and the records it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from datasets_scripts import EMOTIONS
from evaluation import read_records
from evaluation.predictions import read_predictions

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = ("as_recorded", "corpus_unnamed", "level_minus_20", "calibrated_speaker_3")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    delta = yaml.safe_load((ROOT / "configs/toy.yaml").read_text())
    for stage in delta["stages"]:
        stage["epochs"] = 1
    short = folder / "short.yaml"
    short.write_text(yaml.safe_dump(delta))
    command = [sys.executable, "-m", "benchmarks.recognition", "--corpus", "toy_emotions"]
    command += ["--folds", "0", "2", "--config", str(short), "--runs", str(folder / "runs")]
    command += ["--output", str(folder / "results/records.json"), "--examples"]
    command += ["--plots", str(folder / "plots"), "--conditions", *CONDITIONS]

    def run(*options):
        return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)

    done = run()
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
    assert [fold["speakers"] for fold in record["per_fold"]] == [["01", "02"], ["05", "06"]]


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
    done = run("--collect_only")
    metrics.write_text(kept)
    assert done.returncode == 0, done.stderr[-2000:]
    assert weights.stat().st_mtime_ns == before
    again = records_of(folder)["as_recorded"]["provenance"]
    assert again["date"] == made["date"]
    assert "an-older-commit" in again["commit"]


def test_collecting_under_other_flags_is_refused(series):
    _, run = series
    done = run("--collect_only", "--seed", "1")
    assert done.returncode != 0
    assert "expected" in done.stderr
    assert "'seed': 1" in done.stderr


def test_a_fold_that_fails_is_named_and_leaves_its_log(series, tmp_path):
    _, run = series
    bad = tmp_path / "bad.yaml"
    bad.write_text("batch_size: 100000\n")
    done = run("--config", str(bad), "--runs", str(tmp_path / "runs"), "--folds", "1")
    assert done.returncode != 0
    assert "fold_1.log" in done.stderr
    log = tmp_path / "runs/speaker_independent/fold_1.log"
    assert "Bad batch_size 100000" in log.read_text()
