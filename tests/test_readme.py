"""The README's snippets run as printed, one after the other, and its tables are up to date."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from toy_encoders import save_toy_encoder

from datasets_scripts import EMOTIONS, load_corpus

ROOT = Path(__file__).resolve().parent.parent
SNIPPET = re.compile(r"<!-- snippet: (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
EMODB_LETTERS = dict(zip(EMOTIONS, "NFTWAE", strict=True))
EMODB_SPEAKERS = ("03", "08", "09")
RAVDESS_NUMBERS = dict(zip(EMOTIONS, ("01", "03", "04", "05", "06", "07"), strict=True))
NOT_COPIED = shutil.ignore_patterns(
    ".venv", ".git", "outputs", "results", "__pycache__", ".*_cache"
)


def snippets() -> dict[str, tuple[str, str]]:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    return {name: (language, code) for name, language, code in SNIPPET.findall(page)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project with small synthetic corpora where the README says `path/to`."""
    folder = tmp_path_factory.mktemp("readme") / "speech-emotion-diffusion"
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    emodb, ravdess = folder / "path/to/emodb", folder / "path/to/ravdess"
    emodb.mkdir(parents=True)
    ravdess.mkdir()
    for row in load_corpus("toy_emotions", speakers=12, repetitions=1):
        if row["sentence"] != "s1":
            continue
        emotion = EMOTIONS[row["emotion"]]
        number = int(row["speaker"])
        name = f"03-01-{RAVDESS_NUMBERS[emotion]}-01-01-01-{number:02d}.wav"
        (ravdess / name).write_bytes(row["audio"]["bytes"])
        if number <= len(EMODB_SPEAKERS):
            name = f"{EMODB_SPEAKERS[number - 1]}a01{EMODB_LETTERS[emotion]}a.wav"
            (emodb / name).write_bytes(row["audio"]["bytes"])
    shutil.copy(next(emodb.glob("*.wav")), folder / "speech.wav")
    write_own_corpus(folder / "path/to/mine")
    # A small encoder where the Hub's would be after a download.
    cached = folder / "cache/hub/models--openai--whisper-tiny.en"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("0123456789abcdef0123456789abcdef01234567")
    save_toy_encoder(cached / "snapshots/0123456789abcdef0123456789abcdef01234567")
    return folder


def write_own_corpus(folder: Path) -> None:
    """Recordings as somebody has them: a table that says what is felt in each."""
    folder.mkdir()
    lines = ["file,feeling,speaker"]
    for i, row in enumerate(load_corpus("toy_emotions", speakers=8, repetitions=1)):
        (folder / f"{i:03d}.wav").write_bytes(row["audio"]["bytes"])
        lines.append(f"{i:03d}.wav,{EMOTIONS[row['emotion']]},{row['speaker']}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def run(language: str, code: str, folder: Path) -> str:
    program = ["bash", "-euc"] if language == "bash" else [sys.executable, "-c"]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [*program, code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


USES = ("load", "train", "recognise", "calibrate", "own_corpus", "train_enhancer", "enhance")


def test_every_use_is_short():
    assert tuple(snippets()) == USES
    assert all(code.count("\n") < 10 for _, code in snippets().values())


def test_snippets_run_as_printed(checkout):
    printed = {name: run(*snippet, checkout) for name, snippet in snippets().items()}
    assert printed["load"].splitlines()[0].startswith("18 03 Der Lappen")
    assert "speakers_03 6 6 6" in printed["load"]
    assert (checkout / "outputs/transformer_0/model/model.safetensors").exists()
    *guesses, speech = [line.split()[0] for line in printed["recognise"].splitlines()]
    assert len(guesses) == 3
    assert set(guesses) <= set(EMOTIONS)
    assert speech == "speech"
    assert "'label'" in printed["calibrate"]
    assert "me" in (checkout / "my_classifier/config.json").read_text()
    assert (checkout / "outputs/mine/model/model.safetensors").exists()
    assert soundfile.info(checkout / "angrier.wav").frames > 0


@pytest.mark.parametrize(
    ("page", "tables"),
    [
        ("README.md", ["robustness", "calibration", "recognition", "enhancement"]),
        ("results/README.md", ["folds", "clarity_folds", "style"]),
    ],
)
def test_tables_are_those_of_the_results(page, tables):
    command = [sys.executable, "-m", "evaluation.results", "--check", "--readme", page]
    command += ["--tables", *tables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
