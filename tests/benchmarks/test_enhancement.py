import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import enhancement
from benchmarks.enhancement import CONDITIONS, ORIGINAL, Condition
from benchmarks.enhancer_bench import FILTER
from benchmarks.judges import Lesson, train_mel_judge, wave_features
from benchmarks.mel_judge import JudgeConfig
from benchmarks.opensmile_svm import opensmile_svm
from benchmarks.panel import load_clips, load_fold, some_clips, wrong_emotions
from datasets_scripts import EMOTIONS
from evaluation import enhancement_table, provenance, read_records, write_records
from evaluation.tables import (
    BAND_FILTER,
    CLASS_SHIFT,
    DIFFUSION,
    ENHANCER,
    PANEL,
    RERANKED_SHIFT,
    UNRANKED,
    render_table,
)
from training.state import write_json

# The third needs the weights of Whisper.
HEARD = ("opensmile-svm", "emotion-tdnn")
# Resemblyzer and the weights of Whisper need not be here.
pytestmark = pytest.mark.filterwarnings("ignore:Left out")


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """Arguments of a quick measurement that was stopped on its way, and what it had left by then.

    It was to measure no more than two of the conditions, and cannot draw its pictures.
    """
    folder = tmp_path_factory.mktemp("work")
    (folder / "plots").touch()
    arguments = ["--runs", str(run), "--work", str(folder / "judged"), "--num_inference_steps", "2"]
    arguments += ["--num_noises", "1", "--limit", "6"]
    arguments += ["--judges", *HEARD, "--judge_seeds", "0"]
    arguments += ["--output", str(folder / "enhancement.json"), "--plots", str(folder / "plots")]
    with pytest.raises(OSError, match="plots"):
        enhancement.main([*arguments, "--data", "original", "converted"])
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


def by_condition(records, judge=PANEL):
    return {(r["system"], r["data"]): r["metrics"] for r in records if r["judge"] == judge}


def report_of(arguments, condition):
    file = Path(value_of(arguments, "--work")) / "fold_0" / f"{condition.name}.json"
    return json.loads(file.read_text())


def test_all_conditions_are_judged_and_shown(measured):
    records = measured[1]
    clarity = {(r["system"], r["data"], r["judge"]) for r in records if r["task"] == "clarity"}
    judges = (*HEARD, PANEL)
    assert clarity == {(c.system, c.data, j) for c in CONDITIONS for j in judges}
    table = render_table("enhancement", records)
    assert table == enhancement_table(records)
    assert table.count("\n") == 1 + len(CONDITIONS)
    assert "| emotion-enhancer | told a wrong emotion |" in table
    assert "| class-shift | told another emotion |" in table
    folds = render_table("clarity_folds", records).splitlines()[2:]
    assert [line.split(" | ")[:2] for line in folds] == [
        ["| Toy emotions", system] for system in dict.fromkeys(c.system for c in CONDITIONS)
    ]


def test_judges_know_recordings_and_not_what_a_network_of_noise_makes(measured):
    found = by_condition(measured[1], "opensmile-svm")
    original = found[ORIGINAL.system, "original"]["WA"]
    assert original > 0.5
    assert found[ENHANCER, "autoencoder_only"]["WA"] < original


def test_takes_are_aimed_where_conversion_is(measured):
    takes, untold, converted = (
        report_of(measured[0], Condition(ENHANCER, data))["clips"]
        for data in ("generated", "converted_untold", "converted")
    )
    assert takes["aimed"] == untold["aimed"] == converted["aimed"] != takes["emotion"]


def test_each_judge_is_shown_by_itself(measured):
    """Two of them hear as those do who choose between versions."""
    rows = [
        line.strip("| ").split(" | ")
        for line in render_table("judges_apart", measured[1]).splitlines()[2:]
    ]
    assert [row[1] for row in rows] == [*HEARD, "mean of all"]
    gains = [float(row[-1].split()[0]) for row in rows]
    assert gains[-1] == pytest.approx(np.mean(gains[:-1]), abs=0.11)
    found = by_condition(measured[1], HEARD[0])
    shown = [float(cell.split()[0]) for cell in rows[0][2:5]]
    systems = (BAND_FILTER, RERANKED_SHIFT, ENHANCER)
    assert shown == pytest.approx(
        [100 * found[system, "converted"]["target_WA"] for system in systems], abs=0.051
    )


def test_the_diffusion_is_compared_with_the_shift_on_the_same_recordings(measured):
    found = by_condition(measured[1])
    # Who is reranked is compared with a shift that is reranked, too.
    compared = {
        (system, data): shift
        for system, shift in ((ENHANCER, RERANKED_SHIFT), (UNRANKED, CLASS_SHIFT))
        for data in ("converted", "enhanced")
    }
    compared |= {(DIFFUSION, "converted"): CLASS_SHIFT}
    compared |= {(ENHANCER, "enhanced_guessed"): RERANKED_SHIFT}
    assert {key for key, metrics in found.items() if "over_shift" in metrics} == set(compared)
    for (system, data), shift in compared.items():
        ours, theirs = (
            report_of(measured[0], Condition(name, data))["clips"] for name in (system, shift)
        )
        assert ours["row"] == theirs["row"]
        assert ours["aimed"] == theirs["aimed"]
        over = found[system, data]["over_shift"]
        difference = found[system, data]["target_WA"] - found[shift, data]["target_WA"]
        assert over["gain"] == pytest.approx(difference)
        assert over["gain_ci95"][0] <= over["gain"] <= over["gain_ci95"][1]


def test_all_are_compared_with_a_filter_of_bands(measured):
    """Of the same run, told the same."""
    found = by_condition(measured[1])
    compared = {key for key, metrics in found.items() if "over_band_filter" in metrics}
    systems = (ENHANCER, RERANKED_SHIFT, UNRANKED, CLASS_SHIFT)
    expected = {(system, data) for system in systems for data in ("converted", "enhanced")}
    assert compared == expected | {(DIFFUSION, "converted")}
    for system, data in compared:
        over = found[system, data]["over_band_filter"]["gain"]
        difference = found[system, data]["target_WA"] - found[BAND_FILTER, data]["target_WA"]
        assert over == pytest.approx(difference)


def test_the_filter_is_the_one_that_was_chosen():
    for corpus in ("emodb", "ravdess"):
        points = json.loads(Path(f"results/curves/class_shift_{corpus}.json").read_text())
        for use, name in (("enhanced", "own"), ("converted", "other")):
            (best,) = (
                p for p in points if p["chosen"] and p["use"] == use and p["system"] == BAND_FILTER
            )
            assert (best["kind"], best["factors"]) == (FILTER["kind"], [*FILTER[name]])


def test_what_is_reranked_is_another_sound(measured):
    kept = by_condition([r for r in measured[1] if r["task"] == "preservation"], None)
    for reranked, once in ((ENHANCER, UNRANKED), (RERANKED_SHIFT, CLASS_SHIFT)):
        assert kept[reranked, "converted"] != kept[once, "converted"]


def test_a_listener_that_knows_the_tested_people_is_refused(run, tmp_path):
    """Whoever chooses what is judged has to be as strange to the voices as the judges."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "fold": 1}))
    arguments = ["--runs", str(run), "--listeners", str(tmp_path), "--work", str(tmp_path / "w")]
    with pytest.raises(ValueError, match=r"Bad listener '.*', trained on .*'fold': 1"):
        enhancement.main(arguments)
    with pytest.raises(ValueError, match="Got 2 listeners, expected one for each of the runs"):
        enhancement.main([*arguments[:3], "one", "two"])


def test_controls_of_the_run_are_not_those_that_are_measured_alone(measured, tmp_path):
    """Both benchmarks measure a class shift on the same corpora; all results are read at once."""
    controls = [r for r in measured[1] if r["system"] != ENHANCER]
    assert {r["beside"] for r in controls} == {ENHANCER}
    assert all("beside" not in r for r in measured[1] if r["system"] == ENHANCER)
    alone = [{k: v for k, v in r.items() if k != "beside"} for r in controls]
    write_records(tmp_path / "class_shift.json", alone)
    write_records(tmp_path / "enhancement.json", measured[1])
    together = read_records(tmp_path)
    assert len(together) == len(alone) + len(measured[1])
    assert render_table("enhancement", together) == render_table("enhancement", measured[1])
    assert render_table("controls", together) == render_table("controls", alone)


def test_the_sound_is_measured_beside_that_of_the_recordings(measured):
    kept = by_condition([r for r in measured[1] if r["task"] == "preservation"], None)
    systems = (ENHANCER, RERANKED_SHIFT, UNRANKED, CLASS_SHIFT, BAND_FILTER)
    both = {(s, d) for s in systems for d in ("enhanced", "converted")}
    assert set(kept) == both | {(DIFFUSION, "converted"), (ENHANCER, "generated")}
    for (system, _), metrics in kept.items():
        # Tempo moves, with whoever moves it.
        assert (metrics["length"] != pytest.approx(1, abs=1e-3)) == (system != BAND_FILTER)
    before = {metrics["ovrl_mos_original"] for metrics in kept.values()}
    assert len(before) == 1
    assert not before & {metrics["ovrl_mos"] for metrics in kept.values()}


def test_judges_never_heard_the_speakers(measured, run):
    work = Path(value_of(measured[0], "--work")) / "fold_0"
    fold = load_fold(str(run), work.parent)
    columns = fold.corpora.dataset.select_columns(["file", "speaker"])[:]
    speaker_of = dict(zip(columns["file"], columns["speaker"], strict=True))
    learned = json.loads((work / "judges" / "emotion-tdnn" / "seed_0" / "learned.json").read_text())
    heard = {file for _, file, _ in learned["recordings"]}
    assert heard == {columns["file"][row] for row in fold.corpora.fold.train}
    asked = report_of(measured[0], ORIGINAL)["clips"]["file"]
    assert not {speaker_of[file] for file in asked} & {speaker_of[file] for file in heard}


def test_votes_stand_beside_the_records(measured):
    folder = Path(value_of(measured[0], "--output")).parent
    record = next(r for r in measured[1] if r["system"] == CLASS_SHIFT)
    lines = (folder / record["predictions"]).read_text().splitlines()
    # Six recordings enhanced, six converted.
    assert len(lines) == 1 + 2 * 6
    assert {line.split(",")[0] for line in lines[1:]} == {"converted", "enhanced"}


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
    for data in ("wrong_emotion", "converted"):
        clips = report_of(measured[0], Condition(ENHANCER, data))["clips"]
        assert all(a != e for a, e in zip(clips["aimed"], clips["emotion"], strict=True))
    assert set(wrong_emotions(EMOTIONS * 10, seed=0)) == set(EMOTIONS)


def test_a_guess_is_that_of_who_listens(measured, run):
    """Judges are asked about the emotion that was guessed, which need not be the speaker's."""
    clips = report_of(measured[0], Condition(ENHANCER, "enhanced_guessed"))["clips"]
    fold = load_fold(str(run), Path(value_of(measured[0], "--work")))
    waves = load_clips(fold, clips["row"][:3]).waves
    guessed = fold.pipe(waves, corpus=clips["corpus"][:3], method="shift").emotions
    assert clips["aimed"][:3] == guessed


def test_a_stopped_measurement_goes_on(stopped, measured):
    """What was measured before stays as it is; the rest follows."""
    _, before = stopped
    after = contents(Path(value_of(measured[0], "--work")))
    reports = {Path("fold_0", f"{condition.name}.json") for condition in CONDITIONS}
    done = reports & set(before)
    assert Path("fold_0", f"{ORIGINAL.name}.json") in done
    assert done < reports <= set(after)
    for name, content in before.items():
        assert after[name] == content, name


def test_collecting_again_leaves_the_provenance_of_the_measurement(measured):
    arguments, records = measured
    work = Path(value_of(arguments, "--work")) / "fold_0"
    report = work / f"{Condition(ENHANCER, 'enhanced').name}.json"
    content = json.loads(report.read_text())
    before = report.read_bytes()
    content["provenance"] |= {"commit": "0123456789", "date": "2001-01-01T00:00:00+00:00"}
    report.write_text(json.dumps(content))
    enhancement.main([*arguments, "--collect_only"])
    report.write_bytes(before)
    again = json.loads(Path(value_of(arguments, "--output")).read_text())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]
    for record in again:
        of_then = (record["system"], record["data"]) == (ENHANCER, "enhanced")
        assert (record["provenance"]["commit"] == "0123456789") == of_then
        assert record["provenance"]["date"].startswith("2001") == of_then
    with pytest.raises(ValueError, match=r"measured with other \['limit', 'seed'\]"):
        enhancement.main([*arguments, "--collect_only", "--limit", "3", "--seed", "1"])


def test_nothing_to_collect(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No measurement in '.*fold_0', expected a call"):
        enhancement.main(["--runs", str(run), "--work", str(tmp_path), "--collect_only"])


def test_the_card_of_the_model_says_what_judges_heard(measured, run):
    card = (run / "model" / "README.md").read_text()
    assert render_table("enhancement", measured[1]) in card
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
    # What is tried is conversion: the recordings themselves do not hold what is aimed at.
    assert all(a != e for a, e in zip(clips["aimed"], clips["emotion"], strict=True))


def test_the_default_is_heard_best_of_those_that_keep_the_voice(tmp_path):
    """Of four recordings so many are heard as the target, at such a likeness to the speaker."""
    heard = {
        (0.0, 1.0): (0, 0.8),
        (0.6, 2.0): (1, 0.79),
        (0.8, 2.0): (2, 0.73),
        (1.0, 2.0): (4, 0.7),
    }
    for (strength, scale), (targets, likeness) in heard.items():
        clips = {
            "corpus": ["toy"] * 4,
            "aimed": ["anger"] * 4,
            "emotion": ["fear"] * 4,
            "opensmile-svm": ["anger"] * targets + ["fear"] * (4 - targets),
        }
        kept = {"speaker_similarity": likeness, "speaker_similarity_original": 0.8}
        report = {"fold": "0", "preservation": {"toy": kept}, "clips": clips}
        report["provenance"] = provenance(seed=0, seconds=1.0)
        write_json(tmp_path / "fold" / f"trade_off_{strength:g}_{scale:g}.json", report)
    options = argparse.Namespace(
        strengths=[0.6, 0.8, 1.0],
        # Nobody has measured the second one yet.
        guidance_scales=[2.0, 3.0],
        output=tmp_path / "enhancement.json",
        plots=tmp_path / "plots",
    )
    enhancement.write_trade_off([tmp_path / "fold"], options)
    found = json.loads((tmp_path / "curves" / "enhancement_trade_off.json").read_text())
    assert found["source"]["emotion"] == 0
    assert [p["emotion"] for p in found["points"]] == [0.25, 0.5, 1.0]
    assert [p["preservation"] for p in found["points"]] == pytest.approx([0.9875, 0.9125, 0.875])
    assert [p["strength"] for p in found["points"] if p.get("chosen")] == [0.8]


def test_measurements_of_other_settings_are_not_mixed(measured):
    with pytest.raises(ValueError, match=r"measured with other \['strength'\], expected a new"):
        enhancement.main([*measured[0], "--strength", "0.3"])
