import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import concatenate_datasets
from huggingface_hub import DatasetCard

from datasets_scripts import CORPORA, export_parquet, load_corpus, protocol_folds
from datasets_scripts.export import main

# Runs where `datasets_scripts` cannot be imported, without network.
READER = """
import importlib.util, io, json, sys
import datasets, soundfile

# `make` installs the project in editable form, which is found through a finder of its own.
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
assert importlib.util.find_spec("datasets_scripts") is None
datasets.disable_progress_bars()
folder, names = sys.argv[1], sys.argv[2:]
report = {"configs": sorted(datasets.get_dataset_config_names(folder))}
for name in names:
    loaded = datasets.load_dataset(folder, None if name == "default" else name)
    report[name] = {split: sorted(rows["file"]) for split, rows in loaded.items()}
rows = loaded["train"]
samples, rate = soundfile.read(io.BytesIO(rows[0]["audio"]["bytes"]))
report["audio"] = type(rows.features["audio"]).__name__
report["emotions"] = rows.features["emotion"].names
report["rate"], report["samples"] = rate, len(samples)
print(json.dumps(report))
"""


def read_elsewhere(folder, tmp_path, *configs):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    result = subprocess.run(
        [sys.executable, "-I", "-c", READER, str(folder), *configs],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return load_corpus("toy_emotions", cache_dir=cache, speakers=6, repetitions=1)


def files(dataset, rows):
    of_row = dataset["file"][:]
    return sorted(of_row[row] for row in rows)


def test_every_fold_is_a_configuration_without_our_code(toys, tmp_path):
    folder = export_parquet(toys, tmp_path / "exported")
    report = read_elsewhere(folder, tmp_path, "default", "speaker_independent_fold1", "paper_fold4")
    names = [f"speaker_independent_fold{i}" for i in range(3)] + [
        f"paper_fold{i}" for i in range(5)
    ]
    assert report["configs"] == sorted(["default", *names])
    assert report["default"] == {"train": files(toys, range(len(toys)))}
    for protocol, index in (("speaker_independent", 1), ("paper", 4)):
        fold = protocol_folds(toys, protocol)[index]
        expected = {split: files(toys, rows) for split, rows in fold.splits.items()}
        assert report[f"{protocol}_fold{index}"] == expected
    assert report["audio"] == "Audio"
    assert report["emotions"] == toys.features["emotion"].names
    assert report["rate"] == 16_000
    assert report["samples"] > 0.9 * 16_000


def test_recordings_are_stored_once(toys, tmp_path):
    folder = export_parquet(toys, tmp_path / "exported")
    stored = sum(path.stat().st_size for path in (folder / "data").iterdir())
    assert stored < 1.3 * sum(len(row["audio"]["bytes"]) for row in toys)


def test_card_is_valid_and_names_the_folds(toys, tmp_path):
    card = DatasetCard.load(export_parquet(toys, tmp_path / "exported") / "README.md")
    assert card.data.license == ["apache-2.0"]
    assert card.data.task_categories == ["audio-classification"]
    assert (
        "| `speaker_independent_fold0` | toy_emotions | speakers_01_02 | 24 | 24 | 24 |"
        in card.text
    )


def test_two_corpora_have_folds_of_both(toys, emodb_folder, tmp_path, cache):
    emodb = load_corpus("emodb", data_dir=emodb_folder, cache_dir=cache)
    both = concatenate_datasets([emodb, toys])
    folder = export_parquet(both, tmp_path / "exported", ["cross_corpus"])
    report = read_elsewhere(folder, tmp_path, "cross_corpus_fold0")
    assert report["cross_corpus_fold0"]["test"] == sorted(toys["file"])
    assert len(report["cross_corpus_fold0"]["train"]) == 454 - 48
    assert DatasetCard.load(folder / "README.md").data.license == ["cc0-1.0", "apache-2.0"]


def test_folder_that_holds_something_is_refused(toys, tmp_path):
    (tmp_path / "precious.txt").touch()
    with pytest.raises(FileExistsError, match="expected one that is empty or does not exist"):
        export_parquet(toys, tmp_path)


def test_unknown_protocol_leaves_nothing_behind(toys, tmp_path):
    with pytest.raises(ValueError, match="Bad protocol 'random'"):
        export_parquet(toys, tmp_path / "exported", ["random"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("corpus", CORPORA)
def test_dataset_cards_of_the_corpora_are_valid(corpus):
    module = sys.modules[CORPORA[corpus].__module__]
    card = DatasetCard.load(Path(module.__file__).with_name("README.md"))
    assert card.data.license == CORPORA[corpus].LICENSE
    assert card.data.task_categories == ["audio-classification"]


def test_command_line(emodb_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    output = tmp_path / "exported"
    main(
        ["--corpus", "emodb", "--data_dir", str(emodb_folder), "--output_dir", str(output),
         "--protocols", "sentence_independent"]
    )  # fmt: skip
    assert "Wrote 454 recordings" in capsys.readouterr().out
    card = DatasetCard.load(output / "README.md")
    assert "sentences_b09_b10" in card.text
