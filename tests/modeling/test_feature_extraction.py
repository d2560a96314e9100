import librosa
import numpy as np
import pytest
import torch
from toy_components import RATE, make_wave
from transformers import AutoFeatureExtractor

from modeling import EmotionFeatureExtractor

SILENCE = np.log(1e-5)


@pytest.fixture(scope="module")
def extractor():
    return EmotionFeatureExtractor()


@pytest.fixture(scope="module")
def normalizing():
    """An extractor with statistics of every band."""
    bands = np.linspace(0, 1, 80)
    return EmotionFeatureExtractor(mean=(bands - 5).tolist(), std=(bands + 1).tolist())


def log_mel(extractor, clip, **kwargs):
    """Unpadded features `(frames, 80)` of one clip."""
    return extractor(clip, padding=False, **kwargs)["input_features"][0]


def test_ten_seconds_are_861_frames_of_80_bands(extractor):
    features = extractor(make_wave(10.0), return_tensors="pt")["input_features"]
    assert features.shape == (1, 861, 80)
    assert features.dtype == torch.float32
    assert extractor.max_frames == 861


@pytest.mark.filterwarnings("ignore:n_fft=1024 is too large:UserWarning")
@pytest.mark.parametrize("rate", [22_025, 22_050, 16_000])
@pytest.mark.parametrize("seconds", [0.002, 0.7, 3.0])
def test_equals_librosa(rate, seconds):
    wave = make_wave(seconds, rate)
    mel = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=1024, hop_length=256, n_mels=80, power=1.0, pad_mode="constant"
    )
    ours = np.exp(log_mel(EmotionFeatureExtractor(sampling_rate=rate), wave))
    np.testing.assert_allclose(ours, np.maximum(mel.T, 1e-5), rtol=1e-4)


def test_features_are_z_scored_log_mels(extractor, normalizing, wave):
    expected = (log_mel(extractor, wave) - normalizing.mean) / normalizing.std
    np.testing.assert_allclose(log_mel(normalizing, wave), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("corpus", [None, "loud"])
def test_denormalize_undoes_normalize(normalizing, corpus):
    extractor = EmotionFeatureExtractor.from_dict(normalizing.to_dict())
    extractor.set_statistics(1.0, 3.0)
    extractor.set_statistics(2.5, 0.7, corpus="loud")
    log_mels = torch.randn(2, 30, 80) * 3 - 5
    there_and_back = extractor.denormalize(extractor.normalize(log_mels, corpus), corpus)
    torch.testing.assert_close(there_and_back, log_mels, rtol=1e-6, atol=2e-6)


def test_batch_gives_what_each_clip_gives_alone(normalizing):
    clips = [make_wave(seconds, seed=i) for i, seconds in enumerate((0.3, 1.0, 0.002, 2.5))]
    batch = normalizing(clips, padding=False)["input_features"]
    for features, clip in zip(batch, clips, strict=True):
        np.testing.assert_allclose(features, log_mel(normalizing, clip), atol=1e-4)


@pytest.mark.parametrize(
    ("padding", "frames"), [("max_length", 861), ("longest", 173), (True, 173)]
)
def test_padding_fills_and_masks(normalizing, padding, frames):
    clips = [make_wave(1.0), make_wave(2.0)]
    batch = normalizing(clips, padding=padding, return_tensors="pt")
    assert batch["input_features"].shape == (2, frames, 80)
    assert batch["attention_mask"].shape == (2, frames)
    for features, mask, length in zip(*batch.values(), (87, 173), strict=True):
        assert mask.tolist() == [1] * length + [0] * (frames - length)
        assert (features[length:] == 0).all()
        assert (features[:length] != 0).any(dim=1).all()


def test_no_padding_gives_arrays_of_their_own_lengths(extractor):
    batch = extractor([make_wave(1.0), make_wave(2.0)], padding=False)
    assert [x.shape for x in batch["input_features"]] == [(87, 80), (173, 80)]
    assert [mask.tolist() for mask in batch["attention_mask"]] == [[1] * 87, [1] * 173]


@pytest.mark.parametrize(("kind", "expected"), [("pt", torch.Tensor), ("np", np.ndarray)])
def test_return_tensors(extractor, wave, kind, expected):
    assert all(isinstance(x, expected) for x in extractor(wave, return_tensors=kind).values())


def test_mask_can_be_left_out(extractor, wave):
    assert list(extractor(wave, return_attention_mask=False)) == ["input_features"]


def test_ten_minutes_are_cut_to_ten_seconds(extractor):
    wave = np.resize(make_wave(20.0), 600 * RATE)
    batch = extractor(wave)
    assert batch["input_features"].shape == (1, 861, 80)
    assert batch["attention_mask"].all()
    first = extractor(wave[: 10 * RATE])["input_features"]
    np.testing.assert_array_equal(batch["input_features"], first)


def test_ten_minutes_stay_whole_without_truncation(extractor):
    wave = np.resize(make_wave(20.0), 600 * RATE)
    batch = extractor(wave, truncation=False)
    assert batch["input_features"].shape == (1, 600 * RATE // 256 + 1, 80)
    assert batch["attention_mask"].all()


def test_two_milliseconds_are_one_frame(extractor):
    batch = extractor(make_wave(0.002))
    assert batch["attention_mask"].sum() == 1
    assert np.isfinite(batch["input_features"]).all()


def test_silence_is_the_logarithm_of_the_floor(extractor):
    np.testing.assert_allclose(log_mel(extractor, np.zeros(RATE)), SILENCE, rtol=1e-6)


def test_level_is_kept(extractor, wave):
    louder = log_mel(extractor, wave) - log_mel(extractor, wave / 2)
    np.testing.assert_allclose(louder, np.log(2), atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_resampling_keeps_frequency_level_and_length(extractor, rate):
    def tone(rate):
        return 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)

    native, resampled = (
        log_mel(extractor, tone(RATE)),
        log_mel(extractor, tone(rate), sampling_rate=rate),
    )
    assert len(resampled) == len(native)
    inner = slice(4, -4)
    bands = np.arange(-2, 3) + native[40].argmax()
    np.testing.assert_allclose(resampled[inner, bands], native[inner, bands], atol=0.02)
    assert (resampled[inner].argmax(axis=1) == native[40].argmax()).all()


@pytest.mark.parametrize("rate", [1_001, 16_001, 44_099, 767_999])
def test_rates_without_a_common_factor_are_resampled_too(extractor, rate):
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(rate // 2) / rate)
    native = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE // 2) / RATE)
    features = log_mel(extractor, tone, sampling_rate=rate)
    assert features[20].argmax() == log_mel(extractor, native)[20].argmax()


@pytest.mark.parametrize("rate", [0, -16_000, 999, 768_001])
def test_impossible_rates_are_refused(extractor, wave, rate):
    with pytest.raises(ValueError, match=rf"Bad sampling_rate {rate}, expected 1000 to 768000 Hz"):
        extractor(wave, sampling_rate=rate)


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_averaged_whichever_axis_they_are(extractor, wave, axis):
    stereo = np.stack([wave, make_wave(seed=1)], axis=axis)
    expected = log_mel(extractor, stereo.mean(axis=axis))
    np.testing.assert_allclose(log_mel(extractor, stereo), expected, atol=1e-5)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.ndarray.tolist,
        tuple,
        torch.from_numpy,
        np.float64,
        lambda wave: [wave],
        lambda wave: wave[::-1][::-1],
        lambda wave: torch.from_numpy(wave).requires_grad_(),
    ],
    ids=["scalars", "floats", "tuple", "tensor", "float64", "batch", "view", "with_gradient"],
)
def test_a_clip_may_be_a_list_a_tensor_or_an_array(extractor, wave, convert):
    features = extractor(convert(wave), padding=False)["input_features"]
    np.testing.assert_array_equal(features, [log_mel(extractor, wave)])


def test_reversed_and_read_only_arrays_are_taken(extractor, wave):
    backwards = wave[::-1].copy()
    backwards.flags.writeable = False
    np.testing.assert_array_equal(log_mel(extractor, wave[::-1]), log_mel(extractor, backwards))


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integers_are_pcm(extractor, wave, dtype):
    full_scale = -float(np.iinfo(dtype).min)
    pcm = (wave.astype(np.float64) * full_scale).astype(dtype)
    expected = log_mel(extractor, (pcm / full_scale).astype(np.float32))
    np.testing.assert_allclose(log_mel(extractor, pcm), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros(0), "Clip 0 is empty"),
        (np.zeros((2, 0)), "Clip 0 is empty"),
        (np.array([0.0, np.nan]), "Clip 0 holds NaN or infinite samples"),
        (np.array([0.0, np.inf]), "Clip 0 holds NaN or infinite samples"),
        (np.array([-np.inf, 0.0]), "Clip 0 holds NaN or infinite samples"),
        ([np.ones(9), np.zeros(0)], "Clip 1 is empty"),
        ([np.ones(9), np.full(9, np.nan)], "Clip 1 holds NaN"),
        ([], "Got an empty list, expected at least one clip"),
        (
            np.zeros((100, 100)),
            r"Bad shape \(100, 100\) of clip 0, expected \(samples,\) or at most 8",
        ),
        (np.zeros((1, 2, 100)), r"Bad shape \(1, 2, 100\) of clip 0"),
        (np.array(0.5), r"Bad shape \(\) of clip 0"),
        (np.zeros(9, dtype=np.uint8), "Bad type torch.uint8 of clip 0, expected floating point"),
    ],
)
def test_clips_that_are_no_sound_are_refused(extractor, clip, message):
    with pytest.raises(ValueError, match=message):
        extractor(clip)


def test_unknown_padding_is_refused(extractor, wave):
    with pytest.raises(ValueError, match=r"Bad padding 'shortest', expected one of \[False, True"):
        extractor(wave, padding="shortest")


class TestStatistics:
    def test_named_corpus_uses_its_own(self, extractor, wave):
        both = EmotionFeatureExtractor()
        both.set_statistics(-5.0, 2.0, corpus="emodb")
        both.set_statistics(-3.0, 1.0, corpus="ravdess")
        plain = log_mel(extractor, wave)
        np.testing.assert_allclose(log_mel(both, wave, corpus="emodb"), (plain + 5) / 2, atol=1e-5)
        np.testing.assert_allclose(log_mel(both, wave, corpus="ravdess"), plain + 3, atol=1e-5)

    def test_no_corpus_is_the_default(self, wave):
        extractor = EmotionFeatureExtractor()
        plain = log_mel(extractor, wave)
        extractor.set_statistics(-5.0, 2.0, corpus="emodb")
        np.testing.assert_array_equal(log_mel(extractor, wave), plain)
        extractor.set_statistics(-3.0, 1.0)
        np.testing.assert_allclose(log_mel(extractor, wave), plain + 3, atol=1e-5)

    def test_calibrated_recordings_lie_around_0(self, wave):
        extractor = EmotionFeatureExtractor(mean=-4.0, std=2.0)
        rooms = [wave, 0.5 * wave[::-1].copy()] * 20
        speakers = ["a", "b"] * 20
        extractor.calibrate(rooms, extractor.sampling_rate, name="desk", speakers=speakers)
        features = np.concatenate([log_mel(extractor, w, corpus="desk") for w in rooms])
        plain = np.concatenate([log_mel(extractor, w) for w in rooms])
        assert np.abs(features.mean(axis=0)).max() < 0.2 * np.abs(plain.mean(axis=0)).max()
        assert extractor.names == ["desk", "desk/a", "desk/b"]
        own = log_mel(extractor, wave, corpus="desk/a")
        assert np.abs(own.mean(axis=0)).max() < 0.2 * np.abs(plain.mean(axis=0)).max()

    def test_unknown_corpus_is_refused(self, emotion_classifier, wave):
        with pytest.raises(
            ValueError, match=r"Bad corpus 'iemocap', expected one of \['emodb', 'rav"
        ):
            emotion_classifier.feature_extractor(wave, corpus="iemocap")

    @pytest.mark.parametrize(
        ("mean", "std", "message"),
        [
            (np.zeros(79), 1.0, r"Bad mean of shape \(79,\), expected one number or 80"),
            (0.0, np.ones((1, 80)), r"Bad std of shape \(1, 80\)"),
            (0.0, 0.0, "Bad std with values of 0 or below"),
            (0.0, np.append(np.ones(79), -1), "Bad std with values of 0 or below"),
            (np.nan, 1.0, "Bad mean with NaN"),
            (0.0, np.inf, "Bad std with NaN or infinity"),
        ],
    )
    def test_impossible_ones_are_refused_and_not_stored(self, mean, std, message):
        with pytest.raises(ValueError, match=message):
            EmotionFeatureExtractor(mean=np.asarray(mean).tolist(), std=np.asarray(std).tolist())
        extractor = EmotionFeatureExtractor(mean=-4.0, std=2.0)
        for corpus in (None, "emodb"):
            with pytest.raises(ValueError, match=message):
                extractor.set_statistics(mean, std, corpus)
        assert (extractor.mean, extractor.std) == (-4.0, 2.0)
        assert extractor.corpus_statistics == {}


class TestSaving:
    def test_round_trip_keeps_every_setting_and_number(self, tmp_path, wave):
        saved = EmotionFeatureExtractor(sampling_rate=22_050, max_seconds=3.0, fmax=8000.0)
        saved.set_statistics(np.linspace(-6, -4, 80), np.linspace(1, 2, 80), corpus="emodb")
        saved.set_statistics(-2.0, 1.5, corpus="ravdess")
        saved.save_pretrained(tmp_path)
        loaded = EmotionFeatureExtractor.from_pretrained(tmp_path)
        assert loaded.to_dict() == saved.to_dict()
        for corpus in (None, "emodb", "ravdess"):
            one, other = saved(wave, corpus=corpus), loaded(wave, corpus=corpus)
            np.testing.assert_array_equal(one["input_features"], other["input_features"])

    def test_loads_by_auto_class_in_process_without_trust(self, model_folder):
        loaded = AutoFeatureExtractor.from_pretrained(model_folder)
        assert type(loaded) is EmotionFeatureExtractor

    def test_loads_by_auto_class_where_this_project_is_not_importable(
        self, fresh_process, emotion_classifier, wave
    ):
        assert fresh_process["importable"] == []
        assert fresh_process["extractor"] == "EmotionFeatureExtractor"
        expected = log_mel(emotion_classifier.feature_extractor, wave)
        np.testing.assert_allclose(fresh_process["features"], expected, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_computes_the_same(normalizing):
    wave = make_wave(2.0, rate=48_000)
    on_gpu = normalizing(wave, sampling_rate=48_000, return_tensors="pt", device="cuda")
    assert on_gpu["input_features"].device.type == "cuda"
    on_cpu = normalizing(wave, sampling_rate=48_000, return_tensors="pt")
    torch.testing.assert_close(
        on_gpu["input_features"].cpu(), on_cpu["input_features"], atol=1e-3, rtol=1e-3
    )


def test_autocast_does_not_touch_the_features(wave):
    extractor = EmotionFeatureExtractor()
    expected = extractor(wave, return_tensors="pt")["input_features"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(extractor(wave, return_tensors="pt").input_features, expected)
