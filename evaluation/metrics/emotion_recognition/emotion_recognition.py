"""Speech emotion recognition scores, as a metric that `evaluate.load` takes from this folder.

The file stands alone (numpy, datasets and evaluate only), so that the folder can be copied or
pushed to the Hub as it is. Everything is computed from confusion matrices, which makes the
bootstrap over speakers a single matrix product.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

BOOTSTRAP_DRAWS = 2000
BOOTSTRAP_SEED = 0
# Up to so many speakers all resamples are counted (24,310 for nine), beyond that some are drawn.
MOST_ENUMERATED = 9
ECE_BINS = 15

_DESCRIPTION = """
Scores of speech emotion recognition: WA (accuracy over all utterances), UA (mean of the per-class
recalls, also called UAR), macro-F1, per-emotion precision, recall and F1, the confusion matrix,
the expected calibration error, and 95 % bootstrap intervals over speakers.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[int]`): Predicted class ids, one per utterance.
    references (`list[int]`): True class ids.
    probabilities (`list[list[float]]`, *optional*): Class probabilities, `(utterances, classes)`.
        Needed for the expected calibration error.
    speakers (`list[str]`, *optional*): Who speaks in each utterance. Intervals are then drawn over
        speakers, otherwise over utterances.
    labels (`list[str]`, *optional*): Class names in the order of the ids, given to `compute`.
        Default: the ids themselves.

Returns:
    `dict`: "WA", "UA", "macro_F1" in 0..1; "WA_ci95", "UA_ci95", "macro_F1_ci95" as
    `[low, high]`; "ci_unit", "speaker" or "utterance"; "per_emotion", by name, with "precision",
    "recall", "f1" and "support"; "confusion_matrix", rows are references; with probabilities also
    "ECE" and "reliability_bins", 15 values each of "count", "confidence" and "accuracy" (None in an
    empty bin).

Example:

    >>> metric = evaluate.load("evaluation/metrics/emotion_recognition")
    >>> scores = metric.compute(predictions=[0, 1, 1], references=[0, 1, 0])
    >>> scores["WA"], scores["UA"]
    (0.6666666666666666, 0.75)
"""

_CITATION = """
@inproceedings{guo2017calibration,
  title = {On Calibration of Modern Neural Networks},
  author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle = {Proceedings of the 34th International Conference on Machine Learning},
  pages = {1321--1330},
  year = {2017}
}
"""


def emotion_recognition_scores(
    predictions: ArrayLike,
    references: ArrayLike,
    probabilities: ArrayLike | None = None,
    speakers: Sequence[object] | None = None,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compute every score of the module's description; all values are plain, JSON-ready Python.

    Args:
        predictions: Predicted class ids, `(utterances,)`.
        references: True class ids, `(utterances,)`.
        probabilities: `(utterances, classes)`, rows sum to 1 and peak at the prediction.
        speakers: One per utterance. With a single speaker the intervals fall back to utterances.
        labels: Class names in the order of the ids; the ids themselves when not given.

    Raises:
        ValueError: Lengths differ, nothing to score, a label outside `labels`, NaN, or
            probabilities that are no distribution or contradict the predictions.
    """
    predicted, true = _as_ids("predictions", predictions), _as_ids("references", references)
    _check_lengths(
        references=true, predictions=predicted, probabilities=probabilities, speakers=speakers
    )
    if labels is None:
        labels = [str(label) for label in range(_num_labels(predicted, true, probabilities))]
    _check_range("predictions", predicted, labels)
    _check_range("references", true, labels)

    confusion = _count_confusions(true, predicted, len(labels))
    scores: dict[str, Any] = {name: float(value) for name, value in _summarize(confusion).items()}
    scores |= _intervals(true, predicted, speakers, len(labels))
    scores["per_emotion"] = _per_label(confusion, labels)
    scores["confusion_matrix"] = confusion.tolist()
    if probabilities is not None:
        scores |= _calibration(
            _as_distributions(probabilities, predicted, labels), true == predicted
        )
    return scores


def _as_ids(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"Bad {name}, expected a non-empty list of class ids, got shape {array.shape}"
        )
    if array.dtype.kind not in "biuf" or not np.array_equal(array, np.floor(array)):
        raise ValueError(
            f"Bad {name}, expected integer class ids without NaN, got {array[:5].tolist()}..."
        )
    return array.astype(np.int64)


def _check_lengths(**columns: Any) -> None:
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Bad lengths, expected one value per utterance in each of {lengths}")


def _num_labels(predicted: NDArray[np.int64], true: NDArray[np.int64], probabilities: Any) -> int:
    if probabilities is not None:
        return len(probabilities[0])
    return int(max(predicted.max(), true.max())) + 1


def _check_range(name: str, ids: NDArray[np.int64], labels: Sequence[str]) -> None:
    outside = np.unique(ids[(ids < 0) | (ids >= len(labels))])
    if outside.size:
        raise ValueError(
            f"Bad {name} {outside.tolist()}, expected ids from 0 to {len(labels) - 1} "
            f"for {list(labels)}"
        )


def _as_distributions(
    probabilities: ArrayLike, predicted: NDArray[np.int64], labels: Sequence[str]
) -> NDArray[np.float64]:
    array = np.asarray(probabilities, dtype=np.float64)
    if array.shape != (len(predicted), len(labels)):
        raise ValueError(
            f"Bad probabilities, expected shape {(len(predicted), len(labels))}, got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("Bad probabilities, expected finite numbers, got NaN or infinity")
    if (array < 0).any() or not np.allclose(array.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "Bad probabilities, expected rows of non-negative numbers that sum to 1, "
            f"got a smallest value of {array.min():.4g} and sums from "
            f"{array.sum(axis=1).min():.4g} to {array.sum(axis=1).max():.4g}"
        )
    # A prediction that is not the most probable class means mixed-up rows or columns; the tolerance
    # leaves room for ties and for probabilities rounded to half precision.
    if (array[np.arange(len(array)), predicted] < array.max(axis=1) - 1e-3).any():
        raise ValueError("Bad probabilities, expected each row to be largest at its prediction")
    return array


def _count_confusions(
    true: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int
) -> NDArray[np.int64]:
    cells = np.bincount(true * num_labels + predicted, minlength=num_labels**2)
    return cells.reshape(num_labels, num_labels)


def _precision_recall_f1(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Scores per class `(..., classes)` of confusions `(..., classes, classes)`; 0/0 is 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, claimed = confusion.sum(axis=-1), confusion.sum(axis=-2)
    precision = hits / np.maximum(claimed, 1)
    recall = hits / np.maximum(support, 1)
    return precision, recall, 2 * hits / np.maximum(support + claimed, 1)


def _summarize(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """WA, UA and macro-F1, each `(...)`; the means leave out classes without an utterance."""
    _, recall, f1 = _precision_recall_f1(confusion)
    present = confusion.sum(axis=-1) > 0
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    return {
        "WA": hits / confusion.sum(axis=(-2, -1)),
        "UA": np.mean(recall, axis=-1, where=present),
        "macro_F1": np.mean(f1, axis=-1, where=present),
    }


def _per_label(
    confusion: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, dict[str, float | int]]:
    rows = zip(labels, *_precision_recall_f1(confusion), confusion.sum(axis=1), strict=True)
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for label, p, r, f, n in rows
    }


def _intervals(
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    speakers: Sequence[object] | None,
    num_labels: int,
) -> dict[str, Any]:
    """95 % percentile intervals by bootstrap.

    Speakers are drawn where they are known: utterances of one speaker succeed and fail together,
    and drawing them one by one gives intervals that are too narrow.
    """
    names, owner = np.unique(
        [str(speaker) for speaker in ([] if speakers is None else speakers)], return_inverse=True
    )
    unit = "speaker" if len(names) > 1 else "utterance"
    weights = None
    if unit == "speaker":
        cells = (owner * num_labels + true) * num_labels + predicted
        per_speaker = np.bincount(cells, minlength=len(names) * num_labels**2)
        times, weights = _resample_speakers(len(names))
        draws = (times @ per_speaker.reshape(len(names), -1)).reshape(-1, num_labels, num_labels)
    else:
        draws = _draw_utterances(_count_confusions(true, predicted, num_labels))
    bounds = {
        f"{name}_ci95": _quantiles(values, weights) for name, values in _summarize(draws).items()
    }
    return {**bounds, "ci_unit": unit}


def _resample_speakers(
    num_speakers: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """How often each speaker is drawn, `(resamples, speakers)`, and the probability of each row.

    The scores of a resample follow from a weighted sum of the confusion matrices of the speakers.
    The weights are multinomial: few speakers have few resamples, of which each stands once, with
    its probability (Fisher & Hall 1991, "Bootstrap algorithms for small samples"); of many,
    resamples are drawn, and there are no weights.
    """
    if num_speakers <= MOST_ENUMERATED:
        return _enumerate_resamples(num_speakers)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    equal = np.full(num_speakers, 1 / num_speakers)
    return generator.multinomial(num_speakers, equal, BOOTSTRAP_DRAWS), None


@functools.cache
def _enumerate_resamples(num_speakers: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    speakers = range(num_speakers)
    multisets = np.array(list(itertools.combinations_with_replacement(speakers, num_speakers)))
    times = (multisets[:, :, None] == np.arange(num_speakers)).sum(axis=1)
    factorials = np.array([math.factorial(n) for n in range(num_speakers + 1)], dtype=np.float64)
    orders = factorials[num_speakers] / factorials[times].prod(axis=1)
    return times, orders / num_speakers**num_speakers


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> list[float]:
    """The bounds of the middle 95 %: with weights, the first values that reach 2.5 and 97.5 %."""
    if weights is None:
        return np.percentile(values, [2.5, 97.5]).tolist()
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    # A sum of thousands of weights may miss a bound that it meets exactly by some roundings.
    return values[order][np.searchsorted(reached, [0.025 - 1e-12, 0.975 - 1e-12])].tolist()


def _draw_utterances(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `_draw_speakers`, for utterances: each falls into a cell at the rate of that cell."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    rates = confusion.ravel() / confusion.sum()
    draws = generator.multinomial(confusion.sum(), rates, BOOTSTRAP_DRAWS)
    return draws.reshape(-1, *confusion.shape)


def _calibration(probabilities: NDArray[np.float64], correct: NDArray[np.bool_]) -> dict[str, Any]:
    """Expected calibration error of the top label, 15 equal bins (Guo et al. 2017, eq. 3)."""
    top = probabilities.max(axis=1)
    bins = np.digitize(top, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    count = np.bincount(bins, minlength=ECE_BINS)
    confidence = np.bincount(bins, weights=top, minlength=ECE_BINS)
    accuracy = np.bincount(bins, weights=correct, minlength=ECE_BINS)
    return {
        "ECE": float(np.abs(accuracy - confidence).sum() / count.sum()),
        "reliability_bins": {
            "count": count.tolist(),
            "confidence": _bin_means(confidence, count),
            "accuracy": _bin_means(accuracy, count),
        },
    }


def _bin_means(sums: NDArray[Any], count: NDArray[np.int64]) -> list[float | None]:
    return [
        float(total / number) if number else None for total, number in zip(sums, count, strict=True)
    ]


class EmotionRecognition(evaluate.Metric):
    """The scores above as a metric; the columns for probabilities and speakers may be left out.

    `evaluate` knows no optional columns. Empty values stand for missing ones, so that both travel
    with `add`, `add_batch` and between processes like the labels do.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "probabilities": datasets.List(datasets.Value("float64")),
                    "speakers": datasets.Value("string"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        probabilities: Any = None,
        speakers: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any] | None:
        """Score what is given, or what was added before; see below."""
        return super().compute(
            predictions=predictions,
            references=references,
            probabilities=probabilities,
            speakers=speakers,
            **kwargs,
        )

    def add_batch(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        probabilities: Any = None,
        speakers: Any = None,
    ) -> None:
        """Add utterances to be scored by `compute`; see below."""
        _check_lengths(
            references=references,
            predictions=predictions,
            probabilities=probabilities,
            speakers=speakers,
        )
        super().add_batch(
            predictions=_as_ids("predictions", predictions),
            references=_as_ids("references", references),
            probabilities=[[]] * len(references) if probabilities is None else probabilities,
            speakers=[""] * len(references) if speakers is None else [str(s) for s in speakers],
        )

    def add(
        self,
        *,
        prediction: Any = None,
        reference: Any = None,
        probabilities: Any = None,
        speakers: Any = None,
    ) -> None:
        """Add one utterance: its ids, its row of probabilities and its speaker; see below."""
        self.add_batch(
            predictions=[prediction],
            references=[reference],
            probabilities=None if probabilities is None else [probabilities],
            speakers=None if speakers is None else [speakers],
        )

    def _compute(
        self,
        *,
        predictions: list[int],
        references: list[int],
        probabilities: list[list[float]],
        speakers: list[str],
        labels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        return emotion_recognition_scores(
            predictions,
            references,
            probabilities=_all_or_none("probabilities", probabilities),
            speakers=_all_or_none("speakers", speakers),
            labels=labels,
        )


def _all_or_none(name: str, column: list[Any]) -> list[Any] | None:
    missing = sum(not value for value in column)
    if 0 < missing < len(column):
        raise ValueError(
            f"Bad {name}, expected them for all {len(column)} utterances, {missing} have none"
        )
    return None if missing else column
