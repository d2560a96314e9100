"""Log-mel front end shared by the classifier and the enhancer."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import librosa
import numpy as np
import torch
import torchaudio
from transformers.feature_extraction_utils import BatchFeature

from .calibration import belongs_to, calibration_groups, frame_statistics, with_prior
from .feature_extraction_speech import SpeechFeatureExtractor


@lru_cache(maxsize=4)
def _spectrogram(n_fft: int, hop_length: int, device: str) -> torchaudio.transforms.Spectrogram:
    transform = torchaudio.transforms.Spectrogram(
        n_fft, hop_length=hop_length, power=1.0, pad_mode="constant"
    )
    return transform.to(device)


@lru_cache(maxsize=4)
def mel_filters(
    sampling_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None, device: str
) -> torch.Tensor:
    """Slaney mels as a matrix `(n_fft // 2 + 1, n_mels)` for spectra of magnitudes."""
    # torchaudio's own bank ends at `sample_rate // 2`, which is not half of the odd 22,025 Hz.
    bank = librosa.filters.mel(sr=sampling_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    return torch.from_numpy(bank.T.copy()).to(device)


class EmotionFeatureExtractor(SpeechFeatureExtractor):
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
        mean: Mean of the log-mels of recordings of unknown origin, one number or one per band.
        std: Standard deviation of the log-mels, one number or one per band.
        corpus_statistics: `{name: {"mean": ..., "std": ...}}` of corpora, rooms and voices; used
            instead of `mean` and `std` when one is named (see `calibrate`).
    """

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
        super().__init__(feature_size, sampling_rate, padding_value, max_seconds, **kwargs)
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.fmin = fmin
        self.fmax = fmax
        self.mel_floor = mel_floor
        self.mean = mean
        self.std = std
        self.corpus_statistics = corpus_statistics or {}
        for statistics in ({"mean": mean, "std": std}, *self.corpus_statistics.values()):
            self._check_statistics(**statistics)

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
            corpus: Whose statistics to normalise with: a corpus, or a name of `calibrate`; those of
                recordings of unknown origin when not given.

        Returns:
            `input_features` `(batch, frames, n_mels)` float32 and `attention_mask`
            `(batch, frames)` int, 1 for real frames.

        Raises:
            ValueError: A clip is empty, holds NaN or infinity or has an impossible shape or type;
                the sampling rate is outside 1 kHz to 768 kHz; an unknown corpus or padding.
        """
        clips = self.clips(raw_speech, sampling_rate, truncation, device)
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

        Without a corpus they are those of recordings of unknown origin, the default.

        Raises:
            ValueError: A shape other than `()` or `(n_mels,)`, a mean that is not finite, or a
                standard deviation that is not positive. Nothing is stored then.
        """
        statistics = {
            "mean": np.asarray(mean, dtype=float).tolist(),
            "std": np.asarray(std, dtype=float).tolist(),
        }
        self._check_statistics(**statistics)
        if corpus is None:
            self.mean, self.std = statistics["mean"], statistics["std"]
        else:
            self.corpus_statistics[corpus] = statistics

    def calibrate(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        *,
        name: str,
        speakers: Iterable[str] | None = None,
    ) -> None:
        """Keep the statistics of unlabelled recordings of one room, or of one voice, under a name.

        `corpus=name` then normalises with them, and `save_pretrained` keeps them. Ten recordings of
        the person whose speech is to be classified, in whatever emotions, do most.

        Args:
            raw_speech: A list of clips, as in a call.
            sampling_rate: Rate of the clips in Hz; the extractor's own when not given.
            name: What to call the statistics; those of that name and its speakers are replaced.
            speakers: Speaker of each clip; each gets statistics under `name/speaker` as well.

        Raises:
            ValueError: No name, no clips, not one speaker for each, or a clip as in a call.
        """
        log_mels = self._log_mels(self.clips(raw_speech, sampling_rate))
        groups = calibration_groups(name, len(log_mels), speakers)
        self.forget(name)
        for group, indices in groups.items():
            own = frame_statistics(log_mels[index] for index in indices)
            mean, std = with_prior(own, self._statistics(None, own[0].device), len(indices))
            self.set_statistics(mean.numpy(), std.numpy(), group)

    @property
    def names(self) -> list[str]:
        """Corpora, rooms and voices that statistics are held for."""
        return sorted(self.corpus_statistics)

    def forget(self, name: str) -> None:
        """Drop the statistics of a name, and of the speakers under it."""
        kept = self.corpus_statistics.items()
        self.corpus_statistics = {n: value for n, value in kept if not belongs_to(n, name)}

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

    def _log_mels(self, clips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Log-mels `(frames, n_mels)` of each clip, computed as one zero-padded batch."""
        device = str(clips[0].device)
        # The window reaches over a clip's end into zeros, alone or in a batch: equal numbers.
        batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        magnitude = _spectrogram(self.n_fft, self.hop_length, device)(batch)
        filters = mel_filters(
            self.sampling_rate, self.n_fft, self.feature_size, self.fmin, self.fmax, device
        )
        # Half precision would round quiet bands away, whatever the caller runs the model in.
        with torch.autocast(torch.device(device).type, enabled=False):
            log_mel = (magnitude.transpose(1, 2) @ filters).clamp(min=self.mel_floor).log()
        return [x[: self.num_frames(len(clip))] for x, clip in zip(log_mel, clips, strict=True)]


EmotionFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
