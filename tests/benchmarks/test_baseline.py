from argparse import Namespace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from datasets import ClassLabel, Dataset, Features, Value
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.baseline import Baseline, Table, choose_layers, hear_fold, run_protocol
from datasets_scripts import EMOTIONS, Fold, protocol_folds

PER_SPEAKER = 24


def build():
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))


def baseline(candidates=((0,),)):
    shape = (max(max(c) for c in candidates) + 1, 8)
    return Baseline(
        "a-system", "benchmarks.a", "Title", "1", shape, lambda w, r: w, build, candidates
    )


def table(voice=0.0, room=0.0, layers=1, seed=0, corpora=("emodb",)):
    """Features that hold the emotion, and much more of the speaker and of the corpus."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "corpus": corpus,
            "speaker": f"{speaker:02d}",
            "file": f"{speaker}_{i}.wav",
            "emotion": i % 6,
            "sentence": f"s{i % 2}",
            "group": f"{corpus} {speaker} {i}",
        }
        for corpus in corpora
        for speaker in range(6)
        for i in range(PER_SPEAKER)
    ]
    features = Features(
        {k: Value("string") for k in ("corpus", "speaker", "file", "sentence", "group")}
        | {"emotion": ClassLabel(names=list(EMOTIONS))}
    )
    dataset = Dataset.from_list(rows, features=features)
    emotion = generator.normal(size=(6, layers, 8))
    voices = {
        key: generator.normal(size=(layers, 8))
        for key in {(r["corpus"], r["speaker"]) for r in rows}
    }
    people = sorted({(r["corpus"], r["speaker"]) for r in rows})
    voices = {key: generator.normal(size=(layers, 8)) for key in people}
    rooms = {corpus: generator.normal(size=(layers, 8)) for corpus in corpora}
    sound = np.stack(
        [
            emotion[r["emotion"]]
            + voice * voices[r["corpus"], r["speaker"]]
            + room * rooms[r["corpus"]]
            + 0.1 * generator.normal(size=(layers, 8))
            for r in rows
        ]
    )
    return Table(dataset, {"as_recorded": sound, "noise_10db": sound + 5})


def options(*conditions, folds=None):
    return Namespace(conditions=list(conditions), folds=folds, seed=0)


def scores(made, protocol, *conditions):
    """UA by corpus and condition."""
    pairs = run_protocol(baseline(), made, protocol, options(*conditions))
    return {
        (record["corpus"], record["condition"]): record["metrics"]["UA"]
        for records, _ in pairs
        for record in records
    }


def test_predictions_know_nothing_of_the_tested_rows():
    made = table(corpora=("toy_emotions",))
    features, labels = made.sounds["as_recorded"], made.columns["emotion"]
    fold = Fold("paper", "toy_emotions", 0, "", tuple(range(90)), tuple(range(90, 120)), (120, 121))

    def hear(sound, emotions):
        relabelled = made.dataset.remove_columns("emotion").add_column("emotion", emotions)
        heard = hear_fold(
            baseline(), Table(relabelled, {"as_recorded": sound}), fold, (0,), ["as_recorded"]
        )
        return heard["as_recorded"][0]

    first = hear(features, labels)
    other_labels, other_features = labels.copy(), features.copy()
    other_labels[120:] = 0
    other_features[121:] *= 1000
    assert hear(other_features, other_labels).predicted[0] == first.predicted[0]
    # Validation rows train as well: without their class it is never predicted.
    two_labels = np.where(np.arange(len(labels)) < 90, 0, 5)
    heard = hear(features, two_labels)
    assert set(heard.predicted) <= {0, 5}
    assert heard.probabilities.shape == (2, 6)
    np.testing.assert_allclose(heard.probabilities.sum(axis=1), 1)


def test_calibration_takes_away_what_the_voice_adds():
    made = table(voice=3.0)
    ua = scores(made, "speaker_independent", "as_recorded", "calibrated_speaker_12")
    assert ua["emodb", "as_recorded"] < 0.7
    assert ua["emodb", "calibrated_speaker_12"] > 0.9


def test_calibration_takes_away_what_the_room_adds():
    made = table(room=3.0, corpora=("emodb", "ravdess"))
    conditions = ("as_recorded", "calibrated_room_2", "calibrated_room_48")
    ua = scores(made, "cross_corpus", *conditions, "calibrated_room_neutral_5")
    for corpus in ("emodb", "ravdess"):
        assert ua[corpus, "as_recorded"] < 0.6
        assert ua[corpus, "calibrated_room_48"] > 0.95
        assert ua[corpus, "calibrated_room_2"] < ua[corpus, "calibrated_room_48"]
        # Training is centred on neutral speech, too.
        assert ua[corpus, "calibrated_room_neutral_5"] > 0.95


def test_calibration_by_neutral_speech_needs_some():
    made = table()
    neutral = made.columns["emotion"] == 0
    mute = neutral & (made.columns["speaker"] == "02")
    kept = np.flatnonzero(~mute)
    made = Table(made.dataset.select(kept), {"as_recorded": made.sounds["as_recorded"][kept]})
    with pytest.raises(ValueError, match="expected neutral recordings of 'emodb 02'"):
        scores(made, "speaker_independent", "calibrated_speaker_neutral_5")


def test_changed_recordings_are_tested_and_not_trained_on():
    made = table()
    silent = {
        "as_recorded": made.sounds["as_recorded"],
        "noise_10db": made.sounds["noise_10db"] * 0,
    }
    ua = scores(Table(made.dataset, silent), "speaker_independent", "as_recorded", "noise_10db")
    assert ua["emodb", "as_recorded"] > 0.95
    # All recordings sound the same then.
    assert ua["emodb", "noise_10db"] == pytest.approx(1 / 6)


def test_validation_rows_choose_the_layers():
    made = table(layers=3)
    sound = made.sounds["as_recorded"].copy()
    sound[:, [0, 2]] = np.random.default_rng(1).normal(size=sound[:, [0, 2]].shape)
    made = Table(made.dataset, {"as_recorded": sound})
    folds = protocol_folds(made.dataset, "speaker_independent")
    assert choose_layers(baseline(((0,), (1,), (0, 2))), made, folds) == (1,)


def test_predictions_hold_every_recording_once_and_no_draws():
    made = table(voice=1.0)
    conditions = ("as_recorded", "calibrated_speaker_5")
    ((records, rows),) = run_protocol(
        baseline(), made, "speaker_independent", options(*conditions), ["--corpus", "/a/b/emodb"]
    )
    assert len(rows) == len(made.dataset)
    assert records[1]["predictions"] is None
    plain = [row for row in rows if row["condition"] == "as_recorded"]
    assert {row["file"] for row in plain} == set(made.dataset["file"])
    right = [row["emotion"] == row["prediction"] for row in plain]
    assert np.mean(right) == records[0]["metrics"]["WA"]
    for row in rows:
        assert row["probability_of_emotion"] <= row["probability_of_prediction"]
    assert [record["condition"] for record in records] == list(conditions)
    # Five draws are counted.
    total = np.sum(records[1]["metrics"]["confusion_matrix"])
    assert total == 5 * len(made.dataset)
    assert records[0]["provenance"]["command"] == "python -m benchmarks.a --corpus emodb"


def test_some_folds_can_be_run():
    ((records, rows),) = run_protocol(
        baseline(), table(), "speaker_independent", options("as_recorded", folds=[1, 3])
    )
    assert records[0]["folds"] == 2
    assert {row["fold"] for row in rows} == {1, 3}
