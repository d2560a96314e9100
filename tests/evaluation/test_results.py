import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

import evaluation.results
from evaluation.results import (
    make_record,
    provenance,
    read_records,
    update_between_markers,
    write_records,
)
from evaluation.tables import markdown_table, paper_records

ROOT = Path(evaluation.results.__file__).parents[1]


def record(ua=0.8, **changes):
    fields = {
        "task": "recognition",
        "corpus": "emodb",
        "protocol": "paper",
        "system": "emotion-resnet",
        "metrics": {"WA": 0.825, "UA": ua, "UA_ci95": [0.71, 0.85], "confusion_matrix": [[1, 0]]},
        "provenance": provenance(seed=0, seconds=1.23),
        "folds": 2,
        "per_fold": [{"UA": 0.7}, {"UA": 0.9}],
    }
    return make_record(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "recogniton"}, r"Bad task 'recogniton', expected one of \['recognition'"),
        ({"data": "fake"}, r"Bad data 'fake', expected one of \['original'"),
        ({"corpus": ""}, "Bad corpus ''"),
        ({"metrics": {"WA": 82.5}}, "Bad WA 82.5, expected a rate in 0..1"),
        ({"metrics": {"UA": float("nan")}}, "Bad UA nan"),
        ({"metrics": {"UA": 0.5, "UA_ci95": [0.9, 0.1]}}, "Bad UA_ci95"),
        ({"folds": 3}, "Bad folds 3"),
        ({"provenance": {"seed": 0}}, "Bad provenance.*missing.*'commit'"),
        ({"condition": "noisy"}, r"Bad condition 'noisy', expected one of \['as_recorded'"),
        ({"condition": "calibrated_speaker_0"}, "Bad condition 'calibrated_speaker_0'"),
        ({"condition": "calibrated_house_10"}, r"by one of \['room', 'speaker', 'room_neutral'"),
        ({"condition": None}, "Bad condition None"),
        ({"predictions": "/home/a/b.csv"}, "Bad predictions '/home/a/b.csv'.* beside"),
        ({"predictions": "../b.csv"}, "Bad predictions '../b.csv'"),
        ({"beside": ""}, "Bad beside ''"),
    ],
)
def test_a_bad_record_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes)


def test_records_are_replaced_by_identity_and_others_kept(tmp_path):
    path = tmp_path / "results" / "emodb.json"
    others = [record(system="svm"), record(judge="svm"), record(condition="reverb")]
    write_records(path, [record(ua=0.8), *others])
    write_records(path, [record(ua=0.9), record(corpus="ravdess")])
    records = read_records(path.parent)
    assert records[0]["metrics"]["UA"] == 0.9
    assert records[1:4] == others
    assert records[4]["corpus"] == "ravdess"
    assert len(records) == 5
    assert [file.name for file in path.parent.iterdir()] == ["emodb.json"]


def test_a_control_of_a_comparison_is_none_that_was_measured_alone(tmp_path):
    write_records(tmp_path / "alone.json", [record(ua=0.8)])
    beside = record(ua=0.7, beside="enhancer")
    write_records(tmp_path / "beside.json", [beside, record(ua=0.6, beside="another")])
    assert [r["metrics"]["UA"] for r in read_records(tmp_path)] == [0.8, 0.7, 0.6]
    write_records(tmp_path / "beside.json", [record(ua=0.9, beside="enhancer")])
    assert [r["metrics"]["UA"] for r in read_records(tmp_path)] == [0.8, 0.9, 0.6]
    write_records(tmp_path / "twice.json", [beside])
    with pytest.raises(ValueError, match=r"found twice.*'twice\.json'"):
        read_records(tmp_path)


def test_a_bad_record_leaves_the_file_as_it_was(tmp_path):
    path = write_records(tmp_path / "a.json", [record()])
    before = path.read_text()
    bad = copy.deepcopy(record(ua=0.1))
    del bad["condition"]
    with pytest.raises(ValueError, match=r"missing \['condition'\]"):
        write_records(path, [record(ua=0.2), bad])
    assert path.read_text() == before


def test_files_are_readable_for_people(tmp_path):
    text = write_records(tmp_path / "a.json", [record(system="a [ b ]")]).read_text()
    assert '"UA_ci95": [0.71, 0.85]' in text
    assert json.loads(text)[0]["system"] == "a [ b ]"


def test_unusable_results_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        read_records(tmp_path / "none")
    write_records(tmp_path / "a.json", [record()])
    write_records(tmp_path / "b.json", [record(ua=0.1)])
    with pytest.raises(ValueError, match=r"found twice.*'b\.json'"):
        read_records(tmp_path)
    (tmp_path / "b.json").write_text('{"UA": 1')
    with pytest.raises(ValueError, match=r"Bad results file .*b\.json"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (f"{ROOT}/configs/base.yaml", "configs/base.yaml"),
        ("configs/base.yaml", "configs/base.yaml"),
        ("/home/someone/secret/emodb", "emodb"),
        ("../elsewhere/emodb", "emodb"),
        ("--data_dir=/home/someone/emodb", "--data_dir=emodb"),
        ("roots=/home/a/emodb,/home/b/ravdess", "roots=emodb,ravdess"),
        ("~/emodb", "emodb"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("--seed=3", "--seed=3"),
        ("two words", "'two words'"),
    ],
)
def test_commands_show_no_path_of_the_machine(argument, shown, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = provenance(0, 1.0, ["/bin/train_classifier.py", argument])["command"]
    assert command == f"python train_classifier.py {shown}"


def test_provenance_says_what_ran_where_and_when(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train_classifier.py"), "--seed", "3"])
    made = provenance(seed=3, seconds=12.34)
    assert made["command"] == "python train_classifier.py --seed 3"
    assert made["seed"] == 3
    assert made["seconds"] == 12.3
    assert {"python", "torch", "transformers", "numpy"} <= set(made["versions"])
    assert made["hardware"]["cores"] >= 1
    assert str(ROOT) not in json.dumps(made)


def test_the_commit_tells_changed_code_from_new_results(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation.results, "REPOSITORY", tmp_path)
    assert provenance(0, 1.0)["commit"] == "unknown"
    (tmp_path / "results").mkdir()
    for name in ("code.py", "README.md", "results/a.json"):
        (tmp_path / name).write_text("first")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    clean = provenance(0, 1.0)["commit"]
    assert len(clean) == 40
    (tmp_path / "README.md").write_text("new table")
    (tmp_path / "results" / "a.json").write_text("new results")
    assert provenance(0, 1.0)["commit"] == clean
    (tmp_path / "code.py").write_text("changed")
    assert provenance(0, 1.0)["commit"] == f"{clean}-dirty"


def test_text_between_markers_is_replaced_and_the_rest_kept(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# A\n<!-- results:x -->\nold\n<!-- /results:x -->\nrest\n")
    assert update_between_markers(page, "x", "new")
    assert page.read_text() == "# A\n<!-- results:x -->\nnew\n<!-- /results:x -->\nrest\n"
    assert not update_between_markers(page, "x", "new")
    with pytest.raises(ValueError, match="expected once '<!-- results:y -->'"):
        update_between_markers(page, "y", "new")


def test_command_line_updates_and_checks_a_page(tmp_path):
    write_records(tmp_path / "results" / "a.json", [record()])
    page = tmp_path / "README.md"
    page.write_text("<!-- results:recognition -->\n<!-- /results:recognition -->\n")

    def run(*options):
        command = [sys.executable, "-m", "evaluation.results", "--results", "results", *options]
        environment = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::RuntimeWarning"}
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode

    assert run("--check") == 1
    assert "emotion-resnet" not in page.read_text()
    assert run() == 0
    assert markdown_table([record()], paper_records()) in page.read_text()
    assert run("--check") == 0


def test_command_line_draws_what_the_records_hold(tmp_path):
    records = [record(), record(condition="telephone")]
    write_records(tmp_path / "results" / "a.json", records)
    page = tmp_path / "README.md"
    page.write_text("<!-- results:robustness -->\n<!-- /results:robustness -->\n")
    arguments = ["--results", str(tmp_path / "results"), "--readme", str(page)]
    plots = tmp_path / "plots"
    arguments += ["--tables", "robustness", "--plots", str(plots)]
    assert evaluation.results.main([*arguments, "--check"]) == 1
    assert not plots.exists()
    assert evaluation.results.main(arguments) == 0
    assert [path.name for path in plots.iterdir()] == ["robustness.png"]
    assert "| telephone, WA / UA |" in page.read_text()
