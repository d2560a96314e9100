"""The emotion that the enhancer aims at, as one vector."""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class EmotionEncoder(ModelMixin, ConfigMixin):
    """Turns emotions, and how the recogniser hears them, into the denoiser's class embedding.

    An emotion is a learned embedding plus a projection of a vector of the recogniser: in training
    that of the recording itself, so that the denoiser learns what each direction of the
    recogniser's space sounds like; later the emotion's prototype, the mean over training speakers.
    "No emotion" is learned as well (classifier-free guidance, Ho & Salimans 2022).

    Args:
        emotions: Names, in the order of the recogniser's labels.
        vector_dim: Length of the recogniser's emotion vectors.
        embedding_dim: Length of the embedding that the denoiser receives.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self, emotions: Sequence[str], vector_dim: int = 512, embedding_dim: int = 128
    ) -> None:
        super().__init__()
        if len(set(emotions)) < len(emotions) or not emotions:
            raise ValueError(f"Bad emotions {list(emotions)}, expected one or more different ones")
        self.emotions = tuple(emotions)
        # The last row is "no emotion".
        self.embedding = nn.Embedding(len(emotions) + 1, embedding_dim)
        self.projection = nn.Linear(vector_dim, embedding_dim, bias=False)
        self.register_buffer("vector_mean", torch.zeros(vector_dim))
        self.register_buffer("vector_std", torch.ones(vector_dim))
        self.register_buffer("prototypes", torch.zeros(len(emotions), vector_dim))

    def set_prototypes(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Store what the recogniser's vectors `(n, vector_dim)` of training speakers look like.

        Raises:
            ValueError: Vectors of another length, or an emotion without one.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.vector_mean):
            expected = f"(n, {len(self.vector_mean)})"
            raise ValueError(f"Bad vectors of shape {tuple(vectors.shape)}, expected {expected}")
        missing = [name for i, name in enumerate(self.emotions) if not (labels == i).any()]
        if missing:
            raise ValueError(f"No vectors of {missing}, expected some of every emotion")
        self.vector_mean.copy_(vectors.mean(dim=0))
        self.vector_std.copy_(vectors.std(dim=0, correction=0).clamp(min=1e-4))
        means = [vectors[labels == i].mean(dim=0) for i in range(len(self.emotions))]
        self.prototypes.copy_(torch.stack(means))

    def index(self, emotion: str) -> int:
        """Row of an emotion.

        Raises:
            ValueError: An unknown emotion; the message lists the known ones.
        """
        if emotion not in self.emotions:
            raise ValueError(f"Bad emotion '{emotion}', expected one of {list(self.emotions)}")
        return self.emotions.index(emotion)

    def forward(
        self,
        emotions: torch.Tensor,
        vectors: torch.Tensor | None = None,
        intensity: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """Embed a batch of emotions.

        Args:
            emotions: Indices `(batch,)`; `len(self.emotions)` is "no emotion".
            vectors: The recogniser's vectors `(batch, vector_dim)`; a row of NaN, or `None`, is
                "not heard".
            intensity: How far to go from "no emotion" (0) to the emotion (1), or beyond; one
                number or `(batch,)`.

        Returns:
            `(batch, embedding_dim)`.
        """
        nothing = self.embedding.weight[-1]
        offset = self.embedding(emotions) - nothing
        if vectors is not None:
            heard = (vectors - self.vector_mean) / self.vector_std
            offset = offset + self.projection(torch.nan_to_num(heard).to(offset.dtype))
        intensity = torch.as_tensor(intensity, dtype=offset.dtype, device=offset.device)
        return nothing + intensity.reshape(-1, 1) * offset
