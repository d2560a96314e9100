"""Judges of another architecture than the classifier: networks that name what a spectrogram holds.

An enhancer that was trained with our ResNet can please it without sounding any clearer. A judge has
never met the enhancer, and hears with other ears: it is a time-delay network, the x-vector of
Snyder et al. (2018), with attentive statistics pooling (Okabe et al. 2018) and two convolutions in
front that forgive a voice for being higher than another (Thienpondt et al. 2021). It learns from
real speech alone.

It computes in one thread: sums over several depend on how many there are, and a training run makes
a different network out of the last bit of a sum. What is left of chance, between machines and
seeds, the mean over several seeds makes smaller (`benchmarks.panel`).

    judge = MelJudge.fit(log_mels, emotions, seed=0, groups=corpora)
    judge.predict(enhanced_log_mels, groups=corpora)

Log-mels are natural logarithms of mel magnitudes `(frames, bands)` as `EmotionFeatureExtractor`
makes them without normalisation, of any number of frames.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from training.augmentation import augment_log_mel, mask_spectrogram
from training.config import AugmentationConfig, from_dict
from training.features import crop, mix
from training.sampling import Draw, EpochSampler

Label: TypeAlias = str | int
Group: TypeAlias = str | None

SETTINGS_FILE = "judge.json"
WEIGHTS_FILE = "judge.safetensors"
# A band that never changes (silence) would be divided by 0.
SMALLEST_DEVIATION = 1e-3
PREDICTION_BATCH = 32


@dataclass(frozen=True)
class JudgeConfig:
    """Size and training of a judge; the defaults are those of a judge of emotions.

    Args:
        bands: Mel bands of the spectrograms.
        sampling_rate: Rate in Hz that they were computed at.
        hop_length: Samples between their frames.
        front_channels: Maps of the two convolutions over bands and frames.
        channels: Width of the time-delay layers.
        pooled_channels: Width of the frames that are pooled.
        embedding_size: Width of the two dense layers.
        dropout: Share of the embedding that is dropped in training.
        epochs: Passes over the training recordings.
        batch_size: Recordings of a training step.
        learning_rate: Peak of the one-cycle schedule (Smith & Topin 2018).
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are cut to this norm.
        crop_seconds: Training sees random stretches of this length, prediction whole recordings.
        balance: 0 draws recordings as they come, 1 classes of each group equally often.
        label_smoothing: Share of the target given to all classes alike.
        mixup_alpha: Parameter of mixup's Beta distribution (Zhang et al. 2018).
        mixup_probability: Share of recordings that are mixed with another one.
        augmentation: How far recordings are changed in training.
    """

    bands: int = 80
    sampling_rate: int = 22_025
    hop_length: int = 256
    front_channels: int = 16
    channels: int = 128
    pooled_channels: int = 256
    embedding_size: int = 128
    dropout: float = 0.3
    epochs: int = 24
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    max_grad_norm: float = 2.0
    crop_seconds: float = 2.5
    balance: float = 0.3
    label_smoothing: float = 0.1
    mixup_alpha: float = 0.3
    mixup_probability: float = 0.3
    augmentation: AugmentationConfig = field(
        default_factory=lambda: AugmentationConfig(
            tempo=0.16, pitch=0.05, warp_probability=0.7, level=6.0, filter=3.0, masks=1
        )
    )

    @property
    def frames_per_second(self) -> float:
        """Frames of a second of sound."""
        return self.sampling_rate / self.hop_length

    @property
    def crop_frames(self) -> int:
        """Frames of a training example, at most."""
        return round(self.crop_seconds * self.frames_per_second)


# --- Network -------------------------------------------------------------------------------------


class FrontLayer(nn.Module):
    """Convolution over bands and frames, BatchNorm and ReLU; padded frames stay 0.

    It leaves every second band, and every `stride`-th frame. Takes and returns the hidden state
    `(batch, channels, bands, frames)` and its mask `(batch, 1, frames)`, 1 for real frames.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride=(2, stride), padding=kernel // 2, bias=False
        )
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(
        self, hidden_state: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's output and the mask of its frames."""
        mask = mask[..., :: self.stride]
        hidden_state = self.normalization(self.convolution(hidden_state))
        return F.relu(hidden_state) * mask[:, None], mask


class TimeDelayLayer(nn.Module):
    """Dilated convolution over frames, BatchNorm and ReLU; padded frames stay 0."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.convolution = nn.Conv1d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.normalization = nn.BatchNorm1d(out_channels)

    def forward(self, hidden_state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, frames)` and mask `(batch, 1, frames)` to as many frames."""
        return F.relu(self.normalization(self.convolution(hidden_state))) * mask


class AttentiveStatisticsPooling(nn.Module):
    """Mean and deviation of real frames, weighted by their importance (Okabe et al. 2018)."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(channels, attention_channels, 1),
            nn.Tanh(),
            nn.Conv1d(attention_channels, 1, 1),
        )

    def forward(self, hidden_state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, frames)` and mask `(batch, 1, frames)` to `(batch, 2 * channels)`."""
        scores = self.attention(hidden_state).masked_fill(mask == 0, float("-inf"))
        weights = scores.softmax(dim=-1)
        mean = (weights * hidden_state).sum(dim=-1)
        variance = (weights * (hidden_state - mean[..., None]).square()).sum(dim=-1)
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)


class TimeDelayNetwork(nn.Module):
    """The x-vector of Snyder et al. (2018): time-delay layers, pooling and two dense layers.

    The front keeps every second frame, since speech changes slower than 86 times a second, and
    every fourth band. Without it (the mel bands as channels of the first time-delay layer) judges
    of emotion knew fewer new speakers.
    """

    def __init__(self, config: JudgeConfig, num_classes: int) -> None:
        super().__init__()
        channels, pooled, size = config.channels, config.pooled_channels, config.embedding_size
        maps = config.front_channels
        self.front = nn.ModuleList(
            [FrontLayer(1, maps, kernel=5, stride=2), FrontLayer(maps, maps, kernel=3, stride=1)]
        )
        front_bands = math.ceil(config.bands / 4)
        self.layers = nn.ModuleList(
            [
                TimeDelayLayer(maps * front_bands, channels, kernel=3, dilation=2),
                TimeDelayLayer(channels, channels, kernel=3, dilation=3),
                TimeDelayLayer(channels, channels),
                TimeDelayLayer(channels, pooled),
            ]
        )
        self.pooling = AttentiveStatisticsPooling(pooled, size)
        self.dense = nn.Sequential(
            nn.BatchNorm1d(2 * pooled),
            nn.Linear(2 * pooled, size),
            nn.ReLU(),
            nn.BatchNorm1d(size),
            nn.Dropout(config.dropout),
            nn.Linear(size, size),
            nn.ReLU(),
            nn.BatchNorm1d(size),
        )
        self.classifier = nn.Linear(size, num_classes)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, classes)` of `(batch, frames, bands)` and a mask `(batch, frames)`."""
        mask = mask[:, None, :]
        hidden_state = features.transpose(1, 2)[:, None] * mask[:, None]
        for layer in self.front:
            hidden_state, mask = layer(hidden_state, mask)
        hidden_state = hidden_state.flatten(1, 2)
        for layer in self.layers:
            hidden_state = layer(hidden_state, mask)
        return self.classifier(self.dense(self.pooling(hidden_state, mask)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread within, so that sums do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- Judge ---------------------------------------------------------------------------------------


class BandStatistics(NamedTuple):
    """Mean and standard deviation of log-mels, float32 `(bands,)` each."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, log_mels: Sequence[np.ndarray]) -> "BandStatistics":
        """Statistics of all frames of log-mels `(frames, bands)`."""
        frames = np.concatenate(log_mels)
        return cls(frames.mean(axis=0), np.maximum(frames.std(axis=0), SMALLEST_DEVIATION))

    def normalize(self, log_mel: np.ndarray) -> np.ndarray:
        """Z-score log-mels `(..., bands)`."""
        return (log_mel - self.mean) / self.std


class MelJudge:
    """A trained judge; make one with `fit` or `load`.

    Attributes:
        classes: The labels it knows, sorted, `(classes,)`.
        statistics: Of the training recordings of each group (the corpus), which take away what
            tells one recording studio from another.
    """

    def __init__(
        self,
        network: TimeDelayNetwork,
        classes: np.ndarray,
        statistics: dict[Group, BandStatistics],
        config: JudgeConfig,
    ) -> None:
        self.network = network.eval()
        self.classes = classes
        self.statistics = statistics
        self.config = config

    @classmethod
    def fit(
        cls,
        log_mels: Sequence[np.ndarray],
        labels: Sequence[Label],
        *,
        seed: int,
        groups: Sequence[str] | None = None,
        config: JudgeConfig | None = None,
    ) -> "MelJudge":
        """Train a judge; equal for the same seed on the same machine, however many cores it uses.

        Args:
            log_mels: Natural-log mel magnitudes, `(frames, bands)` each.
            labels: What each recording is to be called.
            seed: Of the first weights, the order of recordings and their changes.
            groups: Each recording's corpus, whose own statistics z-score it.
            config: Size and training; for emotions when not given.

        Raises:
            ValueError: No recordings, a recording of another shape or with NaN, numbers of labels
                or groups that differ from that of recordings, fewer than two different labels, or
                fewer recordings than a batch holds.
        """
        config = config or JudgeConfig()
        mels = _checked(log_mels, config.bands)
        names = _group_names(groups, len(mels))
        classes, targets = _encode(labels, len(mels))
        statistics = _group_statistics(mels, names)
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(seed)
            network = TimeDelayNetwork(config, len(classes))
            examples = _TrainingExamples(mels, targets, len(classes), names, statistics, config)
            _train(network, examples, seed)
        return cls(network, classes, statistics, config)

    def predict(
        self, log_mels: Sequence[np.ndarray], groups: Sequence[str] | None = None
    ) -> np.ndarray:
        """The likeliest label of each recording, `(recordings,)`; see `predict_proba`."""
        return self.classes[self.predict_proba(log_mels, groups).argmax(axis=1)]

    @torch.inference_mode()
    def predict_proba(
        self, log_mels: Sequence[np.ndarray], groups: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Probability of each class for whole recordings, whatever else is in the batch.

        Args:
            log_mels: Natural-log mel magnitudes, `(frames, bands)` each.
            groups: Each recording's corpus; needed where the judge was trained with groups.

        Returns:
            `(recordings, classes)`, in the order of `classes`; rows sum to 1.

        Raises:
            ValueError: Recordings as in `fit`, or a group that it was not trained on.
        """
        mels = _checked(log_mels, self.config.bands)
        names = _group_names(groups, len(mels))
        self._check_groups(names)
        features = [self.statistics[g].normalize(mel) for mel, g in zip(mels, names, strict=True)]
        probabilities = np.empty((len(mels), len(self.classes)), dtype=np.float32)
        with one_thread():
            for rows in _batches_of_like_length(features):
                logits = self.network(*_collate([features[row] for row in rows]))
                probabilities[rows] = logits.softmax(dim=1).numpy()
        return probabilities

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights and settings into a folder, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "classes": self.classes.tolist(),
            "config": asdict(self.config),
            "statistics": [
                {"group": group, "mean": known.mean.tolist(), "std": known.std.tolist()}
                for group, known in self.statistics.items()
            ],
        }
        save_file(self.network.state_dict(), folder / WEIGHTS_FILE)
        # Last, so that a folder with settings is complete.
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "MelJudge":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: The folder holds no complete judge.
        """
        folder = Path(folder)
        for name in (SETTINGS_FILE, WEIGHTS_FILE):
            if not (folder / name).exists():
                raise FileNotFoundError(
                    f"Bad folder '{folder}', expected a judge, missing '{name}'"
                )
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        config = from_dict(JudgeConfig, settings["config"])
        network = TimeDelayNetwork(config, len(settings["classes"]))
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        statistics = {
            known["group"]: BandStatistics(np.float32(known["mean"]), np.float32(known["std"]))
            for known in settings["statistics"]
        }
        return cls(network, np.asarray(settings["classes"]), statistics, config)

    def _check_groups(self, names: Sequence[Group]) -> None:
        for name in names:
            if name not in self.statistics:
                raise ValueError(f"Bad group {name!r}, expected one of {list(self.statistics)}")


# --- Input ---------------------------------------------------------------------------------------


def _checked(log_mels: Sequence[np.ndarray], bands: int) -> list[NDArray[np.float32]]:
    """Recordings as float32 `(frames, bands)`, or an error that says which is none."""
    if len(log_mels) == 0:
        raise ValueError("Bad log_mels of length 0, expected at least one recording")
    for index, log_mel in enumerate(log_mels):
        shape = np.shape(log_mel)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != bands:
            raise ValueError(
                f"Bad shape {shape} of recording {index}, expected (frames, {bands}) with a frame"
            )
        if not np.isfinite(log_mel).all():
            raise ValueError(f"Bad recording {index} with NaN or infinity, expected finite numbers")
    return [np.asarray(log_mel, dtype=np.float32) for log_mel in log_mels]


def _group_names(groups: Sequence[str] | None, count: int) -> list[Group]:
    """The group of each recording; without groups all are of the group None."""
    if groups is None:
        return [None] * count
    _check_length("groups", groups, count)
    return [str(group) for group in groups]


def _encode(labels: Sequence[Label], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted classes, and the class index of each label."""
    _check_length("labels", labels, count)
    classes, targets = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"Bad labels, expected at least two classes, got {classes.tolist()}")
    return classes, targets


def _check_length(name: str, values: Sequence[object], count: int) -> None:
    if len(values) != count:
        raise ValueError(f"Bad {name} of length {len(values)}, expected {count}, one a recording")


def _group_statistics(
    log_mels: Sequence[np.ndarray], names: Sequence[Group]
) -> dict[Group, BandStatistics]:
    members: dict[Group, list[np.ndarray]] = {}
    for log_mel, name in zip(log_mels, names, strict=True):
        members.setdefault(name, []).append(log_mel)
    return {name: BandStatistics.of(mels) for name, mels in members.items()}


def _batches_of_like_length(features: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Rows by length, so that batches hold little padding."""
    order = sorted(range(len(features)), key=lambda row: len(features[row]))
    for start in range(0, len(order), PREDICTION_BATCH):
        yield order[start : start + PREDICTION_BATCH]


def _collate(features: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-padded features `(batch, frames, bands)` and the mask `(batch, frames)` of real ones."""
    tensors = [torch.from_numpy(np.asarray(x, dtype=np.float32)) for x in features]
    padded = nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    lengths = torch.tensor([len(x) for x in tensors])
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    return padded, mask.to(padded.dtype)


# --- Training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TrainingExamples:
    """Recordings with their class indices and groups, and how examples are made of them."""

    log_mels: Sequence[np.ndarray]
    targets: np.ndarray
    num_classes: int
    groups: Sequence[Group]
    statistics: dict[Group, BandStatistics]
    config: JudgeConfig

    def make(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Features `(frames, bands)` and class probabilities `(classes,)` of a draw."""
        generator = np.random.default_rng(draw.seed)
        features, target = self._features(draw.row, generator), self._target(draw.row)
        if draw.partner >= 0:
            features = mix(features, self._features(draw.partner, generator), draw.share)
            target = draw.share * target + (1 - draw.share) * self._target(draw.partner)
        return features, target

    def _features(self, row: int, generator: np.random.Generator) -> np.ndarray:
        config, changes = self.config, self.config.augmentation
        # Enough for the fastest tempo; changing whole recordings would take twice as long.
        longest = round(config.crop_frames * np.exp(changes.tempo)) + 1
        log_mel = crop(self.log_mels[row], longest, generator)
        log_mel = augment_log_mel(log_mel, changes, generator, sampling_rate=config.sampling_rate)
        features = self.statistics[self.groups[row]].normalize(log_mel[: config.crop_frames])
        return mask_spectrogram(
            features, changes, generator, frames_per_second=config.frames_per_second
        )

    def _target(self, row: int) -> np.ndarray:
        smoothing = self.config.label_smoothing
        target = np.full(self.num_classes, smoothing / self.num_classes, dtype=np.float32)
        target[self.targets[row]] += 1 - smoothing
        return target


def _train(network: TimeDelayNetwork, examples: _TrainingExamples, seed: int) -> None:
    """Train a network in place, AdamW with a one-cycle schedule."""
    config = examples.config
    sampler = _sampler(examples, seed)
    steps = config.epochs * (len(sampler) // config.batch_size)
    if steps == 0:
        raise ValueError(
            f"Bad epochs {config.epochs} or batch_size {config.batch_size}, expected at least one "
            f"batch of {len(sampler)} recordings"
        )
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps)
    network.train()
    for draws in _training_batches(sampler, config):
        features, targets = zip(*(examples.make(draw) for draw in draws), strict=True)
        loss = F.cross_entropy(network(*_collate(features)), torch.from_numpy(np.stack(targets)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()


def _sampler(examples: _TrainingExamples, seed: int) -> EpochSampler:
    config = examples.config
    return EpochSampler(
        range(len(examples.log_mels)),
        list(zip(examples.groups, examples.targets.tolist(), strict=True)),
        seed=seed,
        balance=config.balance,
        mixup_alpha=config.mixup_alpha,
        mixup_probability=config.mixup_probability,
    )


def _training_batches(sampler: EpochSampler, config: JudgeConfig) -> Iterator[list[Draw]]:
    """Full batches of all epochs; the rest of an epoch is left out."""
    for epoch in range(config.epochs):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        for start in range(0, len(draws) - config.batch_size + 1, config.batch_size):
            yield draws[start : start + config.batch_size]


# --- Halves --------------------------------------------------------------------------------------


def split_half(
    speakers: Sequence[object],
    sentences: Sequence[object],
    emotions: Sequence[object],
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide everybody's recordings into two halves alike in sentences and emotions.

    Who names speakers learns one half and is asked about the other: it has to know everybody, but
    not the recordings. Each recording, in random order within its sentence and emotion, goes to
    the half that has fewer of the same speaker, sentence and emotion so far.

    Args:
        speakers: One per recording, unique over corpora.
        sentences: One per recording.
        emotions: One per recording.
        seed: Decides who goes where.

    Returns:
        Sorted rows of the first and of the second half: disjoint, together all.

    Raises:
        ValueError: Lengths differ, nothing is given, or a speaker has a single recording.
    """
    count = len(speakers)
    _check_length("sentences", sentences, count)
    _check_length("emotions", emotions, count)
    _check_speakers(speakers)
    generator = np.random.default_rng(seed)
    kinds = [_kinds(*row) for row in zip(speakers, sentences, emotions, strict=True)]
    # Takes of the same cell follow each other, so that they part.
    order = sorted(generator.permutation(count).tolist(), key=lambda row: str(kinds[row][-1]))
    # How many more recordings of a kind the first half has than the second.
    lead: Counter[object] = Counter()
    in_first = np.zeros(count, dtype=bool)
    for row in order:
        surplus = sum(lead[kind] for kind in kinds[row])
        in_first[row] = surplus < 0 or (surplus == 0 and generator.random() < 0.5)
        lead.update(dict.fromkeys(kinds[row], 1 if in_first[row] else -1))
    return np.flatnonzero(in_first), np.flatnonzero(~in_first)


def _kinds(speaker: object, sentence: object, emotion: object) -> tuple[tuple[object, ...], ...]:
    """Everything that a recording is one of; each of them is to be divided evenly."""
    return (
        (speaker,),
        (speaker, "sentence", sentence),
        (speaker, "emotion", emotion),
        (speaker, "cell", sentence, emotion),
    )


def _check_speakers(speakers: Sequence[object]) -> None:
    if len(speakers) == 0:
        raise ValueError("Bad speakers of length 0, expected at least two recordings")
    for speaker, recordings in Counter(speakers).items():
        if recordings < 2:
            raise ValueError(f"Bad speaker {speaker!r} with one recording, expected two or more")
