"""How a recording becomes a training example, for models that see mels and models that hear."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from transformers import BatchFeature

from datasets_scripts import map_mel
from modeling import (
    EmotionFeatureExtractor,
    EmotionTransformerFeatureExtractor,
    EmotionTransformerForAudioClassification,
)
from modeling.calibration import with_prior

from .augmentation import augment_log_mel, augment_waveform, mask_spectrogram
from .config import AugmentationConfig, DegradationConfig, StatisticsConfig
from .degradation import degrade
from .hidden_states import decode_mono, encode_recordings
from .statistics import Moments, Statistics, pooled_statistics


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


class FrameFeatures:
    """Frames that are z-scored with statistics of frames: of their corpus, or of whatever is asked.

    In training the statistics are drawn for each example, so that a model stands all that it may be
    given later: its corpus named, nothing known, or a few recordings of the voice or the room.

    Args:
        dataset: Rows with `corpus` and `speaker`.
        frames: `(frames, channels)` of each row, not normalised.
        crop_length: Length of training crops, in frames.
        statistics: How often training uses which statistics; always those of the corpus by default.
    """

    def __init__(
        self,
        dataset: Dataset,
        frames: Sequence[np.ndarray],
        crop_length: int,
        statistics: StatisticsConfig | None = None,
    ) -> None:
        # Lists: a column of `datasets` reads its table again at every access.
        self.corpora, self.speakers = list(dataset["corpus"]), list(dataset["speaker"])
        self.frames = frames
        self.crop_length = crop_length
        self.statistics = statistics or StatisticsConfig()
        self._moments = Moments(frames)
        self._of_corpus: dict[str, Statistics] = {}
        self._unknown: Statistics | None = None
        self._rows_of: dict[tuple[str, ...], list[int]] = {}

    def fit_statistics(self, rows: Sequence[int], keep_unknown: bool = False) -> None:
        """Statistics of each corpus over `rows`, and of unknown origin: of all corpora alike.

        `keep_unknown` leaves the latter as they are, as a model was trained with them.
        """
        self._rows_of = defaultdict(list)
        for row in rows:
            self._rows_of[(self.corpora[row],)].append(row)
            self._rows_of[self.corpora[row], self.speakers[row]].append(row)
        corpora = dict.fromkeys(self.corpora[row] for row in rows)
        self._of_corpus = {c: self._moments.statistics(self._rows_of[(c,)]) for c in corpora}
        if not keep_unknown:
            self._unknown = pooled_statistics(list(self._of_corpus.values()))
            self.hold(*self._unknown, None)
        for corpus, statistics in self._of_corpus.items():
            self.hold(*statistics, corpus)

    def take_statistics(self) -> None:
        """Use those that are saved with the model, as when a saved one is tested."""
        self._unknown, self._of_corpus = self.held()

    def held(self) -> tuple[Statistics, dict[str, Statistics]]:
        """Statistics of unknown origin and of each corpus, from what is saved with the model."""
        raise NotImplementedError

    def hold(self, mean: np.ndarray, std: np.ndarray, name: str | None) -> None:
        """Give statistics to whatever is saved with the model."""
        raise NotImplementedError

    def changed(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """Frames of a row, not normalised, changed at random."""
        raise NotImplementedError

    def load(self, row: int) -> np.ndarray:
        """Z-scored frames with the statistics of their corpus; of unknown origin if it is new."""
        # A corpus that nobody trained on is unknown sound: so are its statistics.
        return self.normalized(row, self._of_corpus.get(self.corpora[row], self._unknown))

    def normalized(self, row: int, statistics: Statistics | None) -> np.ndarray:
        """Frames of a row, z-scored with given statistics.

        Raises:
            RuntimeError: Before `fit_statistics`.
        """
        return self._normalize(self.frames[row], statistics)

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """Z-scored frames of a changed recording, with masks, under statistics that are drawn."""
        frames = self.changed(row, config, generator)
        return self._normalize(frames, self._draw(row, generator))

    def _draw(self, row: int, generator: np.random.Generator) -> Statistics | None:
        corpus = self.corpora[row]
        kind = self.statistics.draw(generator)
        if kind == "unknown":
            return self._unknown
        if kind == "corpus":
            return self._of_corpus.get(corpus, self._unknown)
        rows = self._rows_of[(corpus, self.speakers[row]) if kind == "speaker" else (corpus,)]
        fewest, most = self.statistics.recordings
        count = min(len(rows), int(generator.integers(fewest, most + 1)))
        drawn = self._moments.statistics(generator.choice(rows, count, replace=False))
        assert self._unknown is not None
        return with_prior(drawn, self._unknown, count)

    @staticmethod
    def _normalize(frames: np.ndarray, statistics: Statistics | None) -> np.ndarray:
        if statistics is None:
            raise RuntimeError("The features have no statistics, expected fit_statistics first")
        mean, std = statistics
        return ((frames - mean) / std).astype(np.float32)


class MelFeatures(FrameFeatures):
    """Cached log-mels of an EmotionResNet.

    Args:
        dataset: Rows with `audio`, `corpus` and `speaker`.
        feature_extractor: Its statistics are ignored when the mels are computed and used when
            they are loaded, so that one cache serves all folds.
        crop_seconds: Length of training crops.
        statistics: As in [`FrameFeatures`].
    """

    def __init__(
        self,
        dataset: Dataset,
        feature_extractor: EmotionFeatureExtractor,
        crop_seconds: float,
        statistics: StatisticsConfig | None = None,
    ) -> None:
        self.feature_extractor = feature_extractor
        plain = copy.deepcopy(feature_extractor)
        plain.mean, plain.std, plain.corpus_statistics = 0.0, 1.0, {}
        columns = dataset.select_columns(["audio"])
        mels = map_mel(columns, plain, padding=False).select_columns(["input_features"])
        self.log_mels = [
            np.asarray(mel, dtype=np.float32) for mel in mels.with_format("numpy")["input_features"]
        ]
        self.frames_per_second = feature_extractor.sampling_rate / feature_extractor.hop_length
        crop_length = round(crop_seconds * self.frames_per_second)
        super().__init__(dataset, self.log_mels, crop_length, statistics)
        self.take_statistics()

    def held(self) -> tuple[Statistics, dict[str, Statistics]]:
        """In the feature extractor."""
        of_corpora = {
            name: (np.asarray(values["mean"], np.float32), np.asarray(values["std"], np.float32))
            for name, values in self.feature_extractor.corpus_statistics.items()
        }
        unknown = (self.feature_extractor.mean, self.feature_extractor.std)
        return (np.asarray(unknown[0], np.float32), np.asarray(unknown[1], np.float32)), of_corpora

    def hold(self, mean: np.ndarray, std: np.ndarray, name: str | None) -> None:
        """In the feature extractor."""
        self.feature_extractor.set_statistics(mean, std, name)

    def changed(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """Log-mels of a recording whose tempo, formants, level, colour or noise has changed."""
        rate = self.feature_extractor.sampling_rate
        return augment_log_mel(self.log_mels[row], config, generator, sampling_rate=rate)

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """As in [`FrameFeatures`], with SpecAugment's masks."""
        features = super().augment(row, config, generator)
        return mask_spectrogram(
            features, config, generator, frames_per_second=self.frames_per_second
        )

    def collate(self, examples: Sequence[np.ndarray]) -> BatchFeature:
        """`input_features` `(batch, frames, n_mels)` and `attention_mask` `(batch, frames)`."""
        return self.feature_extractor.pad_features(
            [torch.from_numpy(example) for example in examples], return_tensors="pt"
        )


class HiddenStateFeatures(FrameFeatures):
    """What a frozen encoder hears, computed once for each recording and each degraded copy.

    Args:
        dataset: Rows with `audio`, `corpus` and `speaker`.
        model: The classifier whose encoder listens and which holds the statistics.
        feature_extractor: Its front end.
        crop_seconds: Length of training crops.
        statistics: As in [`FrameFeatures`].
        copies: Degraded copies of each recording.
        degradation: How copies are degraded.
    """

    def __init__(
        self,
        dataset: Dataset,
        model: EmotionTransformerForAudioClassification,
        feature_extractor: EmotionTransformerFeatureExtractor,
        crop_seconds: float,
        statistics: StatisticsConfig | None = None,
        copies: int = 0,
        degradation: DegradationConfig | None = None,
    ) -> None:
        self.feature_extractor, self.model = feature_extractor, model
        columns = dataset.select_columns(["audio"])
        self.versions = [
            encode_recordings(columns, model, feature_extractor, degradation, copy)
            for copy in range(copies + 1)
        ]
        crop_length = round(crop_seconds * model.config.frames_per_second)
        super().__init__(dataset, self.versions[0], crop_length, statistics)
        self.take_statistics()

    def held(self) -> tuple[Statistics, dict[str, Statistics]]:
        """In the model."""

        def of(name: str | None) -> Statistics:
            mean, std = self.model.statistics_of(name).cpu().numpy()
            return mean, std

        return of(None), {name: of(name) for name in self.model.config.calibrations}

    def hold(self, mean: np.ndarray, std: np.ndarray, name: str | None) -> None:
        """In the model."""
        self.model.set_statistics(torch.from_numpy(mean), torch.from_numpy(std), name)

    def changed(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """Frames of the recording or of one of its copies."""
        return self.versions[int(generator.integers(len(self.versions)))][row]

    def collate(self, examples: Sequence[np.ndarray]) -> BatchFeature:
        """`frames` `(batch, frames, channels)` and `attention_mask` `(batch, frames)`."""
        padded = self.feature_extractor.pad_features(
            [torch.from_numpy(example) for example in examples], return_tensors="pt"
        )
        return BatchFeature(
            {"frames": padded["input_features"], "attention_mask": padded["attention_mask"]}
        )


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
        self.waves = [decode_mono(audio, self.rate) for audio in dataset["audio"]]
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


class EncoderFeatures(WaveformFeatures):
    """Waveforms for an EmotionTransformer whose encoder trains, degraded anew each time.

    Args:
        dataset: Rows with `audio`.
        feature_extractor: The classifier's front end.
        crop_seconds: Length of training crops.
        degradation: How recordings are degraded.
    """

    def __init__(
        self,
        dataset: Dataset,
        feature_extractor: EmotionTransformerFeatureExtractor,
        crop_seconds: float,
        degradation: DegradationConfig,
    ) -> None:
        super().__init__(dataset, feature_extractor, crop_seconds)
        self.degradation = degradation

    def augment(
        self, row: int, config: AugmentationConfig, generator: np.random.Generator
    ) -> np.ndarray:
        """A changed recording `(samples,)`, as it sounds elsewhere."""
        wave = super().augment(row, config, generator)
        return degrade(wave, self.rate, self.degradation, generator)


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
