"""A saved classifier taken apart, to ask it about one recording under many statistics."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

import modeling  # noqa: F401 (registers the classifiers)
from training.statistics import Moments, Statistics


class FrameClassifier:
    """Frames that do not depend on statistics, and a verdict under any of them.

    Args:
        folder: A classifier of this project, as `train_classifier.py` saves it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.model = AutoModelForAudioClassification.from_pretrained(folder).eval()
        self.feature_extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.has_encoder = hasattr(self.model, "encode")

    @torch.no_grad()
    def frames(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Frames `(frames, channels)` of mono samples at a rate in Hz, not normalised."""
        features = self.feature_extractor(
            wave, sampling_rate=rate, padding="longest", return_tensors="pt"
        )["input_features"]
        if self.has_encoder:
            return self.model.encode(features)[0][0].numpy()
        return self.feature_extractor.denormalize(features)[0].numpy()

    @torch.no_grad()
    def probabilities(self, frames: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Probabilities `(emotions,)` of a recording, z-scored with mean and deviation."""
        mean, std = statistics
        normalized = torch.from_numpy((frames - mean) / std).float()[None]
        name = "frames" if self.has_encoder else "input_features"
        return self.model(**{name: normalized}).logits.softmax(dim=-1)[0].numpy()

    def statistics(self, corpus: str | None) -> Statistics:
        """Those that were saved: of a corpus, or of unknown origin where it is new or not named."""
        if self.has_encoder:
            known = corpus if corpus in self.model.config.calibrations else None
            mean, std = self.model.statistics_of(known).numpy()
            return mean, std
        stored = self.feature_extractor.corpus_statistics.get(corpus)
        extractor = self.feature_extractor
        stored = stored or {"mean": extractor.mean, "std": extractor.std}
        return np.float32(stored["mean"]), np.float32(stored["std"])


def statistics_of(frames: Iterable[np.ndarray]) -> Statistics:
    """Mean and deviation over all frames of several recordings."""
    recordings = list(frames)
    return Moments(recordings).statistics(range(len(recordings)))
