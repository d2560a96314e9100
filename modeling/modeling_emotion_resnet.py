"""A residual network with attention and one attentive head per emotion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_emotion_resnet import EmotionResNetConfig
from .emotion_heads import PER_EMOTION, EmotionHeads, initialize_heads

# Parameters of the whole network with a row per emotion.
ROWS_PER_EMOTION = tuple(f"heads.{name}" for name in PER_EMOTION)


@dataclass
class EmotionResNetOutput(ModelOutput):
    """Output of [`EmotionResNetForAudioClassification`].

    Args:
        loss: Cross-entropy, when labels are given.
        logits: `(batch, num_labels)`.
        embeddings: `(batch, config.embedding_dim)`, the mean of what the heads saw: the emotion
            vector that conditions the enhancer.
        hidden_states: The stem's and each stage's output `(batch, channels, bands, frames)`.
        attentions: One map `(batch, num_labels, bands, frames)`: where each emotion's head looks;
            each map sums to 1.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class EmotionResNetConvLayer(nn.Module):
    """Convolution, batch normalisation and activation, zero in padded frames.

    Takes and returns the hidden state `(batch, channels, bands, frames)` and its mask
    `(batch, 1, 1, frames)`, both shortened by the stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | tuple[int, int] = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.frame_stride = stride if isinstance(stride, int) else stride[1]
        # A convolution of one position sees what its stride leaves, so that this can come before
        # it: in channels-last order oneDNN's crashes in training with a stride (PyTorch 2.11).
        self.step = stride if kernel_size == 1 else 1
        stride = 1 if kernel_size == 1 else stride
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.normalization = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU() if activation else nn.Identity()

    def forward(
        self, hidden_state: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's output and the mask of its frames."""
        if self.step not in (1, (1, 1)):
            hidden_state = F.avg_pool2d(hidden_state, kernel_size=1, stride=self.step)
        hidden_state = self.activation(self.normalization(self.convolution(hidden_state)))
        if self.frame_stride > 1:
            # Not a slice, whose length exported graphs cannot tell to be that of the convolution.
            frames = torch.arange(hidden_state.shape[-1], device=mask.device)
            mask = mask.index_select(-1, frames * self.frame_stride)
        # In the precision of autocast: a float mask would make floats of everything.
        return hidden_state * mask.to(hidden_state.dtype), mask


class EmotionResNetAttention(nn.Module):
    """Channel attention from the mean over real frames (squeeze and excitation, Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 4)
        self.squeeze = nn.Conv2d(channels, squeezed, kernel_size=1)
        self.excite = nn.Conv2d(squeezed, channels, kernel_size=1)

    def forward(self, hidden_state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The hidden state with every channel weighed between 0 and 1."""
        # Means, not sums, which half precision cannot hold; padded frames are zero.
        real = mask.mean(dim=(2, 3), keepdim=True)
        mean = hidden_state.mean(dim=(2, 3), keepdim=True) / real
        return hidden_state * self.excite(F.relu(self.squeeze(mean))).sigmoid()


class EmotionResNetBlock(nn.Module):
    """Residual block whose branch ends in an attention layer."""

    def __init__(
        self,
        config: EmotionResNetConfig,
        in_channels: int,
        out_channels: int,
        stride: tuple[int, int],
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_branch(config.layer_type, in_channels, out_channels, stride))
        self.attention = EmotionResNetAttention(out_channels, config.attention_reduction)
        self.shortcut = None
        if stride != (1, 1) or in_channels != out_channels:
            self.shortcut = EmotionResNetConvLayer(
                in_channels, out_channels, kernel_size=1, stride=stride, activation=False
            )

    def forward(
        self, hidden_state: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's output and the mask of its frames."""
        residual = hidden_state if self.shortcut is None else self.shortcut(hidden_state, mask)[0]
        for layer in self.layers:
            hidden_state, mask = layer(hidden_state, mask)
        hidden_state = self.attention(hidden_state, mask)
        return F.relu(hidden_state + residual), mask


class EmotionResNetModel(nn.Module):
    """The trunk: a stem, then stages of residual blocks.

    The stem shrinks time by 4 but frequency by 2 only: harmonics lie close together, and how they
    move tells emotions apart. Later stages shrink frequency, and time as the configuration says.
    """

    def __init__(self, config: EmotionResNetConfig) -> None:
        super().__init__()
        self.stem = EmotionResNetConvLayer(1, config.embedding_size, kernel_size=7, stride=(2, 4))
        sizes = [config.embedding_size, *config.hidden_sizes]
        self.stages = nn.ModuleList(
            nn.ModuleList(
                EmotionResNetBlock(
                    config,
                    in_channels=sizes[i] if j == 0 else sizes[i + 1],
                    out_channels=sizes[i + 1],
                    stride=(2 if i > 0 else 1, config.frame_strides[i]) if j == 0 else (1, 1),
                )
                for j in range(depth)
            )
            for i, depth in enumerate(config.depths)
        )

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Outputs of the stem and each stage, and the mask `(batch, 1, 1, frames)` of the last."""
        mask = attention_mask[:, None, None, :].to(input_features.dtype)
        hidden_state = input_features.transpose(1, 2).unsqueeze(1) * mask
        hidden_state, mask = self.stem(hidden_state, mask)
        hidden_states = [hidden_state]
        for stage in self.stages:
            for block in stage.children():
                hidden_state, mask = block(hidden_state, mask)
            hidden_states.append(hidden_state)
        return tuple(hidden_states), mask


class EmotionResNetForAudioClassification(PreTrainedModel):
    """Names the emotion in log-mel spectrograms.

    A ResNet (He et al. 2016) with an attention layer in every residual block, as in Kim & Lee
    (2024), and one attentive head per emotion. Padding is invisible in evaluation: a clip has the
    same logits however much it is padded. In training, batch statistics count padded positions, so
    train on crops that are full or nearly so.
    """

    config_class = EmotionResNetConfig
    base_model_prefix = "emotion_resnet"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def __init__(self, config: EmotionResNetConfig) -> None:
        super().__init__(config)
        self.emotion_resnet = EmotionResNetModel(config)
        self.heads = EmotionHeads(
            channels=config.hidden_sizes[-1],
            bands=config.num_bands,
            num_labels=config.num_labels,
            attention_size=config.attention_size,
            projection_size=config.projection_size,
            dropout=config.dropout,
        )
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> EmotionResNetOutput | tuple[torch.Tensor, ...]:
        """Classify a batch.

        Args:
            input_features: Z-scored log-mels `(batch, frames, num_mel_bins)`.
            attention_mask: `(batch, frames)`, 1 for real frames, which come first; all are real
                when not given.
            labels: Class indices `(batch,)`, or class probabilities `(batch, num_labels)`.
            output_hidden_states: Also return the output of the stem and of each stage.
            output_attentions: Also return where each emotion's head looks.
            return_dict: `False` for a plain tuple. These three are the configuration's by default.

        Raises:
            ValueError: Features of another number of bands, or a clip without a real frame.
        """
        config = self.config
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        if output_attentions is None:
            output_attentions = config.output_attentions
        attention_mask = self._check(input_features, attention_mask)
        hidden_states, mask = self.emotion_resnet(input_features, attention_mask)
        # Softmax and variance want the weights' precision when autocast ran the trunk in half.
        with torch.autocast(input_features.device.type, enabled=False):
            hidden_state = hidden_states[-1].to(self.heads.weight.dtype)
            logits, embeddings, attention = self.heads(hidden_state, mask)
        if not self.training:
            logits = logits / config.score_temperature
        output = EmotionResNetOutput(
            loss=None if labels is None else F.cross_entropy(logits, labels),
            logits=logits,
            embeddings=embeddings,
            hidden_states=hidden_states if output_hidden_states else None,
            attentions=(attention,) if output_attentions else None,
        )
        return_dict = config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def select_emotions(self, emotions: Sequence[str]) -> "EmotionResNetForAudioClassification":
        """A copy of this model with the heads of `emotions` only, in that order.

        Raises:
            ValueError: An emotion that this model has no head for, one named twice, or none.
        """
        if not emotions or len(set(emotions)) < len(emotions):
            raise ValueError(f"Bad emotions {list(emotions)}, expected one or more different ones")
        unknown = [name for name in emotions if name not in self.config.label2id]
        if unknown:
            known = list(self.config.label2id)
            raise ValueError(f"No head for {unknown}, expected emotions among {known}")
        rows = torch.tensor([self.config.label2id[name] for name in emotions])
        settings = self.config.to_dict() | {
            "id2label": dict(enumerate(emotions)),
            "label2id": {name: i for i, name in enumerate(emotions)},
        }
        model = type(self)(self.config_class.from_dict(settings))
        state = self.state_dict()
        for name, value in state.items():
            if name in ROWS_PER_EMOTION:
                state[name] = value[rows.to(value.device)]
        model.load_state_dict(state)
        return model.to(self.device, self.dtype).train(self.training)

    def _check(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        bands = self.config.num_mel_bins
        if input_features.ndim != 3 or input_features.shape[-1] != bands:
            raise ValueError(
                f"Bad input_features of shape {tuple(input_features.shape)}, expected "
                f"(batch, frames, {bands})"
            )
        if attention_mask is None:
            return input_features.new_ones(input_features.shape[:2])
        # A look at the values would break the graph of an export or a compilation.
        if not torch.compiler.is_compiling() and not attention_mask[:, 0].all():
            raise ValueError("Bad attention_mask, expected a real frame at the start of each clip")
        return attention_mask

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()
        elif isinstance(module, EmotionHeads):
            initialize_heads(module)


def _branch(
    layer_type: str, in_channels: int, out_channels: int, stride: tuple[int, int]
) -> list[EmotionResNetConvLayer]:
    layer = EmotionResNetConvLayer
    if layer_type == "basic":
        return [
            layer(in_channels, out_channels, stride=stride),
            layer(out_channels, out_channels, activation=False),
        ]
    narrow = out_channels // 4
    return [
        layer(in_channels, narrow, kernel_size=1),
        layer(narrow, narrow, stride=stride),
        layer(narrow, out_channels, kernel_size=1, activation=False),
    ]


EmotionResNetForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
