"""The demo's page, made from a real run on the embedded corpus."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.report import write_report

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--config",
    str(ROOT / "configs" / "classifier.yaml"),
    "--config",
    str(ROOT / "configs" / "toy.yaml"),
    "corpora.toy_emotions={speakers: 6, repetitions: 1}",
    "stages.0.epochs=2",
    "stages.1.epochs=1",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "toy"
    command = [sys.executable, "train_classifier.py", *SMALL, f"output_dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def test_page_shows_every_emotion_and_only_pictures_that_exist(run_folder):
    page = write_report(run_folder).read_text()
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == 7
    assert all((run_folder / picture).stat().st_size > 5_000 for picture in pictures)
    verdicts = re.findall(r"<td>(\w+)</td><td>(\w+) (\d+) %", page)
    assert [acted for acted, _, _ in verdicts] == [
        "neutral", "happiness", "sadness", "anger", "fear", "disgust",
    ]  # fmt: skip


def test_unfinished_run_is_refused(tmp_path):
    command = [sys.executable, "-m", "evaluation.report", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "expected a finished run" in done.stderr
