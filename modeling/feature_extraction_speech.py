"""What the front ends of all classifiers share: recordings as mono clips at one sampling rate."""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import soxr
import torch
import torchaudio
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

MAX_CHANNELS = 8
SAMPLING_RATE_RANGE = (1_000, 768_000)
# torchaudio's kernels have so many weights: 48 kHz needs 2 million, 16,001 Hz would fill 14 GB.
MAX_RESAMPLING_KERNEL = 10_000_000
PADDINGS = (False, True, "longest", "max_length")
PCM_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}


@lru_cache(maxsize=16)
def _resampler(orig_freq: int, new_freq: int, device: str) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(orig_freq, new_freq).to(device)


class SpeechFeatureExtractor(SequenceFeatureExtractor):
    """Base of feature extractors that take recordings of any rate and make batches of features.

    Args:
        feature_size: Numbers per step of the features.
        sampling_rate: Rate in Hz that every recording is resampled to.
        padding_value: Value of padded steps.
        max_seconds: Length that recordings are cut to, in seconds.
        kwargs: Whatever `SequenceFeatureExtractor` takes.
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012 (a transformers name)

    def __init__(
        self,
        feature_size: int,
        sampling_rate: int,
        padding_value: float = 0.0,
        max_seconds: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.max_seconds = max_seconds

    @property
    def max_samples(self) -> int:
        """Samples of the longest clip."""
        return round(self.max_seconds * self.sampling_rate)

    @property
    def max_frames(self) -> int:
        """Steps of the longest clip, which `padding="max_length"` pads to."""
        raise NotImplementedError

    def clips(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        truncation: bool = True,
        device: str | torch.device = "cpu",
    ) -> list[torch.Tensor]:
        """Mono clips `(samples,)` in -1 to 1 at the extractor's rate, from one clip or a list.

        Raises:
            ValueError: A clip is empty, holds NaN or infinity or has an impossible shape or type,
                or the sampling rate is outside 1 kHz to 768 kHz.
        """
        rate = self._check_rate(sampling_rate)
        clips = [self._to_mono(clip, i) for i, clip in enumerate(_as_batch(raw_speech))]
        if truncation:
            # A second more than needed: resampling looks a few samples ahead.
            clips = [clip[: round((self.max_seconds + 1) * rate)] for clip in clips]
        clips = [self._resample(clip.to(device), rate) for clip in clips]
        return [clip[: self.max_samples] for clip in clips] if truncation else clips

    def pad_features(
        self,
        features: list[torch.Tensor],
        padding: bool | str = True,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Make a batch of features `(steps, size)`.

        Args:
            features: One tensor a clip.
            padding: `"max_length"` (to `max_seconds`), `True` or `"longest"` (to the longest clip)
                or `False` (no padding, a list of arrays).
            return_attention_mask: Also return the mask of real steps.
            return_tensors: `"pt"`, `"np"` or `None`.

        Returns:
            `input_features` `(batch, steps, size)` float32 and `attention_mask` `(batch, steps)`
            int, 1 for real steps.

        Raises:
            ValueError: An unknown padding.
        """
        if padding not in PADDINGS:
            raise ValueError(f"Bad padding {padding!r}, expected one of {list(PADDINGS)}")
        if padding is False:
            arrays = [x.cpu().numpy() for x in features]
            masks = [np.ones(len(x), dtype=np.int64) for x in arrays]
            data: dict[str, Any] = {"input_features": arrays, "attention_mask": masks}
        else:
            frames = max(len(x) for x in features)
            if padding == "max_length":
                frames = max(frames, self.max_frames)
            data = self._padded(features, frames)
            if return_tensors != "pt":
                data = {name: value.cpu().numpy() for name, value in data.items()}
        if not return_attention_mask:
            del data["attention_mask"]
        return BatchFeature(data, tensor_type=return_tensors)

    def _padded(self, features: list[torch.Tensor], frames: int) -> dict[str, torch.Tensor]:
        shape = (len(features), frames, features[0].shape[1])
        batch = torch.full(shape, self.padding_value, device=features[0].device)
        mask = torch.zeros(shape[:2], dtype=torch.long, device=batch.device)
        for i, x in enumerate(features):
            batch[i, : len(x)] = x
            mask[i, : len(x)] = 1
        return {"input_features": batch, "attention_mask": mask}

    def _check_rate(self, sampling_rate: int | None) -> int:
        if sampling_rate is None:
            return self.sampling_rate
        low, high = SAMPLING_RATE_RANGE
        if not low <= sampling_rate <= high:
            raise ValueError(f"Bad sampling_rate {sampling_rate}, expected {low} to {high} Hz")
        return int(sampling_rate)

    def _to_mono(self, clip: Any, index: int) -> torch.Tensor:
        wave = _as_float(clip, index)
        if wave.numel() == 0:
            raise ValueError(f"Clip {index} is empty, expected at least one sample")
        if wave.ndim == 2 and min(wave.shape) <= MAX_CHANNELS:
            wave = wave.mean(dim=int(wave.shape[0] > wave.shape[1]))
        if wave.ndim != 1:
            raise ValueError(
                f"Bad shape {tuple(wave.shape)} of clip {index}, expected (samples,) or at most "
                f"{MAX_CHANNELS} channels; give a batch as a list of clips"
            )
        if not torch.isfinite(wave).all():
            raise ValueError(f"Clip {index} holds NaN or infinite samples, expected finite ones")
        return wave

    def _resample(self, wave: torch.Tensor, rate: int) -> torch.Tensor:
        if rate == self.sampling_rate:
            return wave
        if rate * self.sampling_rate // gcd(rate, self.sampling_rate) ** 2 > MAX_RESAMPLING_KERNEL:
            resampled = soxr.resample(wave.cpu().numpy(), rate, self.sampling_rate)
            return torch.from_numpy(resampled).to(wave)
        return _resampler(rate, self.sampling_rate, str(wave.device))(wave)


def _as_batch(raw_speech: Any) -> list[Any]:
    """A list of clips from one clip or a list of clips."""
    if not isinstance(raw_speech, (list, tuple)):
        return [raw_speech]
    if not raw_speech:
        raise ValueError("Got an empty list, expected at least one clip")
    return [list(raw_speech)] if np.ndim(raw_speech[0]) == 0 else list(raw_speech)


def _as_float(clip: Any, index: int) -> torch.Tensor:
    """Samples of a clip as float32, integers as the PCM that they are."""
    # A copy: torch takes neither the negative strides of `clip[::-1]` nor read-only arrays.
    wave = clip.detach() if isinstance(clip, torch.Tensor) else torch.tensor(np.array(clip))
    if wave.is_floating_point():
        return wave.to(torch.float32)
    if wave.dtype not in PCM_FULL_SCALE:
        raise ValueError(
            f"Bad type {wave.dtype} of clip {index}, expected floating point, int16 or int32"
        )
    return wave.to(torch.float32) / PCM_FULL_SCALE[wave.dtype]
