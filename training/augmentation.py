"""Changes of recordings that leave their emotion as it is, drawn from a given generator."""

from functools import lru_cache

import librosa
import numpy as np

from .config import AugmentationConfig

# One decibel of amplitude, in natural logarithm.
NEPERS_PER_DB = np.log(10) / 20
FILTER_KNOTS = 5
# A recording at the floor of 16-bit silence takes no noise: there is no level to relate it to.
QUIETEST_DB = -120.0


def augment_log_mel(
    log_mel: np.ndarray,
    config: AugmentationConfig,
    generator: np.random.Generator,
    *,
    sampling_rate: int,
) -> np.ndarray:
    """Change tempo, pitch, level, colour and noise of a log-mel spectrogram.

    Working on the spectrogram keeps tempo and pitch apart without a phase vocoder, costs little,
    and is what the cached features allow.

    Args:
        log_mel: Natural logarithm of mel magnitudes `(frames, n_mels)`, not normalised.
        config: How far to go.
        generator: Source of all randomness.
        sampling_rate: Rate in Hz that the mels were computed at.

    Returns:
        `(new_frames, n_mels)`.
    """
    uniform = generator.uniform
    tempo, pitch = (
        np.exp(uniform(-config.tempo, config.tempo)),
        uniform(-config.pitch, config.pitch),
    )
    if generator.random() >= config.warp_probability:
        tempo, pitch = 1.0, 0.0
    log_mel = _warp_time(log_mel, tempo) if tempo != 1 else log_mel
    log_mel = _warp_frequency(log_mel, np.exp(pitch), sampling_rate) if pitch else log_mel
    if config.level or config.filter:
        level = uniform(-config.level, config.level)
        gains = level + _random_filter(config.filter, log_mel.shape[1], generator)
        log_mel = log_mel + gains * NEPERS_PER_DB
    if generator.random() < config.noise_probability:
        log_mel = _add_noise(log_mel, uniform(*config.noise_snr), generator)
    return log_mel.astype(np.float32)


def augment_waveform(
    wave: np.ndarray, config: AugmentationConfig, generator: np.random.Generator
) -> np.ndarray:
    """Change speed, level and noise of a waveform `(samples,)`, for models that hear waveforms.

    Speed moves tempo and pitch together, by at most the smaller of the two settings that is not 0.
    """
    reach = min(filter(None, (config.tempo, config.pitch)), default=0.0)
    if reach:
        speed = np.exp(generator.uniform(-reach, reach))
        positions = np.arange(0, len(wave) - 1, speed)
        wave = np.interp(positions, np.arange(len(wave)), wave)
    wave = wave * np.exp(generator.uniform(-config.level, config.level) * NEPERS_PER_DB)
    if generator.random() < config.noise_probability:
        snr = generator.uniform(*config.noise_snr)
        rms = np.sqrt(np.mean(np.square(wave)))
        wave = wave + rms * np.exp(-snr * NEPERS_PER_DB) * generator.standard_normal(len(wave))
    return wave.astype(np.float32)


def mask_spectrogram(
    features: np.ndarray,
    config: AugmentationConfig,
    generator: np.random.Generator,
    *,
    frames_per_second: float,
) -> np.ndarray:
    """SpecAugment (Park et al. 2019): parts of z-scored features `(frames, n_mels)` become 0."""
    features = features.copy()
    frames, bands = features.shape
    widest = round(config.frequency_mask * bands)
    # Never more than a fifth of a clip, so that short ones keep their voice.
    longest = min(round(config.time_mask * frames_per_second), frames // 5)
    for _ in range(config.masks):
        start, width = _span(bands, widest, generator)
        features[:, start : start + width] = 0
        start, width = _span(frames, longest, generator)
        features[start : start + width] = 0
    return features


def _span(length: int, longest: int, generator: np.random.Generator) -> tuple[int, int]:
    width = int(generator.integers(0, longest + 1))
    return int(generator.integers(0, length - width + 1)), width


def _warp_time(log_mel: np.ndarray, tempo: float) -> np.ndarray:
    frames = len(log_mel)
    positions = np.arange(0, frames - 1 + 1e-6, tempo)
    left = positions.astype(int)
    right = np.minimum(left + 1, frames - 1)
    weight = (positions - left)[:, None]
    return log_mel[left] * (1 - weight) + log_mel[right] * weight


def _warp_frequency(log_mel: np.ndarray, factor: float, sampling_rate: int) -> np.ndarray:
    """Move what sounds at `f` to `f / factor` (vocal tract length perturbation)."""
    bands = log_mel.shape[1]
    centres = _mel_centres(bands, sampling_rate)
    positions = np.interp(centres * factor, centres, np.arange(bands))
    left = positions.astype(int)
    right = np.minimum(left + 1, bands - 1)
    weight = positions - left
    return log_mel[:, left] * (1 - weight) + log_mel[:, right] * weight


@lru_cache(maxsize=4)
def _mel_centres(bands: int, sampling_rate: int) -> np.ndarray:
    return librosa.mel_frequencies(bands + 2, fmin=0.0, fmax=sampling_rate / 2)[1:-1]


def _random_filter(reach: float, bands: int, generator: np.random.Generator) -> np.ndarray:
    """Gains in dB `(bands,)`: straight lines between a few random knots (Nam et al. 2022)."""
    knots = generator.uniform(-reach, reach, size=FILTER_KNOTS)
    return np.interp(np.linspace(0, 1, bands), np.linspace(0, 1, FILTER_KNOTS), knots)


def _add_noise(log_mel: np.ndarray, snr: float, generator: np.random.Generator) -> np.ndarray:
    """Add white noise of the given signal-to-noise ratio in dB; powers add up."""
    power = 2 * log_mel
    level = np.log(np.mean(np.exp(power)))
    if level < 2 * QUIETEST_DB * NEPERS_PER_DB:
        return log_mel
    # Power of a band of noise over a few bins scatters by about 4 dB, and has a mean of 1.
    scatter = generator.standard_normal(log_mel.shape) - 0.5
    noise = level - 2 * snr * NEPERS_PER_DB + scatter
    return np.logaddexp(power, noise) / 2
