"""What saved classifiers say of the test recordings of their fold, in other states than recorded.

`hear` returns one list of predictions a draw: sound conditions and `corpus_unnamed` have one draw,
calibrations several, since other recordings are drawn each time (`benchmarks.baseline` centres its
features by the same draws).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset

from datasets_scripts import EMOTIONS, decode_audio
from evaluation.conditions import AS_RECORDED, Calibration, parse_condition
from modeling.calibration import with_prior
from training.statistics import Statistics

from .baseline import CALIBRATION_DRAWS
from .conditions import SOUND_CONDITIONS, recording_seed
from .frame_classifier import FrameClassifier, statistics_of

UNNAMED = "corpus_unnamed"
# One test recording: corpus, file, speaker, emotion and probabilities of the six emotions.
Heard: TypeAlias = dict[str, Any]


class TestRecordings:
    """The test recordings of a fold with their frames, computed once for each condition.

    Args:
        classifier: The fold's classifier.
        rows: What is known of each recording: `corpus`, `file`, `speaker`, `emotion`.
        datasets: The corpora by name.
        seed: Of what is random about conditions.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(
        self,
        classifier: FrameClassifier,
        rows: Sequence[Mapping[str, Any]],
        datasets: Mapping[str, Dataset],
        seed: int = 0,
    ) -> None:
        self.classifier, self.rows, self.seed = classifier, list(rows), seed
        self._audio = {
            (name, file): audio
            for name, dataset in datasets.items()
            for file, audio in zip(dataset["file"], dataset["audio"], strict=True)
        }
        self._frames: dict[str, list[np.ndarray]] = {}

    def frames(self, sound: str = AS_RECORDED) -> list[np.ndarray]:
        """Frames of every recording in a sound condition; those as recorded are kept."""
        if sound not in self._frames:
            heard = [self._hear(row, sound) for row in self.rows]
            if sound != AS_RECORDED:
                return heard
            self._frames[sound] = heard
        return self._frames[sound]

    def _hear(self, row: Mapping[str, Any], sound: str) -> np.ndarray:
        samples, rate = decode_audio(self._audio[row["corpus"], row["file"]])
        mono = samples.mean(axis=1) if samples.ndim == 2 else samples
        seed = recording_seed(row["corpus"], row["file"], self.seed)
        return self.classifier.frames(SOUND_CONDITIONS[sound](mono, rate, seed), rate)

    def judge(
        self, frames: Sequence[np.ndarray], statistics: Callable[[int], Statistics]
    ) -> list[Heard]:
        """Predictions for all recordings, each under the statistics of its index."""
        return [
            {
                **{name: row[name] for name in ("corpus", "file", "speaker", "emotion")},
                "probabilities": [
                    round(float(p), 6)
                    for p in self.classifier.probabilities(frames[index], statistics(index))
                ],
            }
            for index, row in enumerate(self.rows)
        ]


def hear(recordings: TestRecordings, condition: str) -> list[list[Heard]]:
    """Predictions of each draw of a condition.

    Raises:
        ValueError: An unknown condition, or nothing to calibrate by.
    """
    calibration = parse_condition(condition)
    if calibration is not None:
        generators = np.random.default_rng(recordings.seed).spawn(CALIBRATION_DRAWS)
        return [_calibrated(recordings, calibration, generator) for generator in generators]
    if condition == UNNAMED:
        unknown = recordings.classifier.statistics(None)
        return [recordings.judge(recordings.frames(), lambda index: unknown)]

    def named(index: int) -> Statistics:
        return recordings.classifier.statistics(recordings.rows[index]["corpus"])

    return [recordings.judge(recordings.frames(condition), named)]


def _calibrated(
    recordings: TestRecordings, calibration: Calibration, generator: np.random.Generator
) -> list[Heard]:
    """Statistics of a few of the recordings tested, of the same speaker or corpus."""
    frames = recordings.frames()
    key = ("corpus", "speaker") if calibration.by.startswith("speaker") else ("corpus",)
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(recordings.rows):
        groups.setdefault(tuple(row[name] for name in key), []).append(index)
    chosen: dict[tuple[str, ...], Statistics] = {}
    for group, members in sorted(groups.items()):
        neutral = [index for index in members if _neutral(recordings.rows[index])]
        samples = neutral if calibration.by.endswith("_neutral") else members
        if not samples:
            raise ValueError(f"Bad calibration by {calibration.by}, {group} has no neutral speech")
        drawn = generator.permutation(samples)[: calibration.number]
        unknown = recordings.classifier.statistics(None)
        chosen[group] = with_prior(statistics_of(frames[i] for i in drawn), unknown, len(drawn))
    return recordings.judge(
        frames, lambda index: chosen[tuple(recordings.rows[index][name] for name in key)]
    )


def _neutral(row: Mapping[str, Any]) -> bool:
    return row["emotion"] == EMOTIONS[0]
