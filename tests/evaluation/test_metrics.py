import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from evaluation import load_metric, recognition_metrics

LABELS = ("neutral", "anger", "fear")
# Three classes, two speakers; the third class is called the second once.
REFERENCES = [0, 0, 0, 0, 1, 1, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 1, 1, 2, 1]
SPEAKERS = ["a", "a", "b", "b", "a", "b", "a", "b"]


def random_case(utterances=400, classes=6, speakers=8, seed=0):
    """Predictions right about three times in four, with probabilities that peak at them."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), utterances)
    predictions = probabilities.argmax(axis=1)
    wrong = generator.random(utterances) < 0.25
    references = np.where(wrong, generator.integers(0, classes, utterances), predictions)
    return predictions, references, probabilities, generator.integers(0, speakers, utterances)


def test_scores_of_a_case_counted_by_hand():
    scores = recognition_metrics(PREDICTIONS, REFERENCES, label_names=LABELS)
    assert scores["confusion_matrix"] == [[3, 1, 0], [0, 2, 0], [0, 1, 1]]
    assert scores["WA"] == pytest.approx(6 / 8)
    assert scores["UA"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert scores["per_emotion"]["anger"] == pytest.approx(
        {"precision": 2 / 4, "recall": 1, "f1": 2 / 3, "support": 2}
    )
    assert scores["macro_F1"] == pytest.approx((6 / 7 + 2 / 3 + 2 / 3) / 3)


def test_calibration_error_of_a_case_counted_by_hand():
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.35, 0.65]]
    scores = recognition_metrics([0, 0, 1, 1], [0, 1, 1, 1], probabilities, label_names="ab")
    # Half of the two with 0.9 are right; 0.7 and 0.65, each in a bin of its own, are right.
    assert scores["ECE"] == pytest.approx((2 * 0.4 + 0.3 + 0.35) / 4)
    bins = scores["reliability_bins"]
    assert bins["count"] == [0] * 9 + [1, 1, 0, 0, 2, 0]
    assert bins["accuracy"][13] == 0.5
    assert bins["confidence"][13] == pytest.approx(0.9)
    assert bins["accuracy"][0] is None


def test_scores_equal_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    predictions, references, _, _ = random_case()
    scores = recognition_metrics(predictions, references)
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(
        references, predictions
    )
    per_emotion = scores["per_emotion"].values()
    assert [s["precision"] for s in per_emotion] == pytest.approx(precision.tolist())
    assert [s["recall"] for s in per_emotion] == pytest.approx(recall.tolist())
    assert [s["f1"] for s in per_emotion] == pytest.approx(f1.tolist())
    assert [s["support"] for s in per_emotion] == support.tolist()
    assert scores["UA"] == pytest.approx(sklearn.balanced_accuracy_score(references, predictions))
    assert scores["macro_F1"] == pytest.approx(f1.mean())
    expected = sklearn.confusion_matrix(references, predictions).tolist()
    assert scores["confusion_matrix"] == expected


def test_calibration_error_equals_a_loop_over_bins():
    predictions, references, probabilities, _ = random_case()
    confidence = probabilities.max(axis=1)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            accuracy = np.mean(predictions[inside] == references[inside])
            expected += inside.mean() * abs(accuracy - confidence[inside].mean())
    scores = recognition_metrics(predictions, references, probabilities)
    assert scores["ECE"] == pytest.approx(expected)


def test_an_emotion_without_utterances_counts_in_no_mean():
    scores = recognition_metrics([0, 1, 2], [0, 1, 1], label_names=LABELS)
    assert scores["UA"] == pytest.approx((1 + 0.5) / 2)
    assert scores["macro_F1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["per_emotion"]["fear"]["support"] == 0


def test_speaker_intervals_equal_a_plain_bootstrap():
    predictions, references, _, speakers = random_case()
    scores = recognition_metrics(predictions, references, speakers=speakers)
    generator = np.random.default_rng(1)
    accuracies = []
    for _ in range(2000):
        drawn = generator.choice(np.unique(speakers), 8)
        rows = np.concatenate([np.flatnonzero(speakers == speaker) for speaker in drawn])
        accuracies.append(np.mean(predictions[rows] == references[rows]))
    assert scores["WA_ci95"] == pytest.approx(np.percentile(accuracies, [2.5, 97.5]), abs=0.006)
    assert scores["ci_unit"] == "speaker"


def test_intervals_of_few_speakers_count_every_ordered_resample():
    predictions, references, _, speakers = random_case(utterances=60, classes=3, speakers=4)
    scores = recognition_metrics(predictions, references, speakers=speakers, label_names=LABELS)
    rows = [np.flatnonzero(speakers == speaker) for speaker in range(4)]
    resampled = {"WA": [], "UA": [], "macro_F1": []}
    for drawn in itertools.product(range(4), repeat=4):
        own = np.concatenate([rows[speaker] for speaker in drawn])
        one = recognition_metrics(predictions[own], references[own], label_names=LABELS)
        for name, values in resampled.items():
            values.append(one[name])
    for name, values in resampled.items():
        expected = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
        assert scores[f"{name}_ci95"] == pytest.approx(expected)


def test_intervals_are_wider_when_errors_cluster_by_speaker():
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 40)
    references = np.tile(np.arange(2), 240)
    wrong = generator.random(480) < np.where(speakers % 2, 0.05, 0.6)
    predictions = np.where(wrong, 1 - references, references)
    by_speaker = recognition_metrics(predictions, references, None, speakers, "ab")
    by_utterance = recognition_metrics(predictions, references, label_names="ab")
    width = np.ptp(by_speaker["UA_ci95"])
    assert width > 2 * np.ptp(by_utterance["UA_ci95"])
    assert by_speaker["UA_ci95"][0] < by_speaker["UA"] < by_speaker["UA_ci95"][1]


def test_speaker_intervals_cover_the_truth():
    """About 95 % of them: speakers' own accuracies are drawn around a true mean of 0.7."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(24), 20)
    references = np.tile([0, 1], 240)
    covered = {"speaker": 0, "utterance": 0}
    for _ in range(100):
        right = generator.random(480) < generator.beta(7, 3, 24)[speakers]
        predictions = np.where(right, references, 1 - references)
        for unit, names in (("speaker", speakers), ("utterance", None)):
            low, high = recognition_metrics(predictions, references, None, names, "ab")["WA_ci95"]
            covered[unit] += low <= 0.7 <= high
    assert 88 <= covered["speaker"] <= 99
    assert covered["utterance"] < covered["speaker"] - 10


def test_one_speaker_falls_back_to_utterances():
    predictions, references, _, _ = random_case()
    alone = recognition_metrics(predictions, references, speakers=["x"] * len(predictions))
    assert alone == recognition_metrics(predictions, references)
    assert alone["ci_unit"] == "utterance"
    assert alone["WA_ci95"][0] < alone["WA"] < alone["WA_ci95"][1]


def test_scores_are_reproducible_and_json_ready():
    case = random_case()
    scores = recognition_metrics(*case)
    np.random.seed(7)
    assert json.loads(json.dumps(recognition_metrics(*case), allow_nan=False)) == scores


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0, 1, 1]), "Bad lengths.*'references': 3, 'predictions': 2"),
        (([0, 3], [0, 1]), r"Bad predictions \[3\], expected ids from 0 to 2"),
        (([0, 1], [0, -1]), r"Bad references \[-1\]"),
        (([0, float("nan")], [0, 1]), "Bad predictions.*NaN"),
        (([], []), "Bad predictions.*non-empty"),
        (([0, 1], [0, 1], [[0.5, 0.5, 0.5], [0.1, 0.8, 0.1]]), "sum to 1"),
        (([0, 1], [0, 1], [[1.2, -0.2, 0.0], [0.1, 0.8, 0.1]]), "non-negative"),
        (([0, 1], [0, 1], [[float("nan"), 0.5, 0.5], [0.1, 0.8, 0.1]]), "finite"),
        (([0, 1], [0, 1], [[0.9, 0.1], [0.2, 0.8]]), r"expected shape \(2, 3\), got \(2, 2\)"),
        (([0, 1], [0, 1], [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]), "largest at its prediction"),
        (([0, 1], [0, 1], None, ["a"]), "Bad lengths.*'speakers': 1"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        recognition_metrics(*arguments, **{"label_names": LABELS})


def test_metric_equals_the_function():
    predictions, references, probabilities, speakers = random_case(classes=3)
    expected = recognition_metrics(predictions, references, probabilities, speakers, LABELS)
    computed = load_metric().compute(
        predictions=predictions,
        references=references,
        probabilities=probabilities,
        speakers=speakers,
        labels=LABELS,
    )
    assert computed == expected


def test_metric_needs_labels_only():
    computed = load_metric().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert computed["WA"] == 6 / 8
    assert list(computed["per_emotion"]) == ["0", "1", "2"]
    assert "ECE" not in computed


def test_batches_carry_probabilities_and_speakers():
    predictions, references, probabilities, speakers = random_case(classes=3)
    metric = load_metric()
    for rows in np.array_split(np.arange(len(predictions)), 7):
        metric.add_batch(
            predictions=predictions[rows],
            references=references[rows],
            probabilities=probabilities[rows],
            speakers=speakers[rows],
        )
    expected = recognition_metrics(predictions, references, probabilities, speakers, LABELS)
    assert metric.compute(labels=LABELS) == expected


def test_utterances_can_be_added_one_by_one():
    metric = load_metric()
    for prediction, reference, speaker in zip(PREDICTIONS, REFERENCES, SPEAKERS, strict=True):
        metric.add(prediction=prediction, reference=reference, speakers=speaker)
    expected = recognition_metrics(PREDICTIONS, REFERENCES, None, SPEAKERS, LABELS)
    assert metric.compute(labels=LABELS) == expected


def test_batches_with_and_without_speakers_are_refused():
    metric = load_metric()
    metric.add_batch(predictions=[0, 1], references=[0, 1], speakers=["a", "b"])
    metric.add_batch(predictions=[0], references=[0])
    with pytest.raises(ValueError, match="Bad speakers, expected them for all 3 utterances, 1"):
        metric.compute()


def test_metric_refuses_a_batch_of_unequal_lengths():
    with pytest.raises(ValueError, match="Bad lengths"):
        load_metric().add_batch(predictions=[0, 1], references=[0])


def test_two_processes_score_like_one(tmp_path):
    """Threads stand for processes: these meet through files alone, and need not import it all."""
    predictions, references, _, speakers = random_case(classes=3)

    def score_half(process_id):
        metric = load_metric(
            num_process=2, process_id=process_id, experiment_id="halves", cache_dir=str(tmp_path)
        )
        metric.add_batch(
            predictions=predictions[process_id::2],
            references=references[process_id::2],
            speakers=speakers[process_id::2],
        )
        return metric.compute(labels=LABELS)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(score_half, (0, 1))
    assert first == recognition_metrics(predictions, references, None, speakers, LABELS)
    assert second is None
