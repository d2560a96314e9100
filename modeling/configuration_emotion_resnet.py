"""Configuration of the emotion recogniser."""

from typing import Any, ClassVar

from .configuration_emotion_classifier import EmotionClassifierConfig

LAYER_TYPES = ("basic", "bottleneck")


class EmotionResNetConfig(EmotionClassifierConfig):
    r"""Sizes of an [`EmotionResNetForAudioClassification`].

    The default is a small network that trains on two CPU cores. The paper's ResNet-50 is
    `EmotionResNetConfig(embedding_size=64, hidden_sizes=(256, 512, 1024, 2048),
    depths=(3, 4, 6, 3), frame_strides=(1, 2, 2, 2), layer_type="bottleneck")`.

    Args:
        num_mel_bins: Mel bands of the input.
        embedding_size: Channels of the stem.
        hidden_sizes: Channels of each stage.
        depths: Residual blocks of each stage.
        frame_strides: By how much each stage shortens time, after the stem's 4. Frequency is halved
            by every stage but the first. All 1 when not given: heads then see 22 frames a second.
        layer_type: `"basic"` (two 3x3 convolutions) or `"bottleneck"` (1x1, 3x3, 1x1).
        attention_reduction: Channels are divided by this in the attention layer of each block.
        attention_size: Width of the hidden layer of the heads' attention.
        projection_size: Channels that the bands of the last stage are projected to.
        dropout: Dropout probability before the verdict of each head.
        score_temperature: Logits are divided by it in evaluation, so that scores are probabilities.
        kwargs: `id2label` or `label2id` (either gives the other) and whatever `PretrainedConfig`
            takes. Six emotions by default.

    Raises:
        ValueError: An unknown layer type, sizes that do not match, a dropout outside 0 to 1, or a
            temperature that is not positive.
    """

    model_type = "emotion-resnet"
    # So that `Trainer` hands logits alone to `compute_metrics`.
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["embeddings", "hidden_states", "attentions"]

    def __init__(
        self,
        num_mel_bins: int = 80,
        embedding_size: int = 16,
        hidden_sizes: tuple[int, ...] = (16, 32, 64, 96),
        depths: tuple[int, ...] = (1, 2, 2, 1),
        frame_strides: tuple[int, ...] | None = None,
        layer_type: str = "basic",
        attention_reduction: int = 8,
        attention_size: int = 64,
        projection_size: int = 256,
        dropout: float = 0.3,
        score_temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if layer_type not in LAYER_TYPES:
            raise ValueError(f"Bad layer_type {layer_type!r}, expected one of {list(LAYER_TYPES)}")
        if len(hidden_sizes) != len(depths):
            raise ValueError(
                f"hidden_sizes and depths must match, got {list(hidden_sizes)} and {list(depths)}"
            )
        frame_strides = (1,) * len(depths) if frame_strides is None else frame_strides
        if len(frame_strides) != len(depths):
            raise ValueError(
                f"frame_strides and depths must match, got {list(frame_strides)} and {list(depths)}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"Bad dropout {dropout}, expected 0 <= dropout < 1")
        self.num_mel_bins = num_mel_bins
        self.embedding_size = embedding_size
        self.hidden_sizes = list(hidden_sizes)
        self.depths = list(depths)
        self.frame_strides = list(frame_strides)
        self.layer_type = layer_type
        self.attention_reduction = attention_reduction
        self.attention_size = attention_size
        self.projection_size = projection_size
        self.dropout = dropout
        super().__init__(score_temperature, **kwargs)

    @property
    def num_bands(self) -> int:
        """Bands of the last feature map: the stem and every later stage halve them."""
        bands = self.num_mel_bins
        for _ in self.hidden_sizes:
            bands = -(-bands // 2)
        return bands

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding: mean and deviation of every projected channel."""
        return 2 * self.projection_size


EmotionResNetConfig.register_for_auto_class()
