"""A classifier that hears samples: front end, statistics, network and softmax in one graph.

For programs that have neither transformers nor PyTorch: `torch.export` and ONNX take it whole.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WhisperFeatureExtractor

from .feature_extraction_emotion import mel_filters
from .feature_extraction_emotion_transformer import (
    LEAST_SECONDS,
    LOUD_SHARE,
    SILENCE_RMS,
    WINDOW_SECONDS,
)

# Of Whisper's log-mels: the smallest power, and how far below the loudest they end (log10).
WHISPER_FLOOR = 1e-10
WHISPER_RANGE = 8.0


class WaveformClassifier(nn.Module):
    """Probabilities of emotions from samples, as the pipeline gives them.

    No step depends on values, so that it can be exported; lengths and batches are free, and padding
    is never heard, whatever stands in it.

    Args:
        model: An emotion classifier; a copy is made, in single precision, on the CPU.
        feature_extractor: Its feature extractor.
        corpus: Whose statistics to normalise with: a corpus, or a name of `calibrate`; those of
            recordings of unknown origin when not given.

    Raises:
        ValueError: A corpus that the classifier holds no statistics of, a model that is not of this
            project, or a front end other than mels and Whisper's.
    """

    def __init__(self, model: Any, feature_extractor: Any, corpus: str | None = None) -> None:
        super().__init__()
        self.front_end = _build_front_end(feature_extractor, corpus)
        self.model = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
        # Statistics of an encoder's frames are the model's, those of mels the front end's.
        self.in_model = hasattr(model, "statistics_of")
        if self.in_model:
            self.register_buffer("statistics", self.model.statistics_of(corpus).clone())

    def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Classify a batch of recordings.

        Args:
            waveforms: `(batch, samples)` float32 in -1 to 1, at the front end's sampling rate; what
                goes beyond `max_seconds` is cut.
            lengths: `(batch,)` int64, samples of each recording, which come first.

        Returns:
            Probabilities `(batch, num_labels)` in the order of the labels.
        """
        features, mask = self.front_end(waveforms, lengths)
        options = {"statistics": self.statistics} if self.in_model else {}
        return self.model(features, mask, **options).logits.softmax(dim=-1)


class SpectralFrontEnd(nn.Module):
    """What front ends on spectra share: cutting to length, and the Fourier transform.

    Args:
        filters: Matrix of mels `(n_fft // 2 + 1, n_mels)`.
        max_samples: Samples of the longest clip.
        hop_length: Samples between frames.
    """

    turns: torch.Tensor
    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, filters: torch.Tensor, max_samples: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft = 2 * (len(filters) - 1)
        self.max_samples, self.hop_length = max_samples, hop_length
        # All cosines and sines of a transform are among these; a matrix of them would be larger
        # than a small network.
        angles = torch.arange(self.n_fft, dtype=torch.float64) * (2 * math.pi / self.n_fft)
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()]).float())
        self.register_buffer("window", torch.hann_window(self.n_fft))
        self.register_buffer("filters", filters)

    def cut(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, min_samples: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms of `min_samples` to `max_samples`, zero in padding, and lengths that fit."""
        given = waveforms.shape[1]
        samples = torch.sym_max(torch.sym_min(given, self.max_samples), min_samples)
        position = torch.arange(samples, device=waveforms.device)
        lengths = torch.minimum(lengths, torch.tensor(given)).clamp(1, self.max_samples)
        cut = F.pad(waveforms, (0, min_samples)).index_select(1, position)
        # Not a product: what stands in padding may be no number.
        return torch.where(position < lengths.unsqueeze(1), cut, 0.0), lengths

    def power(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Spectra `(batch, frames, bins)` of clips that half a window was put before and behind.

        By a convolution: of runtimes' own transforms some are slow, and wrong in the fourth digit,
        at sizes that are no powers of 2.
        """
        sample = torch.arange(self.n_fft, device=waveforms.device)
        frequency = torch.arange(self.n_fft // 2 + 1, device=waveforms.device)
        turn = (frequency.unsqueeze(1) * sample) % self.n_fft
        basis = (self.turns[:, turn] * self.window).flatten(0, 1).unsqueeze(1)
        spectrum = F.conv1d(waveforms.unsqueeze(1), basis, stride=self.hop_length)
        return spectrum.unflatten(1, (2, -1)).square().sum(dim=1).transpose(1, 2)


class MelFrontEnd(SpectralFrontEnd):
    """What [`EmotionFeatureExtractor`] does clip by clip, for a batch at once.

    Raises:
        ValueError: A corpus that the extractor holds no statistics of.
    """

    def __init__(self, extractor: Any, corpus: str | None) -> None:
        filters = mel_filters(
            extractor.sampling_rate,
            extractor.n_fft,
            extractor.feature_size,
            extractor.fmin,
            extractor.fmax,
            "cpu",
        )
        super().__init__(filters, extractor.max_samples, extractor.hop_length)
        self.extractor, self.corpus = extractor, corpus
        extractor.normalize(torch.zeros(extractor.feature_size), corpus)

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Z-scored log-mels `(batch, frames, n_mels)` and their mask `(batch, frames)`."""
        waveforms, lengths = self.cut(waveforms, lengths)
        half = self.n_fft // 2
        mel = self.power(F.pad(waveforms, (half, half))).sqrt() @ self.filters
        log_mel = mel.clamp(min=self.extractor.mel_floor).log()
        mask = _mask(log_mel, lengths // self.hop_length + 1)
        return self.extractor.normalize(log_mel, self.corpus), mask


class WhisperFrontEnd(SpectralFrontEnd):
    """What [`EmotionTransformerFeatureExtractor`] does for Whisper, for a batch at once.

    Raises:
        ValueError: A front end of another encoder.
    """

    def __init__(self, extractor: Any, corpus: str | None = None) -> None:
        whisper = extractor._of_encoder
        if not isinstance(whisper, WhisperFeatureExtractor):
            raise ValueError(
                f"Bad front end of type '{type(whisper).__name__}', expected that of Whisper, "
                "the one encoder whose features can stand in a graph"
            )
        filters = torch.from_numpy(whisper.mel_filters).float()
        max_samples = min(extractor.max_samples, whisper.n_samples)
        super().__init__(filters, max_samples, whisper.hop_length)
        self.level = extractor.level
        self.level_window = round(WINDOW_SECONDS * extractor.sampling_rate)
        self.min_samples = round(LEAST_SECONDS * extractor.sampling_rate)

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels `(batch, steps, n_mels)` at one level, and their mask `(batch, steps)`."""
        waveforms, lengths = self.cut(waveforms, lengths, self.min_samples)
        waveforms = self._to_level(waveforms, lengths)
        lengths = lengths.clamp(min=self.min_samples)
        power = self.power(self._mirrored(waveforms, lengths))[:, :-1]
        log_mel = (power @ self.filters).clamp(min=WHISPER_FLOOR).log10()
        mask = _mask(log_mel, lengths // self.hop_length)
        heard = log_mel.masked_fill(mask.unsqueeze(-1) == 0, float("-inf"))
        log_mel = log_mel.maximum(heard.amax(dim=(1, 2), keepdim=True) - WHISPER_RANGE)
        return (log_mel + 4) / 4, mask

    def _to_level(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """As `EmotionTransformerFeatureExtractor.to_level`."""
        if self.level is None:
            return waveforms
        size = self.level_window
        windows = F.pad(waveforms, (0, size - 1)).unfold(1, size, size)
        # A clip that is shorter than a window is its only one.
        rms = (windows.square().sum(dim=2) / lengths.clamp(max=size).unsqueeze(1)).sqrt()
        loud = _quantile(rms, (lengths // size).clamp(min=1).unsqueeze(1), 1 - LOUD_SHARE)
        gain = 10 ** (self.level / 20) / loud.clamp(min=SILENCE_RMS)
        return waveforms * torch.where(loud < SILENCE_RMS, 1.0, gain)

    def _mirrored(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """With half a window before and behind each clip, mirrored at its own two ends."""
        half = self.n_fft // 2
        position = torch.arange(waveforms.shape[1] + 2 * half, device=lengths.device) - half
        last = lengths.unsqueeze(1) - 1
        return waveforms.gather(1, (last - (last - position.abs()).abs()).clamp(min=0))


FRONT_ENDS: dict[str, Any] = {
    "EmotionFeatureExtractor": MelFrontEnd,
    "EmotionTransformerFeatureExtractor": WhisperFrontEnd,
}


def _build_front_end(extractor: Any, corpus: str | None) -> nn.Module:
    # By name: a model that brought its own code has classes of its own.
    name = type(extractor).__name__
    if name not in FRONT_ENDS:
        raise ValueError(f"Bad feature extractor '{name}', expected one of {list(FRONT_ENDS)}")
    return FRONT_ENDS[name](extractor, corpus)


def _mask(features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """1 for real steps of features `(batch, steps, size)`, 0 in padding."""
    steps = torch.arange(features.shape[1], device=features.device)
    return (steps < lengths.unsqueeze(1)).long()


def _quantile(values: torch.Tensor, counts: torch.Tensor, share: float) -> torch.Tensor:
    """As `torch.quantile` of the first `counts` `(batch, 1)` of each row of `values`."""
    index = torch.arange(values.shape[1], device=values.device)
    ordered = values.masked_fill(index >= counts, float("inf")).sort(dim=1).values
    rank = share * (counts - 1)
    low, high = (ordered.gather(1, place.long()) for place in (rank.floor(), rank.ceil()))
    return low + (high - low) * (rank - rank.floor())
