from evaluation.conditions import CONDITION_TITLES
from evaluation.results import DATA, make_record, provenance
from evaluation.tables import (
    DATA_TITLES,
    calibration_table,
    enhancement_table,
    folds_table,
    markdown_table,
    paper_records,
    render_table,
    robustness_table,
    speed_table,
)


def record(ua=0.8, wa=0.825, **changes):
    fields = {
        "task": "recognition",
        "corpus": "emodb",
        "protocol": "paper",
        "system": "emotion-resnet",
        "metrics": {"WA": wa, "UA": ua, "UA_ci95": [0.71, 0.85]},
        "provenance": provenance(seed=0, seconds=1.23),
        "folds": 2,
        "per_fold": [{"WA": wa, "UA": ua}, {"WA": wa, "UA": ua}],
    }
    return make_record(**(fields | changes))


def rows(table):
    return table.splitlines()[2:]


def test_every_kind_of_data_has_a_title():
    assert set(DATA_TITLES) == set(DATA)


def test_table_groups_by_corpus_and_protocol_with_the_papers_numbers():
    records = [
        record(ua=0.7, system="svm"),
        record(ua=0.8),
        record(ua=0.6, protocol="speaker_independent"),
        record(task="speed", metrics={"seconds": 3}),
    ]
    table = markdown_table(records, paper_records())
    assert rows(table) == [
        "| EmoDB | unseen speakers | emotion-resnet | 82.5 | 60.0 [71.0, 85.0] |  | 2 |",
        "| EmoDB | random 80/20 | emotion-resnet | 82.5 | 80.0 [71.0, 85.0] |  | 2 |",
        "| EmoDB | random 80/20 | svm | 82.5 | 70.0 [71.0, 85.0] |  | 2 |",
        "| EmoDB | random 80/20 | *Kim & Lee 2024, original data* | 82.1 | 81.7 |  |  |",
        "| EmoDB | random 80/20 | *Kim & Lee 2024, generated data* | 94.3 | 91.6 |  |  |",
    ]


def test_the_calibration_error_has_a_column_where_it_was_measured():
    measured = record(metrics={"WA": 0.8, "UA": 0.7, "ECE": 0.046}, system="svm")
    table = markdown_table([record(), measured], paper_records())
    assert table.splitlines()[0] == (
        "| corpus | protocol | system | WA | UA | macro-F1 | ECE | folds |"
    )
    assert rows(table)[:2] == [
        "| EmoDB | random 80/20 | emotion-resnet | 82.5 | 80.0 [71.0, 85.0] |  |  | 2 |",
        "| EmoDB | random 80/20 | svm | 80.0 | 70.0 |  | 4.6 | 2 |",
    ]
    assert all(row.count("|") == 9 for row in rows(table))


def test_other_conditions_stand_in_no_table_of_recordings_as_they_are():
    records = [record(), record(condition="telephone", ua=0.1, wa=0.1)]
    assert markdown_table(records) == markdown_table(records[:1])
    assert folds_table(records) == folds_table(records[:1])


def test_robustness_shows_the_difference_to_the_recordings_as_they_are():
    records = [
        record(condition="reverb", ua=0.7, wa=0.71),
        record(condition="level_minus_20", ua=0.8, wa=0.83),
        record(),
        record(condition="telephone", system="svm", ua=0.5, wa=0.5),
        record(condition="calibrated_speaker_10", ua=0.9, wa=0.9),
        record(corpus="ravdess"),
    ]
    table = robustness_table(records)
    assert table.splitlines()[0] == (
        "| corpus | protocol | system | as recorded, WA / UA | 20 dB softer, WA / UA | "
        "telephone, WA / UA | small room, WA / UA |"
    )
    assert rows(table) == [
        "| EmoDB | random 80/20 | emotion-resnet | 82.5 / 80.0 | 83.0 / 80.0 (+0.5) |  | "
        "71.0 / 70.0 (-11.5) |",
        # Without a record as recorded there is nothing to subtract.
        "| EmoDB | random 80/20 | svm |  |  | 50.0 / 50.0 |  |",
    ]


def test_calibration_has_a_row_for_whose_recordings_and_a_column_for_their_number():
    records = [
        record(condition="calibrated_room_20", ua=0.84),
        record(condition="calibrated_room_5", ua=0.82),
        record(condition="calibrated_speaker_neutral_5", ua=0.81),
        record(condition="calibrated", ua=0.1),
        record(),
        record(corpus="ravdess"),
    ]
    table = calibration_table(records)
    assert table.splitlines()[0] == (
        "| corpus | protocol | system | calibrated by | none | 5 | 20 |"
    )
    name = "| EmoDB | random 80/20 | emotion-resnet |"
    assert rows(table) == [
        f"{name} room | 82.5 / 80.0 | 82.5 / 82.0 | 82.5 / 84.0 |",
        f"{name} speaker, neutral only | 82.5 / 80.0 | 82.5 / 81.0 |  |",
    ]


def test_conditions_come_in_the_order_of_their_titles():
    records = [record(condition=name) for name in reversed(CONDITION_TITLES)]
    header = robustness_table(records).splitlines()[0].split(" | ")[3:]
    expected = [f"{title}, WA / UA" for title in CONDITION_TITLES.values()]
    assert [cell.removesuffix(" |") for cell in header] == expected


def test_contaminated_and_partial_scores_say_so_in_every_table():
    seen = {"WA": 0.9, "UA": 0.9, "contaminated": True}
    part = {"WA": 0.6, "UA": 0.6, "classes": ["anger", "fear"], "coverage": 0.414}
    both = [record(metrics=seen, system="seen"), record(metrics=part, system="part")]
    table = markdown_table([*both, record(metrics=seen | {"contaminated": None})])
    assert "| seen (contaminated) |" in table
    assert "| part (2 emotions, 41 % of the recordings) |" in table
    assert table.count("contaminated") == 1
    assert "82.5 / 80.0 (contaminated)" in folds_table(both)
    changed = [record(metrics=seen, condition=name) for name in ("as_recorded", "telephone")]
    assert "| emotion-resnet (contaminated) |" in robustness_table(changed)
    calibrated = [record(metrics=seen, condition="calibrated_room_5")]
    assert "| emotion-resnet (contaminated) |" in calibration_table(calibrated)
    judged = {"task": "clarity", "judge": "other", "data": "enhanced", "metrics": seen}
    assert "| told the emotion | 90.0 (contaminated) |" in enhancement_table([record(**judged)])


def test_speech_of_several_enhancers_is_not_thrown_together():
    judged = {"task": "clarity", "judge": "other", "data": "enhanced"}
    scores = {"first": 0.5, "second": 0.7}
    records = [record(system=name, metrics={"WA": wa}, **judged) for name, wa in scores.items()]
    table = rows(enhancement_table(records))
    assert [line.split(" | ")[1:3] for line in table] == [
        ["first", "told the emotion"],
        ["second", "told the emotion"],
    ]


def heard(wa, over_shift=None, **changes):
    """What all judges together hear in converted speech."""
    metrics = {"WA": wa, "target_WA": wa, **({"over_shift": over_shift} if over_shift else {})}
    fields = {"task": "clarity", "judge": "mean", "data": "converted", "metrics": metrics}
    return record(**(fields | {"folds": 1, "per_fold": [{"fold": "run_3", "WA": wa}]} | changes))


def test_recordings_show_what_they_were_like_before():
    """Of their own comparison: another one draws other recordings."""
    measured = {"ovrl_mos": 2.5, "ovrl_mos_original": 3.1}
    records = [
        heard(0.5, system="recordings", data="original", beside="emotion-enhancer"),
        heard(0.5, system="recordings", data="original"),
        heard(0.2, system="emotion-enhancer"),
        heard(0, system="emotion-enhancer", task="preservation", judge=None, metrics=measured),
    ]
    shown = [line.strip("| ").split(" | ") for line in rows(enhancement_table(records))]
    assert sorted(row[-1] for row in shown) == ["2.50", "3.10", "50.0"]


def test_an_enhancer_is_shown_with_its_controls_and_apart_from_those_measured_alone():
    records = [
        heard(0.1, system="recordings", data="original"),
        heard(0.2, system="class-shift"),
        heard(0.3, system="recordings", data="original", beside="emotion-enhancer"),
        heard(0.4, system="class-shift", beside="emotion-enhancer"),
        heard(0.5, system="emotion-enhancer"),
    ]

    def shown(name, column):
        cells = [line.strip("| ").split(" | ") for line in rows(render_table(name, records))]
        return [(row[1], row[column]) for row in cells]

    own = [("recordings", "30.0"), ("class-shift", "40.0"), ("emotion-enhancer", "50.0")]
    alone = [("recordings", "10.0"), ("class-shift", "20.0")]
    assert shown("enhancement", -1) == own
    assert shown("controls", -1) == alone
    for name, wanted in (("clarity_folds", own), ("control_folds", alone)):
        table = rows(render_table(name, records))
        cells = [[cell for cell in line.strip("| ").split(" | ") if cell] for line in table]
        assert [(row[1], row[-1].split()[-1]) for row in cells] == wanted
        # By the fold's own name: not all of them need be measured.
        assert {row[2] for row in cells} == {"run_3"}
    # Whoever asks for all of them is not given one for the other.
    assert len(rows(enhancement_table(records))) == len(records)


def test_what_an_enhancer_has_over_the_class_shift_has_a_column_where_it_was_measured():
    shift, ours = (heard(0.4, system=name) for name in ("class-shift", "emotion-enhancer"))
    title = "| over the class shift |"
    assert title not in enhancement_table([shift, ours])
    compared = heard(0.5, {"gain": 0.102, "gain_ci95": [-0.013, 0.217]}, system="emotion-enhancer")
    table = enhancement_table([shift, compared])
    assert title in table.splitlines()[0]
    of_shift, of_ours = rows(table)
    assert of_shift.endswith("| 40.0 |  |")
    assert of_ours.endswith("| 50.0 | +10.2 [-1.3, +21.7] |")
    assert of_shift.count("|") == of_ours.count("|") == table.splitlines()[0].count("|")


def test_speed_is_told_of_every_form_that_was_measured():
    metrics = {"pipeline_MB": 27.26, "pipeline_ms": 26.0, "onnx_MB": 28.45, "onnx_ms": 13.0}
    metrics["onnx_speed_up"] = 2.1  # of each recording by itself, in the median
    table = speed_table([record(task="speed", metrics=metrics), record()])
    assert rows(table) == [
        "| emotion-resnet | PyTorch pipeline | 27.3 | 26 | 1.00 |",
        "| emotion-resnet | ONNX | 28.4 | 13 | 2.10 |",
    ]
