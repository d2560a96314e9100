"""Log-mel front end shared by the classifier and the enhancer."""

from functools import lru_cache
from math import gcd
from typing import Any

import librosa
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


@lru_cache(maxsize=4)
def _spectrogram(n_fft: int, hop_length: int, device: str) -> torchaudio.transforms.Spectrogram:
    transform = torchaudio.transforms.Spectrogram(
        n_fft, hop_length=hop_length, power=1.0, pad_mode="constant"
    )
    return transform.to(device)


@lru_cache(maxsize=4)
def _mel_filters(
    sampling_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, device: str
) -> torch.Tensor:
    # torchaudio's own bank ends at `sample_rate // 2`, which is not half of the odd 22,025 Hz.
    bank = librosa.filters.mel(sr=sampling_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    return torch.from_numpy(bank.T.copy()).to(device)


class EmotionFeatureExtractor(SequenceFeatureExtractor):
    r"""Turns recordings into z-scored log-mel spectrograms and a mask, and back to log-mels.

    The defaults are those of Kim & Lee (2024): 22,025 Hz, 10 s, 80 mels, hop 256, window 1024,
    hence 861 frames. The spectrogram is `ln(max(mel magnitude, mel_floor))` with Slaney mels and
    constant padding, i.e. `librosa.feature.melspectrogram(power=1.0)`.

    Args:
        feature_size: Number of mel bands.
        sampling_rate: Rate in Hz that every recording is resampled to.
        padding_value: Value of padded frames, after normalisation.
        hop_length: Samples between frames.
        n_fft: Samples of the (Hann) window and of the Fourier transform.
        fmin: Lowest frequency of the mel bank in Hz.
        fmax: Highest frequency of the mel bank in Hz; `None` is half the sampling rate.
        max_seconds: Length that recordings are padded or cut to, in seconds.
        mel_floor: Smallest mel magnitude, so that silence has a logarithm.
        mean: Mean of the log-mels, one number or one per band (statistics of training data).
        std: Standard deviation of the log-mels, one number or one per band.
        corpus_statistics: `{corpus: {"mean": ..., "std": ...}}` of corpora that were recorded
            differently; used instead of `mean` and `std` when the corpus of a clip is named.
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012 (a transformers name)

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 22_025,
        padding_value: float = 0.0,
        hop_length: int = 256,
        n_fft: int = 1024,
        fmin: float = 0.0,
        fmax: float | None = None,
        max_seconds: float = 10.0,
        mel_floor: float = 1e-5,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        corpus_statistics: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.fmin = fmin
        self.fmax = fmax
        self.max_seconds = max_seconds
        self.mel_floor = mel_floor
        self.mean = mean
        self.std = std
        self.corpus_statistics = corpus_statistics or {}
        for statistics in ({"mean": mean, "std": std}, *self.corpus_statistics.values()):
            self._check_statistics(**statistics)

    @property
    def max_samples(self) -> int:
        """Samples of the longest clip."""
        return round(self.max_seconds * self.sampling_rate)

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip (861 for 10 s)."""
        return self.num_frames(self.max_samples)

    def num_frames(self, num_samples: int) -> int:
        """Frames that `num_samples` samples at `sampling_rate` give."""
        return num_samples // self.hop_length + 1

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = "max_length",
        truncation: bool = True,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
        device: str | torch.device = "cpu",
        corpus: str | None = None,
    ) -> BatchFeature:
        """Compute features of one clip or of a list of clips.

        Args:
            raw_speech: One clip, or a list of clips. A clip is a numpy array, tensor or list of
                floats of shape `(samples,)`, `(channels, samples)` or `(samples, channels)`;
                channels are averaged. Integers of 16 or 32 bits are PCM, scaled to -1 to 1.
            sampling_rate: Rate of the clips in Hz; the extractor's own when not given.
            padding: `"max_length"` (to `max_seconds`), `True` or `"longest"` (to the longest clip)
                or `False` (no padding, a list of arrays).
            truncation: Cut clips longer than `max_seconds`.
            return_attention_mask: Also return the mask of real frames.
            return_tensors: `"pt"`, `"np"` or `None`.
            device: Where to compute, e.g. `"cuda"`.
            corpus: Whose statistics to normalise with; the default ones when not given.

        Returns:
            `input_features` `(batch, frames, n_mels)` float32 and `attention_mask`
            `(batch, frames)` int, 1 for real frames.

        Raises:
            ValueError: A clip is empty, holds NaN or infinity or has an impossible shape or type;
                the sampling rate is outside 1 kHz to 768 kHz; an unknown corpus or padding.
        """
        rate = self._check_rate(sampling_rate)
        device = str(device)
        clips = [self._to_mono(clip, i) for i, clip in enumerate(_as_batch(raw_speech))]
        if truncation:
            # A second more than needed: resampling looks a few samples ahead.
            clips = [clip[: round((self.max_seconds + 1) * rate)] for clip in clips]
        clips = [self._resample(clip.to(device), rate) for clip in clips]
        if truncation:
            clips = [clip[: self.max_samples] for clip in clips]
        features = [self.normalize(x, corpus) for x in self._log_mels(clips)]
        return self.pad_features(features, padding, return_attention_mask, return_tensors)

    def normalize(self, log_mel: torch.Tensor, corpus: str | None = None) -> torch.Tensor:
        """Z-score log-mels of shape `(..., n_mels)` with the stored statistics."""
        mean, std = self._statistics(corpus, log_mel.device)
        return (log_mel - mean) / std

    def denormalize(self, features: torch.Tensor, corpus: str | None = None) -> torch.Tensor:
        """Undo `normalize`: z-scored features `(..., n_mels)` back to log-mels."""
        mean, std = self._statistics(corpus, features.device)
        return features * std + mean

    def set_statistics(
        self, mean: np.ndarray | float, std: np.ndarray | float, corpus: str | None = None
    ) -> None:
        """Store the statistics of training log-mels, one number or one per band.

        With a corpus they are that corpus' own; those of the first corpus are the default ones too.

        Raises:
            ValueError: A shape other than `()` or `(n_mels,)`, a mean that is not finite, or a
                standard deviation that is not positive. Nothing is stored then.
        """
        statistics = {
            "mean": np.asarray(mean, dtype=float).tolist(),
            "std": np.asarray(std, dtype=float).tolist(),
        }
        self._check_statistics(**statistics)
        if corpus is None or not self.corpus_statistics:
            self.mean, self.std = statistics["mean"], statistics["std"]
        if corpus is not None:
            self.corpus_statistics[corpus] = statistics

    def pad_features(
        self,
        features: list[torch.Tensor],
        padding: bool | str = True,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Make a batch of features `(frames, n_mels)`; arguments and result as of a call.

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
        shape = (len(features), frames, self.feature_size)
        batch = torch.full(shape, self.padding_value, device=features[0].device)
        mask = torch.zeros(shape[:2], dtype=torch.long, device=batch.device)
        for i, x in enumerate(features):
            batch[i, : len(x)] = x
            mask[i, : len(x)] = 1
        return {"input_features": batch, "attention_mask": mask}

    def _statistics(
        self, corpus: str | None, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        known = self.corpus_statistics
        if corpus is not None and corpus not in known:
            raise ValueError(f"Bad corpus {corpus!r}, expected one of {sorted(known)} or None")
        stored = {"mean": self.mean, "std": self.std} if corpus is None else known[corpus]
        mean, std = (
            torch.tensor(stored[name], dtype=torch.float32, device=device)
            for name in ("mean", "std")
        )
        return mean, std

    def _check_statistics(self, mean: float | list[float], std: float | list[float]) -> None:
        for name, values in (("mean", mean), ("std", std)):
            if np.shape(values) not in ((), (self.feature_size,)):
                raise ValueError(
                    f"Bad {name} of shape {np.shape(values)}, expected one number or "
                    f"{self.feature_size}"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"Bad {name} with NaN or infinity, expected finite numbers")
        if not (np.asarray(std) > 0).all():
            raise ValueError("Bad std with values of 0 or below, expected positive ones")

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

    def _log_mels(self, clips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Log-mels `(frames, n_mels)` of each clip, computed as one zero-padded batch."""
        device = str(clips[0].device)
        # The window reaches over a clip's end into zeros, alone or in a batch: equal numbers.
        batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        magnitude = _spectrogram(self.n_fft, self.hop_length, device)(batch)
        filters = _mel_filters(
            self.sampling_rate, self.n_fft, self.feature_size, self.fmin, self.fmax, device
        )
        # Half precision would round quiet bands away, whatever the caller runs the model in.
        with torch.autocast(torch.device(device).type, enabled=False):
            log_mel = (magnitude.transpose(1, 2) @ filters).clamp(min=self.mel_floor).log()
        return [x[: self.num_frames(len(clip))] for x, clip in zip(log_mel, clips, strict=True)]


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


EmotionFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
