"""The controls without a network, measured on four synthetic voices under the names of EmoDB."""

import csv
import json

import pytest
from small_corpora import write_emodb

from benchmarks import class_shift, shared_speakers
from benchmarks.panel import describe_rows
from datasets_scripts import EMOTIONS
from evaluation import enhancement_table
from evaluation.tables import render_table


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class_shift")
    (folder / "emodb").mkdir()
    write_emodb(folder / "emodb")
    given = [f"--corpus=emodb={folder / 'emodb'}", "--folds", "0", "--choose_on", "0"]
    given += ["--choose_limit", "6", "--limit", "6", "--own_factors", "0.7"]
    given += ["--other_factors", "1.5", "--judges", "opensmile-svm", f"--work={folder / 'work'}"]
    return [*given, f"--output={folder / 'class_shift.json'}"], folder


@pytest.fixture(scope="module")
def records(arguments):
    class_shift.main(arguments[0])
    return json.loads((arguments[1] / "class_shift.json").read_text())


def by_system(records, judge="mean"):
    return {(r["system"], r["data"]): r["metrics"] for r in records if r["judge"] == judge}


def test_every_control_is_measured_and_shown(records):
    # Nobody predicts labels here.
    wanted = {(c.system, c.data) for c in class_shift.CONDITIONS if c.data != "enhanced_guessed"}
    assert set(by_system(records)) == wanted
    table = enhancement_table(records)
    assert table.count("\n") == 1 + len(wanted)
    assert "| class-shift | told the emotion |" in table


def test_the_waveform_survives_and_a_shift_changes_it(records):
    found = by_system(records)
    assert found["psola", "vocoder_only"]["gain_WA"] == 0
    kept = {(r["system"], r["data"]): r["metrics"] for r in records if r["task"] == "preservation"}
    assert kept["psola", "vocoder_only"]["length"] == pytest.approx(1, abs=1e-3)
    assert kept["class-shift", "converted"]["length"] != pytest.approx(1, abs=1e-3)
    assert kept["band-filter", "converted"]["length"] == pytest.approx(1, abs=1e-3)


def test_settings_are_chosen_by_those_who_validate_and_the_best_is_taken(arguments, records):
    points = json.loads((arguments[1] / "curves" / "class_shift_emodb.json").read_text())
    for use in ("enhanced", "converted"):
        for system in ("band-filter", "class-shift"):
            own = [p for p in points if (p["use"], p["system"]) == (use, system)]
            (chosen,) = [p for p in own if p["chosen"]]
            assert chosen["target_WA"] == max(p["target_WA"] for p in own)
    folder = arguments[1] / "work" / "emodb_0"
    chose = {
        speaker
        for file in folder.glob("choice_*.json")
        for speaker in json.loads(file.read_text())["clips"]["speaker"]
    }
    tested = set(json.loads((folder / "recordings_original.json").read_text())["clips"]["speaker"])
    assert chose == {"emodb 08"}
    assert tested == {"emodb 03"}
    # Who is tested in fold 0 took part in no choice.
    assert by_system(records)["class-shift", "enhanced"]["clean"]["folds"] == ["emodb_0"]


def test_votes_stand_beside_the_records(arguments, records):
    record = next(r for r in records if r["system"] == "class-shift")
    with (arguments[1] / record["predictions"]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    converted = [row for row in rows if row["data"] == "converted"]
    assert len(converted) == 6
    assert all(row["aimed"] != row["emotion"] for row in converted)
    assert {row["opensmile-svm"] for row in rows} <= set(EMOTIONS)


def test_a_repeated_call_measures_nothing_again_and_other_settings_are_refused(arguments, records):
    reports = arguments[1] / "work" / "emodb_0"
    before = {file.name: file.stat().st_mtime_ns for file in reports.glob("*.json")}
    class_shift.main(arguments[0])
    assert before == {file.name: file.stat().st_mtime_ns for file in reports.glob("*.json")}
    assert json.loads((arguments[1] / "class_shift.json").read_text()) == records
    with pytest.raises(ValueError, match=r"measured with other \['limit'\], expected a new --work"):
        class_shift.main([*arguments[0], "--limit", "7"])


def test_folds_that_are_not_there(arguments):
    with pytest.raises(ValueError, match="Bad folds"):
        class_shift.main([*arguments[0], "--folds", "99"])


def test_judges_of_the_other_half_have_nobody_in_common_with_the_shift(arguments, records):
    given, folder = arguments
    output, work = folder / "shared_speakers.json", folder / "shared"
    corpus = next(argument for argument in given if argument.startswith("--corpus"))
    told = [corpus, "--folds", "0", "--limit", "6", "--judges", "opensmile-svm"]
    told += ["--curves", str(folder / "curves"), "--work", str(work), "--output", str(output)]
    shared_speakers.main(told)
    measured = json.loads(output.read_text())
    found = {(r["beside"], r["data"]) for r in measured if r["judge"] == "mean"}
    kinds = ("judges_of_same_speakers", "judges_of_other_speakers")
    assert found == {(kind, data) for kind in kinds for data in shared_speakers.DATA}
    rows = render_table("shared_speakers", [*measured, *records]).splitlines()[2:]
    assert len(rows) == len(found)
    assert render_table("controls", [*measured, *records]) == render_table("controls", records)
    options = shared_speakers.parse_arguments(told)
    stage = class_shift.Stage("emodb", corpus.split("=")[2], 0, options)
    halves = [
        set(describe_rows(half, half.corpora.fold.train).speakers)
        for half in (shared_speakers.half_of(stage.fold, i) for i in (0, 1))
    ]
    assert not halves[0] & halves[1]
    everybody = set(describe_rows(stage.fold, stage.fold.corpora.fold.train).speakers)
    assert halves[0] | halves[1] == everybody
