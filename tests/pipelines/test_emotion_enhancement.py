import io
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    RePaintScheduler,
    UniPCMultistepScheduler,
)
from toy_components import RATE, make_wave
from toy_enhancer import EMOTIONS, get_dummy_components

from pipelines import EmotionEnhancementPipeline

FRESH_PROCESS = Path(__file__).parents[1] / "fresh_process_enhancer.py"
SCHEDULERS = (DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler)
VOCODERS = ("psola", "source_filter", "griffin_lim")
# Half a step of 16-bit sound is 1.5e-5; this is inaudible.
SAME_SOUND = 1e-3
# A comparison of the same computation in batches of other sizes.
SAME_MEL = 2e-3
# What a toy network makes of another condition; the same one gives the same to 1e-6.
A_LITTLE = 2e-5
WINDOW_FRAMES, WINDOW_BORDERS = 864, (776, 864, 1552, 1640)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def wave():
    return make_wave(0.5)


@pytest.fixture(scope="module")
def toy_pipe():
    pipe = EmotionEnhancementPipeline(**{**get_dummy_components(), "shift": None})
    pipe.set_progress_bar_config(disable=True)
    return with_scheduler(pipe, DPMSolverMultistepScheduler)


@pytest.fixture
def pipe(toy_pipe):
    """The same networks; a test may change the scheduler."""
    scheduler = toy_pipe.scheduler
    yield toy_pipe
    toy_pipe.scheduler = scheduler


def with_scheduler(pipe, kind):
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    return pipe


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def enhance(pipe, audio, seed=0, **settings):
    """With a generator of its own for every recording."""
    many = isinstance(audio, list) and not isinstance(audio[0], float)
    count = len(audio) if many else 1
    generators = [seeded(seed + i) for i in range(count)]
    return pipe(audio, **{"generator": generators, "num_inference_steps": 4, **settings})


def mels(pipe, audio, **settings):
    """Log-mels on the recording's own frames: the tempo stays, unless psola is asked for."""
    settings = {"vocoder": "source_filter", "output_type": "mel", **settings}
    return enhance(pipe, audio, **settings).log_mels


def change(pipe, wave, **settings):
    """What enhancing does to the log-mel of a recording."""
    (before,) = mels(pipe, wave, strength=0.0)
    (after,) = mels(pipe, wave, **settings)
    return after - before


def size(change):
    return change.abs().mean().item()


def rms(sound):
    return np.sqrt(np.mean(np.square(sound)))


def asked(pipe, run):
    """What the denoiser was given during `run()`, call by call: noisy rows, timestep, source."""
    calls = []
    hook = pipe.denoiser.register_forward_pre_hook(lambda _, given: calls.append(given[:3]))
    run()
    hook.remove()
    return calls


def encode(wave, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


class TestStrength:
    @pytest.mark.parametrize("vocoder", VOCODERS)
    def test_zero_returns_the_recording(self, pipe, wave, vocoder):
        output = enhance(pipe, wave, emotion="fear", strength=0.0, vocoder=vocoder)
        np.testing.assert_array_equal(output.audios[0], wave)
        features = pipe.feature_extractor(wave, padding=False)["input_features"][0]
        expected = pipe.feature_extractor.denormalize(torch.from_numpy(features))
        assert torch.equal(output.log_mels[0], expected)

    def test_zero_asks_the_denoiser_nothing(self, pipe, wave):
        assert asked(pipe, lambda: mels(pipe, wave, emotion="fear", strength=0.0)) == []

    def test_more_changes_more(self, pipe, wave):
        sizes = [size(change(pipe, wave, emotion="fear", strength=s)) for s in (0.02, 0.1, 0.4)]
        assert sizes == sorted(sizes)
        assert sizes[0] > 1e-3
        assert sizes[-1] > 2 * sizes[0]

    @pytest.mark.parametrize("kind", SCHEDULERS)
    @pytest.mark.parametrize(
        ("strength", "steps", "expected"),
        [
            (1.0, 4, [999, 749, 500, 250]),
            (0.37, 3, [370, 246, 123]),
            (0.5, 1, [500]),
            # There are no more below.
            (0.002, 8, [2, 1]),
        ],
    )
    def test_is_where_denoising_starts_and_all_steps_are_run(
        self, pipe, wave, kind, strength, steps, expected
    ):
        with_scheduler(pipe, kind)
        settings = {"strength": strength, "num_inference_steps": steps}
        calls = asked(pipe, lambda: mels(pipe, wave, **settings))
        assert [round(float(timestep)) for _, timestep, _ in calls] == expected

    def test_is_the_share_of_noise_that_is_mixed_in(self, pipe, wave):
        """With the schedule's own weights, and the same noise at every strength."""
        with_scheduler(pipe, DDPMScheduler)
        noises = []
        for strength in (0.2, 0.5, 1.0):
            settings = {"strength": strength, "num_noises": 1, "guidance_scale": 1.0}
            (noisy, timestep, source), *_ = asked(pipe, lambda s=settings: mels(pipe, wave, **s))
            kept = pipe.scheduler.alphas_cumprod[int(timestep)]
            noises.append((noisy - kept.sqrt() * source) / (1 - kept).sqrt())
        for noise in noises:
            torch.testing.assert_close(noise, noises[0], atol=1e-4, rtol=0)
        assert noises[0].std() == pytest.approx(1.0, abs=0.1)

    def test_one_starts_from_noise_alone(self, pipe, wave):
        """Which is the same whatever the recording; that is seen beside it."""
        with_scheduler(pipe, DDPMScheduler)
        other = 0.1 * make_wave(0.5, seed=7)[::-1].copy()
        one, another = (
            asked(pipe, lambda w=w: mels(pipe, w, strength=1.0))[0] for w in (wave, other)
        )
        assert torch.equal(one[0], another[0])
        assert size(one[2] - another[2]) > 0.1


class TestEmotion:
    def test_another_emotion_gives_another_result(self, pipe, wave):
        outputs = [mels(pipe, wave, emotion=name)[0] for name in EMOTIONS]
        for i, one in enumerate(outputs):
            for other in outputs[i + 1 :]:
                assert size(one - other) > A_LITTLE

    def test_what_is_carried_matters(self, pipe, wave):
        settings = {"emotion": "anger", "guidance_scale": 1.0}
        outputs = [mels(pipe, wave, source_emotion=name, **settings)[0] for name in EMOTIONS]
        for i, one in enumerate(outputs):
            for other in outputs[i + 1 :]:
                assert size(one - other) > A_LITTLE

    def test_none_is_what_the_recogniser_hears(self, pipe):
        waves = [make_wave(1.0), 0.01 * make_wave(0.6, seed=1), np.zeros(RATE // 2, np.float32)]
        output = enhance(pipe, waves)
        for wave, emotion in zip(waves, output.emotions, strict=True):
            with torch.no_grad():
                features = pipe.feature_extractor(wave, return_tensors="pt")
                heard = int(pipe.classifier(**features).logits.argmax())
            assert emotion == pipe.classifier.config.id2label[heard]
        named = enhance(pipe, waves, emotion=output.emotions, source_emotion=output.emotions)
        for one, other in zip(output.audios, named.audios, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_one_per_recording_some_not_known(self, pipe, wave):
        output = enhance(pipe, [wave, wave], emotion=["disgust", None], output_type="mel")
        (heard,) = enhance(pipe, wave, output_type="mel").emotions
        assert output.emotions == ["disgust", heard]
        assert output.methods == ["diffusion", "diffusion"]

    def test_without_intensity_and_guidance_the_target_does_not_matter(self, pipe, wave):
        settings = {"intensity": 0.0, "guidance_scale": 1.0}
        one, other = (mels(pipe, wave, emotion=name, **settings)[0] for name in ("anger", "fear"))
        torch.testing.assert_close(one, other)

    def test_intensity_leads_away_from_no_emotion(self, pipe, wave):
        settings = {"emotion": "anger", "guidance_scale": 1.0}
        none, some, more = (
            mels(pipe, wave, intensity=intensity, **settings)[0] for intensity in (0.0, 1.0, 3.0)
        )
        assert A_LITTLE < size(some - none) < size(more - none)

    def test_guidance_leads_further(self, pipe, wave):
        none = mels(pipe, wave, emotion="anger", intensity=0.0, guidance_scale=1.0)[0]
        sizes = [
            size(mels(pipe, wave, emotion="anger", guidance_scale=scale)[0] - none)
            for scale in (1.0, 3.0)
        ]
        assert sizes[1] > 1.5 * sizes[0]

    def test_no_guidance_is_no_second_pass(self, pipe, wave):
        counts = [
            sum(
                len(noisy)
                for noisy, *_ in asked(
                    pipe, lambda s=s: mels(pipe, wave, guidance_scale=s, num_noises=1)
                )
            )
            for s in (1.0, 2.0)
        ]
        assert counts == [4, 8]

    def test_more_noises_leave_less_to_chance(self, pipe, wave):
        apart = [
            size(torch.sub(*(change(pipe, wave, seed=seed, num_noises=n) for seed in (0, 1))))
            for n in (1, 8)
        ]
        assert apart[1] < 0.6 * apart[0]

    def test_corpus_selects_its_statistics(self, pipe, wave):
        one, other = (change(pipe, wave, emotion="anger", corpus=c) for c in ("emodb", "ravdess"))
        assert size(one - other) > 0.01

    def test_style_of_a_reference(self, pipe, wave):
        own = change(pipe, wave, emotion="anger")
        torch.testing.assert_close(own, change(pipe, wave, reference=wave, emotion="anger"))
        reference = 0.05 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
        assert size(change(pipe, wave, reference=reference, emotion="anger") - own) > A_LITTLE

    def test_statistics_of_a_reference(self, pipe, wave):
        """They are its own, whatever the recordings are normalised with."""
        settings = {"emotion": "anger", "reference": make_wave(0.7, seed=3)}
        emodb, ravdess = (
            change(pipe, wave, corpus="emodb", reference_corpus=c, **settings)
            for c in ("emodb", "ravdess")
        )
        assert size(emodb - ravdess) > A_LITTLE
        torch.testing.assert_close(emodb, change(pipe, wave, corpus="emodb", **settings))
        # For recordings of several corpora it does not hang on which of them comes first.
        last = mels(pipe, [wave] * 2, corpus=["ravdess", "emodb"], seed=4, **settings)[1]
        first = mels(pipe, [wave] * 2, corpus=["emodb", "ravdess"], seed=5, **settings)[0]
        torch.testing.assert_close(first, last, atol=SAME_MEL, rtol=0)


class TestRandomness:
    @pytest.mark.parametrize("kind", SCHEDULERS)
    def test_a_seed_decides_everything(self, pipe, wave, kind):
        with_scheduler(pipe, kind)
        first, again = (enhance(pipe, wave, seed=3, emotion="anger") for _ in range(2))
        np.testing.assert_array_equal(first.audios[0], again.audios[0])
        one, other = (mels(pipe, wave, seed=seed, emotion="anger")[0] for seed in (3, 4))
        assert size(other - one) > 0.005

    @pytest.mark.parametrize("kind", [DDPMScheduler, DPMSolverMultistepScheduler])
    def test_batch_equals_one_by_one(self, pipe, kind):
        """Lengths differ, one frame or many, and so that 0 to 3 frames are padded."""
        with_scheduler(pipe, kind)
        waves = [make_wave(s, seed=i) for i, s in enumerate((0.5, 1.2, 0.511, 0.5, 0.53, 0.05))]
        emotions, settings = list(EMOTIONS), {"num_inference_steps": 3, "vocoder": "source_filter"}
        together = enhance(pipe, waves, emotion=emotions, seed=20, **settings)
        for i, (wave, emotion) in enumerate(zip(waves, emotions, strict=True)):
            alone = enhance(pipe, wave, emotion=emotion, seed=20 + i, **settings)
            torch.testing.assert_close(
                together.log_mels[i], alone.log_mels[0], atol=SAME_MEL, rtol=0
            )
            np.testing.assert_allclose(together.audios[i], alone.audios[0], atol=0.01)
            assert len(together.audios[i]) == len(wave)

    def test_tempo_in_a_batch_is_that_of_one_by_one(self, pipe):
        waves = [make_wave(s, seed=i) for i, s in enumerate((0.5, 0.9, 0.5))]
        settings = {"emotion": "anger", "num_inference_steps": 2}
        together = enhance(pipe, waves, seed=20, **settings)
        for i, wave in enumerate(waves):
            alone = enhance(pipe, wave, seed=20 + i, **settings)
            assert len(together.audios[i]) == pytest.approx(len(alone.audios[0]), abs=2)
            assert abs(len(alone.audios[0]) - len(wave)) > 100

    def test_recordings_of_a_batch_get_noise_of_their_own(self, pipe, wave):
        one, other = mels(pipe, [wave, wave], emotion="anger", generator=seeded())
        assert size(one - other) > 0.005


class TestSound:
    """What is done to the recording's own waveform."""

    @pytest.mark.parametrize("vocoder", VOCODERS)
    def test_is_at_the_level_of_the_recording(self, pipe, vocoder):
        for level in (0.01, 1.0):
            wave = level * make_wave(0.5)
            (sound,) = enhance(pipe, wave, emotion="anger", vocoder=vocoder).audios
            assert sound.dtype == np.float32
            assert rms(sound) == pytest.approx(rms(wave), rel=1e-3)

    @pytest.mark.parametrize("vocoder", VOCODERS)
    def test_does_not_exceed_full_scale_even_if_the_recording_clips(self, pipe, vocoder):
        clipped = np.sign(make_wave(0.5)).astype(np.float32)
        (sound,) = enhance(pipe, clipped, emotion="anger", vocoder=vocoder).audios
        assert np.abs(sound).max() == pytest.approx(1)
        assert 0.2 < rms(sound) < rms(clipped)

    @pytest.mark.parametrize("vocoder", VOCODERS)
    def test_silence_stays_silent_and_finite(self, pipe, vocoder):
        silence = np.zeros(RATE // 2, np.float32)
        (sound,) = enhance(pipe, silence, emotion="anger", vocoder=vocoder).audios
        assert np.abs(sound).max() < 1e-3

    @pytest.mark.parametrize("vocoder", VOCODERS)
    def test_log_mels_are_those_of_what_comes_out(self, pipe, wave, vocoder):
        output = enhance(pipe, wave, emotion="anger", corpus="emodb", vocoder=vocoder)
        extractor = pipe.feature_extractor
        features = extractor(output.audios[0], padding=False)["input_features"][0]
        expected = extractor.denormalize(torch.from_numpy(features))
        torch.testing.assert_close(output.log_mels[0], expected)
        only_mel = enhance(
            pipe, wave, emotion="anger", corpus="emodb", vocoder=vocoder, output_type="mel"
        )
        assert only_mel.audios == []
        assert torch.equal(only_mel.log_mels[0], output.log_mels[0])

    def test_pitch_and_tempo_are_moved_by_psola_alone(self, pipe, wave):
        """The toy network changes tempo; the other vocoders have none to change."""
        lengths = {
            vocoder: len(enhance(pipe, wave, emotion="anger", vocoder=vocoder).audios[0])
            for vocoder in VOCODERS
        }
        assert abs(lengths["psola"] - len(wave)) > 0.02 * len(wave)
        assert lengths["source_filter"] == lengths["griffin_lim"] == len(wave)

    @pytest.mark.parametrize("settings", [{"guidance_scale": 50.0}, {"intensity": 20.0}])
    def test_wild_settings_stay_within_what_a_voice_can_do(self, pipe, wave, settings):
        """Half or twice the tempo, and nothing that is no number."""
        output = enhance(pipe, wave, emotion="anger", **settings)
        (sound,) = output.audios
        assert len(wave) / 2 - 2 <= len(sound) <= 2 * len(wave) + 2
        assert np.isfinite(sound).all()
        assert output.log_mels[0].isfinite().all()


class TestSchedulers:
    @pytest.mark.parametrize("kind", SCHEDULERS)
    @pytest.mark.parametrize("strength", [0.001, 0.4, 1.0])
    def test_any_runs(self, pipe, wave, kind, strength):
        output = enhance(with_scheduler(pipe, kind), wave, emotion="sadness", strength=strength)
        assert output.sampling_rate == RATE
        (sound,) = output.audios
        assert np.isfinite(sound).all()
        assert rms(sound) == pytest.approx(rms(wave), rel=1e-3)
        assert output.log_mels[0].isfinite().all()

    def test_deterministic_ones_agree_in_fine_steps(self, pipe, wave):
        """They solve the same equation, from the same noise."""
        settings = {"emotion": "anger", "strength": 0.4, "guidance_scale": 1.0}
        one, other = (
            change(with_scheduler(pipe, kind), wave, num_inference_steps=60, **settings)
            for kind in (DPMSolverMultistepScheduler, EulerDiscreteScheduler)
        )
        assert size(one - other) < 0.2 * size(one)


class TestCallback:
    def test_sees_every_step(self, pipe, wave):
        steps, timesteps = [], []

        def note(given, step, timestep, tensors):
            assert given is pipe
            assert set(tensors) == {"latents"}
            steps.append(step)
            timesteps.append(int(timestep))

        mels(pipe, wave, strength=0.4, callback_on_step_end=note)
        assert steps == [0, 1, 2, 3]
        assert timesteps == [400, 300, 200, 100]

    def test_can_change_the_latents(self, pipe, wave):
        def slower(pipe, step, timestep, tensors):
            rows = tensors["latents"].clone()
            # The last row is tempo.
            rows[:, -1] -= 2.0
            return {"latents": rows}

        untouched, noted, changed = (
            enhance(pipe, wave, callback_on_step_end=callback).audios[0]
            for callback in (None, lambda *_: None, slower)
        )
        np.testing.assert_array_equal(untouched, noted)
        assert len(changed) > len(untouched) + 500


class TestGenerate:
    QUICK: ClassVar = {"source_emotion": "neutral", "num_inference_steps": 2}

    def test_no_two_takes_are_alike(self, pipe, wave):
        output = pipe.generate(wave, "anger", np.int64(3), RATE, seeded(), **self.QUICK)
        assert output.emotions == ["anger"] * 3
        assert output.methods == ["diffusion"] * 3
        first, second, third = (mel[: min(map(len, output.log_mels))] for mel in output.log_mels)
        assert min(size(first - second), size(second - third), size(first - third)) > 0.01

    def test_a_take_is_a_call_with_one_noise(self, pipe, wave):
        (take,) = pipe.generate(wave, "anger", generator=seeded(3), **self.QUICK).audios
        told = {"emotion": "anger", "method": "diffusion", "num_noises": 1, "rerank": True}
        (called,) = pipe(wave, generator=seeded(3), **told, **self.QUICK).audios
        np.testing.assert_array_equal(take, called)

    def test_depends_on_seed_emotion_and_reference(self, pipe, wave):
        def generate(reference=wave, emotion="anger", seed=0):
            settings = {"output_type": "mel", "vocoder": "source_filter", **self.QUICK}
            output = pipe.generate(reference, emotion, generator=seeded(seed), **settings)
            assert output.audios == []
            return output.log_mels[0]

        first = generate()
        assert torch.equal(first, generate())
        assert size(first - generate(seed=1)) > 0.01
        assert size(first - generate(emotion="fear")) > 1e-4
        assert size(first - generate(reference=0.5 * wave)) > 1e-4

    def test_the_shift_is_below_where_there_is_one(self, wave):
        shifted = EmotionEnhancementPipeline(**get_dummy_components())
        assert shifted.generate(wave, "anger", 1, RATE, **self.QUICK).methods == ["both"]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"emotion": "joy"}, r"Bad emotion 'joy', expected one of \['neutral'"),
            ({"num_takes": 0}, "Bad num_takes 0, expected a whole number, 1 or more"),
            ({"num_takes": "two"}, "Bad num_takes 'two', expected a whole number"),
            (
                {"method": "shift"},
                "Bad method 'shift' for takes, which differ by noise that it has",
            ),
            ({"reference": [np.ones(900), np.ones(900)]}, "Got 2 references, expected one"),
            ({"num_inference_steps": 0}, "Bad num_inference_steps 0, expected a whole number"),
        ],
    )
    def test_errors(self, pipe, wave, settings, message):
        with pytest.raises(ValueError, match=message):
            pipe.generate(**{"reference": wave, "emotion": "anger"} | settings)


@pytest.mark.parametrize("corpus", [None, "emodb"])
def test_reconstruction_is_the_autoencoder_alone(pipe, corpus):
    wave = make_wave()[: 83 * 256 + 10]
    outputs = []
    run = lambda: outputs.append(pipe.reconstruct(wave, corpus=corpus))  # noqa: E731
    assert asked(pipe, run) == []
    features = pipe.feature_extractor(wave, padding=False, corpus=corpus)["input_features"][0]
    assert len(features) == 84
    with torch.no_grad():
        latents = pipe.vae.encode(torch.from_numpy(features).T[None, None]).latent_dist.mode()
        decoded = pipe.vae.decode(latents).sample[0, 0].T
    log_mel = pipe.feature_extractor.denormalize(decoded, corpus)
    expected = pipe.vocoder(log_mel, torch.from_numpy(wave), method="source_filter").numpy()
    np.testing.assert_allclose(outputs[0].audios[0], expected, atol=SAME_SOUND)


class TestLength:
    @pytest.mark.parametrize("samples", [1, 255, 256, 1101, 4405, 22_025, 22_026])
    def test_any_will_do_and_the_spectrum_alone_keeps_it(self, pipe, samples):
        wave = make_wave(1.1)[:samples]
        output = enhance(pipe, wave, emotion="anger", vocoder="source_filter")
        (sound,) = output.audios
        assert len(sound) == samples
        assert np.isfinite(sound).all()
        assert len(output.log_mels[0]) == samples // 256 + 1
        moved = enhance(pipe, wave, emotion="anger")
        assert samples / 2 - 1 <= len(moved.audios[0]) <= 2 * samples + 1
        assert np.isfinite(moved.audios[0]).all()
        assert len(moved.log_mels[0]) == len(moved.audios[0]) // 256 + 1

    @pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
    def test_is_kept_at_other_rates(self, pipe, rate):
        given = {"array": make_wave(0.5, rate), "sampling_rate": rate}
        (sound,) = enhance(pipe, given, emotion="anger", vocoder="source_filter").audios
        assert len(sound) / RATE == pytest.approx(0.5, abs=1e-3)


@pytest.fixture(scope="module")
def swell():
    """25 s of steady tones, one growing and one fading, so that frames change slowly."""
    time = np.arange(25 * RATE) / RATE
    growing = 0.01 * 10 ** (1.5 * time / 25) * np.sin(2 * np.pi * 300 * time)
    fading = 0.003 * np.sin(2 * np.pi * 3000 * time) * (25 - time) / 25
    return (growing + fading).astype(np.float32)


class TestLongRecordings:
    def test_ten_seconds_are_one_window(self, pipe):
        """Nothing is faded: the whole is denoised at once, as it is when it is short."""
        settings = {"emotion": "anger", "num_inference_steps": 2, "num_noises": 1}
        calls = asked(pipe, lambda: mels(pipe, make_wave(10.0), **settings))
        # With the emotion and without, in one batch.
        assert [len(noisy) for noisy, *_ in calls] == [2, 2]
        assert {noisy.shape[-1] * pipe.stride for noisy, *_ in calls} == {WINDOW_FRAMES}

    @pytest.mark.parametrize("seconds", [10.0, 10.02, 10.06, 19.02, 19.1])
    def test_around_the_length_of_windows_every_frame_is_changed(self, pipe, seconds):
        settings = {"emotion": "anger", "num_inference_steps": 2}
        changed = change(pipe, make_wave(seconds), **settings)
        assert changed.isfinite().all()
        assert changed.abs().mean(dim=1).min() > 1e-3

    def test_memory_is_that_of_a_window(self, pipe, swell):
        calls = asked(pipe, lambda: mels(pipe, swell, num_inference_steps=1))
        assert max(noisy.shape[-1] for noisy, *_ in calls) * pipe.stride == WINDOW_FRAMES

    def test_no_more_is_denoised_at_once_than_fits(self, pipe, swell):
        """Three windows with eight noises, each with the emotion and without, in several parts."""
        settings = {"emotion": "anger", "num_inference_steps": 1, "num_noises": 8}
        shapes = [call[0].shape for call in asked(pipe, lambda: mels(pipe, swell, **settings))]
        seconds = [shape[0] / 2 * shape[-1] * pipe.stride * 256 / RATE for shape in shapes]
        assert sum(shape[0] for shape in shapes) == 2 * 3 * 8
        assert max(seconds) <= 161

    def test_noise_of_steps_does_not_hang_on_the_batch(self, pipe, swell):
        with_scheduler(pipe, DDPMScheduler)
        settings = {"emotion": "anger", "num_inference_steps": 2, "num_noises": 2}
        together = mels(pipe, [swell, swell[::-1].copy()], seed=5, **settings)
        alone = mels(pipe, swell, seed=5, **settings)
        torch.testing.assert_close(together[0], alone[0], atol=SAME_MEL, rtol=0)

    @pytest.mark.parametrize("strength", [0.4, 1.0])
    def test_no_seams(self, pipe, swell, strength):
        """The change is no rougher near the ends of windows than elsewhere."""
        changed = change(pipe, swell, emotion="anger", num_inference_steps=3, strength=strength)
        steps = changed.diff(dim=0).abs().mean(dim=1)
        near = torch.cat([steps[border - 12 : border + 12] for border in WINDOW_BORDERS])
        assert near.max() <= steps.quantile(0.999)
        assert near.mean() <= 1.3 * steps.mean()


class TestInputs:
    @pytest.fixture
    def file(self, wave, tmp_path):
        path = tmp_path / "clip.wav"
        path.write_bytes(encode(wave))
        return path

    @pytest.mark.parametrize(
        "give",
        [
            lambda file: str(file),
            lambda file: file,
            lambda file: file.read_bytes(),
            lambda file: {"audio": {"bytes": file.read_bytes(), "path": None}, "emotion": 3},
            lambda file: {"audio": {"bytes": None, "path": str(file)}, "speaker": "03"},
            lambda file: {"array": soundfile.read(file, dtype="float32")[0], "sampling_rate": RATE},
            lambda file: torch.from_numpy(soundfile.read(file, dtype="float32")[0]),
            lambda file: soundfile.read(file)[0].tolist(),
            lambda file: np.stack([soundfile.read(file)[0]] * 2),
            lambda file: [file],
            lambda file: io.BytesIO(file.read_bytes()),
            lambda file: (RATE, soundfile.read(file)[0]),
            lambda file: (soundfile.read(file)[0], RATE),
            lambda file: np.array([str(file)]),
        ],
        ids=[
            "string",
            "path",
            "bytes",
            "row",
            "path_row",
            "mapping",
            "tensor",
            "numbers",
            "stereo",
            "list",
            "BytesIO",
            "rate_first",
            "rate_last",
            "array_of_paths",
        ],
    )
    def test_are_accepted_alike(self, pipe, wave, file, give):
        settings = {"emotion": "anger", "num_inference_steps": 3}
        (expected,) = mels(pipe, wave, **settings)
        (given,) = mels(pipe, give(file), **settings)
        torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)

    def test_arrays_are_at_the_rate_that_is_named(self, pipe):
        slow = make_wave(0.5, 16_000)
        settings = {"emotion": "anger", "num_inference_steps": 2}
        (named,) = mels(pipe, slow, sampling_rate=16_000, **settings)
        (mapped,) = mels(pipe, {"array": slow, "sampling_rate": 16_000}, **settings)
        assert torch.equal(named, mapped)


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"emotion": "joy"}, r"Bad emotion 'joy', expected one of \['neutral', 'happiness',"),
            ({"emotion": ""}, r"Bad emotion '', expected one of \['neutral', 'happiness',"),
            ({"emotion": ["anger", "fear"]}, "Got 2 emotions, expected 1$"),
            ({"emotion": np.array(["anger", "fear"])}, "Got 2 emotions, expected 1$"),
            ({"emotion": []}, "Got 0 emotions, expected 1"),
            ({"corpus": "iemocap"}, r"Bad corpus 'iemocap', expected one of \['emodb', 'ravdess'"),
            ({"corpus": ["emodb", "emodb"]}, "Got 2 corpora, expected 1"),
            ({"strength": 1.5}, r"Bad strength 1\.5, expected 0 to 1"),
            ({"strength": -0.1}, r"Bad strength -0\.1, expected 0 to 1"),
            ({"strength": float("nan")}, "Bad strength nan, expected 0 to 1"),
            ({"guidance_scale": float("inf")}, "Bad guidance_scale inf, expected 0 or more"),
            ({"intensity": -1.0}, r"Bad intensity -1\.0, expected 0 or more"),
            ({"num_inference_steps": 0}, "Bad num_inference_steps 0, expected a whole number, 1"),
            ({"method": "magic"}, r"Bad method 'magic', expected one of \['auto', 'both', 'diff"),
            ({"source_emotion": "joy"}, "Bad emotion 'joy', expected one of"),
            ({"output_type": "mp3"}, r"Bad output_type 'mp3', expected one of \['wav', 'mel'\]"),
            ({"vocoder": "robot"}, r"Bad vocoder 'robot', expected one of \['psola'"),
            ({"vocoder": "hifigan"}, "Got vocoder 'hifigan' without hifigan, expected a model"),
            ({"vocoder": "hifigan", "hifigan": "x"}, "Bad hifigan of type str, expected a model"),
            ({"strength": "0.5"}, "Bad strength '0.5', expected 0 to 1"),
            ({"strength": True}, "Bad strength True, expected 0 to 1"),
            ({"guidance_scale": None}, "Bad guidance_scale None, expected 0 or more"),
            (
                {"num_inference_steps": 2.5},
                r"Bad num_inference_steps 2\.5, expected a whole number",
            ),
            ({"num_inference_steps": 1001}, "Bad num_inference_steps 1001, expected 1 to 1000"),
            ({"num_noises": "4"}, "Bad num_noises '4', expected a whole number, 1 or more"),
            ({"emotion": 3}, r"Bad emotions \[3\], expected names or None"),
            ({"corpus": ["emodb", 2]}, r"Bad corpora \[2\], expected names or None"),
            ({"generator": 7}, r"Bad generator of type \['int'\], expected torch.Generator"),
            ({"generator": [seeded()] * 2}, "Got 2 generators, expected 1$"),
            ({"sampling_rate": "16k"}, "Bad sampling_rate '16k', expected a whole number of Hz"),
            ({"callback_on_step_end": 1}, "Bad callback_on_step_end 1, expected a function"),
            ({"reference": []}, "Got no recordings, expected at least one"),
            ({"reference_corpus": "iemocap", "reference": np.ones(900)}, "Bad corpus 'iemocap'"),
            ({"reference": [np.ones(900), np.ones(900)]}, "Got 2 references, expected 1"),
        ],
    )
    def test_settings(self, pipe, wave, settings, message):
        def run():
            with pytest.raises(ValueError, match=message):
                pipe(wave, **{"num_inference_steps": 2} | settings)

        assert asked(pipe, run) == []

    @pytest.mark.parametrize("settings", [{"injection": "noise"}, {"anchor": "source"}])
    def test_settings_that_are_gone(self, pipe, wave, settings):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            pipe(wave, **settings)

    @pytest.mark.parametrize(
        "kind",
        [
            CMStochasticIterativeScheduler,
            DDIMInverseScheduler,
            DDIMScheduler,
            DPMSolverMultistepInverseScheduler,
            EulerAncestralDiscreteScheduler,
            FlowMatchEulerDiscreteScheduler,
            RePaintScheduler,
            UniPCMultistepScheduler,
        ],
    )
    def test_schedulers_that_cannot_step_so(self, pipe, wave, kind):
        """Or that cannot be told at which timesteps."""
        with_scheduler(pipe, kind)

        def run():
            for use in (pipe, pipe.generate):
                with pytest.raises(ValueError, match=f"Bad scheduler '{kind.__name__}', expected"):
                    use(wave, emotion="anger", num_inference_steps=2)

        assert asked(pipe, run) == []

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (np.zeros(0), "Got a recording without samples, expected at least one"),
            ([make_wave(0.1), np.array([0.1, np.nan])], "Recording 1: Got a recording with NaN"),
            (np.array([0.1, np.inf]), "Got a recording with NaN or infinite samples"),
            ([], "Got no recordings, expected at least one"),
            (b"not a sound", "Cannot decode '11 bytes' .*, expected wav, flac, ogg or mp3"),
            ({"array": np.ones(9)}, "Got 'array' without 'sampling_rate', expected both"),
            ({"array": np.zeros(0), "sampling_rate": 16_000}, "Got a recording without samples"),
            (np.zeros(9, dtype=np.int64), "Bad type 'int64' of a recording, expected one of"),
        ],
        ids=lambda value: None if isinstance(value, str) else "given",
    )
    def test_recordings(self, pipe, given, message):
        with pytest.raises(ValueError, match=message):
            pipe(given, num_inference_steps=1)

    def test_missing_file_is_named(self, pipe, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
            pipe(tmp_path / "gone.wav")

    def test_nothing_is_computed_for_an_unknown_emotion(self, pipe, wave):
        def run():
            with pytest.raises(ValueError, match="Bad emotion"):
                pipe([wave, wave], emotion=["anger", "joy"])

        assert asked(pipe, run) == []

    def test_classifier_with_other_labels(self):
        components = get_dummy_components()
        components["classifier"].config.id2label[3] = "boredom"
        message = r"Bad classifier with labels \[.*'boredom'.*\], expected those of .*'anger'"
        with pytest.raises(ValueError, match=message):
            EmotionEnhancementPipeline(**components)


@pytest.fixture(scope="module")
def folder(toy_pipe, tmp_path_factory):
    """What a training run would send to the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "enhancer"
    toy_pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(toy_pipe, wave):
    settings = {"num_inference_steps": 4, "generator": seeded(7)}
    return toy_pipe(wave, emotion="anger", **settings).audios[0]


@pytest.fixture(scope="module")
def stranger(folder, wave, tmp_path_factory):
    """Folder in which somebody without this project, and with an empty cache, has used it."""
    work = tmp_path_factory.mktemp("stranger")
    np.save(work / "wave.npy", wave)
    soundfile.write(work / "clip.wav", wave, RATE)
    process = subprocess.run(
        # Isolated: neither the current folder, nor the script's, nor PYTHONPATH is searched.
        [sys.executable, "-I", FRESH_PROCESS, folder],
        cwd=work,
        env={"PATH": "", "HF_HOME": str(work / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return work


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["loaded", "moved"])
def test_half_precision(folder, wave, dtype, way):
    load = {"trust_remote_code": True}
    whole = DiffusionPipeline.from_pretrained(folder, **load)
    if way == "loaded":
        half = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **load)
    else:
        half = DiffusionPipeline.from_pretrained(folder, **load).to(dtype)
    # As far as asked for: which version is heard best may hang on the last bit.
    expected, given = (change(p, wave, emotion="anger", rerank=False) for p in (whole, half))
    assert size(given - expected) < 0.2 * size(expected)
    (sound,) = half(wave, num_inference_steps=2).audios
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()


class TestSaved:
    def test_stranger_hears_the_same(self, stranger, expected):
        report = json.loads((stranger / "report.json").read_text())
        assert report["importable"] == []
        assert report["pipelines"] == ["EmotionEnhancementPipeline"] * 2
        assert report["scheduler"] == "DPMSolverMultistepScheduler"
        np.testing.assert_allclose(np.load(stranger / "first.npy"), expected, atol=SAME_SOUND)

    def test_stranger_has_it_as_a_task_of_transformers(self, stranger, wave):
        report = json.loads((stranger / "report.json").read_text())
        assert report["task"] == ["anger", RATE, len(wave)]

    def test_and_from_what_they_saved_again(self, stranger, folder, expected):
        np.testing.assert_allclose(np.load(stranger / "second.npy"), expected, atol=SAME_SOUND)
        files = [
            {str(path.relative_to(where)) for path in where.rglob("*") if path.is_file()}
            for where in (folder, stranger / "again")
        ]
        assert files[1] == files[0]

    def test_what_they_saved_loads_here(self, stranger, wave, expected):
        loaded = DiffusionPipeline.from_pretrained(stranger / "again", trust_remote_code=True)
        output = loaded(wave, emotion="anger", num_inference_steps=4, generator=seeded(7))
        np.testing.assert_allclose(output.audios[0], expected, atol=SAME_SOUND)

    def test_safetensors_and_no_pickle(self, folder):
        suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert suffixes == {".safetensors", ".json", ".py"}
        code = "".join(path.read_text() for path in folder.rglob("*.py"))
        for name in ("modeling", "pipelines", "training", "datasets_scripts"):
            assert f"from {name}" not in code
            assert f"import {name}" not in code

    def test_class_loads_it_too(self, folder, wave, expected):
        loaded = EmotionEnhancementPipeline.from_pretrained(folder, trust_remote_code=True)
        output = loaded(wave, emotion="anger", num_inference_steps=4, generator=seeded(7))
        np.testing.assert_allclose(output.audios[0], expected, atol=SAME_SOUND)

    def test_push_to_hub_is_a_method(self, toy_pipe, tmp_path):
        with pytest.raises(ValueError, match="expected a call of the method push_to_hub"):
            toy_pipe.save_pretrained(tmp_path / "folder", push_to_hub=True)
        assert not (tmp_path / "folder").exists()
