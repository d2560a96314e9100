"""What the denoiser sees of a voice, and what comes of what it says."""

import numpy as np
import pytest
import torch

from modeling import Prosody
from modeling.voice_rows import (
    PITCH_UNIT,
    TEMPO_UNIT,
    join_rows,
    mean_log_f0,
    on_frames,
    smooth_change,
    split_rows,
)

STRIDE, HOP, BANDS = 4, 256, 80


class TestRows:
    @pytest.fixture
    def voice(self):
        """Latents, and contours that are straight lines, with frames that make no latent."""
        latents = torch.randn(2, 5, 30, generator=torch.Generator().manual_seed(0))
        time = torch.arange(30 * STRIDE + 3) / (30 * STRIDE)
        return latents, 0.4 * time - 0.1, 0.3 - 0.6 * time

    def test_joined_and_split_again_nothing_is_lost(self, voice):
        rows = join_rows(*voice, STRIDE)
        assert rows.shape == (2 * 5 + 2, 30)
        latents, prosody = split_rows(rows[None], channels=2)
        torch.testing.assert_close(latents[0], voice[0])
        contours = on_frames(prosody, 30 * STRIDE)[0]
        for contour, own in zip(contours, voice[1:], strict=True):
            torch.testing.assert_close(contour[2:-2], own[: 30 * STRIDE][2:-2])

    def test_prosody_is_measured_in_units_of_its_deviation(self):
        flat = torch.ones(8)
        rows = join_rows(torch.zeros(1, 1, 2), PITCH_UNIT * flat, -2 * TEMPO_UNIT * flat, STRIDE)
        torch.testing.assert_close(rows, torch.tensor([[0.0, 0.0], [1.0, 1.0], [-2.0, -2.0]]))

    def test_are_of_the_type_of_the_latents(self, voice):
        latents, *prosody = voice
        assert join_rows(latents.bfloat16(), *prosody, STRIDE).dtype == torch.bfloat16


def prosody_of(log_f0, voiced):
    quiet = np.zeros(len(log_f0), np.float32)
    return Prosody(np.asarray(log_f0, np.float32), np.asarray(voiced, bool), quiet, quiet, quiet)


# As loud in every frame.
SPEECH = torch.zeros(50, BANDS)


def test_mean_pitch_is_that_of_what_is_voiced():
    log_f0 = [5.0, 4.0, 4.5, 9.0]
    assert mean_log_f0(prosody_of(log_f0, [0, 1, 1, 0])) == pytest.approx(4.25)
    assert mean_log_f0(prosody_of(log_f0, [0, 0, 0, 0])) == pytest.approx(5.625)


class TestSmoothChange:
    def test_what_is_constant_stays(self):
        change = torch.full((50, BANDS + 2), 0.3)
        change[:, -2], change[:, -1] = np.log(1.2), np.log(0.8)
        smooth = smooth_change(change, SPEECH)
        torch.testing.assert_close(smooth.log_mel, torch.full((50, BANDS), 0.3))
        np.testing.assert_allclose(smooth.pitch_factor, np.full(50, 1.2), rtol=1e-5)
        np.testing.assert_allclose(smooth.tempo_factor, np.full(50, 0.8), rtol=1e-5)

    def test_nothing_to_do_is_to_do_nothing(self):
        smooth = smooth_change(torch.zeros(20, BANDS + 2), SPEECH[:20])
        assert (smooth.log_mel == 0).all()
        assert (smooth.pitch_factor == 1).all()
        assert (smooth.tempo_factor == 1).all()

    @pytest.mark.parametrize(("change", "factor"), [(3.0, 2.0), (-3.0, 0.5)])
    def test_factors_are_what_a_voice_can_be_moved_by(self, change, factor):
        smooth = smooth_change(torch.full((20, BANDS + 2), change), SPEECH[:20])
        np.testing.assert_array_equal(smooth.pitch_factor, factor)
        np.testing.assert_array_equal(smooth.tempo_factor, factor)

    def test_what_is_finer_than_a_sound_is_smoothed_away(self):
        noise = torch.randn(200, BANDS + 2, generator=torch.Generator().manual_seed(0))
        smooth = smooth_change(0.3 * noise, torch.zeros(200, BANDS))
        for values in (smooth.log_mel, np.log(smooth.pitch_factor), np.log(smooth.tempo_factor)):
            assert values.std() < 0.3 / 2
        slow = torch.sin(torch.arange(400) / 120)[:, None].expand(-1, BANDS + 2)
        kept = smooth_change(0.5 * slow, torch.zeros(400, BANDS))
        torch.testing.assert_close(kept.log_mel, 0.5 * slow[:, :BANDS], atol=0.05, rtol=0)

    def test_a_pause_follows_the_speech_around_it_and_its_noise_is_not_lifted(self):
        speech = torch.zeros(200, BANDS)
        speech[80:120] = -8
        change = torch.full((200, BANDS + 2), 0.3)
        change[80:120] = 5.0
        smooth = smooth_change(change, speech)
        np.testing.assert_allclose(np.log(smooth.pitch_factor), 0.3, atol=0.01)
        np.testing.assert_allclose(np.log(smooth.tempo_factor), 0.3, atol=0.01)
        torch.testing.assert_close(smooth.log_mel[:60], torch.full((60, BANDS), 0.3))
        assert smooth.log_mel[90:110].abs().max() < 0.01
        quieter = smooth_change(-change, speech)
        assert (quieter.log_mel[90:110] < -0.29).all()

    def test_every_precision_is_taken(self):
        half = smooth_change(
            torch.full((20, BANDS + 2), 0.25, dtype=torch.bfloat16), SPEECH[:20].bfloat16()
        )
        assert half.log_mel.dtype == torch.float32
        torch.testing.assert_close(half.log_mel, torch.full((20, BANDS), 0.25))
