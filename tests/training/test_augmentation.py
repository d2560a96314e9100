import librosa
import numpy as np
import pytest

from training.augmentation import augment_log_mel, augment_waveform, mask_spectrogram
from training.config import AugmentationConfig

RATE = 22_025
FRAMES, BANDS = 120, 80
STRONG = AugmentationConfig(
    tempo=0.2, pitch=0.12, level=6.0, filter=3.0, noise_probability=0.5, masks=2
)


def decibels(log_magnitude):
    return 20 / np.log(10) * log_magnitude


@pytest.fixture
def log_mel():
    return np.random.default_rng(0).normal(-4, 1.5, (FRAMES, BANDS)).astype(np.float32)


@pytest.fixture
def wave():
    return (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def augment(log_mel, seed=0, **settings):
    config = AugmentationConfig(**settings)
    return augment_log_mel(log_mel, config, np.random.default_rng(seed), sampling_rate=RATE)


def augment_wave(wave, seed=0, **settings):
    return augment_waveform(wave, AugmentationConfig(**settings), np.random.default_rng(seed))


def mask(features, seed=0, **settings):
    config = AugmentationConfig(**settings)
    return mask_spectrogram(features, config, np.random.default_rng(seed), frames_per_second=86.0)


def test_nothing_changes_by_default(log_mel, wave):
    np.testing.assert_array_equal(augment(log_mel), log_mel)
    np.testing.assert_array_equal(augment_wave(wave), wave)
    np.testing.assert_array_equal(mask(log_mel), log_mel)


def test_a_seed_decides_everything(log_mel, wave):
    for change, example in ((augment, log_mel), (augment_wave, wave), (mask, log_mel)):
        settings = vars(STRONG)
        np.testing.assert_array_equal(
            change(example, 1, **settings), change(example, 1, **settings)
        )
        other = change(example, 2, **settings)
        assert other.shape != example.shape or not np.array_equal(
            other, change(example, 1, **settings)
        )


def test_input_is_left_alone(log_mel, wave):
    mel_before, wave_before = log_mel.copy(), wave.copy()
    for seed in range(3):
        augment(log_mel, seed, **vars(STRONG))
        augment_wave(wave, seed, **vars(STRONG))
        mask(log_mel, seed, **vars(STRONG))
    np.testing.assert_array_equal(log_mel, mel_before)
    np.testing.assert_array_equal(wave, wave_before)


def test_level_moves_all_bands_by_the_same_decibels(log_mel):
    changes = []
    for seed in range(50):
        change = decibels(augment(log_mel, seed, level=6.0) - log_mel)
        np.testing.assert_allclose(change, change[0, 0], atol=1e-4)
        changes.append(change[0, 0])
    assert -6 <= min(changes) < -5
    assert 5 < max(changes) <= 6


def test_level_of_a_waveform_is_in_decibels_too(wave):
    gains = [20 * np.log10(augment_wave(wave, seed, level=6.0)[5] / wave[5]) for seed in range(50)]
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6


def test_filter_is_smooth_bounded_and_constant_in_time(log_mel):
    for seed in range(10):
        gains = decibels(augment(log_mel, seed, filter=3.0) - log_mel)
        np.testing.assert_allclose(gains, np.broadcast_to(gains[0], gains.shape), atol=1e-4)
        assert np.abs(gains).max() <= 3.0001
        # Five knots over 80 bands: at most 6 dB in 19.75 bands.
        assert np.abs(np.diff(gains[0])).max() <= 6 / 19.75 + 1e-3


def test_tempo_stretches_evenly():
    ramp = np.repeat(np.arange(FRAMES, dtype=np.float32)[:, None], BANDS, axis=1)
    lengths = []
    for seed in range(30):
        stretched = augment(ramp, seed, tempo=0.2)
        steps = np.diff(stretched[:, 0])
        np.testing.assert_allclose(steps, steps[0], atol=1e-4)
        assert np.exp(-0.2) <= steps[0] <= np.exp(0.2)
        assert len(stretched) == int((FRAMES - 1) / steps[0] + 1e-3) + 1
        assert stretched.max() <= FRAMES - 1
        lengths.append(len(stretched))
    assert min(lengths) < 0.9 * FRAMES
    assert max(lengths) > 1.1 * FRAMES


def test_speed_of_a_waveform_moves_its_pitch():
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    for seed in range(5):
        changed = augment_wave(tone, seed, tempo=0.2, pitch=0.1)
        speed = len(tone) / len(changed)
        assert np.exp(-0.1) - 1e-3 <= speed <= np.exp(0.1) + 1e-3
        peak = np.abs(np.fft.rfft(changed)).argmax() * 16_000 / len(changed)
        assert peak == pytest.approx(500 * speed, rel=0.01)


def test_pitch_moves_all_frequencies_by_one_factor():
    centres = librosa.mel_frequencies(BANDS + 2, fmin=0.0, fmax=RATE / 2)[1:-1]
    bands = np.arange(BANDS)

    def frequency_of_peak(peaks, around):
        magnitude = np.exp(peaks[0]) * (np.abs(bands - around) < 12)
        return np.interp((magnitude * bands).sum() / magnitude.sum(), bands, centres)

    factors = []
    for seed in range(20):
        moved = []
        for band in (25, 60):
            peak = np.repeat(-0.5 * ((bands - band) / 1.5)[None] ** 2, FRAMES, axis=0)
            frequency = frequency_of_peak(augment(peak.astype(np.float32), seed, pitch=0.12), band)
            moved.append(frequency / centres[band])
        assert moved[0] == pytest.approx(moved[1], rel=0.015)
        factors.append(moved[0])
    assert np.exp(-0.12) * 0.985 <= min(factors) < 0.95
    assert 1.05 < max(factors) <= np.exp(0.12) * 1.015


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_noise_has_about_the_asked_ratio(log_mel, wave, snr):
    settings = {"noise_probability": 1.0, "noise_snr": (snr, snr)}
    power = np.exp(2 * log_mel.astype(float))
    added = np.exp(2 * augment(log_mel, **settings).astype(float)) - power
    assert 10 * np.log10(power.mean() / added.mean()) == pytest.approx(snr, abs=3)
    noise = augment_wave(wave, **settings) - wave
    assert 20 * np.log10(wave.std() / noise.std()) == pytest.approx(snr, abs=0.3)


def test_noise_comes_with_its_probability(log_mel):
    changed = [
        not np.array_equal(augment(log_mel, seed, noise_probability=0.3), log_mel)
        for seed in range(200)
    ]
    assert 0.2 < np.mean(changed) < 0.4


def test_silence_takes_no_noise():
    silence = np.full((FRAMES, BANDS), -20.0, dtype=np.float32)
    np.testing.assert_array_equal(augment(silence, noise_probability=1.0), silence)
    wave = np.zeros(1000, dtype=np.float32)
    np.testing.assert_array_equal(augment_wave(wave, noise_probability=1.0), wave)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_clips_survive(frames):
    clip = np.zeros((frames, BANDS), dtype=np.float32)
    for seed in range(10):
        changed = augment(clip, seed, **vars(STRONG))
        assert len(changed) >= 1
        assert np.isfinite(mask(changed, seed, **vars(STRONG))).all()


def test_masks_are_bounded():
    ones = np.ones((FRAMES, BANDS), dtype=np.float32)
    widths, lengths = [], []
    for seed in range(100):
        zero = mask(ones, seed, masks=1, time_mask=0.25, frequency_mask=0.15) == 0
        bands, frames = zero.all(axis=0), zero.all(axis=1)
        np.testing.assert_array_equal(zero, bands[None] | frames[:, None])
        for flags in (bands, frames):
            assert np.abs(np.diff(flags.astype(int))).sum() <= 2
        widths.append(bands.sum())
        lengths.append(frames.sum())
    assert max(widths) == round(0.15 * BANDS)
    assert max(lengths) == round(0.25 * 86)


def test_masks_leave_most_of_a_short_clip():
    ones = np.ones((20, BANDS), dtype=np.float32)
    masked = [(mask(ones, seed, masks=1) == 0).all(axis=1).sum() for seed in range(50)]
    assert max(masked) == 4
