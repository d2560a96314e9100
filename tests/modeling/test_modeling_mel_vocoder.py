import json
import logging

import librosa
import numpy as np
import pytest
import torch
from toy_components import RATE, make_wave
from transformers import (
    FastSpeech2ConformerHifiGan,
    FastSpeech2ConformerHifiGanConfig,
    SpeechT5Config,
    SpeechT5FeatureExtractor,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from modeling import EmotionFeatureExtractor
from modeling.modeling_mel_vocoder import METHODS, MelVocoder, load_hifigan

DB = 20 / np.log(10)  # decibels in one unit of the natural logarithm
TINY = {
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": [[1]],
}


@pytest.fixture(scope="module")
def vocoder():
    return MelVocoder()


@pytest.fixture(scope="module")
def wave():
    return torch.from_numpy(make_wave())


@pytest.fixture(scope="module")
def changed(wave):
    """The wave's log-mel after a smooth change of up to 6 dB over time and frequency."""
    wanted = log_mel(wave)
    time = torch.linspace(0, 6, len(wanted))[:, None]
    return wanted + 6 / DB * torch.sin(time + torch.linspace(0, 9, 80))


def tiny_hifigan(model_class):
    """A model with random weights that are large enough to make a sound."""
    torch.manual_seed(0)
    if model_class is SpeechT5HifiGan:
        config = SpeechT5HifiGanConfig(**TINY, initializer_range=0.1)
    else:
        config = FastSpeech2ConformerHifiGanConfig(**TINY, initializer_range=0.1)
    return model_class(config).eval()


@pytest.fixture(scope="module", params=[FastSpeech2ConformerHifiGan, SpeechT5HifiGan])
def hifigan(request):
    return tiny_hifigan(request.param)


def log_mel(wave):
    """The front end's log-mel `(frames, 80)` of any length of sound."""
    features = EmotionFeatureExtractor()(wave, padding=False, truncation=False)
    return torch.from_numpy(features["input_features"][0])


def error(samples, wanted):
    """Mean distance between the log-mel of samples and the wanted one, in dB."""
    return DB * (log_mel(samples) - wanted).abs().mean().item()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestGriffinLim:
    def test_mel_is_the_wanted_one_within_half_a_decibel(self, vocoder, wave):
        samples = vocoder(log_mel(wave), generator=seeded())
        wanted = log_mel(wave)[: len(samples) // 256 + 1]
        assert error(samples, wanted) < 0.5

    def test_source_phase_is_nearer_to_a_changed_mel_than_random_phase(
        self, vocoder, wave, changed
    ):
        by_source = error(vocoder(changed, wave), changed)
        by_chance = error(vocoder(changed, generator=seeded()), changed)
        assert by_source < 0.15
        assert by_source < by_chance < 0.5
        assert error(wave, changed) > 3

    def test_source_with_its_own_mel_comes_back(self, vocoder, wave):
        torch.testing.assert_close(vocoder(log_mel(wave), wave), wave, atol=1e-3, rtol=0)

    def test_speech_grows_where_the_source_is_silent(self, vocoder, wave):
        assert error(vocoder(log_mel(wave), torch.zeros_like(wave)), log_mel(wave)) < 0.5

    def test_more_iterations_come_nearer(self, wave):
        wanted = log_mel(wave)
        errors = [
            error(MelVocoder(num_iterations=n)(wanted, generator=seeded()), wanted)
            for n in (0, 4, 32)
        ]
        assert errors == sorted(errors, reverse=True)

    def test_momentum_comes_nearer_than_none(self, wave):
        wanted = log_mel(wave)
        fast, original = (
            error(MelVocoder(momentum=momentum)(wanted, generator=seeded()), wanted)
            for momentum in (0.99, 0.0)
        )
        assert fast < original

    def test_generator_decides_the_phase(self, vocoder, wave):
        wanted = log_mel(wave)[:20]
        first, again, other = (vocoder(wanted, generator=seeded(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other, atol=1e-3)


class TestSourceFilter:
    def test_own_mel_gives_the_source(self, vocoder, wave):
        same = vocoder(log_mel(wave), wave, method="source_filter")
        torch.testing.assert_close(same, wave, atol=1e-4, rtol=0)

    def test_six_decibels_in_a_band_change_that_band_alone(self, vocoder):
        noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.05, RATE).astype("f4"))
        before = log_mel(noise)
        wanted = before.clone()
        wanted[:, 30:41] += 6 / DB
        after = log_mel(vocoder(wanted, noise, method="source_filter"))
        change = DB * (after - before).mean(dim=0)
        torch.testing.assert_close(change[32:39], torch.full((7,), 6.0), atol=0.3, rtol=0)
        rest = torch.cat([change[:28], change[43:]])
        torch.testing.assert_close(rest, torch.zeros(65), atol=0.1, rtol=0)

    def test_follows_a_smooth_change(self, vocoder, wave, changed):
        filtered = vocoder(changed, wave, method="source_filter")
        assert error(filtered, changed) < 0.5
        assert error(wave, changed) > 3

    def test_quantisation_noise_is_not_lifted_to_speech(self, vocoder, wave):
        noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-5, len(wave)).astype("f4"))
        filtered = vocoder(log_mel(wave), noise, method="source_filter")
        assert filtered.abs().max() < 2 * noise.abs().max()

    def test_gain_stops_at_forty_decibels(self, vocoder, wave):
        loudest = vocoder.filter_source(log_mel(wave) + 90 / DB, wave)
        quietest = vocoder.filter_source(log_mel(wave) - 90 / DB, wave)
        assert loudest.abs().max() < 101 * wave.abs().max()
        assert quietest.abs().max() > 0.0099 * wave.abs().max()


class TestHifigan:
    def test_gives_our_length_and_rate(self, vocoder, wave, hifigan):
        wanted = log_mel(wave)
        assert vocoder(wanted, method="hifigan", hifigan=hifigan).shape == (86 * 256,)
        samples = vocoder(wanted, wave, method="hifigan", hifigan=hifigan)
        assert samples.shape == wave.shape
        at_22_050 = MelVocoder(sampling_rate=22_050)
        assert at_22_050(wanted, method="hifigan", hifigan=hifigan).shape == (86 * 256,)
        assert samples.std() > 0

    def test_pitch_survives_the_change_of_rate(self, vocoder, hifigan, monkeypatch):
        """A model that hums at 1 kHz at its own rate is heard at 1 kHz at ours."""
        rate = getattr(hifigan.config, "sampling_rate", 22_050)

        def hum(features):
            return torch.sin(2 * torch.pi * 1000 * torch.arange(256 * len(features)) / rate)

        monkeypatch.setattr(hifigan, "forward", hum)
        samples = vocoder.hifigan(torch.full((87, 80), -5.0), hifigan)
        peak = torch.fft.rfft(samples).abs().argmax().item() * RATE / len(samples)
        assert peak == pytest.approx(1000, abs=1)

    def test_speecht5_is_fed_what_its_own_extractor_makes(self, vocoder, wave):
        fed = self.features(vocoder, SpeechT5HifiGan, wave)
        at_16_khz = librosa.resample(wave.numpy(), orig_sr=RATE, target_sr=16_000)
        own = SpeechT5FeatureExtractor()(audio_target=at_16_khz, sampling_rate=16_000)
        # Of noise, a lower rate leaves sqrt(16 / 22) of the magnitude, which no mel can tell.
        self.assert_near(fed, own["input_values"][0], decibels=2)

    def test_fastspeech2_is_fed_what_espnet_makes(self, vocoder, wave):
        fed = self.features(vocoder, FastSpeech2ConformerHifiGan, wave)
        at_22_khz = librosa.resample(wave.numpy(), orig_sr=RATE, target_sr=22_050)
        own = librosa.feature.melspectrogram(
            y=at_22_khz,
            sr=22_050,
            n_fft=1024,
            hop_length=256,
            n_mels=80,
            fmin=80,
            fmax=7600,
            power=1,
        )
        self.assert_near(fed, np.log10(own.T), decibels=1)

    @staticmethod
    def features(vocoder, model_class, wave):
        """What the vocoder hands to a model `(frames, 80)`."""
        model, seen = tiny_hifigan(model_class), []
        model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        vocoder(log_mel(wave), wave, method="hifigan", hifigan=model)
        return seen[0]

    @staticmethod
    def assert_near(fed, own, decibels):
        """Equal but for the ends, where each extractor pads in its own way."""
        assert fed.shape == own.shape
        difference = 20 * (fed.numpy() - own)[2:-2]
        assert np.abs(difference).mean() < decibels

    def test_loads_the_class_that_the_folder_names(self, vocoder, wave, hifigan, tmp_path):
        hifigan.save_pretrained(tmp_path)
        loaded = load_hifigan(str(tmp_path))
        assert type(loaded) is type(hifigan)
        assert not loaded.training
        samples, expected = (vocoder.hifigan(log_mel(wave), model) for model in (loaded, hifigan))
        assert torch.equal(samples, expected)

    def test_other_model_types_are_refused(self, tmp_path):
        SpeechT5Config().save_pretrained(tmp_path)
        message = r"Bad model_type 'speecht5' of .*, expected one of \['fastspeech2_conformer_hif"
        with pytest.raises(ValueError, match=message):
            load_hifigan(str(tmp_path))

    @pytest.mark.parametrize("model", [None, torch.nn.Identity()])
    def test_other_models_are_refused(self, vocoder, wave, model):
        message = "expected FastSpeech2ConformerHifiGan or SpeechT5HifiGan"
        with pytest.raises(TypeError, match=f"Bad model '{type(model).__name__}', {message}"):
            vocoder(log_mel(wave), method="hifigan", hifigan=model)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seconds", [0.002, 0.05, 1.0])
def test_length_is_the_sources(vocoder, method, seconds):
    wave = torch.from_numpy(make_wave(seconds))
    model = tiny_hifigan(SpeechT5HifiGan)
    samples = vocoder(log_mel(wave), wave, method, model)
    assert samples.shape == wave.shape
    assert samples.dtype == torch.float32
    assert torch.isfinite(samples).all()


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 1279, 1280])
def test_length_is_the_sources_on_both_sides_of_a_frame(vocoder, samples):
    wave = torch.from_numpy(make_wave()[:samples])
    for method in ("griffin_lim", "source_filter"):
        assert vocoder(log_mel(wave), wave, method).shape == (samples,)


def test_length_without_a_source_follows_from_the_frames(vocoder):
    assert vocoder(log_mel(make_wave(0.05))).shape == (4 * 256,)


@pytest.mark.parametrize("method", ["griffin_lim", "source_filter"])
def test_silence_stays_silence(vocoder, wave, method):
    silence = torch.zeros_like(wave)
    assert (vocoder(log_mel(silence), silence, method) == 0).all()


def test_silence_without_a_source_stays_silence(vocoder, wave):
    assert (vocoder(log_mel(torch.zeros_like(wave))) == 0).all()


def test_speech_is_silenced_by_the_mel_of_silence(vocoder, wave):
    silence = log_mel(torch.zeros_like(wave))
    assert vocoder(silence, wave).abs().max() < 1e-6
    filtered = vocoder(silence, wave, "source_filter")
    assert filtered.abs().max() < 0.015 * wave.abs().max()


@pytest.mark.parametrize("method", ["griffin_lim", "source_filter"])
def test_level_is_kept_below_full_scale_and_the_peak_limited_above(vocoder, wave, method):
    quiet, loud = (
        vocoder(log_mel(wave) + gain / DB, wave, method).abs().max() for gain in (-20, 20)
    )
    assert quiet == pytest.approx(wave.abs().max().item() / 10, rel=0.05)
    assert loud == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("method", ["griffin_lim", "source_filter"])
@pytest.mark.parametrize("value", [-1e30, -100.0, 100.0, 1e30])
def test_wild_log_mels_stay_finite(vocoder, wave, method, value):
    samples = vocoder(torch.full((87, 80), value), wave, method)
    assert torch.isfinite(samples).all()
    assert samples.abs().max() <= 1


@pytest.mark.parametrize("method", ["griffin_lim", "source_filter"])
def test_saved_and_loaded_vocoder_gives_the_same(tmp_path, wave, method):
    saved = MelVocoder(fmax=8000.0, num_iterations=3, momentum=0.5)
    saved.save_pretrained(tmp_path)
    loaded = MelVocoder.from_pretrained(tmp_path)
    assert dict(loaded.config).items() >= {"fmax": 8000.0, "num_iterations": 3}.items()
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "MelVocoder"
    wanted = log_mel(wave) + 1
    assert torch.equal(loaded(wanted, wave, method), saved(wanted, wave, method))


@pytest.mark.parametrize("method", ["griffin_lim", "source_filter"])
def test_autocast_changes_nothing(vocoder, wave, method):
    """Pipelines are run under autocast; phases in half precision would be noise."""
    wanted = log_mel(wave) + 1
    expected = vocoder(wanted, wave, method)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vocoder(wanted, wave, method), expected)


def test_change_of_type_warns_of_nothing(vocoder, caplog):
    """diffusers would name modules "to be kept in float32: []"."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    MelVocoder().to(torch.bfloat16)
    logger.removeHandler(caplog.handler)
    assert caplog.messages == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_give_float32_and_nearly_the_same(tmp_path, vocoder, wave, dtype):
    vocoder.save_pretrained(tmp_path)
    converted = MelVocoder.from_pretrained(tmp_path, torch_dtype=dtype)
    samples = converted(log_mel(wave).to(dtype), wave.to(dtype), "source_filter")
    assert samples.dtype == torch.float32
    # bfloat16 has 8 bits, which is half a decibel of a logarithm near -10.
    torch.testing.assert_close(samples, wave, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "wavenet"}, r"Bad method 'wavenet', expected one of \['griffin_lim', 'sou"),
        ({"method": "source_filter"}, "Bad waveform None, expected the source of method 'source"),
        ({"log_mel": torch.zeros(80)}, r"Bad log_mel of shape \(80,\), expected \(frames, 80\)"),
        ({"log_mel": torch.zeros(0, 80)}, r"Bad log_mel of shape \(0, 80\)"),
        ({"log_mel": torch.zeros(5, 79)}, r"Bad log_mel of shape \(5, 79\)"),
        ({"log_mel": torch.zeros(1, 5, 80)}, r"Bad log_mel of shape \(1, 5, 80\)"),
        ({"log_mel": torch.full((5, 80), torch.nan)}, "Bad log_mel with NaN or infinity"),
        ({"log_mel": torch.zeros(1, 80)}, "Bad log_mel of 1 frame, expected 2 or more"),
        ({"waveform": torch.zeros(1280)}, "Bad log_mel of 5 frames, expected 6 for .* 1280 sam"),
        ({"waveform": torch.zeros(1023)}, "Bad log_mel of 5 frames, expected 4 for .* 1023 sam"),
        ({"waveform": torch.zeros(1, 1100)}, r"Bad waveform of shape \(1, 1100\), expected \(sam"),
        ({"waveform": torch.full((1100,), torch.inf)}, "Bad waveform with NaN or infinity"),
    ],
)
def test_impossible_arguments_are_refused(vocoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        vocoder(**{"log_mel": torch.zeros(5, 80), **arguments})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_gpu_computes_the_same(wave, method):
    model = tiny_hifigan(SpeechT5HifiGan)
    wanted = log_mel(wave) + 0.5
    on_cpu = MelVocoder(num_iterations=2)(wanted, wave, method, model)
    on_gpu = MelVocoder(num_iterations=2).to("cuda")(wanted, wave, method, model.to("cuda"))
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-2, rtol=0)
