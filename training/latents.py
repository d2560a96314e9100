"""What the enhancer's networks are trained on: spectrograms, latents and their conditions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from datasets_scripts import EMOTIONS
from pipelines.emotion_enhancement import content_envelope, fold_frames

from .config import DiffusionConfig, DiffusionStageConfig
from .data import Batch, Corpora, check_batch_size
from .features import MelFeatures, crop
from .sampling import BucketBatchSampler, Crop, EpochSampler

# Longest stretch of an utterance whose style is taken.
STYLE_SECONDS = 2.5
NO_EMOTION = len(EMOTIONS)
TIMESTEP_QUARTERS = 4


class AutoencoderExamples(TorchDataset[Batch]):
    """Spectrograms with the noise of their posterior.

    Args:
        features: Log-mels of all recordings.
        config: How far level and colour are changed.
        vae: The autoencoder.
        training: Validation hears recordings as they are.
    """

    def __init__(
        self,
        features: MelFeatures,
        config: DiffusionConfig,
        vae: AutoencoderKL,
        training: bool = True,
    ) -> None:
        self.features = features
        self.config = config
        self.training = training
        self.channels = vae.config.latent_channels
        self.stride = latent_stride(vae)

    def __getitem__(self, item: Crop) -> Batch:
        generator = np.random.default_rng(item.seed)
        if self.training:
            mel = self.features.augment(item.row, self.config.augmentation, generator)
        else:
            mel = self.features.load(item.row)
        mel = crop(mel, item.frames, generator)
        shape = (self.channels, mel.shape[1] // self.stride, item.frames // self.stride)
        return {
            "features": torch.from_numpy(mel),
            "noise": torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)),
        }


class DenoiserExamples(TorchDataset[Batch]):
    """Latents with the emotion, style and content that belong to them.

    The style is mostly that of another utterance of the speaker, whatever its emotion, so that it
    cannot stand for the emotion. The content's formants are moved, so that it cannot stand for the
    voice.

    "No emotion" is what is left when the emotion is dropped, which happens to recordings of all six
    alike: it is the mixture that guidance and the anchor mean to subtract (Ho & Salimans 2022).
    Recordings of other emotions have no label here and stay out: taken for "no emotion" without
    being dropped, they would be most of what it stands for.

    Args:
        features: Log-mels of all recordings.
        corpora: Who trains, and the emotions.
        moments: Mean and deviation of the latents of each row, `(2 * channels, bands, frames)`;
            rows of the six emotions only.
        vectors: Emotion vectors of the rows, `(rows, vector_dim)`.
        config: How often what is dropped, and how far content is moved.
        stride: Frames of the spectrogram that make one of the latents.
        num_train_timesteps: Length of the noise schedule.
        training: Validation draws the same for a row always, drops nothing and takes one timestep
            of each quarter of the schedule in turn.

    Raises:
        ValueError: A recording of an emotion beyond the six.
    """

    def __init__(
        self,
        features: MelFeatures,
        corpora: Corpora,
        moments: dict[int, torch.Tensor],
        vectors: torch.Tensor,
        config: DiffusionConfig,
        stride: int,
        num_train_timesteps: int,
        training: bool = True,
    ) -> None:
        self.emotions = corpora.targets.tolist()
        others = sorted({corpora.labels[self.emotions[row]] for row in moments} - set(EMOTIONS))
        if others:
            raise ValueError(f"Bad moments of {others}, expected emotions among {list(EMOTIONS)}")
        self.features = features
        # Arrays: workers that are spawned would open a file for each tensor.
        self.moments = {row: moment.numpy() for row, moment in moments.items()}
        self.vectors = vectors
        self.config = config
        self.stride = stride
        self.num_train_timesteps = num_train_timesteps
        self.training = training
        self.partners = same_speaker(corpora, list(moments))

    def __getitem__(self, item: Crop) -> Batch:
        generator = np.random.default_rng(item.seed)
        length = item.frames // self.stride
        moments = torch.from_numpy(self.moments[item.row])
        start = int(generator.integers(0, moments.shape[-1] - length + 1))
        mean, deviation = moments[..., start : start + length].chunk(2)
        style = self._style(item.row, generator)
        return {
            "latents": mean + deviation * _normal(deviation.shape, generator),
            "noise": _normal(mean.shape, generator),
            "timestep": torch.tensor(self._timestep(item, generator)),
            "content": self._content(item.row, generator)[..., start : start + length],
            "style": style,
            "style_mask": torch.ones(len(style)),
            **self._emotion(item.row, generator),
        }

    def _timestep(self, item: Crop, generator: np.random.Generator) -> int:
        share = generator.random()
        if not self.training:
            share = (item.row % TIMESTEP_QUARTERS + share) / TIMESTEP_QUARTERS
        return int(share * self.num_train_timesteps)

    def _content(self, row: int, generator: np.random.Generator) -> torch.Tensor:
        log_mel = torch.from_numpy(self.features.log_mels[row])
        log_mel = log_mel[: len(log_mel) // self.stride * self.stride]
        envelope = content_envelope(log_mel)
        if self.training:
            envelope = _move_bands(envelope, generator, self.config.content_warp)
        return fold_frames(envelope, self.stride)

    def _style(self, row: int, generator: np.random.Generator) -> torch.Tensor:
        partners = self.partners[row]
        alone = generator.random() < self.config.style_self_probability or not partners
        chosen = row if alone else partners[int(generator.integers(len(partners)))]
        longest = round(STYLE_SECONDS * self.features.frames_per_second)
        return torch.from_numpy(crop(self.features.load(chosen), longest, generator))

    def _emotion(self, row: int, generator: np.random.Generator) -> Batch:
        emotion, vector = self.emotions[row], self.vectors[row]
        dropped = generator.random(2) < (self.config.emotion_dropout, self.config.vector_dropout)
        if self.training and dropped[0]:
            emotion = NO_EMOTION
        if self.training and dropped.any():
            vector = torch.full_like(vector, torch.nan)
        return {"emotion": torch.tensor(emotion), "vector": vector}


def same_speaker(corpora: Corpora, rows: Sequence[int]) -> dict[int, list[int]]:
    """For each of the rows, the others of its speaker."""
    speakers: dict[tuple[str, str], list[int]] = {}
    keys = list(zip(corpora.dataset["corpus"], corpora.dataset["speaker"], strict=True))
    for row in rows:
        speakers.setdefault(keys[row], []).append(row)
    return {row: [other for other in speakers[keys[row]] if other != row] for row in rows}


def latent_stride(vae: AutoencoderKL) -> int:
    """Frames, and bands, of the spectrogram that make one of the latents."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def encode_moments(
    vae: AutoencoderKL, features: MelFeatures, rows: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Mean and deviation `(2 * channels, bands, frames)` of each row's latents, one at a time."""
    stride = latent_stride(vae)
    for row in rows:
        mel = torch.from_numpy(features.load(row))
        mel = mel[: len(mel) // stride * stride]
        posterior = vae.encode(mel.T[None, None].to(vae.device)).latent_dist
        yield row, torch.cat([posterior.mean, posterior.std], dim=1)[0].cpu()


def bucket_loader(
    examples: TorchDataset[Batch],
    config: DiffusionConfig,
    stage: DiffusionStageConfig,
    stage_index: int,
    corpora: Corpora,
    rows: Sequence[int],
    features: MelFeatures,
    stride: int,
) -> DataLoader[Any]:
    """Batches of stretches of the training recordings in `rows`.

    Raises:
        ValueError: Fewer training recordings than a batch holds.
    """
    check_batch_size(config, rows)
    corpus = list(corpora.dataset["corpus"])
    sampler = EpochSampler(
        rows,
        [(corpus[row], int(corpora.targets[row])) for row in rows],
        seed=config.seed * 1000 + stage_index,
        balance=config.balance,
    )
    lengths = [len(mel) for mel in features.log_mels]
    longest = round(stage.crop_seconds * features.frames_per_second)
    batches = BucketBatchSampler(sampler, lengths, config.batch_size, longest, multiple=stride)
    return DataLoader(
        examples, batch_sampler=batches, collate_fn=collate, num_workers=config.num_workers
    )


def validation_batches(
    examples: TorchDataset[Batch],
    config: DiffusionConfig,
    stage: DiffusionStageConfig,
    corpora: Corpora,
    features: MelFeatures,
    stride: int,
) -> Iterator[tuple[list[int], Batch]]:
    """Rows and batches of the validation recordings, always the same."""
    longest = round(stage.crop_seconds * features.frames_per_second)
    lengths = {row: min(len(features.log_mels[row]), longest) for row in corpora.fold.validation}
    rows = sorted(lengths, key=lambda row: lengths[row])
    for first in range(0, len(rows), config.batch_size):
        batch = rows[first : first + config.batch_size]
        frames = lengths[batch[0]] // stride * stride
        yield batch, collate([examples[Crop(row, frames, seed=row)] for row in batch])


def collate(examples: Sequence[Batch]) -> Batch:
    """Stack examples; styles, which differ in length, are padded and masked."""
    batch = {}
    for name in examples[0]:
        values = [example[name] for example in examples]
        if name.startswith("style"):
            batch[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
        else:
            batch[name] = torch.stack(values)
    return batch


def _normal(shape: Sequence[int], generator: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def _move_bands(
    envelope: torch.Tensor, generator: np.random.Generator, reach: float
) -> torch.Tensor:
    """Stretch the frequency axis of an envelope `(frames, bands)` by at most `exp(reach)`."""
    factor = np.exp(generator.uniform(-reach, reach))
    bands = envelope.shape[1]
    positions = torch.clamp(torch.arange(bands) * factor, max=bands - 1)
    left = positions.floor().long()
    right = (left + 1).clamp(max=bands - 1)
    weight = (positions - left).float()
    return envelope[:, left] * (1 - weight) + envelope[:, right] * weight
