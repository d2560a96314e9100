"""Corpora, folds and batches of a classifier's run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from datasets_scripts import EMOTIONS, Fold, check_leaks, load_corpus, protocol_folds

from .config import ClassifierConfig, DiffusionConfig, RunConfig, StageConfig
from .features import Features, crop, mix
from .sampling import Draw, EpochSampler

Batch: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Corpora:
    """Every recording of a run, and who trains, validates and tests.

    Args:
        dataset: All rows of all corpora; `emotion` has the run's labels.
        labels: The six emotions, then the corpora's other emotions.
        fold: Rows by split. Validation and test hold the six emotions only.
    """

    dataset: Dataset
    labels: list[str]
    fold: Fold

    @cached_property
    def targets(self) -> np.ndarray:
        """Class index of every row."""
        return np.asarray(self.dataset["emotion"])

    @property
    def six_emotions_train_rows(self) -> list[int]:
        """Training rows of the six emotions."""
        return [row for row in self.fold.train if self.targets[row] < len(EMOTIONS)]

    def train_rows(self, stage: StageConfig) -> list[int]:
        """Training rows of a stage.

        Raises:
            ValueError: The stage names a corpus that the run has not, or has nothing to train on.
        """
        corpora = list(self.dataset["corpus"])
        unknown = set(stage.corpora) - set(corpora)
        if unknown:
            raise ValueError(
                f"Stage '{stage.name}' names {sorted(unknown)}, expected {sorted(set(corpora))}"
            )
        rows = self.fold.train if stage.emotions == "all" else self.six_emotions_train_rows
        rows = [row for row in rows if not stage.corpora or corpora[row] in stage.corpora]
        if not rows:
            raise ValueError(f"Stage '{stage.name}' has no training recordings in this fold")
        return rows


def load_corpora(config: ClassifierConfig | DiffusionConfig) -> Corpora:
    """Load the corpora of a run and divide them by its protocol.

    With several corpora, fold `k` of the run is fold `k` of each of them (counted round), so that
    one run is honest about all; `cross_corpus` trains on one and tests on the other. Emotions
    beyond the six only ever train, and only those of speakers who train. With
    `train_on_validation` there is nobody left to choose by.

    Raises:
        ValueError: A fold that the protocol does not have, or a leak.
    """
    emotions = _emotions(config)
    full = {name: _load(name, emotions, spec) for name, spec in config.corpora.items()}
    extras = [e for dataset in full.values() for e in dataset.features["emotion"].names]
    labels = [*EMOTIONS, *dict.fromkeys(e for e in extras if e not in EMOTIONS)]
    parts = [_relabel(dataset, labels) for dataset in full.values()]
    if config.protocol == "cross_corpus":
        parts = [concatenate_datasets(parts)]
    folds, numbers, offset = [], [], 0
    for part in parts:
        fold, number = _fold(part, config)
        folds.append(_shift(fold, offset))
        numbers.append(number)
        offset += len(part)
    if not 0 <= config.fold < max(numbers):
        raise ValueError(f"Bad fold {config.fold}, expected 0 to {max(numbers) - 1}")
    fold = _join(folds)
    if isinstance(config, ClassifierConfig) and config.train_on_validation:
        fold = replace(fold, train=tuple(sorted(fold.train + fold.validation)), validation=())
    dataset = concatenate_datasets(parts)
    check_leaks(dataset, fold)
    return Corpora(dataset, labels, fold)


def _emotions(config: ClassifierConfig | DiffusionConfig) -> str:
    """Configuration of the corpora: a classifier of the six reads no other recordings."""
    if isinstance(config, ClassifierConfig):
        return "all" if any(stage.emotions == "all" for stage in config.stages) else "six_emotions"
    return "all"


def _load(name: str, emotions: str, spec: Any) -> Dataset:
    """A corpus from its folder, or from a mapping with `data_dir` and further options."""
    options = dict(spec) if isinstance(spec, dict) else {"data_dir": spec}
    dataset = load_corpus(name, emotions, **options)
    assert isinstance(dataset, Dataset)
    return dataset


def _relabel(dataset: Dataset, labels: list[str]) -> Dataset:
    names = dataset.features["emotion"].names
    mapped = [labels.index(names[i]) for i in dataset["emotion"]]
    dataset = dataset.remove_columns("emotion")
    return dataset.add_column("emotion", mapped, feature=ClassLabel(names=labels))


def _fold(dataset: Dataset, config: ClassifierConfig | DiffusionConfig) -> tuple[Fold, int]:
    """The run's fold of the six emotions, joined by the other emotions of those who train.

    And how many folds there are; they are counted round.
    """
    six = np.flatnonzero(np.asarray(dataset["emotion"]) < len(EMOTIONS))
    folds = protocol_folds(dataset.select(six), config.protocol)
    chosen = folds[config.fold % len(folds)]
    fold = _with_rows(
        chosen, {name: tuple(six[list(rows)].tolist()) for name, rows in chosen.splits.items()}
    )
    others = np.setdiff1d(np.arange(len(dataset)), six).tolist()
    train = tuple(sorted([*fold.train, *_allowed(dataset, fold, others)]))
    return replace(fold, train=train), len(folds)


def _allowed(dataset: Dataset, fold: Fold, rows: Sequence[int]) -> list[int]:
    """Those of `rows` that may train without a leak into validation or test."""
    columns = dataset.select_columns(["corpus", "speaker", "sentence"])[:]
    speakers = list(zip(columns["corpus"], columns["speaker"], strict=True))
    held = {split: {speakers[i] for i in getattr(fold, split)} for split in ("validation", "test")}
    if fold.protocol == "speaker_independent":
        return [row for row in rows if speakers[row] not in held["validation"] | held["test"]]
    if fold.protocol == "cross_corpus":
        trained = {columns["corpus"][i] for i in fold.train}
        return [
            row
            for row in rows
            if columns["corpus"][row] in trained and speakers[row] not in held["validation"]
        ]
    if fold.protocol == "sentence_independent":
        sentences = {columns["sentence"][i] for i in fold.test}
        return [row for row in rows if columns["sentence"][row] not in sentences]
    return list(rows)


def _shift(fold: Fold, offset: int) -> Fold:
    moved = {name: tuple(i + offset for i in rows) for name, rows in fold.splits.items()}
    return _with_rows(fold, moved)


def _with_rows(fold: Fold, rows: Mapping[str, tuple[int, ...]]) -> Fold:
    return replace(fold, train=rows["train"], validation=rows["validation"], test=rows["test"])


def _join(folds: Sequence[Fold]) -> Fold:
    first = folds[0]
    rows = {name: sum((f.splits[name] for f in folds), ()) for name in first.splits}
    return _with_rows(replace(first, corpus="+".join(f.corpus for f in folds)), rows)


class TrainingExamples(TorchDataset[tuple[np.ndarray, np.ndarray]]):
    """Augmented, cropped and mixed examples with class probabilities, made from draws."""

    def __init__(
        self, features: Features, targets: np.ndarray, num_labels: int, stage: StageConfig
    ) -> None:
        self.features = features
        self.targets = targets
        self.num_labels = num_labels
        self.stage = stage

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(draw.seed)
        example, target = self._example(draw.row, generator), self._target(draw.row)
        if draw.partner >= 0:
            example = mix(example, self._example(draw.partner, generator), draw.share)
            target = draw.share * target + (1 - draw.share) * self._target(draw.partner)
        return example, target

    def _example(self, row: int, generator: np.random.Generator) -> np.ndarray:
        example = self.features.augment(row, self.stage.augmentation, generator)
        return crop(example, self.features.crop_length, generator)

    def _target(self, row: int) -> np.ndarray:
        smoothing = self.stage.label_smoothing
        target = np.full(self.num_labels, smoothing / self.num_labels, dtype=np.float32)
        target[self.targets[row]] += 1 - smoothing
        return target


class EvaluationExamples(TorchDataset[tuple[np.ndarray, int]]):
    """Whole recordings with their row numbers, longest first, so that batches pad little."""

    def __init__(self, features: Features, rows: Sequence[int]) -> None:
        self.features = features
        self.rows = sorted(rows, key=lambda row: -len(features.load(row)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        row = self.rows[index]
        return self.features.load(row), row


def train_loader(
    config: ClassifierConfig,
    corpora: Corpora,
    features: Features,
    stage_index: int,
    num_labels: int,
) -> DataLoader[Any]:
    """Batches of a stage: model inputs and `labels` `(batch, num_labels)`, probabilities.

    Raises:
        ValueError: Fewer training recordings than a batch holds.
    """
    stage = config.stages[stage_index]
    rows = corpora.train_rows(stage)
    check_batch_size(config, rows)
    corpus, targets = list(corpora.dataset["corpus"]), corpora.targets
    sampler = EpochSampler(
        rows,
        [(corpus[row], int(targets[row])) for row in rows],
        seed=config.seed * 1000 + stage_index,
        balance=config.balance,
        mixup_alpha=stage.mixup_alpha,
        mixup_probability=stage.mixup_probability,
    )
    return DataLoader(
        TrainingExamples(features, targets, num_labels, stage),
        batch_size=config.batch_size,
        sampler=sampler,
        collate_fn=partial(collate, features, "labels"),
        drop_last=True,
        num_workers=config.num_workers,
    )


def check_batch_size(config: RunConfig, rows: Sequence[int]) -> None:
    """Refuse a batch that would never be full.

    Raises:
        ValueError: Fewer training recordings than a batch holds.
    """
    if len(rows) < config.batch_size:
        raise ValueError(f"Bad batch_size {config.batch_size}, expected at most {len(rows)}")


def evaluation_loader(
    config: ClassifierConfig, features: Features, rows: Sequence[int]
) -> DataLoader[Any]:
    """Batches of whole recordings: model inputs and their `row` numbers `(batch,)`."""
    return DataLoader(
        EvaluationExamples(features, rows),
        batch_size=config.batch_size,
        collate_fn=partial(collate, features, "row"),
    )


def collate(features: Features, name: str, examples: Sequence[tuple[np.ndarray, Any]]) -> Batch:
    """A batch of inputs, and under `name` what belongs to each of them.

    Not within a loader's function: workers that are spawned, not forked, could not receive it.
    """
    inputs, values = zip(*examples, strict=True)
    return {**features.collate(inputs), name: torch.from_numpy(np.stack(values))}


def soft_cross_entropy(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy against class probabilities `(batch, num_labels)`."""
    return F.cross_entropy(logits.float(), probabilities)
