import pytest

from evaluation import read_predictions, write_predictions


def row(file="a.wav", **changes):
    fields = {
        "corpus": "emodb",
        "file": file,
        "speaker": "03",
        "fold": 0,
        "emotion": "anger",
        "prediction": "fear",
        "probability_of_emotion": 0.25,
        "probability_of_prediction": 0.5,
        "condition": "as_recorded",
    }
    return fields | changes


def test_predictions_come_back_sorted(tmp_path):
    rows = [
        row("b.wav", condition="calibrated_speaker_10"),
        row("a, b.wav", condition="calibrated_speaker_9"),
        row("b.wav", fold=1),
        row("c.wav", probability_of_emotion=None, probability_of_prediction=None),
        row("a.wav", condition="telephone"),
    ]
    path = write_predictions(tmp_path / "predictions" / "a.csv", rows)
    assert read_predictions(path) == [rows[i] for i in (3, 2, 4, 1, 0)]
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]


def test_files_are_small_and_say_the_condition_only_where_there_are_several(tmp_path):
    path = write_predictions(tmp_path / "a.csv", [row(probability_of_emotion=1 / 3)])
    assert path.read_text().splitlines()[1] == "emodb,a.wav,03,0,anger,fear,0.333,0.500"
    assert read_predictions(path)[0]["condition"] == "as_recorded"
    write_predictions(path, [row(condition="reverb")])
    lines = path.read_text().splitlines()
    assert [line.rsplit(",")[-1] for line in lines] == ["condition", "as_recorded", "reverb"]


def test_predictions_of_the_same_corpus_and_condition_are_replaced_and_others_kept(tmp_path):
    path = tmp_path / "a.csv"
    others = [row("x.wav", corpus="ravdess"), row(condition="reverb")]
    write_predictions(path, [row("old.wav"), *others])
    write_predictions(path, [row("new.wav")])
    assert sorted(r["file"] for r in read_predictions(path)) == ["a.wav", "new.wav", "x.wav"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(prediction="anger")], "found twice"),
        ([row(condition="loud")], "Bad condition 'loud'"),
        ([row(probability_of_emotion=1.2)], "Bad probability_of_emotion 1.2"),
        ([row(probability_of_prediction=float("nan"))], "Bad probability_of_prediction nan"),
        ([row(prediction="")], r"names in \['prediction'\]"),
    ],
)
def test_bad_predictions_are_refused_and_leave_the_file_as_it_was(rows, message, tmp_path):
    path = write_predictions(tmp_path / "a.csv", [row("old.wav")])
    before = path.read_text()
    with pytest.raises(ValueError, match=message):
        write_predictions(path, rows)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"columns \['a', 'b'\], expected \['corpus'"),
        ("", "columns None"),
        ("{header}\nemodb,a.wav,03,first,anger,fear,0.3,0.5\n", "a.csv.*'first'"),
        ("{header}\nemodb,a.wav,03\n", "Bad predictions .*a.csv"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = write_predictions(tmp_path / "a.csv", [row()])
    path.write_text(text.format(header=path.read_text().splitlines()[0]))
    with pytest.raises(ValueError, match=message):
        read_predictions(path)
