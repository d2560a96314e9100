"""Recognition scores: one implementation, as a plain function and as a local `evaluate` metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate
from numpy.typing import ArrayLike

from datasets_scripts.schema import EMOTIONS

from .emotion_recognition.emotion_recognition import emotion_recognition_scores

METRIC_FOLDER = Path(__file__).parent / "emotion_recognition"


def recognition_metrics(
    predictions: ArrayLike,
    references: ArrayLike,
    probabilities: ArrayLike | None = None,
    speakers: Sequence[object] | None = None,
    label_names: Sequence[str] = EMOTIONS,
) -> dict[str, Any]:
    """Score predicted emotions; the result is the "metrics" of a results record.

    Args:
        predictions: Predicted class ids, `(utterances,)`.
        references: True class ids, `(utterances,)`.
        probabilities: `(utterances, classes)`; adds "ECE" and "reliability_bins".
        speakers: One per utterance; the 95 % intervals are then drawn over speakers.
        label_names: Class names in the order of the ids.

    Returns:
        "WA", "UA", "macro_F1" with "..._ci95", "ci_unit", "per_emotion" and "confusion_matrix", as
        described in `evaluation/metrics/emotion_recognition/README.md`.

    Raises:
        ValueError: Lengths differ, a label is out of range, or the probabilities are none.
    """
    return emotion_recognition_scores(predictions, references, probabilities, speakers, label_names)


def load_metric(**kwargs: Any) -> evaluate.Metric:
    """Load the local metric, offline; `num_process` and the like go to `evaluate.load`."""
    return evaluate.load(str(METRIC_FOLDER), **kwargs)
