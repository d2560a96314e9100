"""Emotion heads on a pretrained speech encoder."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import ModelOutput

from .calibration import belongs_to, calibration_groups, frame_statistics, with_prior
from .configuration_emotion_transformer import EmotionTransformerConfig
from .emotion_heads import EmotionHeads, initialize_heads

STEM_STRIDE = 2


@dataclass
class EmotionTransformerOutput(ModelOutput):
    """Output of [`EmotionTransformerForAudioClassification`].

    Args:
        loss: Cross-entropy, when labels are given.
        logits: `(batch, num_labels)`.
        embeddings: `(batch, config.embedding_dim)`, the mean of what the heads saw.
        attentions: One map `(batch, num_labels, 1, frames)`: when each emotion's head listens; each
            map sums to 1.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class EmotionTransformerForAudioClassification(PreTrainedModel):
    """Names the emotion in what a pretrained speech encoder hears.

    The outputs of the encoder's layers, side by side, are z-scored with statistics of their
    frames, weighed by a learned weight for each layer, and heard by one attentive head per emotion.
    The statistics are those of recordings of unknown origin, of a corpus that was trained on, or of
    a room or voice that `calibrate` was shown. Padding is invisible, and Whisper's encoder is run
    without padding to 30 s: a recording costs what it lasts.
    """

    config_class = EmotionTransformerConfig
    base_model_prefix = "encoder"
    main_input_name = "input_features"
    input_modalities = ("audio",)
    statistics: torch.Tensor
    _supports_sdpa = True

    def __init__(self, config: EmotionTransformerConfig) -> None:
        super().__init__(config)
        self.encoder = _build_encoder(config.encoder)
        self.encoder_is_trained = False
        self.layer_weights = nn.Parameter(torch.zeros(len(config.layers)))
        # Of unknown origin first, then of each of config.calibrations: mean and deviation.
        shape = (1 + len(config.calibrations), 1, config.num_channels)
        self.register_buffer("statistics", torch.zeros(shape).repeat(1, 2, 1))
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.heads = EmotionHeads(
            channels=config.num_channels,
            bands=1,
            num_labels=config.num_labels,
            attention_size=config.attention_size,
            projection_size=config.projection_size,
            dropout=config.dropout,
        )
        self.post_init()

    @classmethod
    def from_encoder(
        cls, name_or_path: str, revision: str | None = None, **settings: Any
    ) -> "EmotionTransformerForAudioClassification":
        """A new classifier on a pretrained encoder, in single precision and frozen.

        Args:
            name_or_path: Hub id or folder of a speech model of transformers.
            revision: Branch, tag or commit on the Hub.
            settings: Of [`EmotionTransformerConfig`].

        Raises:
            ValueError: Settings that the configuration refuses, or no speech encoder.
            OSError: No such model.
        """
        if os.sep in os.path.expanduser(name_or_path)[:1] and not os.path.isdir(name_or_path):
            raise FileNotFoundError(f"No folder '{name_or_path}', expected one with an encoder")
        encoder = AutoConfig.from_pretrained(name_or_path, revision=revision)
        model = cls(EmotionTransformerConfig(encoder=encoder, **settings))
        # Whatever the checkpoint holds: half precision cannot be trained on a CPU.
        pretrained = AutoModel.from_pretrained(name_or_path, revision=revision, dtype=torch.float32)
        found = pretrained.get_encoder() if encoder.is_encoder_decoder else pretrained
        missing, _ = model.encoder.load_state_dict(found.state_dict(), strict=False)
        if missing:
            raise ValueError(f"'{name_or_path}' has no weights for {sorted(missing)[:3]}")
        return model

    def train_encoder(self, last: int | None = None) -> None:
        """Train the encoder too: its last layers only, or all of it when no number is given.

        Raises:
            ValueError: More layers than there are.
        """
        layers = _layers(self.encoder)
        if last is not None and not 1 <= last <= len(layers):
            raise ValueError(f"Bad number of layers {last}, expected 1 to {len(layers)}")
        self.encoder_is_trained = True
        self.encoder.requires_grad_(last is None)
        for layer in layers[-last:] if last else []:
            layer.requires_grad_(True)

    def train(self, mode: bool = True) -> "EmotionTransformerForAudioClassification":
        """As in PyTorch; a frozen encoder stays in evaluation."""
        super().train(mode)
        self.encoder.train(mode and self.encoder_is_trained)
        return self

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        statistics: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> EmotionTransformerOutput | tuple[torch.Tensor, ...]:
        """Classify a batch.

        Args:
            input_features: `(batch, steps, size)` as the feature extractor makes them.
            attention_mask: `(batch, steps)`, or of `frames`, 1 for real ones, which come first;
                all are real when not given.
            labels: Class indices `(batch,)`, or class probabilities `(batch, num_labels)`.
            statistics: `(batch, 2, num_channels)` or `(2, num_channels)`, mean and deviation to
                z-score frames with (see `statistics_of`); those of unknown origin by default.
            frames: In place of `input_features`: frames `(batch, frames, num_channels)` as `encode`
                returned them, z-scored already.
            output_attentions: Also return when each emotion's head listens.
            return_dict: `False` for a plain tuple.

        Raises:
            ValueError: Neither or both of features and frames.
        """
        if (input_features is None) == (frames is None):
            raise ValueError("Expected either input_features or frames")
        if input_features is not None:
            frames, attention_mask = self.encode(input_features, attention_mask)
            frames = self.normalize(frames, statistics)
        assert frames is not None
        if attention_mask is None:
            attention_mask = frames.new_ones(frames.shape[:2])
        logits, embeddings, attention = self._judge(frames, attention_mask)
        if not self.training:
            logits = logits / self.config.score_temperature
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        output = EmotionTransformerOutput(
            loss=None if labels is None else F.cross_entropy(logits, labels),
            logits=logits,
            embeddings=embeddings,
            attentions=(attention,) if output_attentions else None,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder hears, not normalised.

        Returns:
            Frames `(batch, frames, num_channels)`, zero in padding, and their mask.
        """
        if attention_mask is None:
            attention_mask = input_features.new_ones(input_features.shape[:2])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder_is_trained):
            states, mask = _hidden_states(self.encoder, input_features, attention_mask.bool())
            frames = torch.cat([states[layer] for layer in self.config.layers], dim=-1)
            return _average(frames, mask, self.config.frame_stride)

    def normalize(
        self, frames: torch.Tensor, statistics: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Z-score frames `(batch, frames, num_channels)`; statistics as in `forward`."""
        statistics = self.statistics[0] if statistics is None else statistics
        mean, std = statistics.to(frames).unbind(dim=-2)
        if statistics.ndim == 3:
            mean, std = mean.unsqueeze(1), std.unsqueeze(1)
        return (frames - mean) / std

    def statistics_of(self, name: str | None) -> torch.Tensor:
        """Mean and deviation `(2, num_channels)` under a name; of unknown origin for `None`.

        Raises:
            ValueError: A name that the model holds nothing under.
        """
        known = self.config.calibrations
        if name is None:
            return self.statistics[0]
        if name not in known:
            raise ValueError(f"Bad corpus {name!r}, expected one of {sorted(known)} or None")
        return self.statistics[1 + known.index(name)]

    def set_statistics(
        self, mean: torch.Tensor, std: torch.Tensor, name: str | None = None
    ) -> None:
        """Hold the mean and deviation `(num_channels,)` of frames, of unknown origin or of a name.

        Raises:
            ValueError: Another shape, numbers that are not finite, or a deviation not positive.
        """
        new = torch.stack([mean, std]).to(self.statistics)
        if new.shape != self.statistics.shape[1:] or not new.isfinite().all() or (std <= 0).any():
            raise ValueError(
                f"Bad statistics of shape {tuple(mean.shape)} and {tuple(std.shape)}, expected "
                f"({self.config.num_channels},) each, finite, with positive deviations"
            )
        known = self.config.calibrations
        if name is not None and name not in known:
            self.statistics = torch.cat([self.statistics, new[None]])
            self.config.calibrations = [*known, name]
            return
        self.statistics[0 if name is None else 1 + known.index(name)] = new

    @property
    def names(self) -> list[str]:
        """Corpora, rooms and voices that statistics are held for."""
        return sorted(self.config.calibrations)

    def forget(self, name: str) -> None:
        """Drop the statistics of a name, and of the speakers under it."""
        known = self.config.calibrations
        kept = [i for i, other in enumerate(known) if not belongs_to(other, name)]
        self.statistics = self.statistics[[0, *(1 + i for i in kept)]]
        self.config.calibrations = [known[i] for i in kept]

    @torch.no_grad()
    def calibrate(
        self,
        input_features: Sequence[torch.Tensor],
        *,
        name: str,
        speakers: Iterable[str] | None = None,
    ) -> None:
        """Keep the statistics of unlabelled recordings of one room, or of one voice, under a name.

        Args:
            input_features: Features `(steps, size)` of each recording.
            name: What to call the statistics; those of that name and its speakers are replaced.
            speakers: Speaker of each recording; each gets statistics under `name/speaker` as well.

        Raises:
            ValueError: No name, no recordings, or not one speaker for each of them.
        """
        groups = calibration_groups(name, len(input_features), speakers)
        frames = [self.encode(x[None].to(self.device, self.dtype))[0][0] for x in input_features]
        self.forget(name)
        for group, indices in groups.items():
            own = frame_statistics(frames[index] for index in indices)
            unknown = self.statistics[0].to("cpu", torch.float32)
            self.set_statistics(*with_prior(own, (unknown[0], unknown[1]), len(indices)), group)

    def _judge(
        self, frames: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weights = len(self.layer_weights) * self.layer_weights.softmax(dim=0)
        channels = weights.repeat_interleave(self.config.num_channels // len(weights))
        # Softmax and variance want the weights' precision when autocast ran the encoder in half.
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.to(self.layer_weights.dtype)
            frames = self.input_dropout(frames) * mask.unsqueeze(-1).to(frames.dtype)
            hidden_state = frames.transpose(1, 2).unsqueeze(2)
            return self.heads(hidden_state, mask[:, None, None, :], channels)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, EmotionHeads):
            initialize_heads(module)
        if module is self:
            nn.init.zeros_(self.layer_weights)
            self.statistics[:, 0], self.statistics[:, 1] = 0.0, 1.0


def _build_encoder(config: Any) -> PreTrainedModel:
    # All of Whisper would bring its decoder.
    if config.model_type == "whisper":
        return WhisperEncoder(config).requires_grad_(False)
    return AutoModel.from_config(config).requires_grad_(False)


def _layers(encoder: Any) -> nn.ModuleList:
    return encoder.layers if isinstance(encoder, WhisperEncoder) else encoder.encoder.layers


def _hidden_states(
    encoder: Any, features: torch.Tensor, mask: torch.Tensor
) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """Output of the stem and of each layer `(batch, frames, size)`, and the mask of frames."""
    if isinstance(encoder, WhisperEncoder):
        return _whisper_states(encoder, features, mask)
    if getattr(encoder.config, "feat_extract_norm", None) == "group" and not mask.all():
        return _states_one_by_one(encoder, features, mask)
    heard = features.squeeze(-1) if encoder.main_input_name == "input_values" else features
    states = encoder(heard, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    if encoder.main_input_name == "input_values":
        mask = encoder._get_feature_vector_attention_mask(states[0].shape[1], mask.long()).bool()
    return states, mask


def _states_one_by_one(
    encoder: Any, features: torch.Tensor, mask: torch.Tensor
) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """For encoders that normalise over a whole recording, in whose statistics padding would be."""
    lengths = mask.sum(dim=1).tolist()
    parts = [
        _hidden_states(encoder, features[i : i + 1, :length], mask[i : i + 1, :length])
        for i, length in enumerate(lengths)
    ]
    pad = nn.utils.rnn.pad_sequence
    states = [
        pad([state[0] for state in layer], batch_first=True)
        for layer in zip(*(states for states, _ in parts), strict=True)
    ]
    return states, pad([own[0] for _, own in parts], batch_first=True)


def _whisper_states(
    encoder: WhisperEncoder, features: torch.Tensor, mask: torch.Tensor
) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """As Whisper's own forward, which takes 30 s and nothing else, with padding masked out."""
    real = mask.unsqueeze(1).to(features.dtype)
    hidden = F.gelu(encoder.conv1(features.transpose(1, 2) * real)) * real
    hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
    longest = encoder.embed_positions.num_embeddings
    if hidden.shape[1] > longest:
        raise ValueError(
            f"Bad input_features of {features.shape[1]} steps, expected at most "
            f"{STEM_STRIDE * longest}"
        )
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    mask = mask[:, ::STEM_STRIDE]
    unheard = torch.zeros_like(mask, dtype=hidden.dtype)
    unheard = unheard.masked_fill(~mask, torch.finfo(hidden.dtype).min)[:, None, None, :]
    states = [hidden]
    for layer in encoder.layers:
        hidden = layer(hidden, unheard)
        states.append(hidden)
    return states, mask


def _average(
    frames: torch.Tensor, mask: torch.Tensor, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of `stride` real frames each, and their mask."""
    missing = -frames.shape[1] % stride
    frames = F.pad(frames * mask.unsqueeze(-1), (0, 0, 0, missing))
    count = F.pad(mask.to(frames.dtype), (0, missing)).unflatten(1, (-1, stride)).sum(dim=2)
    total = frames.unflatten(1, (-1, stride)).sum(dim=2)
    return total / count.clamp(min=1).unsqueeze(-1), (count > 0).to(frames.dtype)


EmotionTransformerForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
