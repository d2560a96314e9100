"""The network that extracts noise: given a recording, how does the same voice say it angrily?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import nn

from .change import Change
from .modeling_style_encoder import StyleEncoder
from .prosody import Prosody, extract_prosody
from .voice_rows import (
    PROSODY_ROWS,
    join_rows,
    mean_log_f0,
    on_frames,
    smooth_change,
    split_rows,
)

# How clearly an emotion is to be heard: not said, not so clearly, clearly.
CLARITIES = 3
CLARITY_UNSAID, UNCLEAR, CLEAR = range(CLARITIES)


class EmotionDenoiser(ModelMixin, ConfigMixin):
    """Denoises the rows of a voice (`voice_rows`) towards an emotion, beside a source's rows.

    A `UNet2DConditionModel` of diffusers over time alone: rows are its channels, and its
    convolutions are of 1 x 3. It sees the noisy rows and those of the source, which is the
    recording to be changed; it is told the emotion to aim at, the one that the source carries, how
    clearly and in the manner of which corpus to speak, each of which may be left unsaid (a learned
    embedding of its own); and attends to style tokens of the voice.

    Args:
        emotions: Names, in the order of the classifier's labels.
        corpora: Names of the training corpora.
        latent_channels: Channels of the autoencoder's latents.
        latent_bands: Their bands.
        unet_settings: Of `UNet2DConditionModel`, without those that follow from the others.
        style_settings: Of `StyleEncoder`.

    Raises:
        ValueError: No emotions, or one of them twice.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        emotions: Sequence[str],
        corpora: Sequence[str],
        latent_channels: int = 1,
        latent_bands: int = 20,
        unet_settings: Mapping[str, Any] | None = None,
        style_settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(set(emotions)) < len(emotions) or not emotions:
            raise ValueError(f"Bad emotions {list(emotions)}, expected one or more different ones")
        self.style_encoder = StyleEncoder(**(style_settings or {}))
        size = self.style_encoder.config.hidden_size
        # The last row of each is "unsaid", the first that of clarity.
        self.target = nn.Embedding(len(emotions) + 1, size)
        self.carried = nn.Embedding(len(emotions) + 1, size)
        self.manner = nn.Embedding(len(corpora) + 1, size)
        self.clarity = nn.Embedding(CLARITIES, size)
        self.num_rows = latent_channels * latent_bands + PROSODY_ROWS
        self.unet = UNet2DConditionModel(
            in_channels=2 * self.num_rows,
            out_channels=self.num_rows,
            cross_attention_dim=size,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=size,
            **(unet_settings or {}),
        )
        _convolve_time_alone(self.unet)

    @property
    def emotions(self) -> list[str]:
        """Names of the emotions that can be aimed at."""
        return list(self.config.emotions)

    def emotion_index(self, emotion: str | None) -> int:
        """Row of an emotion; of "unsaid" for `None`.

        Raises:
            ValueError: An unknown emotion; the message lists the known ones.
        """
        if emotion is None:
            return len(self.emotions)
        if emotion not in self.emotions:
            raise ValueError(f"Bad emotion '{emotion}', expected one of {self.emotions}")
        return self.emotions.index(emotion)

    def corpus_index(self, corpus: str | None) -> int:
        """Row of a corpus; of "unsaid" for `None` and for those that nothing was trained on."""
        corpora = list(self.config.corpora)
        return corpora.index(corpus) if corpus in corpora else len(corpora)

    def conditions(
        self,
        target: torch.Tensor,
        carried: torch.Tensor,
        corpus: torch.Tensor,
        clarity: torch.Tensor | None = None,
        intensity: float = 1.0,
    ) -> torch.Tensor:
        """What the denoiser is told, as one vector.

        Args:
            target: Index of the emotion to aim at, `(batch,)`.
            carried: Index of the emotion that the source carries.
            corpus: Index of the corpus whose manner of speaking is aimed at.
            clarity: `CLARITY_UNSAID`, `UNCLEAR` or `CLEAR` (as where it is not given).
            intensity: How far to go from "unsaid" (0) to the target, clearly (1), or beyond.

        Returns:
            `(batch, size)`.
        """
        if clarity is None:
            clarity = torch.full_like(target, CLEAR)
        nothing = self.target.weight[-1] + self.clarity.weight[CLARITY_UNSAID]
        aim = self.target(target) + self.clarity(clarity)
        return nothing + intensity * (aim - nothing) + self.carried(carried) + self.manner(corpus)

    def forward(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        source: torch.Tensor,
        style: torch.Tensor,
        conditions: torch.Tensor,
    ) -> torch.Tensor:
        """Predict what the scheduler's prediction type asks for.

        Args:
            noisy: Noisy rows `(batch, num_rows, length)`.
            timestep: Of the noise schedule, `(batch,)` or one for all.
            source: Rows of the recording to be changed, likewise; zeros where there is none.
            style: Tokens of `style_encoder`, `(batch, num_tokens, size)`.
            conditions: Of the method of that name.

        Returns:
            `(batch, num_rows, length)`.
        """
        image = torch.cat([noisy, source], dim=1)[:, :, None]
        return self.unet(
            image, timestep, encoder_hidden_states=style, class_labels=conditions
        ).sample[:, :, 0]

    @staticmethod
    def listen(waveform: np.ndarray, sampling_rate: int, hop_length: int) -> Prosody:
        """Prosody of a recording `(samples,)`; see `prosody.extract_prosody`."""
        return extract_prosody(waveform, sampling_rate, hop_length)

    @staticmethod
    def melody(prosody: Prosody) -> torch.Tensor:
        """Log F0 less its mean over what is voiced, `(frames,)`."""
        return torch.from_numpy(prosody.log_f0 - mean_log_f0(prosody))

    def join(
        self, latents: torch.Tensor, log_f0: torch.Tensor, log_tempo: torch.Tensor, stride: int
    ) -> torch.Tensor:
        """Rows `(num_rows, length)` of one recording; see `voice_rows.join_rows`."""
        return join_rows(latents, log_f0, log_tempo, stride)

    def latents(self, rows: torch.Tensor) -> torch.Tensor:
        """Latents `(batch, channels, bands, length)` of rows `(batch, num_rows, length)`."""
        return split_rows(rows, self.config.latent_channels)[0]

    def contours(self, rows: torch.Tensor, frames: int) -> torch.Tensor:
        """Log F0 and log tempo, `(batch, 2, frames)`, of rows `(batch, num_rows, length)`."""
        return on_frames(split_rows(rows, self.config.latent_channels)[1], frames)

    @staticmethod
    def smooth(change: torch.Tensor, log_mel: torch.Tensor) -> Change:
        """What is to be done to a recording; see `voice_rows.smooth_change`."""
        return smooth_change(change, log_mel)


def _convolve_time_alone(unet: nn.Module) -> None:
    """Replace convolutions of 3 x 3 by 1 x 3: of an image of height 1 they see no more."""
    for module in list(unet.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
                sizes = child.in_channels, child.out_channels
                flat = nn.Conv2d(*sizes, (1, 3), child.stride, (0, 1))  # type: ignore[arg-type]
                setattr(module, name, flat)
