"""How a recording becomes a training example, for models that see mels and models that hear."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torchaudio
from datasets import Dataset
from transformers import BatchFeature

from datasets_scripts import decode_audio, map_mel
from modeling import EmotionFeatureExtractor

from .augmentation import augment_log_mel, augment_waveform, mask_spectrogram
from .config import AugmentationConfig


class Features(Protocol):
    """Recordings as a model's inputs. Arrays are `(frames, n_mels)` or `(samples,)`."""

    crop_length: int

    def load(self, row: int) -> np.ndarray:
        """The recording of a row, ready for a model or for `augment`."""
        ...

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """The recording of a row, changed at random."""
        ...

    def collate(self, examples: Sequence[np.ndarray]) -> BatchFeature:
        """A padded batch of examples, with the mask where the model takes one."""
        ...


class MelFeatures:
    """Cached log-mels, z-scored with the statistics of their corpus.

    Args:
        dataset: Rows with `audio` and `corpus`.
        feature_extractor: Its statistics are ignored when the mels are computed and used when
            they are loaded, so that one cache serves all folds.
        crop_seconds: Length of training crops.
    """

    def __init__(
        self, dataset: Dataset, feature_extractor: EmotionFeatureExtractor, crop_seconds: float
    ) -> None:
        self.feature_extractor = feature_extractor
        # A list: a column of `datasets` reads its table again at every access.
        self.corpora = list(dataset["corpus"])
        plain = copy.deepcopy(feature_extractor)
        plain.mean, plain.std, plain.corpus_statistics = 0.0, 1.0, {}
        columns = dataset.select_columns(["audio"])
        mels = map_mel(columns, plain, padding=False).select_columns(["input_features"])
        self.log_mels = [
            np.asarray(mel, dtype=np.float32) for mel in mels.with_format("numpy")["input_features"]
        ]
        self.frames_per_second = feature_extractor.sampling_rate / feature_extractor.hop_length
        self.crop_length = round(crop_seconds * self.frames_per_second)

    def fit_statistics(self, rows: Sequence[int]) -> None:
        """Give the feature extractor each corpus' mean and deviation of bands over `rows`.

        The statistics of the first corpus, in order of rows, are the extractor's default.
        """
        for corpus in dict.fromkeys(self.corpora[row] for row in rows):
            mels = np.concatenate([self.log_mels[r] for r in rows if self.corpora[r] == corpus])
            self.feature_extractor.set_statistics(mels.mean(axis=0), mels.std(axis=0), corpus)

    def load(self, row: int) -> np.ndarray:
        """Z-scored log-mels `(frames, n_mels)`."""
        return self._normalize(self.log_mels[row], row)

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """Z-scored log-mels of a changed recording, with masks."""
        rate = self.feature_extractor.sampling_rate
        log_mel = augment_log_mel(self.log_mels[row], config, generator, sampling_rate=rate)
        features = self._normalize(log_mel, row)
        return mask_spectrogram(
            features, config, generator, frames_per_second=self.frames_per_second
        )

    def collate(self, examples: Sequence[np.ndarray]) -> BatchFeature:
        """`input_features` `(batch, frames, n_mels)` and `attention_mask` `(batch, frames)`."""
        return self.feature_extractor.pad_features(
            [torch.from_numpy(example) for example in examples], return_tensors="pt"
        )

    def _normalize(self, log_mel: np.ndarray, row: int) -> np.ndarray:
        tensor = torch.from_numpy(log_mel)
        corpus = self.corpora[row]
        # A corpus that nobody trained on is unknown sound: so are its statistics.
        known = corpus in self.feature_extractor.corpus_statistics
        return self.feature_extractor.normalize(tensor, corpus if known else None).numpy()


class WaveformFeatures:
    """Waveforms for any other audio classifier, whose feature extractor makes the batch.

    Args:
        dataset: Rows with `audio`.
        feature_extractor: A transformers feature extractor that takes waveforms.
        crop_seconds: Length of training crops.
    """

    def __init__(self, dataset: Dataset, feature_extractor: Any, crop_seconds: float) -> None:
        self.feature_extractor = feature_extractor
        self.rate = feature_extractor.sampling_rate
        self.waves = [self._decode(audio) for audio in dataset["audio"]]
        self.crop_length = round(crop_seconds * self.rate)

    def load(self, row: int) -> np.ndarray:
        """Mono samples `(samples,)` at the model's rate."""
        return self.waves[row]

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """A changed recording `(samples,)`."""
        return augment_waveform(self.waves[row], config, generator)

    def collate(self, examples: Sequence[np.ndarray]) -> BatchFeature:
        """Whatever the model's feature extractor makes of a padded batch."""
        # Whisper's convolutions take 30 s and nothing else.
        fixed = "Whisper" in type(self.feature_extractor).__name__
        return self.feature_extractor(
            list(examples),
            sampling_rate=self.rate,
            padding="max_length" if fixed else True,
            return_tensors="pt",
        )

    def _decode(self, audio: Mapping[str, Any]) -> np.ndarray:
        wave, rate = decode_audio(dict(audio))
        mono = wave.mean(axis=1) if wave.ndim == 2 else wave
        resampled = torchaudio.functional.resample(torch.from_numpy(mono), rate, self.rate)
        return resampled.numpy().astype(np.float32)


def crop(example: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """A random stretch of at most `length` along the first axis."""
    start = int(generator.integers(0, max(len(example) - length, 0) + 1))
    return example[start : start + length]


def mix(example: np.ndarray, partner: np.ndarray, share: float) -> np.ndarray:
    """`share` of an example and the rest of its partner, over the longer of both."""
    longer = np.zeros((max(len(example), len(partner)), *example.shape[1:]), dtype=np.float32)
    longer[: len(example)] += share * example
    longer[: len(partner)] += (1 - share) * partner
    return longer
