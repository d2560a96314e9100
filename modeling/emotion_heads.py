"""One attentive head per emotion, on the feature maps of any network."""

import torch
import torch.nn.functional as F
from torch import nn

# Parameters of `EmotionHeads` with a row per emotion.
PER_EMOTION = ("attention.deviation.weight", "weight", "bias")


class EmotionHeadAttention(nn.Module):
    """Where each emotion's head looks: what all heads agree on, and how each deviates from it.

    Attention of its own from the start would let each head look for its emotion in every recording;
    so deviations start at zero, and weight decay keeps them small.

    Args:
        channels: Channels of the feature map.
        size: Width of the hidden layer.
        num_labels: Number of emotions.
    """

    def __init__(self, channels: int, size: int, num_labels: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, size, kernel_size=1)
        # A bias would shift a whole map, which its softmax ignores.
        self.common = nn.Conv2d(size, 1, kernel_size=1, bias=False)
        self.deviation = nn.Conv2d(size, num_labels, kernel_size=1, bias=False)

    def forward(
        self,
        hidden_state: torch.Tensor,
        mask: torch.Tensor,
        channel_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Maps `(batch, num_labels, bands, frames)`; each sums to 1 over real frames."""
        weight = _weighed(self.hidden.weight, channel_weights)
        hidden = F.conv2d(hidden_state, weight, self.hidden.bias).tanh()
        scores = self.common(hidden) + self.deviation(hidden)
        scores = scores.masked_fill(mask == 0, float("-inf"))
        return scores.flatten(2).softmax(dim=-1).view_as(scores)


class EmotionHeads(nn.Module):
    """One head per emotion, each with its own attention over time and frequency.

    The bands of a feature map are brought together by one projection, which knows where on the
    frequency axis a pattern lies; each head first weighs the bands of every frame by its own
    attention. Then it takes the mean and standard deviation over time, weighted by its attention
    too (attentive statistics, Okabe et al. 2018), and judges from those whether its emotion is
    present. All heads run as one batch of products.

    Args:
        channels: Channels of the feature map.
        bands: Its bands; 1 where there is no axis of frequency.
        num_labels: Number of emotions.
        attention_size: Width of the hidden layer of the attention.
        projection_size: Channels that the bands are projected to.
        dropout: Dropout probability before the verdict of each head.
    """

    def __init__(
        self,
        *,
        channels: int,
        bands: int,
        num_labels: int,
        attention_size: int,
        projection_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = EmotionHeadAttention(channels, attention_size, num_labels)
        self.projection = nn.Parameter(torch.empty(projection_size, channels, bands))
        self.frame_normalization = nn.BatchNorm1d(projection_size)
        self.normalization = nn.BatchNorm1d(2 * projection_size)
        self.weight = nn.Parameter(torch.empty(num_labels, 2 * projection_size))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden_state: torch.Tensor,
        mask: torch.Tensor,
        channel_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the heads say about a batch.

        Args:
            hidden_state: `(batch, channels, bands, frames)`.
            mask: `(batch, 1, 1, frames)`, 0 in padding.
            channel_weights: `(channels,)`, what every channel counts; all alike when not given. As
                if the hidden state were multiplied by them, but a third faster to train, since no
                gradient has to reach it.

        Returns:
            Logits `(batch, num_labels)`, embeddings `(batch, 2 * projection_size)` (the mean of
            what the heads saw) and attention `(batch, num_labels, bands, frames)`.
        """
        attention = self.attention(hidden_state, mask, channel_weights)
        frames = attention.sum(dim=2)
        band_weights = attention / frames.clamp(min=1e-6).unsqueeze(2)
        seen = self._project(hidden_state, band_weights, channel_weights)
        statistics = weighted_statistics(seen, frames)
        evidence = self.dropout(self.normalization(statistics.flatten(0, 1)).view_as(statistics))
        logits = torch.einsum("bec,ec->be", evidence, self.weight) + self.bias
        return logits, statistics.mean(dim=1), attention

    def _project(
        self,
        hidden_state: torch.Tensor,
        band_weights: torch.Tensor,
        channel_weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """What each head sees: `(b, c, f, t)` and `(b, e, f, t)` to `(b, e, size, t)`."""
        projection = _weighed(self.projection.unsqueeze(-1), channel_weights).squeeze(-1)
        projected = torch.einsum("bcft,scf->bsft", hidden_state, projection)
        if band_weights.shape[2] == 1:
            # Nothing to weigh: all heads see the same, which is computed once.
            seen = F.relu(self.frame_normalization(projected.squeeze(2)))
            return seen.unsqueeze(1).expand(-1, band_weights.shape[1], -1, -1)
        # Times the number of bands, so that even attention is a plain sum.
        weights = band_weights * band_weights.shape[2]
        seen = torch.einsum("bsft,beft->best", projected, weights)
        return F.relu(self.frame_normalization(seen.flatten(0, 1))).view_as(seen)


def _weighed(weight: torch.Tensor, channel_weights: torch.Tensor | None) -> torch.Tensor:
    """A weight `(out, channels, ., .)` for inputs whose channels count as they are told."""
    return weight if channel_weights is None else weight * channel_weights[:, None, None]


@torch.no_grad()
def initialize_heads(heads: EmotionHeads) -> None:
    """Start with even attention and small verdicts.

    Called by `_init_weights` of a model: transformers passes over modules that hold no parameters
    themselves.
    """
    nn.init.kaiming_normal_(heads.attention.hidden.weight, mode="fan_out", nonlinearity="relu")
    for values in (heads.attention.hidden.bias, heads.bias):
        if values is not None:
            nn.init.zeros_(values)
    nn.init.zeros_(heads.attention.common.weight)
    nn.init.zeros_(heads.attention.deviation.weight)
    heads.frame_normalization.reset_parameters()
    heads.normalization.reset_parameters()
    fan_in = heads.projection[0].numel()
    nn.init.normal_(heads.projection, std=(2 / fan_in) ** 0.5)
    nn.init.normal_(heads.weight, std=0.3 * heads.weight.shape[1] ** -0.5)


def weighted_statistics(hidden_state: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean and deviation over time: `(b, e, s, t)` and weights `(b, e, t)` to `(b, e, 2s)`."""
    mean = torch.einsum("best,bet->bes", hidden_state, weights)
    # Centred first: the difference of two large squares would be rounded away.
    centred = hidden_state - mean.unsqueeze(-1)
    variance = torch.einsum("best,bet->bes", centred.square(), weights)
    deviation = variance.clamp(min=1e-5).sqrt()
    return torch.cat([mean, deviation], dim=-1)
