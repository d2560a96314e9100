import csv
import io
import json

import numpy as np
import pytest
from toy_enhancer import EMOTIONS

from datasets_scripts import export_parquet, load_corpus


def test_metrics_are_those_of_the_verdicts(run, model_folder, labelled):
    verdicts = run("evaluate", labelled, "--csv", "--model", model_folder)
    assert verdicts.exit_code == 0, verdicts.stderr
    rows = list(csv.DictReader(io.StringIO(verdicts.stdout)))
    assert len(rows) == 12
    for row in rows:
        assert row["prediction"] == max(EMOTIONS, key=lambda emotion: float(row[emotion]))
        assert row["file"].startswith(row["emotion"])
    result = run("evaluate", labelled, "--json", "--model", model_folder)
    content = json.loads(result.stdout)
    assert (content["recordings"], content["failed"]) == (12, 0)
    hits = {emotion: [] for emotion in EMOTIONS}
    for row in rows:
        hits[row["emotion"]].append(row["emotion"] == row["prediction"])
    metrics = content["metrics"]
    assert metrics["WA"] == pytest.approx(
        np.mean([hit for several in hits.values() for hit in several])
    )
    assert metrics["UA"] == pytest.approx(np.mean([np.mean(hit) for hit in hits.values()]))


def test_table_and_a_recording_that_fails(run, model_folder, labelled):
    broken = labelled / "anger" / "broken.wav"
    broken.write_bytes(b"RIFF")
    try:
        result = run("evaluate", labelled, "--model", model_folder)
    finally:
        broken.unlink()
    assert "broken.wav" in result.stderr
    assert "12 recordings, in percent" in result.stdout
    assert all(name in result.stdout for name in ("WA", "UA", "macro-F1", "ECE", *EMOTIONS))


def test_speakers_of_a_saved_dataset(run, model_folder, tmp_path):
    corpus = load_corpus("toy_emotions", speakers=2, repetitions=1)
    export_parquet(corpus, tmp_path / "saved", protocols=())
    command = ("evaluate", tmp_path / "saved", "--json", "--model", model_folder)
    speakers = sorted(set(corpus["speaker"]))
    whole, part = (
        json.loads(run(*command, *options).stdout)["recordings"]
        for options in ((), ("--speakers", speakers[0]))
    )
    assert whole == 2 * part
    result = run(*command, "--speakers", "nobody")
    assert result.exit_code == 2
    assert f"Bad --speakers ['nobody'], expected some of {speakers}" in result.stderr


def test_rows_without_a_label_are_named_and_not_scored(run, model_folder, tmp_path):
    rows = load_corpus("toy_emotions", speakers=1, repetitions=1).select(range(3))
    labels = [-1, None, rows[2]["emotion"]]
    unlabelled = rows.remove_columns("emotion").add_column("emotion", labels).cast(rows.features)
    unlabelled.to_parquet(tmp_path / "some" / "train.parquet")
    result = run("evaluate", tmp_path / "some", "--json", "--model", model_folder)
    assert result.exit_code == 1
    assert result.stderr.count("Bad row without a label") == 2
    content = json.loads(result.stdout)
    assert (content["recordings"], content["failed"]) == (1, 2)


def test_a_corpus_of_the_training_is_named(run, model_folder, labelled, tmp_path):
    import shutil

    folder = tmp_path / "known"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["trained_on"] = {"corpora": ["studio"], "protocol": "speaker_independent", "fold": 1}
    (folder / "config.json").write_text(json.dumps(config))
    result = run("evaluate", f"studio={labelled}", "--json", "--model", folder)
    assert result.exit_code == 0, result.stderr
    assert "The model was trained on studio (protocol speaker_independent, fold 1)" in result.stderr


@pytest.mark.parametrize("data", ["nowhere", "emodb=nowhere"])
def test_no_data(run, model_folder, data):
    result = run("evaluate", data, "--model", model_folder)
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr
