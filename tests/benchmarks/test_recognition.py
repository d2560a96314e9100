"""The series of folds, really trained on the embedded corpus, and the records it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import read_records

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    delta = folder / "short.yaml"
    delta.write_text((ROOT / "configs/toy.yaml").read_text().replace("epochs: 12", "epochs: 2"))
    command = [sys.executable, "-m", "benchmarks.recognition", "--corpus", "toy_emotions"]
    command += ["--folds", "0", "2", "--config", str(delta), "--runs", str(folder / "runs")]
    command += ["--output", str(folder / "results/records.json")]
    command += ["--plots", str(folder / "plots")]

    def run(*options):
        return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, run


def test_record_scores_the_predictions_of_all_folds_together(series):
    folder, _ = series
    (record,) = read_records(folder / "results")
    folds = sorted((folder / "runs/speaker_independent").glob("fold_?"))
    predictions = [p for f in folds for p in json.loads((f / "predictions.json").read_text())]
    names = list(record["metrics"]["per_emotion"])
    hits = [
        names[max(range(6), key=p["probabilities"].__getitem__)] == p["emotion"]
        for p in predictions
    ]
    assert record["metrics"]["WA"] == pytest.approx(sum(hits) / len(hits))
    assert record["folds"] == 2
    assert [fold["speakers"] for fold in record["per_fold"]] == [["01", "02"], ["05", "06"]]


def test_finished_folds_are_not_trained_again(series):
    folder, run = series
    weights = folder / "runs/speaker_independent/fold_0/model/model.safetensors"
    before = weights.stat().st_mtime_ns
    (folder / "results/records.json").unlink()
    assert run("--collect_only").returncode == 0
    assert weights.stat().st_mtime_ns == before
    assert read_records(folder / "results")


def test_a_fold_that_fails_is_named_and_leaves_its_log(series, tmp_path):
    _, run = series
    bad = tmp_path / "bad.yaml"
    bad.write_text("batch_size: 100000\n")
    done = run("--config", str(bad), "--runs", str(tmp_path / "runs"), "--folds", "1")
    assert done.returncode != 0
    assert "fold_1.log" in done.stderr
    log = tmp_path / "runs/speaker_independent/fold_1.log"
    assert "Bad batch_size 100000" in log.read_text()
