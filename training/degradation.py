"""What happens to speech on its way to a model: rooms, microphones, lines and codecs.

Every function takes and returns a mono waveform `(samples,)` float32 of the same length, at a rate
in Hz. `degrade` draws several at random for training; benchmarks apply single ones at fixed sizes.
"""

from io import BytesIO

import numpy as np
import scipy.signal
import soundfile
import soxr

from .config import DegradationConfig

# One decibel of amplitude, in natural logarithm.
NEPERS_PER_DB = np.log(10) / 20
# Quieter than one step of 16 bits: there is no level to relate noise to.
SILENCE_RMS = 1e-6
EQUALISER_KNOTS = 6
# 60 dB of power, in natural logarithm of amplitude.
SPEED_OF_DECAY = 3 * np.log(10)
# Constant bit rates in kbit/s that libsndfile spreads its compression level over.
MP3_BIT_RATES = {"MPEG-1": (32, 320), "MPEG-2": (8, 160)}
MP3_SAMPLING_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MPEG_1_LOWEST = 32_000
# Longest delay of an MP3 encoder and decoder, in samples.
CODEC_DELAY = 3_000


def degrade(
    wave: np.ndarray, rate: int, config: DegradationConfig, generator: np.random.Generator
) -> np.ndarray:
    """Room, microphone, noise, line and codec, in the order in which sound meets them."""
    uniform, happens = generator.uniform, lambda p: generator.random() < p
    if happens(config.reverb_probability):
        wave = add_reverb(wave, rate, uniform(*config.reverb_seconds), generator)
    if config.equaliser:
        wave = equalise(wave, uniform(-config.equaliser, config.equaliser, EQUALISER_KNOTS))
    if happens(config.noise_probability):
        wave = add_noise(wave, uniform(*config.noise_snr), generator, slope=uniform(0, 2))
    if happens(config.band_probability):
        wave = limit_band(wave, rate, uniform(50, 300), uniform(3_300, 7_000))
    if happens(config.codec_probability):
        wave = compress_mp3(wave, rate, float(np.exp(uniform(np.log(16), np.log(64)))))
    return change_level(wave, uniform(-config.level, config.level)) if config.level else wave


def change_level(wave: np.ndarray, decibels: float) -> np.ndarray:
    """Louder or softer, without clipping: floating point has room."""
    return (wave * np.exp(decibels * NEPERS_PER_DB)).astype(np.float32)


def add_noise(
    wave: np.ndarray, snr: float, generator: np.random.Generator, slope: float = 0.0
) -> np.ndarray:
    """Add Gaussian noise of a signal-to-noise ratio in dB over the whole recording.

    Args:
        wave: Samples; silence is returned as it is.
        snr: Signal-to-noise ratio, in dB.
        generator: Source of the noise.
        slope: Power falls with this power of frequency: 0 white, 1 pink, 2 brown.
    """
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
    if level < SILENCE_RMS:
        return wave
    noise = generator.standard_normal(len(wave))
    if slope:
        spectrum = np.fft.rfft(noise)
        spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
        noise = np.fft.irfft(spectrum, len(wave))
    noise *= level * np.exp(-snr * NEPERS_PER_DB) / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return (wave + noise).astype(np.float32)


def equalise(wave: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Filter with gains in dB at equal steps of the square root of frequency, zero phase."""
    if not len(wave):
        return wave
    spectrum = np.fft.rfft(wave)
    position = np.sqrt(np.linspace(0, 1, len(spectrum)))
    curve = np.interp(position, np.linspace(0, 1, len(gains)), gains)
    return np.fft.irfft(spectrum * np.exp(curve * NEPERS_PER_DB), len(wave)).astype(np.float32)


def limit_band(wave: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """Band-pass between two frequencies in Hz (Butterworth, 4th order); telephone: 300 to 3400."""
    if not len(wave):
        return wave
    edges = [low, min(high, 0.49 * rate)]
    sections = scipy.signal.butter(4, edges, btype="bandpass", fs=rate, output="sos")
    return scipy.signal.sosfilt(sections, wave).astype(np.float32)


def add_reverb(
    wave: np.ndarray,
    rate: int,
    seconds: float,
    generator: np.random.Generator,
    direct_to_reverberant: float = 3.0,
) -> np.ndarray:
    """Put a recording into a room: noise that decays exponentially follows the direct sound.

    Polack's model (1988) of the late field, which starts after 2 ms.

    Args:
        wave: Samples.
        rate: Their rate in Hz.
        seconds: Time in which the reverberation falls by 60 dB.
        generator: Source of the room.
        direct_to_reverberant: Ratio of the energies, in dB.
    """
    if not len(wave):
        return wave
    time = np.arange(round(seconds * rate)) / rate
    tail = generator.standard_normal(len(time)) * np.exp(-SPEED_OF_DECAY * time / seconds)
    tail[: round(0.002 * rate)] = 0
    tail *= np.exp(-direct_to_reverberant * NEPERS_PER_DB) / max(np.linalg.norm(tail), 1e-12)
    tail[0] = 1
    return scipy.signal.fftconvolve(wave, tail)[: len(wave)].astype(np.float32)


def compress_mp3(wave: np.ndarray, rate: int, kbit_per_second: float) -> np.ndarray:
    """Encode as MP3 at a constant bit rate and decode again, with libsndfile.

    Louder than full scale is turned down before and up again after. Rates that MP3 does not have
    are raised to the next one that it has. The codec's delay is taken back.
    """
    if not len(wave):
        return wave
    coded_rate = min((r for r in MP3_SAMPLING_RATES if r >= rate), default=MP3_SAMPLING_RATES[-1])
    lowest, highest = MP3_BIT_RATES["MPEG-1" if coded_rate >= MPEG_1_LOWEST else "MPEG-2"]
    level = float(np.clip((highest - kbit_per_second) / (highest - lowest), 0, 0.999))
    peak = max(1.0, float(np.abs(wave).max()))
    sound = np.pad(soxr.resample(wave / peak, rate, coded_rate), (0, CODEC_DELAY))
    file = BytesIO()
    soundfile.write(
        file, sound, coded_rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level
    )
    decoded, _ = soundfile.read(BytesIO(file.getvalue()), dtype="float32")
    decoded = soxr.resample(_without_delay(decoded, sound), coded_rate, rate)
    padded = np.pad(decoded[: len(wave)], (0, max(0, len(wave) - len(decoded))))
    return (peak * padded).astype(np.float32)


def _without_delay(decoded: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """libsndfile takes some encoders' delay back and not others': it is heard where it is."""
    similarity = scipy.signal.correlate(decoded, sound, method="fft")[len(sound) - 1 :]
    return decoded[int(similarity[:CODEC_DELAY].argmax()) :]
