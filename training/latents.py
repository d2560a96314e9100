"""What the enhancer's networks are trained on: spectrograms, latents and their conditions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from datasets_scripts import EMOTIONS
from modeling import EmotionDenoiser, Prosody
from modeling.modeling_emotion_denoiser import CLARITY_UNSAID, CLEAR, UNCLEAR
from modeling.voice_rows import PITCH_UNIT, TEMPO_UNIT, join_rows, mean_log_f0

from .config import DiffusionConfig, DiffusionStageConfig
from .data import Batch, Corpora, check_batch_size
from .features import MelFeatures, crop
from .pairs import Pairs, warp
from .sampling import BucketBatchSampler, Crop, EpochSampler

# Longest stretch of an utterance whose style is taken.
STYLE_SECONDS = 2.5
# Share of listeners who recognised an emotion that is clear.
CLEAR_AGREEMENT = 0.9
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


@dataclass(frozen=True)
class Voices:
    """Recordings as the denoiser sees them.

    Args:
        rows: Of each recording, `(num_rows, length)`: latents, and log F0 less its own mean.
        pitch: Mean log F0 of each recording in the unit of its row.
    """

    rows: dict[int, np.ndarray]
    pitch: dict[int, float]


class DenoiserExamples(TorchDataset[Batch]):
    """How the same voice says the same with an emotion, beside a recording that is to be changed.

    Target and source are a pair that is aligned in time; now and then they are the same recording,
    as they are where nobody says the sentence again. The style is mostly that of another utterance
    of the speaker, whatever its emotion, so that it cannot stand for the emotion.

    "Unsaid" is what is left when an emotion is dropped, which happens to recordings of all six
    alike: it is the mixture that guidance means to subtract (Ho & Salimans 2022). Recordings of
    other emotions have no label here and stay out: taken for "unsaid" without being dropped, they
    would be most of what it stands for.

    Args:
        features: Log-mels of all recordings.
        corpora: Who trains, and the emotions.
        voices: Recordings of the six emotions.
        pairs: Which of them are aligned.
        denoiser: Knows emotions and corpora by number.
        config: How often what is dropped or drawn.
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
        voices: Voices,
        pairs: Pairs,
        denoiser: EmotionDenoiser,
        config: DiffusionConfig,
        stride: int,
        num_train_timesteps: int,
        training: bool = True,
    ) -> None:
        self.emotions = corpora.targets.tolist()
        others = sorted({corpora.labels[self.emotions[row]] for row in voices.rows} - set(EMOTIONS))
        if others:
            raise ValueError(f"Bad voices of {others}, expected emotions among {list(EMOTIONS)}")
        names = list(corpora.dataset["corpus"])
        self.corpora = [denoiser.corpus_index(name) for name in names]
        self.unsaid = (denoiser.emotion_index(None), denoiser.corpus_index(None))
        self.clarities = clarities(corpora)
        self.features = features
        self.voices = voices
        self.pairs = pairs
        self.config = config
        self.stride = stride
        self.num_train_timesteps = num_train_timesteps
        self.training = training
        self.partners = same_speaker(corpora, list(voices.rows))

    def __getitem__(self, item: Crop) -> Batch:
        generator = np.random.default_rng(item.seed)
        length = item.frames // self.stride
        target = self._target(item.row, generator)
        source = self.voices.rows[item.row]
        start = int(generator.integers(0, source.shape[1] - length + 1))
        span = slice(start, start + length)
        latents = torch.from_numpy(self._aligned(item.row, target)[:, span])
        beside = torch.from_numpy(source[:, span])
        if self.training and generator.random() < self._source_dropout(item.row, target):
            beside = torch.zeros_like(beside)
        style = self._style(item.row, generator)
        return {
            "latents": latents,
            "noise": _normal(latents.shape, generator),
            "timestep": torch.tensor(self._timestep(item, generator)),
            "source": beside,
            "style": style,
            "style_mask": torch.ones(len(style)),
            **self._conditions(item.row, target, generator),
        }

    def _target(self, row: int, generator: np.random.Generator) -> int:
        """The row that is to come out."""
        if self.training and generator.random() < self.config.identity_probability:
            return row
        own = self.config.own_emotion_probability
        drawn = self.pairs.draw(row, self.emotions[row], own, generator)
        return row if drawn is None else drawn

    def _aligned(self, row: int, target: int) -> np.ndarray:
        """Rows of the target on the latents of its source, `(num_rows, length)`."""
        if row == target:
            return self.voices.rows[row]
        path = self.pairs.alignments[row, target]
        aligned = warp(self.voices.rows[target], path.positions)
        # Pitch is that of the target in relation to the source; there is no tempo but in relation.
        aligned[-2] += self.voices.pitch[target] - self.voices.pitch[row]
        aligned[-1] = path.log_tempo / TEMPO_UNIT
        return aligned.astype(np.float32)

    def _source_dropout(self, row: int, target: int) -> float:
        """More often where the source would be all that there is to say: it is the target."""
        alone = row == target and not self.pairs.targets[row]
        return max(self.config.source_dropout, 0.5 if alone else 0.0)

    def _timestep(self, item: Crop, generator: np.random.Generator) -> int:
        share = generator.random()
        if not self.training:
            share = (item.row % TIMESTEP_QUARTERS + share) / TIMESTEP_QUARTERS
        return int(share * self.num_train_timesteps)

    def _style(self, row: int, generator: np.random.Generator) -> torch.Tensor:
        partners = self.partners[row]
        alone = generator.random() < self.config.style_self_probability or not partners
        chosen = row if alone else partners[int(generator.integers(len(partners)))]
        longest = round(STYLE_SECONDS * self.features.frames_per_second)
        return torch.from_numpy(crop(self.features.load(chosen), longest, generator))

    def _conditions(self, row: int, target: int, generator: np.random.Generator) -> Batch:
        config, (no_emotion, no_corpus) = self.config, self.unsaid
        shares = [config.emotion_dropout, config.source_emotion_dropout, config.corpus_dropout]
        aim, carried, corpus, clarity = generator.random(4) < [*shares, config.clarity_dropout]
        if not self.training:
            aim = carried = corpus = clarity = False
        return {
            "target": torch.tensor(no_emotion if aim else self.emotions[target]),
            "carried": torch.tensor(no_emotion if carried else self.emotions[row]),
            "corpus": torch.tensor(no_corpus if corpus else self.corpora[row]),
            # Nothing is clear where no emotion is said.
            "clarity": torch.tensor(CLARITY_UNSAID if aim or clarity else self.clarities[target]),
        }


def clarities(corpora: Corpora) -> list[int]:
    """How clearly each row's emotion is heard, as far as its corpus knows.

    Strong intensity, or recognised by nine listeners of ten, is clear. Where an emotion is never
    said strongly, as neutral, nothing is clearer than it.
    """
    columns = corpora.dataset.select_columns(["corpus", "emotion", "intensity", "agreement"])[:]
    rows = list(zip(*columns.values(), strict=True))
    strong = {(c, e) for c, e, intensity, _ in rows if intensity == "strong"}
    known = []
    for corpus, emotion, intensity, agreement in rows:
        if agreement is not None:
            known.append(CLEAR if agreement >= CLEAR_AGREEMENT else UNCLEAR)
        elif intensity is not None:
            clear = intensity == "strong" or (corpus, emotion) not in strong
            known.append(CLEAR if clear else UNCLEAR)
        else:
            known.append(CLARITY_UNSAID)
    return known


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
def encode_recordings(
    vae: AutoencoderKL, features: MelFeatures, rows: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Mean of each row's latents `(channels, bands, length)`, not scaled, one at a time."""
    stride = latent_stride(vae)
    for row in rows:
        mel = torch.from_numpy(features.load(row))
        mel = mel[: len(mel) // stride * stride]
        yield row, vae.encode(mel.T[None, None].to(vae.device)).latent_dist.mean[0].cpu()


def voices_of(
    vae: AutoencoderKL,
    features: MelFeatures,
    prosodies: Mapping[int, Prosody],
    rows: Sequence[int],
) -> Voices:
    """Recordings as the denoiser sees them."""
    voices, scale, stride = Voices({}, {}), vae.config.scaling_factor, latent_stride(vae)
    for row, latents in encode_recordings(vae, features, rows):
        mean = mean_log_f0(prosodies[row])
        melody = torch.from_numpy(prosodies[row].log_f0 - mean)
        # Arrays: workers that are spawned would open a file for each tensor.
        joined = join_rows(latents * scale, melody, torch.zeros_like(melody), stride)
        voices.rows[row], voices.pitch[row] = joined.numpy(), mean / PITCH_UNIT
    return voices


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
