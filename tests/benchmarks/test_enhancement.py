import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import enhancement
from benchmarks.judges import Lesson, train_mel_judge, wave_features
from benchmarks.mel_judge import JudgeConfig
from benchmarks.opensmile_svm import opensmile_svm
from benchmarks.panel import load_clips, load_fold, some_clips, wrong_emotions
from datasets_scripts import EMOTIONS
from evaluation import enhancement_table
from evaluation.tables import PANEL, render_table

# The third needs the weights of Whisper.
HEARD = ("opensmile-svm", "emotion-tdnn")


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """Arguments of a quick measurement that was stopped on its way, and what it had left by then.

    It cannot draw its pictures, which it does in the middle.
    """
    folder = tmp_path_factory.mktemp("work")
    (folder / "plots").touch()
    arguments = ["--runs", str(run), "--work", str(folder / "judged"), "--num_inference_steps", "2"]
    arguments += ["--num_noises", "1", "--limit", "8"]
    arguments += ["--judges", *HEARD, "--judge_seeds", "0"]
    arguments += ["--output", str(folder / "enhancement.json"), "--plots", str(folder / "plots")]
    with pytest.raises(OSError, match="plots"):
        enhancement.main(arguments)
    (folder / "plots").unlink()
    return arguments, contents(folder / "judged")


@pytest.fixture(scope="module")
def measured(stopped):
    """Arguments of the measurement, which has gone on, and its records."""
    enhancement.main(stopped[0])
    return stopped[0], json.loads(Path(value_of(stopped[0], "--output")).read_text())


def value_of(arguments, name):
    return arguments[arguments.index(name) + 1]


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_conditions_are_judged_and_shown(measured):
    records = measured[1]
    clarity = {(r["data"], r["judge"]) for r in records if r["task"] == "clarity"}
    judges = (*HEARD, PANEL)
    assert clarity == {(c, j) for c in enhancement.CONDITIONS for j in judges}
    table = enhancement_table(records)
    assert table.count("\n") == 1 + len(enhancement.CONDITIONS)
    assert "told a wrong emotion" in table
    assert (
        render_table("clarity_folds", records)
        .splitlines()[2]
        .startswith("| Toy emotions | emotion-enhancer | 0 |")
    )


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


def test_a_matched_level_is_that_of_the_recording(measured):
    by_data = {r["data"]: r["metrics"] for r in measured[1] if r["task"] == "preservation"}
    unmatched, matched = (by_data[d]["level_difference_db"] for d in ("enhanced", "level_matched"))
    assert matched < 1e-3 < unmatched
    assert by_data["level_matched"]["mel_distance_db"] > 0.1
    silence = np.zeros(100, np.float32)
    assert (enhancement.match_level(silence, silence + 1) == 0).all()


def test_judges_of_emotion_never_heard_the_speakers(measured, run):
    """The judge of speakers has to know them, but not the recordings that it is asked about."""
    work = Path(value_of(measured[0], "--work")) / "fold_0"
    fold = load_fold(str(run), work.parent)
    columns = fold.corpora.dataset.select_columns(["file", "speaker"])[:]
    speaker_of = dict(zip(columns["file"], columns["speaker"], strict=True))
    known = {
        place.split("/")[0]: json.loads((work / "judges" / place / "learned.json").read_text())
        for place in ("emotion-tdnn/seed_0", "sentence-tdnn", "speaker-tdnn")
    }
    known = {name: lesson["recordings"] for name, lesson in known.items()}
    train = {columns["file"][row] for row in fold.corpora.fold.train}
    tested = {speaker_of[columns["file"][row]] for row in fold.corpora.fold.test}
    for name in ("emotion-tdnn", "sentence-tdnn"):
        heard = {file for _, file, _ in known[name]}
        assert heard == train
        assert not tested & {speaker_of[file] for file in heard}
    heard = {file for _, file, _ in known["speaker-tdnn"]}
    assert {speaker_of[file] for file in heard} == set(columns["speaker"])
    clips = json.loads((work / "original.json").read_text())["clips"]
    asked = zip(clips["row"], clips["asked_speaker"], strict=True)
    assert not heard & {columns["file"][row] for row, is_asked in asked if is_asked}


def test_judges_are_trained_again_for_another_seed_and_not_for_the_same(run, tmp_path):
    fold = load_fold(str(run), tmp_path)
    clips = load_clips(fold, fold.corpora.fold.train)
    tiny = JudgeConfig(channels=8, pooled_channels=8, embedding_size=8, epochs=1)
    weights = tmp_path / "judge" / "judge.safetensors"
    lesson = Lesson(clips.waves, clips.corpora, clips.emotions, clips.files)

    def train(config, seed):
        train_mel_judge(lesson, fold.feature_extractor, weights.parent, config, seed)
        return weights.stat().st_mtime_ns, weights.read_bytes()

    first, again = train(tiny, 0), train(tiny, 0)
    assert first == again
    other, changed = train(tiny, 1), train(replace(tiny, dropout=0.0), 1)
    assert len({first[1], other[1], changed[1]}) == 3


def test_a_waveform_too_short_for_opensmile_is_refused():
    """As the baseline refuses it: nothing is put in the place of what is not a number."""
    waves = [np.zeros(22_025, np.float32), np.zeros(200, np.float32)]
    with pytest.raises(ValueError, match=r"no features for waveform 1 of 0\.009 s, expected a lon"):
        wave_features(opensmile_svm(), waves, 22_025)


def test_a_limit_holds_for_each_corpus(run, tmp_path):
    fold = load_fold(str(run), tmp_path)
    rows = fold.corpora.fold.test
    chosen = [
        some_clips(fold, rows, limit, seed) for limit, seed in ((5, 0), (5, 0), (5, 1), (None, 0))
    ]
    assert [len(clips.rows) for clips in chosen] == [5, 5, 5, len(rows)]
    assert chosen[0].rows == chosen[1].rows != chosen[2].rows
    assert set(chosen[0].rows) < set(rows)


def test_wrong_emotions_are_wrong(measured):
    work = Path(value_of(measured[0], "--work")) / "fold_0"
    clips = json.loads((work / "wrong_emotion.json").read_text())["clips"]
    assert all(a != e for a, e in zip(clips["aimed"], clips["emotion"], strict=True))
    assert set(wrong_emotions(EMOTIONS * 10, seed=0)) == set(EMOTIONS)


def test_a_stopped_measurement_goes_on(stopped, measured):
    """What was measured before stays as it is; the rest follows."""
    _, before = stopped
    after = contents(Path(value_of(measured[0], "--work")))
    reports = {Path("fold_0", f"{condition}.json") for condition in enhancement.CONDITIONS}
    done = reports & set(before)
    assert Path("fold_0/original.json") in done
    assert done < reports <= set(after)
    for name, content in before.items():
        assert after[name] == content, name


def test_collecting_again_leaves_the_provenance_of_the_measurement(measured):
    arguments, records = measured
    work = Path(value_of(arguments, "--work")) / "fold_0"
    report = work / "enhanced.json"
    content = json.loads(report.read_text())
    before = report.read_bytes()
    content["provenance"] |= {"commit": "0123456789", "date": "2001-01-01T00:00:00+00:00"}
    report.write_text(json.dumps(content))
    enhancement.main([*arguments, "--collect_only"])
    report.write_bytes(before)
    again = json.loads(Path(value_of(arguments, "--output")).read_text())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]
    for record in again:
        of_then = record["data"] == "enhanced"
        assert (record["provenance"]["commit"] == "0123456789") == of_then
        assert record["provenance"]["date"].startswith("2001") == of_then
    with pytest.raises(ValueError, match=r"measured with other \['limit', 'seed'\]"):
        enhancement.main([*arguments, "--collect_only", "--limit", "3", "--seed", "1"])


def test_nothing_to_collect(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No measurement in '.*fold_0', expected a call"):
        enhancement.main(["--runs", str(run), "--work", str(tmp_path), "--collect_only"])


def test_the_card_of_the_model_says_what_judges_heard(measured, run):
    card = (run / "model" / "README.md").read_text()
    assert enhancement_table(measured[1]) in card
    assert "No judge has heard this model yet" not in card
    assert "Validation loss of the denoiser: 0.2500" in card


def test_settings_are_tried_on_those_who_validate(measured, run, tmp_path):
    arguments = ["--trade_off", "--strengths", "0.2", "0.6", "--guidance_scales", "2"]
    arguments += ["--limit", "2", "--output", str(tmp_path / "records.json")]
    enhancement.main([*measured[0], *arguments, "--plots", str(tmp_path / "plots")])
    found = json.loads((tmp_path / "curves" / "enhancement_trade_off.json").read_text())
    assert [point["strength"] for point in found["points"]] == [0.2, 0.6]
    assert (tmp_path / "plots" / "enhancement_trade_off.png").exists()
    assert not (tmp_path / "records.json").exists()
    work = Path(value_of(measured[0], "--work"))
    clips = json.loads((work / "fold_0" / "trade_off_0.6_2.json").read_text())["clips"]
    validation = load_fold(str(run), work).corpora.fold.validation
    assert set(clips["row"]) < set(validation)


def test_measurements_of_other_settings_are_not_mixed(measured):
    with pytest.raises(ValueError, match=r"measured with other \['strength'\], expected a new"):
        enhancement.main([*measured[0], "--strength", "0.3"])
