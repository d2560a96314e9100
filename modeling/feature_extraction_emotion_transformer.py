"""Front end of the classifier on a pretrained encoder: one level, then the features it takes."""

from typing import Any

import torch
import transformers
from transformers import AutoFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .feature_extraction_speech import SpeechFeatureExtractor

# Loud stretches are measured over windows of so many seconds, and this share of them is louder.
WINDOW_SECONDS = 0.025
LOUD_SHARE = 0.05
# Shorter clips are padded with silence: front ends need a few windows.
LEAST_SECONDS = 0.1
# Quieter is silence, which no gain makes speech of.
SILENCE_RMS = 1e-5


class EmotionTransformerFeatureExtractor(SpeechFeatureExtractor):
    r"""Turns recordings into the features that a pretrained encoder takes, without padding.

    Recordings are first brought to one level, so that the distance of a microphone or its gain
    means nothing. On recordings of unseen speakers this cost nothing: what is loud about anger is
    in the spectrum too.

    Args:
        encoder: Dictionary of the encoder's own feature extractor.
        level: Level of the loud stretches of a recording, in dB below full scale; `None` leaves
            the level as it is.
        feature_size: Numbers per step of the features; 1 for encoders that hear samples.
        sampling_rate: Rate in Hz that the encoder hears.
        padding_value: Value of padded steps.
        max_seconds: Length that recordings are cut to, in seconds.
        kwargs: Whatever `SequenceFeatureExtractor` takes.

    Raises:
        ValueError: A feature extractor that transformers does not have.
    """

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        level: float | None = -20.0,
        feature_size: int = 80,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        max_seconds: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size, sampling_rate, padding_value, max_seconds, **kwargs)
        self.encoder = encoder or {"feature_extractor_type": "WhisperFeatureExtractor"}
        self.level = level
        self._of_encoder = _build(self.encoder)

    @classmethod
    def from_encoder(
        cls, name_or_path: str, revision: str | None = None, **settings: Any
    ) -> "EmotionTransformerFeatureExtractor":
        """The front end of a pretrained encoder: a Hub id or folder, and own settings.

        Raises:
            OSError: No such model.
        """
        of_encoder = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        encoder = of_encoder.to_dict()
        return cls(
            encoder={k: v for k, v in encoder.items() if k != "mel_filters"},
            feature_size=_features(of_encoder, torch.zeros(of_encoder.sampling_rate)).shape[-1],
            sampling_rate=of_encoder.sampling_rate,
            **settings,
        )

    @property
    def max_frames(self) -> int:
        """Steps of the longest clip."""
        return len(_features(self._of_encoder, torch.zeros(self.max_samples)))

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = "longest",
        truncation: bool = True,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
        device: str | torch.device = "cpu",
    ) -> BatchFeature:
        """Compute features of one clip or of a list of clips.

        Args:
            raw_speech: One clip, or a list of clips. A clip is a numpy array, tensor or list of
                floats of shape `(samples,)`, `(channels, samples)` or `(samples, channels)`;
                channels are averaged. Integers of 16 or 32 bits are PCM, scaled to -1 to 1.
            sampling_rate: Rate of the clips in Hz; the extractor's own when not given.
            padding: `True` or `"longest"` (to the longest clip), `"max_length"` (to `max_seconds`)
                or `False` (no padding, a list of arrays).
            truncation: Cut clips longer than `max_seconds`.
            return_attention_mask: Also return the mask of real steps.
            return_tensors: `"pt"`, `"np"` or `None`.
            device: Where the features are put.

        Returns:
            `input_features` `(batch, steps, feature_size)` float32 and `attention_mask`
            `(batch, steps)` int, 1 for real steps.

        Raises:
            ValueError: A clip is empty, holds NaN or infinity or has an impossible shape or type;
                the sampling rate is outside 1 kHz to 768 kHz; an unknown padding.
        """
        clips = self.clips(raw_speech, sampling_rate, truncation)
        # One by one: in a batch an encoder's window would reach from a clip into padding.
        features = [_features(self._of_encoder, self.to_level(clip)).to(device) for clip in clips]
        return self.pad_features(features, padding, return_attention_mask, return_tensors)

    def to_level(self, clip: torch.Tensor) -> torch.Tensor:
        """A clip `(samples,)` whose loud stretches have `level`; silence stays as it is."""
        if self.level is None:
            return clip
        window = min(round(WINDOW_SECONDS * self.sampling_rate), len(clip))
        windows = clip[: len(clip) // window * window].view(-1, window)
        loud = windows.square().mean(dim=1).sqrt().quantile(1 - LOUD_SHARE)
        return clip if loud < SILENCE_RMS else clip * (10 ** (self.level / 20) / loud)

    def to_dict(self) -> dict[str, Any]:
        """All settings; the encoder's feature extractor is among them as a dictionary."""
        return {k: v for k, v in super().to_dict().items() if k != "_of_encoder"}


def _build(settings: dict[str, Any]) -> Any:
    options = {k: v for k, v in settings.items() if k != "feature_extractor_type"}
    name = settings.get("feature_extractor_type")
    kind = getattr(transformers, str(name), None)
    if kind is None:
        raise ValueError(f"Bad feature_extractor_type {name!r}, expected one of transformers")
    return kind(**options)


def _features(extractor: Any, clip: torch.Tensor) -> torch.Tensor:
    """Features `(steps, size)` of one clip as an encoder's own feature extractor makes them."""
    rate = extractor.sampling_rate
    # Whisper's would pad to 30 s.
    clip = torch.nn.functional.pad(clip, (0, max(0, round(LEAST_SECONDS * rate) - len(clip))))
    padding = {"padding": "longest"} if hasattr(extractor, "n_fft") else {}
    output = extractor(clip.cpu().numpy(), sampling_rate=rate, return_tensors="pt", **padding)
    if "input_values" in output:
        return output["input_values"][0].unsqueeze(-1)
    features = output["input_features"][0]
    return features.T if hasattr(extractor, "n_fft") else features


EmotionTransformerFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
