"""Voice and delivery of an utterance, as a few tokens."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class StyleConvLayer(nn.Module):
    """Convolution over frames, normalised frame by frame, so that padding changes nothing."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv1d(in_channels, out_channels, 5, stride, padding=2)
        self.normalization = nn.LayerNorm(out_channels)

    def forward(
        self, hidden_state: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(batch, channels, frames)` and mask `(batch, 1, frames)`, shortened by the stride."""
        mask = mask[..., :: self.stride]
        hidden_state = self.convolution(hidden_state).transpose(1, 2)
        hidden_state = F.gelu(self.normalization(hidden_state)).transpose(1, 2)
        return hidden_state * mask, mask


class StyleEncoder(ModelMixin, ConfigMixin):
    """Style tokens of an utterance: convolutions, then learned queries that attend to its frames.

    Like the style tokens of Wang et al. (2018), but every token attends to the utterance itself.
    That the tokens do not carry the emotion past the emotion embedding is a matter of training:
    there they mostly come from another utterance of the speaker, with whatever emotion it has.

    Args:
        num_mel_bins: Mel bands of the features.
        hidden_size: Channels of the convolutions, and length of a token.
        num_tokens: Tokens for an utterance.
        num_heads: Heads of the attention.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        num_mel_bins: int = 80,
        hidden_size: int = 128,
        num_tokens: int = 8,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                StyleConvLayer(num_mel_bins, hidden_size, stride=2),
                StyleConvLayer(hidden_size, hidden_size, stride=2),
                StyleConvLayer(hidden_size, hidden_size, stride=2),
            ]
        )
        self.queries = nn.Parameter(torch.randn(num_tokens, hidden_size) * hidden_size**-0.5)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        self.normalization = nn.LayerNorm(hidden_size)

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode a batch of utterances.

        Args:
            input_features: Z-scored log-mels `(batch, frames, num_mel_bins)`.
            attention_mask: `(batch, frames)`, 1 for real frames, which come first.

        Returns:
            Tokens `(batch, num_tokens, hidden_size)`, the same however much is padded.
        """
        if attention_mask is None:
            attention_mask = input_features.new_ones(input_features.shape[:2])
        mask = attention_mask[:, None].to(input_features.dtype)
        hidden_state = input_features.transpose(1, 2) * mask
        for layer in self.layers:
            hidden_state, mask = layer(hidden_state, mask)
        frames = hidden_state.transpose(1, 2)
        queries = self.queries.to(frames.dtype).expand(len(frames), -1, -1)
        tokens, _ = self.attention(
            queries, frames, frames, key_padding_mask=mask[:, 0] == 0, need_weights=False
        )
        return self.normalization(tokens + queries)
