"""Configuration of the classifier on a pretrained speech encoder."""

import copy
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig

from .configuration_emotion_classifier import EmotionClassifierConfig

# Frames a second of all encoders that are known here.
ENCODER_FRAME_RATE = 50
# How an encoder's configuration calls its number of layers.
DEPTHS = ("encoder_layers", "num_hidden_layers")


class EmotionTransformerConfig(EmotionClassifierConfig):
    r"""Sizes of an [`EmotionTransformerForAudioClassification`].

    Args:
        encoder: Configuration of the encoder, or the dictionary of one: Whisper (whose encoder is
            taken), wav2vec2, HuBERT, WavLM, wav2vec2-BERT. It is cut after the last layer used.
        layers: Layers whose outputs are heard, from 1.
        frame_stride: Frames that are averaged before the heads (2: 25 a second for most encoders).
        attention_size: Width of the hidden layer of the heads' attention.
        projection_size: Channels that the frames of all layers are projected to.
        dropout: Dropout probability before the verdict of each head.
        input_dropout: Dropout probability of the encoder's channels.
        score_temperature: Logits are divided by it in evaluation, so that scores are probabilities.
        calibrations: Names that the model holds statistics for (see `calibrate`).
        kwargs: `id2label` or `label2id` (either gives the other) and whatever `PretrainedConfig`
            takes. Six emotions by default.

    Raises:
        ValueError: Layers that the encoder does not have, a dropout outside 0 to 1, or a number
            that is not positive.
    """

    model_type = "emotion-transformer"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 (a transformers name)
    # So that `Trainer` hands logits alone to `compute_metrics`.
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["embeddings", "attentions"]

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        layers: tuple[int, ...] = (1, 2, 3),
        frame_stride: int = 2,
        attention_size: int = 64,
        projection_size: int = 256,
        dropout: float = 0.3,
        input_dropout: float = 0.1,
        score_temperature: float = 1.0,
        calibrations: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        for name, value in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= value < 1:
                raise ValueError(f"Bad {name} {value}, expected 0 <= {name} < 1")
        for name, value in (
            ("score_temperature", score_temperature),
            ("frame_stride", frame_stride),
        ):
            if value <= 0:
                raise ValueError(f"Bad {name} {value}, expected more than 0")
        if not isinstance(layers, (list, tuple)):
            raise ValueError(f"Bad layers {layers!r}, expected a list such as [1, 2, 3]")
        self.encoder = _cut(_as_config(encoder), list(layers))
        self.layers = list(layers)
        self.frame_stride = frame_stride
        self.attention_size = attention_size
        self.projection_size = projection_size
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.calibrations = list(calibrations)
        super().__init__(score_temperature, **kwargs)

    @property
    def num_channels(self) -> int:
        """Channels of a frame: those of all layers used."""
        return len(self.layers) * self.encoder.hidden_size

    @property
    def frames_per_second(self) -> float:
        """Frames that the heads hear in a second."""
        return ENCODER_FRAME_RATE / self.frame_stride

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding: mean and deviation of every projected channel."""
        return 2 * self.projection_size


def _as_config(encoder: PretrainedConfig | dict[str, Any] | None) -> PretrainedConfig:
    if encoder is None:
        # transformers builds every configuration without arguments, to compare with.
        encoder = {"model_type": "whisper"}
    if isinstance(encoder, dict):
        settings = dict(encoder)
        return AutoConfig.for_model(settings.pop("model_type"), **settings)
    return encoder


def _cut(encoder: PretrainedConfig, layers: list[int]) -> PretrainedConfig:
    """The encoder's configuration without the layers after the last used, and no decoder."""
    name = next((name for name in DEPTHS if hasattr(encoder, name)), None)
    if name is None:
        raise ValueError(
            f"Bad encoder of type '{encoder.model_type}', expected a speech encoder such as "
            "whisper, wav2vec2, hubert, wavlm or wav2vec2-bert"
        )
    encoder = copy.deepcopy(encoder)
    # A folder of somebody's machine means nothing to whoever loads the model.
    encoder.name_or_path = ""
    depth = getattr(encoder, name)
    if not layers or min(layers) < 1 or max(layers) > depth or len(set(layers)) < len(layers):
        raise ValueError(f"Bad layers {layers}, expected different ones among 1 to {depth}")
    setattr(encoder, name, max(layers))
    if hasattr(encoder, "decoder_layers"):
        encoder.decoder_layers = 0
    return encoder


EmotionTransformerConfig.register_for_auto_class()
