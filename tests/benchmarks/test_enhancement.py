import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import enhancement
from datasets_scripts import EMOTIONS
from evaluation import enhancement_table
from evaluation.results import render_table


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    """Arguments of a quick measurement, and its records."""
    work = tmp_path_factory.mktemp("work")
    arguments = ["--runs", str(run), "--work", str(work / "judged"), "--num_inference_steps", "2"]
    arguments += ["--vocoder", "source_filter"]
    arguments += ["--output", str(work / "enhancement.json"), "--plots", str(work / "plots")]
    enhancement.main(arguments)
    return arguments, json.loads((work / "enhancement.json").read_text())


def test_all_conditions_are_judged_and_shown(measured):
    records = measured[1]
    clarity = {(r["data"], r["judge"]) for r in records if r["task"] == "clarity"}
    judges = (*enhancement.EMOTION_JUDGES, enhancement.PANEL)
    assert clarity == {(c, j) for c in enhancement.CONDITIONS for j in judges}
    table = enhancement_table(records)
    assert table.count("\n") == 1 + len(enhancement.CONDITIONS)
    assert "told a wrong emotion" in table
    assert render_table("clarity_folds", records).splitlines()[2].startswith("| Toy emotions | 0 |")


def test_recordings_are_untouched_and_networks_of_noise_are_not(measured):
    """Judges know recordings that nobody touched; random networks harm whatever they touch."""
    by_data = {(r["data"], r["task"], r["judge"]): r["metrics"] for r in measured[1]}
    original = by_data["original", "preservation", None]
    assert original["mel_distance_db"] == 0
    assert by_data["original", "clarity", "opensmile-svm"]["WA"] > 0.5
    for data in ("enhanced", "wrong_emotion", "autoencoder_only"):
        changed = by_data[data, "preservation", None]
        assert changed["mel_distance_db"] > 0.1
    assert by_data["vocoder_only", "preservation", None]["mel_distance_db"] < 0.5


def test_gain_is_that_of_each_recording_over_itself():
    """One judge hears one recording more of A and two of B, the other loses as many as it gains."""
    emotions = np.repeat("anger", 6)
    columns = {"speaker": np.array(list("AAABBB")), "emotion": emotions, "aimed": emotions}
    heard = np.array(["anger", "fear", "anger", "fear", "fear", "fear"])
    before = {**columns, "opensmile-svm": heard, "emotion-tdnn": heard}
    svm, tdnn = heard.copy(), heard.copy()
    svm[[1, 3, 4]], tdnn[[0, 1]] = "anger", ["fear", "anger"]
    found = enhancement.panel_clarity(
        before, {**columns, "opensmile-svm": svm, "emotion-tdnn": tdnn}
    )
    assert found["WA"] == found["target_WA"] == pytest.approx(7 / 12)
    assert found["gain"] == pytest.approx(1 / 4)
    assert found["gain_ci95"] == pytest.approx([1 / 6, 1 / 3])
    nothing = enhancement.panel_clarity(before, before)
    assert nothing["gain_ci95"] == [0, 0]
    one = {name: column[:1] for name, column in before.items()}
    assert enhancement.panel_clarity(one, one)["gain_ci95"] == [0, 0]


def test_a_matched_level_is_that_of_the_recording(measured):
    by_data = {r["data"]: r["metrics"] for r in measured[1] if r["task"] == "preservation"}
    unmatched, matched = (by_data[d]["level_difference_db"] for d in ("enhanced", "level_matched"))
    assert matched < 1e-3 < unmatched
    assert by_data["level_matched"]["mel_distance_db"] > 0.1
    silence = np.zeros(100, np.float32)
    assert (enhancement.match_level(silence, silence + 1) == 0).all()


def test_judges_of_emotion_never_heard_the_speakers(run, tmp_path):
    """The speaker judge asks about recordings that it did not learn."""
    fold = enhancement.load_fold(str(run), tmp_path)
    known = fold.corpora.fold
    speakers = {
        split: set(enhancement.describe_rows(fold, rows).speakers)
        for split, rows in known.splits.items()
    }
    assert not speakers["test"] & (speakers["train"] | speakers["validation"])
    everybody = enhancement.describe_rows(fold, range(len(fold.corpora.dataset)))
    learnt, asked = enhancement.halves(everybody, seed=0)
    assert not set(learnt.tolist()) & set(asked.tolist())
    assert {everybody.speakers[i] for i in asked} == set(everybody.speakers)


def test_a_limit_holds_for_each_corpus(run, tmp_path):
    fold = enhancement.load_fold(str(run), tmp_path)
    rows = fold.corpora.fold.test
    chosen = [
        enhancement.some_clips(fold, rows, enhancement.parse_arguments(["--runs", "x", *limit]))
        for limit in (["--limit", "5"], ["--limit", "5"], ["--limit", "5", "--seed", "1"], [])
    ]
    assert [len(clips.rows) for clips in chosen] == [5, 5, 5, len(rows)]
    assert chosen[0].rows == chosen[1].rows != chosen[2].rows
    assert set(chosen[0].rows) < set(rows)


def test_wrong_emotions_are_wrong(measured):
    arguments = measured[0]
    work = arguments[arguments.index("--work") + 1]
    clips = json.loads(Path(work, "fold_0", "wrong_emotion.json").read_text())["clips"]
    assert all(a != e for a, e in zip(clips["aimed"], clips["emotion"], strict=True))
    assert set(clips["aimed"]) == set(EMOTIONS)


def test_a_stopped_measurement_goes_on(measured):
    arguments, records = measured
    enhancement.main(arguments)
    again = json.loads(Path(arguments[arguments.index("--output") + 1]).read_text())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]


def test_measurements_of_other_settings_are_not_mixed(measured):
    with pytest.raises(ValueError, match=r"measured with other \['strength'\], expected a new"):
        enhancement.main([*measured[0], "--strength", "0.3"])
