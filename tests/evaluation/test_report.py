"""The demo's page, made from a real run on the embedded corpus."""

import json
import re
from pathlib import Path

import processes
import pytest
import soundfile

from datasets_scripts import EMOTIONS, decode_audio, load_corpus

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [f"--config={ROOT / 'configs' / name}" for name in ("classifier.yaml", "toy.yaml")]
SHORT = ["stages.0.epochs=1", "stages.1.epochs=1", "evaluations_per_stage=1"]


def write_quiet(folder):
    """The embedded corpus in another room: 30 dB softer, as a folder of somebody's own."""
    folder.mkdir()
    lines = ["file,emotion,speaker"]
    for i, row in enumerate(load_corpus("toy_emotions", speakers=6, repetitions=1)):
        samples, rate = decode_audio(row["audio"])
        soundfile.write(folder / f"{i}.wav", 0.03 * samples, rate, subtype="FLOAT")
        lines.append(f"{i}.wav,{EMOTIONS[row['emotion']]},{row['speaker']}")
    (folder / "metadata.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "toy"
    quiet = folder.parent / "recordings"
    write_quiet(quiet)
    corpora = {
        "toy_emotions": {"speakers": 6, "repetitions": 1},
        "quiet": {"builder": "folder", "data_dir": str(quiet)},
    }
    given = [*CONFIGS, *SHORT, f"corpora={json.dumps(corpora)}", f"output_dir={folder}"]
    assert launch(folder.parent / "log.txt", "train_classifier.py", *given)[1] == 0
    return folder


@pytest.fixture(scope="module")
def page(run_folder):
    printed, status = launch(run_folder / "log.txt", "-m", "evaluation.report", str(run_folder))
    assert status == 0, printed
    return (run_folder / "report.html").read_text()


def launch(log, *command):
    return processes.finish(log, processes.start(log, *command))


def test_page_shows_every_emotion_and_only_pictures_that_exist(run_folder, page):
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == 13
    assert all((run_folder / picture).stat().st_size > 5_000 for picture in pictures)
    verdicts = re.findall(r"<td>(\w+)</td><td>(\w+) (\d+) %", page)
    assert [acted for acted, _, _ in verdicts] == 2 * list(EMOTIONS)


def test_page_says_of_each_corpus_what_was_predicted(run_folder, page):
    """Under the statistics of that corpus: loud and quiet recordings are not mixed up."""
    predictions = json.loads((run_folder / "predictions.json").read_text())
    for heading in ("toy_emotions", "quiet"):
        part = page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]
        scores = {p["file"]: p["probabilities"] for p in predictions if p["corpus"] == heading}
        rows = re.findall(r"<td>([^<]+)</td><td>\w+</td><td>(\w+) (\d+) %", part)
        assert len(rows) == 6
        for file, heard, percent in rows:
            probability = scores[file][EMOTIONS.index(heard)]
            assert int(percent) == pytest.approx(100 * probability, abs=1.5)


def test_unfinished_run_is_refused(tmp_path):
    log = tmp_path / "log.txt"
    printed, status = launch(log, "-m", "evaluation.report", str(tmp_path))
    assert status != 0
    assert "expected a finished run" in printed
