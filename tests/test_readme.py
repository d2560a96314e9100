"""The README's snippets run as printed, one after the other, and its tables are up to date."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import soundfile
import yaml
from toy_encoders import save_toy_encoder

from datasets_scripts import EMOTIONS, load_corpus

ROOT = Path(__file__).resolve().parent.parent
SNIPPET = re.compile(r"<!-- snippet: (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"<!-- results:(?:\w+) -->.*?<!-- /results:\w+ -->", re.DOTALL)
# Pages with tables, and the part of each that says most of what came out.
PAGES = {
    "README.md": "### Enhancement",
    "results/README.md": "## The diffusion model",
    "results/emodb/README.md": "",
    "results/folds_1_2/README.md": "",
}
# A gain with its interval, and any figure with decimals, of a text without line breaks.
INTERVAL = re.compile(r"[+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\]")
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")
EMODB_LETTERS = dict(zip(EMOTIONS, "NFTWAE", strict=True))
EMODB_SPEAKERS = ("03", "08", "09")
# Three folds of RAVDESS.
RAVDESS_ACTORS = (1, 6, 9)
RAVDESS_NUMBERS = dict(zip(EMOTIONS, ("01", "03", "04", "05", "06", "07"), strict=True))
NOT_COPIED = shutil.ignore_patterns(
    ".venv", ".git", "outputs", "results", "__pycache__", ".*_cache"
)
# As small and short as training can be: what it learns in earnest is not the README's to show.
TINY = {
    "transformer.yaml": {"model": {"projection_size": 8}, "copies": 1},
    "classifier.yaml": {
        "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "mixed_precision": "no",
    },
    "diffusion.yaml": {
        "vae": {"block_out_channels": [4, 4, 8], "latent_channels": 2, "norm_num_groups": 2},
        "unet": {"block_out_channels": [8, 8, 8], "norm_num_groups": 4},
        "style_encoder": {"hidden_size": 16, "num_tokens": 2, "num_heads": 2},
        "autoencoder": {"epochs": 1},
        "denoiser": {"epochs": 1},
        "mixed_precision": "no",
    },
}
# Each in a namespace of its own, of one process: most of their time goes into imports.
ONE_BY_ONE = """
import sys
for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as snippet:
        code = compile(snippet.read(), file, "exec")
    print(f"<{file}>")
    exec(code, {"__name__": "__main__"})
"""


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
    for row in load_corpus("toy_emotions", speakers=10, repetitions=1):
        if row["sentence"] != "s1":
            continue
        emotion = EMOTIONS[row["emotion"]]
        number = int(row["speaker"])
        if number in RAVDESS_ACTORS:
            name = f"03-01-{RAVDESS_NUMBERS[emotion]}-01-01-01-{number:02d}.wav"
            (ravdess / name).write_bytes(row["audio"]["bytes"])
        if number <= len(EMODB_SPEAKERS):
            name = f"{EMODB_SPEAKERS[number - 1]}a01{EMODB_LETTERS[emotion]}a.wav"
            (emodb / name).write_bytes(row["audio"]["bytes"])
    shutil.copy(next(emodb.glob("*.wav")), folder / "speech.wav")
    write_own_corpus(folder / "path/to/mine")
    shorten(folder / "configs")
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
    for i, row in enumerate(load_corpus("toy_emotions", speakers=6, repetitions=1)):
        (folder / f"{i:03d}.wav").write_bytes(row["audio"]["bytes"])
        lines.append(f"{i:03d}.wav,{EMOTIONS[row['emotion']]},{row['speaker']}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def shorten(configs: Path) -> None:
    """Settings under the names that the README gives them, for networks and runs of toy size."""
    for name, changes in TINY.items():
        settings = yaml.safe_load((configs / name).read_text(encoding="utf-8"))
        for key, value in changes.items():
            settings[key] = settings.get(key, {}) | value if isinstance(value, dict) else value
        for stage in settings.get("stages", []):
            stage["epochs"] = 1
        settings |= {"batch_size": 6, "evaluations_per_stage": 1}
        (configs / name).write_text(yaml.safe_dump(settings), encoding="utf-8")


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


USES = ("shell", "recognise", "calibrate", "enhance", "browser", "push", "pull", "export", "onnx")
USES += ("load", "train", "own_corpus", "train_enhancer")
# A program that has nothing but NumPy has more to do.
LONG = "onnx"
# Run elsewhere: against a Hub of their own (hub/test_readme_on_the_hub.py), in a browser (space/).
ELSEWHERE = ("push", "pull", "browser")


def test_every_use_is_short():
    assert tuple(snippets()) == USES
    assert all(code.count("\n") < 10 for name, (_, code) in snippets().items() if name != LONG)
    assert snippets()[LONG][1].count("\n") < 20


def run_python(folder: Path, codes: dict[str, str]) -> dict[str, str]:
    """What each of some snippets prints, by name."""
    for name, code in codes.items():
        (folder / name).write_text(code, encoding="utf-8")
    printed = run(folder, sys.executable, "-c", ONE_BY_ONE, *codes)
    parts = re.split(r"^<(\w+)>\n", printed, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_snippets_run_as_printed(checkout):
    """Those of the shell first, then those that use what they made."""
    codes: dict[str, dict[str, str]] = {"bash": {}, "python": {}}
    for name, (language, code) in snippets().items():
        if name not in ELSEWHERE:
            codes[language][name] = code
    for code in codes["bash"].values():
        run(checkout, "bash", "-euc", code)
    assert (checkout / "outputs/transformer_0/model/model.safetensors").exists()
    assert (checkout / "outputs/mine/model/model.safetensors").exists()
    printed = run_python(checkout, codes["python"])
    assert printed["load"].splitlines()[0].startswith("18 03 Der Lappen")
    assert "speakers_03 6 6 6" in printed["load"]
    *guesses, speech = [line.split()[0] for line in printed["recognise"].splitlines()]
    assert len(guesses) == 3
    assert set(guesses) <= set(EMOTIONS)
    assert speech == "speech"
    assert "'label'" in printed["calibrate"]
    assert '"me"' in (checkout / "my_classifier/config.json").read_text()
    for name in ("sad", "clearer"):
        assert soundfile.info(checkout / f"{name}.wav").frames > 0
    assert set(EMOTIONS) <= set((checkout / "emotions.csv").read_text().split("\n")[0].split(","))
    scores = ast.literal_eval(printed["onnx"])
    assert sum(scores.values()) == pytest.approx(1, abs=0.01)


def test_words_on_results_repeat_no_figure_that_a_table_does_not_show():
    """Records change, and the tables with them; what is said of them has to follow."""
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    tables = "".join(table for text in texts for table in TABLE.findall(text))
    shown = set(INTERVAL.findall(tables)) | set(DECIMAL.findall(tables))
    sections = [
        re.search(rf"^{title}$(.*?)(?=^## )", TABLE.sub("", text), re.DOTALL | re.MULTILINE)[1]
        for title, text in zip(PAGES.values(), texts, strict=True)
        if title
    ]
    for words in (" ".join(section.split()) for section in sections):
        said = INTERVAL.findall(words) + DECIMAL.findall(words)
        assert len(said) > 9
        assert [figure for figure in said if figure not in shown] == []


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_results(page, tmp_path):
    """Of the records beside the page, or in `results` for the README."""
    tables = re.findall(r"<!-- results:(\w+) -->", (ROOT / page).read_text(encoding="utf-8"))
    folder = (ROOT / page).parent if page != "README.md" else ROOT / "results"
    command = ["-m", "evaluation.results", "--check", "--results", folder, "--readme", page]
    log = tmp_path / "log.txt"
    started = processes.start(log, *map(str, command), "--tables", *tables)
    printed, status = processes.finish(log, started)
    assert status == 0, printed
