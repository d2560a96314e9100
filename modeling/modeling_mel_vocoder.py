"""Waveforms from log-mel spectrograms: Griffin-Lim, a HiFi-GAN, or the source filtered or moved."""

import logging
from collections.abc import Callable
from functools import lru_cache, wraps
from math import ceil, log, prod
from typing import Any, TypeVar

import librosa
import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.torch_utils import randn_tensor
from transformers import FastSpeech2ConformerHifiGan, PretrainedConfig, SpeechT5HifiGan

from .prosody import Prosody, extract_prosody
from .psola import psola, time_map

METHODS = ("griffin_lim", "source_filter", "psola", "hifigan")
# Beyond this a filter only lifts noise, or removes what nobody hears any more.
MAX_GAIN_DB = 40.0
# Clips at full scale stay below 4; the limit keeps the exponential of a wild log-mel finite.
MAX_LOG_MEL = 12.0
# Updates that fit the first magnitudes to the log-mel; each Griffin-Lim iteration adds another.
FIT_ITERATIONS = 10
# Share of a guess from the log-mel alone in magnitudes of the source: what is 0 could not grow.
GUESS_SHARE = 1e-3
TINY = 1e-10

HIFIGANS = {
    "fastspeech2_conformer_hifigan": FastSpeech2ConformerHifiGan,
    "speecht5_hifigan": SpeechT5HifiGan,
}
# Both were trained on log10 of Slaney mels in this range, of STFT magnitudes with a window of 1024
# samples: ESPnet's recipe for LJSpeech (egs2/ljspeech/tts1) and SpeechT5FeatureExtractor.
HIFIGAN_N_FFT = 1024
HIFIGAN_FMIN = 80.0
HIFIGAN_FMAX = 7_600.0
# FastSpeech2ConformerHifiGanConfig does not name a rate; its training data, LJSpeech, has this one.
LJSPEECH_SAMPLING_RATE = 22_050

# diffusers warns at every `to(dtype)`, of modules to be kept in float32 even where there are none.
logging.getLogger("diffusers.models.modeling_utils").addFilter(
    lambda record: "should be kept in float32: []" not in record.getMessage()
)

Method = TypeVar("Method", bound=Callable[..., torch.Tensor])


def _in_full_precision(method: Method) -> Method:
    """Without gradients, and deaf to autocast: phases and gains in half precision are noise."""

    @wraps(method)
    @torch.no_grad()
    def computed(self: "MelVocoder", *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return computed  # type: ignore[return-value]


class MelVocoder(ModelMixin, ConfigMixin):
    r"""Turns log-mels of `EmotionFeatureExtractor`, not normalised, into waveforms, clip by clip.

    There is nothing to train: the settings and the mel filter bank are all that is saved. It
    computes in float32 on the device that it was moved to, whatever the type of its arguments and
    under autocast too; in half precision the bank is rounded, which is 0.1 % of the level at most.

    * `griffin_lim` obeys the log-mel most closely, with a source or without;
    * `filter_source` keeps all of the source that the log-mel does not contradict;
    * `psola` does so after it has moved the source's pitch and tempo;
    * `hifigan` sounds as natural as the weights that somebody else trained.

    Args:
        sampling_rate: Rate of log-mels and waveforms in Hz.
        n_fft: Samples of the (Hann) window and of the Fourier transform.
        hop_length: Samples between frames.
        num_mel_bins: Number of mel bands.
        fmin: Lowest frequency of the mel bank in Hz.
        fmax: Highest frequency of the mel bank in Hz; `None` is half the sampling rate.
        num_iterations: Iterations of Griffin-Lim.
        momentum: Of the fast Griffin-Lim algorithm; 0 is the original algorithm.
        mel_floor: Smallest mel magnitude of the front end. What is not above it counts as silence;
            it is about the quantisation noise of 16 bits.
    """

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 22_025,
        n_fft: int = 1024,
        hop_length: int = 256,
        num_mel_bins: int = 80,
        fmin: float = 0.0,
        fmax: float | None = None,
        num_iterations: int = 32,
        momentum: float = 0.99,
        mel_floor: float = 1e-5,
    ) -> None:
        super().__init__()
        bank = (sampling_rate, n_fft, num_mel_bins, fmin, fmax)
        # Persistent: diffusers leaves what is not in the file of weights on the meta device.
        self.register_buffer("mel_filters", torch.tensor(_mel_filters(*bank)))
        self.register_buffer("mel_interpolation", torch.tensor(_mel_interpolation(*bank)))

    @_in_full_precision
    def forward(
        self,
        log_mel: torch.Tensor,
        waveform: torch.Tensor | None = None,
        method: str = "griffin_lim",
        hifigan: FastSpeech2ConformerHifiGan | SpeechT5HifiGan | None = None,
        generator: torch.Generator | None = None,
        pitch_factor: np.ndarray | float | None = None,
        tempo_factor: np.ndarray | float | None = None,
        prosody: Prosody | None = None,
    ) -> torch.Tensor:
        """A waveform by any method, scaled down as a whole where its peak would exceed 1.

        Args:
            log_mel: `(frames, num_mel_bins)`, natural logarithms of mel magnitudes.
            waveform: The source `(samples,)` at `sampling_rate`, of as many frames;
                `"source_filter"` and `"psola"` must have it.
            method: One of `"griffin_lim"`, `"source_filter"`, `"psola"` and `"hifigan"`.
            hifigan: The model that `"hifigan"` needs.
            generator: Of the random phases of Griffin-Lim, for a result that can be repeated.
            pitch_factor: For `"psola"`, see there.
            tempo_factor: For `"psola"`.
            prosody: For `"psola"`.

        Returns:
            Samples `(samples,)`, float32, finite, -1 to 1, at the level that the log-mel asks for;
            as many as the source has (and the tempo asks for), `(frames - 1) * hop_length` without
            a source.

        Raises:
            ValueError: An unknown method, or contours for another than `"psola"`; no waveform for
                `"source_filter"` or `"psola"`; a log-mel or waveform of an impossible shape, with
                NaN or infinity, or of different lengths; factors out of range.
            TypeError: `"hifigan"` with no or another model.
        """
        if method not in METHODS:
            raise ValueError(f"Bad method {method!r}, expected one of {list(METHODS)}")
        moves = {"pitch_factor": pitch_factor, "tempo_factor": tempo_factor, "prosody": prosody}
        given = {name: move for name, move in moves.items() if move is not None}
        if given and method != "psola":
            raise ValueError(f"Got {sorted(given)} for method {method!r}, expected 'psola'")
        if method in ("source_filter", "psola"):
            if waveform is None:
                raise ValueError(f"Bad waveform None, expected the source of method {method!r}")
            moved = self.psola if method == "psola" else self.filter_source
            samples = moved(log_mel, waveform, **given)
        elif method == "hifigan":
            if waveform is not None:
                waveform = self._checked_waveform(waveform, len(log_mel))
            samples = self.hifigan(log_mel, hifigan, None if waveform is None else len(waveform))
        else:
            samples = self.griffin_lim(log_mel, waveform, generator)
        return samples / samples.abs().max().clamp(min=1)

    @_in_full_precision
    def griffin_lim(
        self,
        log_mel: torch.Tensor,
        waveform: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """A waveform with this log-mel, by the fast Griffin-Lim algorithm (Perraudin et al. 2013).

        Magnitudes are not known here, only their mels: so every iteration keeps the magnitudes that
        it arrived at as far as the log-mel allows, instead of going back to the first ones. On
        recorded speech that halves the error of the mels.

        Args:
            log_mel: `(frames, num_mel_bins)`.
            waveform: The source `(samples,)`, whose phases and fine structure to start from; the
                start is random without it.
            generator: Of the random phases.

        Returns:
            Samples `(samples,)`; as many as the source has, or `(frames - 1) * hop_length`.

        Raises:
            ValueError: As `forward`.
        """
        log_mel = self._checked_log_mel(log_mel)
        mel = self._mel(log_mel)
        if waveform is None:
            spectrum = self._magnitude(mel) * self._random_phase(len(mel), generator)
            return self._iterate(spectrum, mel, self._num_samples(log_mel))
        waveform = self._checked_waveform(waveform, len(log_mel))
        return self._iterate(self._source_spectrum(log_mel, waveform), mel, len(waveform))

    @_in_full_precision
    def filter_source(self, log_mel: torch.Tensor, waveform: torch.Tensor) -> torch.Tensor:
        """The source through a filter, smooth over frequency, from its own log-mel to this one.

        Gains are interpolated between bands and limited to 40 dB. A band of the source that is `x`
        dB above `mel_floor` is lifted by `x` dB at most: the quieter, the more of it is noise.

        Args:
            log_mel: `(frames, num_mel_bins)`.
            waveform: The source `(samples,)`.

        Returns:
            Samples `(samples,)`; the source itself where the log-mel is its own.

        Raises:
            ValueError: As `forward`.
        """
        log_mel = self._checked_log_mel(log_mel)
        waveform = self._checked_waveform(waveform, len(log_mel))
        spectrum = self._stft(waveform)
        log_gain = self._limited_gain(log_mel, self._log_mel(spectrum.abs()))
        return self._istft(spectrum * self._to_bins(log_gain).exp(), len(waveform))

    @_in_full_precision
    def psola(
        self,
        log_mel: torch.Tensor,
        waveform: torch.Tensor,
        pitch_factor: np.ndarray | float = 1.0,
        tempo_factor: np.ndarray | float = 1.0,
        prosody: Prosody | None = None,
    ) -> torch.Tensor:
        """The source with its pitch and tempo moved, then filtered as `filter_source` would.

        Moving is `psola.psola`'s, of the recording's own waveform. Gains are those from the
        source's own log-mel to this one; they follow the tempo.

        Args:
            log_mel: `(frames, num_mel_bins)`, on the source's frames.
            waveform: The source `(samples,)`.
            pitch_factor: What F0 is multiplied with, 0.5 to 2: a number, or one a frame.
            tempo_factor: How much faster it gets, 0.5 to 2: a number, or one a frame.
            prosody: Of the source, if it is known.

        Returns:
            Samples, as many as the tempo asks for; the source itself where the log-mel is its own
            and all factors are 1.

        Raises:
            ValueError: As `forward`.
        """
        log_mel = self._checked_log_mel(log_mel)
        waveform = self._checked_waveform(waveform, len(log_mel))
        rate, hop = self.config.sampling_rate, self.config.hop_length
        log_gain = self._limited_gain(log_mel, self._log_mel(self._stft(waveform).abs()))
        source = waveform.cpu().numpy()
        prosody = prosody or extract_prosody(source, rate, hop)
        moved = torch.from_numpy(psola(source, rate, prosody, pitch_factor, tempo_factor, hop))
        positions = torch.from_numpy(time_map(tempo_factor, len(source), hop))
        spectrum = self._stft(moved.to(self.device))
        gain = self._to_bins(_interpolate(log_gain, positions)).exp()
        return self._istft(spectrum * gain, len(moved))

    @_in_full_precision
    def hifigan(
        self,
        log_mel: torch.Tensor,
        model: FastSpeech2ConformerHifiGan | SpeechT5HifiGan | None,
        num_samples: int | None = None,
    ) -> torch.Tensor:
        """The waveform that a HiFi-GAN of transformers makes of this log-mel.

        The log-mel is converted to the rate, bands and logarithm that the model was trained with,
        and what comes out to our rate. Normalisation is the model's: it applies its `mean` and
        `scale` where `config.normalize_before` says so. A model with `normalize_before=False` gets
        plain log10 mels; transformers' conversion of ESPnet's joint models writes `False` and keeps
        no statistics, so give such a model its `mean` and `scale` if it was trained on z-scores.

        Args:
            log_mel: `(frames, num_mel_bins)`.
            model: Of `load_hifigan`, for example.
            num_samples: Samples to return, at most `hop_length` more than the default.

        Returns:
            Samples `(num_samples,)` at `sampling_rate`; `(frames - 1) * hop_length` by default.

        Raises:
            TypeError: Another model than the two.
            ValueError: As `forward`.
        """
        if not isinstance(model, (FastSpeech2ConformerHifiGan, SpeechT5HifiGan)):
            names = " or ".join(hifigan.__name__ for hifigan in HIFIGANS.values())
            raise TypeError(f"Bad model {type(model).__name__!r}, expected {names}")
        log_mel = self._checked_log_mel(log_mel)
        num_samples = self._num_samples(log_mel) if num_samples is None else num_samples
        rate = getattr(model.config, "sampling_rate", LJSPEECH_SAMPLING_RATE)
        features = self._hifigan_log_mel(log_mel, model.config, rate, num_samples)
        samples = model(features.to(model.device, model.dtype)).float().cpu().numpy()
        resampled = librosa.resample(samples, orig_sr=rate, target_sr=self.config.sampling_rate)
        return torch.from_numpy(resampled[:num_samples]).to(self.device)

    @staticmethod
    def match_level(waveform: np.ndarray, source: np.ndarray) -> np.ndarray:
        """A waveform `(samples,)` at its source's RMS, so that its level alone tells no emotion.

        It may exceed full scale by its peaks, as the source's level asks.
        """
        power = max(float(np.mean(np.square(waveform))), float(np.finfo(np.float32).tiny))
        return waveform * np.float32(np.sqrt(np.mean(np.square(source)) / power))

    @property
    def _filters(self) -> torch.Tensor:
        return self.mel_filters.float()

    def _checked_log_mel(self, log_mel: torch.Tensor) -> torch.Tensor:
        """The log-mel in float32 on our device, not above `MAX_LOG_MEL`."""
        bands = self.config.num_mel_bins
        if log_mel.ndim != 2 or log_mel.shape[1] != bands or len(log_mel) == 0:
            shape = tuple(log_mel.shape)
            raise ValueError(f"Bad log_mel of shape {shape}, expected (frames, {bands})")
        if not torch.isfinite(log_mel).all():
            raise ValueError("Bad log_mel with NaN or infinity, expected finite numbers")
        return log_mel.to(self.device, torch.float32).clamp(max=MAX_LOG_MEL)

    def _checked_waveform(self, waveform: torch.Tensor, frames: int) -> torch.Tensor:
        """The waveform in float32 on our device, if it has so many frames."""
        if waveform.ndim != 1 or len(waveform) == 0:
            raise ValueError(f"Bad waveform of shape {tuple(waveform.shape)}, expected (samples,)")
        expected = len(waveform) // self.config.hop_length + 1
        if frames != expected:
            raise ValueError(
                f"Bad log_mel of {frames} frames, expected {expected} for a waveform of "
                f"{len(waveform)} samples"
            )
        if not torch.isfinite(waveform).all():
            raise ValueError("Bad waveform with NaN or infinity, expected finite samples")
        return waveform.to(self.device, torch.float32)

    def _num_samples(self, log_mel: torch.Tensor) -> int:
        """Samples between the centres of the first and the last frame."""
        if len(log_mel) < 2:
            raise ValueError("Bad log_mel of 1 frame, expected 2 or more where there is no source")
        return (len(log_mel) - 1) * self.config.hop_length

    def _stft(self, waveform: torch.Tensor) -> torch.Tensor:
        """Spectrum `(frames, bins)`, complex, of samples `(samples,)`, as in the front end."""
        n_fft, hop_length = self.config.n_fft, self.config.hop_length
        window = torch.hann_window(n_fft, device=waveform.device)
        return torch.stft(
            waveform, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True
        ).T

    def _istft(self, spectrum: torch.Tensor, num_samples: int) -> torch.Tensor:
        """Samples `(num_samples,)` whose spectrum is nearest to this `(frames, bins)`."""
        n_fft, hop_length = self.config.n_fft, self.config.hop_length
        window = torch.hann_window(n_fft, device=spectrum.device)
        return torch.istft(spectrum.T, n_fft, hop_length, window=window, length=num_samples)

    def _log_mel(self, magnitude: torch.Tensor) -> torch.Tensor:
        """Log-mel `(frames, num_mel_bins)` of magnitudes `(frames, bins)`, as in the front end."""
        return (magnitude @ self._filters).clamp(min=self.config.mel_floor).log()

    def _mel(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Mel magnitudes, 0 at the floor: silence is to be silent, not quiet noise."""
        mel = log_mel.exp()
        # A hundredth above, since a float32 logarithm does not come back exactly.
        return torch.where(mel > 1.01 * self.config.mel_floor, mel, 0.0)

    def _to_bins(self, bands: torch.Tensor) -> torch.Tensor:
        """Values of bands `(frames, num_mel_bins)` interpolated to bins `(frames, bins)`."""
        return bands @ self.mel_interpolation.float()

    def _magnitude(self, mel: torch.Tensor) -> torch.Tensor:
        """Smooth magnitudes `(frames, bins)` with mels `(frames, num_mel_bins)`."""
        return self._fit(self._guess(mel), mel, FIT_ITERATIONS)

    def _guess(self, mel: torch.Tensor) -> torch.Tensor:
        """Magnitudes `(frames, bins)` that are about right, 0 where all bands near are."""
        return self._to_bins(mel / self._filters.sum(dim=0).clamp(min=TINY))

    def _fit(self, magnitude: torch.Tensor, mel: torch.Tensor, iterations: int) -> torch.Tensor:
        """Magnitudes `(frames, bins)` changed until their mels are these.

        These are the multiplicative updates of Lee & Seung (2001) for the Kullback-Leibler
        divergence, which nears quiet bands as fast as loud ones and stays nonnegative.
        """
        filters = self._filters
        coverage = filters.sum(dim=1)
        for _ in range(iterations):
            ratio = mel / (magnitude @ filters).clamp(min=TINY)
            correction = (ratio @ filters.T) / coverage.clamp(min=TINY)
            # No mel tells anything about bins outside the bank, the constant one at least.
            magnitude = magnitude * torch.where(coverage > 0, correction, 1.0)
        return magnitude

    def _random_phase(self, frames: int, generator: torch.Generator | None) -> torch.Tensor:
        """Complex numbers `(frames, bins)` of magnitude 1 and any angle, on our device."""
        shape = (frames, len(self.mel_filters), 2)
        normal = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        return torch.sgn(torch.view_as_complex(normal))

    def _limited_gain(self, log_mel: torch.Tensor, source_log_mel: torch.Tensor) -> torch.Tensor:
        """Natural logarithms of the gains `(frames, num_mel_bins)` of `filter_source`."""
        floor = log(self.config.mel_floor)
        limit = MAX_GAIN_DB / 20 * log(10)
        highest = (source_log_mel - floor).clamp(max=limit)
        return (log_mel.clamp(min=floor) - source_log_mel).clamp(min=-limit).minimum(highest)

    def _source_spectrum(self, log_mel: torch.Tensor, waveform: torch.Tensor) -> torch.Tensor:
        """The source's spectrum `(frames, bins)`, its magnitudes fitted to another log-mel."""
        spectrum = self._stft(waveform)
        mel = self._mel(log_mel)
        gain = self._to_bins(log_mel - self._log_mel(spectrum.abs())).exp()
        magnitude = spectrum.abs() * gain + GUESS_SHARE * self._guess(mel)
        return self._fit(magnitude, mel, FIT_ITERATIONS) * _phase(spectrum)

    def _iterate(self, spectrum: torch.Tensor, mel: torch.Tensor, num_samples: int) -> torch.Tensor:
        """Samples of fast Griffin-Lim from a first spectrum `(frames, bins)` with these mels."""
        previous = spectrum
        for _ in range(self.config.num_iterations):
            consistent = self._stft(self._istft(spectrum, num_samples))
            ahead = consistent + self.config.momentum * (consistent - previous)
            spectrum = self._fit(consistent.abs(), mel, iterations=1) * _phase(ahead)
            previous = consistent
        return self._istft(spectrum, num_samples)

    def _hifigan_log_mel(
        self, log_mel: torch.Tensor, config: PretrainedConfig, rate: int, num_samples: int
    ) -> torch.Tensor:
        """Log10 mels `(model frames, config.model_in_dim)` as a HiFi-GAN was trained on.

        The level stays: STFT magnitudes of a tone depend on the window's samples alone. Noise is
        1.4 dB too loud for a model at 16 kHz; no mel tells it from a tone.
        """
        ours, hop_length = self.config, prod(config.upsample_rates)
        seconds = num_samples / ours.sampling_rate
        frames = torch.arange(ceil(seconds * rate / hop_length)) * (hop_length / rate)
        bins = torch.arange(HIFIGAN_N_FFT // 2 + 1) * (rate / HIFIGAN_N_FFT)
        magnitude = self._magnitude(self._mel(log_mel))
        magnitude = _interpolate(magnitude, frames * ours.sampling_rate / ours.hop_length)
        magnitude = _interpolate(magnitude.T, bins * ours.n_fft / ours.sampling_rate).T
        filters = _mel_filters(rate, HIFIGAN_N_FFT, config.model_in_dim, HIFIGAN_FMIN, HIFIGAN_FMAX)
        # Our floor, not their 1e-10: recordings, which they learned from, are never that silent.
        mel = (magnitude @ torch.tensor(filters).to(magnitude)).clamp(min=ours.mel_floor)
        return mel.log10()


def load_hifigan(name_or_path: str) -> FastSpeech2ConformerHifiGan | SpeechT5HifiGan:
    """A trained HiFi-GAN for `MelVocoder.hifigan`, of the class that its configuration names.

    Args:
        name_or_path: A model on the Hub, e.g. `"microsoft/speecht5_hifigan"`, or a folder.

    Raises:
        ValueError: Its `model_type` is neither `"fastspeech2_conformer_hifigan"` nor
            `"speecht5_hifigan"`.
        OSError: There is no such model or folder.
    """
    settings, _ = PretrainedConfig.get_config_dict(name_or_path)
    model_type = settings.get("model_type")
    if model_type not in HIFIGANS:
        raise ValueError(
            f"Bad model_type {model_type!r} of {name_or_path!r}, expected one of {list(HIFIGANS)}"
        )
    return HIFIGANS[model_type].from_pretrained(name_or_path).eval()


def _phase(spectrum: torch.Tensor) -> torch.Tensor:
    """Complex numbers of magnitude 1, the angle of zeros being 0."""
    return torch.polar(torch.ones_like(spectrum.real), spectrum.angle())


def _interpolate(rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows `(positions, columns)` between the rows of a matrix, its ends held beyond them."""
    positions = positions.to(rows).clamp(0, len(rows) - 1)
    below = positions.floor().long()
    above = (below + 1).clamp(max=len(rows) - 1)
    return torch.lerp(rows[below], rows[above], (positions - below)[:, None])


@lru_cache(maxsize=4)
def _mel_filters(
    sampling_rate: int, n_fft: int, num_mel_bins: int, fmin: float, fmax: float | None
) -> np.ndarray:
    """Slaney mel filters `(bins, num_mel_bins)`, float32, those of the front end."""
    bank = librosa.filters.mel(
        sr=sampling_rate, n_fft=n_fft, n_mels=num_mel_bins, fmin=fmin, fmax=fmax
    )
    return bank.T.copy()


def _mel_interpolation(
    sampling_rate: int, n_fft: int, num_mel_bins: int, fmin: float, fmax: float | None
) -> np.ndarray:
    """Weights `(num_mel_bins, bins)`, float32, that interpolate between the bands' centres."""
    fmax = sampling_rate / 2 if fmax is None else fmax
    edges = librosa.mel_frequencies(num_mel_bins + 2, fmin=fmin, fmax=fmax)
    bins = librosa.fft_frequencies(sr=sampling_rate, n_fft=n_fft)
    weights = [np.interp(bins, edges[1:-1], band) for band in np.eye(num_mel_bins)]
    return np.array(weights, dtype=np.float32)
