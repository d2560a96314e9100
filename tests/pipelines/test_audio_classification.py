import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from toy_components import RATE, make_wave
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from pipelines import EmotionClassificationPipeline

EMOTIONS = {"neutral", "happiness", "sadness", "anger", "fear", "disgust"}


@pytest.fixture(scope="module")
def foreign_classifier():
    """A tiny wav2vec 2.0 behind the same pipeline."""
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16, 16),
        conv_kernel=(10, 8),
        conv_stride=(5, 8),
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        id2label={0: "calm", 1: "excited"},
        label2id={"calm": 0, "excited": 1},
    )
    torch.manual_seed(0)
    return EmotionClassificationPipeline(
        model=Wav2Vec2ForSequenceClassification(config).eval(),
        feature_extractor=Wav2Vec2FeatureExtractor(return_attention_mask=True),
    )


@pytest.fixture(scope="module")
def encoded(recordings):
    return (recordings / "clip.wav").read_bytes()


@pytest.fixture(scope="module")
def rows(recordings):
    """Rows of `datasets`, encoded and of several lengths."""
    sounds = [encode(make_wave(seconds, 16_000, seed=i)) for i, seconds in enumerate((1, 0.4, 2))]
    audio = [{"bytes": sound, "path": None} for sound in sounds]
    dataset = Dataset.from_dict({"audio": audio, "emotion": [3, 1, 0]})
    return dataset.cast_column("audio", Audio(decode=False))


@pytest.fixture(scope="module")
def waves():
    """Clips of several lengths."""
    return [make_wave(seconds, seed=i) for i, seconds in enumerate((0.5, 2.0, 0.1, 1.0, 3.0))]


def encode(wave, rate=16_000, file_format="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def scores(output):
    return {entry["label"]: entry["score"] for entry in output}


def assert_same(output, expected, tolerance=1e-5):
    assert scores(output) == pytest.approx(scores(expected), abs=tolerance)


class TestInputs:
    @pytest.fixture
    def expected(self, emotion_classifier, recordings):
        """What the pipeline says of the recording when it is given as decoded samples."""
        samples, rate = soundfile.read(recordings / "clip.wav", dtype="float32")
        return emotion_classifier({"array": samples, "sampling_rate": rate})

    @pytest.mark.parametrize(
        "given",
        [
            lambda folder: str(folder / "clip.wav"),
            lambda folder: folder / "clip.wav",
            lambda folder: (folder / "clip.wav").read_bytes(),
            lambda folder: bytearray((folder / "clip.wav").read_bytes()),
            lambda folder: {"bytes": (folder / "clip.wav").read_bytes(), "path": None},
            lambda folder: {"bytes": (folder / "clip.wav").read_bytes(), "path": "elsewhere.wav"},
            lambda folder: {"bytes": None, "path": str(folder / "clip.wav")},
            lambda folder: {"audio": {"bytes": None, "path": str(folder / "clip.wav")}, "age": 3},
            lambda folder: {"audio": str(folder / "clip.wav")},
            lambda folder: str(folder / "clip.flac"),
        ],
        ids=[
            "string",
            "path",
            "bytes",
            "bytearray",
            "encoded_row",
            "named_encoded_row",
            "path_row",
            "dataset_row",
            "row_of_path",
            "flac",
        ],
    )
    def test_encoded(self, emotion_classifier, recordings, expected, given):
        assert_same(emotion_classifier(given(recordings)), expected)

    @pytest.mark.parametrize(
        "given",
        [
            lambda wave: {"array": wave, "sampling_rate": 16_000},
            lambda wave: {"raw": wave, "sampling_rate": 16_000},
            lambda wave: {"array": wave, "sampling_rate": 16_000, "path": "gone.wav"},
            lambda wave: {"array": wave.tolist(), "sampling_rate": 16_000},
            lambda wave: {"array": torch.from_numpy(wave), "sampling_rate": 16_000},
            lambda wave: {"audio": {"array": wave, "sampling_rate": 16_000, "path": None}},
        ],
        ids=["array", "raw", "decoded_audio", "list", "tensor", "decoded_row"],
    )
    def test_decoded(self, emotion_classifier, recordings, expected, given):
        samples, _ = soundfile.read(recordings / "clip.wav", dtype="float32")
        assert_same(emotion_classifier(given(samples)), expected)

    def test_torchcodec_decoder(self, emotion_classifier, recordings, expected):
        # torchcodec is optional: this is the part of its decoder that datasets hands out.
        samples, rate = soundfile.read(recordings / "clip.wav", dtype="float32", always_2d=True)
        decoded = SimpleNamespace(data=torch.from_numpy(samples.T), sample_rate=rate)
        decoder = SimpleNamespace(get_all_samples=lambda: decoded)
        assert_same(emotion_classifier(decoder), expected)
        assert_same(emotion_classifier({"audio": decoder, "emotion": 1}), expected)

    def test_input_is_not_changed(self, emotion_classifier, wave):
        given = {"array": wave.copy(), "sampling_rate": 16_000}
        emotion_classifier(given)
        assert list(given) == ["array", "sampling_rate"]
        np.testing.assert_array_equal(given["array"], wave)

    @pytest.mark.parametrize(
        "convert", [np.array, torch.tensor, np.float64, lambda x: x[::-1][::-1]]
    )
    def test_bare_samples_are_at_the_rate_of_the_model(self, emotion_classifier, wave, convert):
        expected = emotion_classifier({"array": wave, "sampling_rate": RATE})
        assert_same(emotion_classifier(convert(wave)), expected)

    @pytest.mark.parametrize("suffix", ["ogg", "mp3"])
    def test_lossy_files_are_heard_almost_alike(
        self, emotion_classifier, recordings, expected, suffix
    ):
        assert_same(emotion_classifier(recordings / f"clip.{suffix}"), expected, tolerance=0.1)

    def test_url(self, emotion_classifier, server, expected):
        assert_same(emotion_classifier(f"{server}/clip.wav"), expected)

    @pytest.mark.parametrize("axis", [0, 1])
    def test_channels_are_averaged_whichever_axis_they_are(self, emotion_classifier, wave, axis):
        stereo = np.stack([wave, make_wave(seed=1)], axis=axis)
        assert_same(emotion_classifier(stereo), emotion_classifier(stereo.mean(axis=axis)))

    def test_stereo_file(self, emotion_classifier):
        left, right = make_wave(0.5, 16_000), make_wave(0.5, 16_000, seed=1)
        stereo = encode(np.stack([left, right], axis=1), subtype="FLOAT")
        mean = {"array": (left + right) / 2, "sampling_rate": 16_000}
        assert_same(emotion_classifier(stereo), emotion_classifier(mean))

    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_001, 44_100, 48_000, 192_000])
    def test_any_rate(self, emotion_classifier, rate):
        tone = [np.sin(2 * np.pi * 500 * np.arange(r) / r) for r in (rate, RATE)]
        output = emotion_classifier({"array": tone[0], "sampling_rate": rate})
        assert_same(output, emotion_classifier(tone[1]), tolerance=0.05)

    @pytest.mark.parametrize("dtype", [np.int16, np.int32])
    def test_integers_are_pcm(self, emotion_classifier, wave, dtype):
        pcm = (wave.astype(np.float64) * np.iinfo(dtype).max).astype(dtype)
        assert_same(emotion_classifier(pcm), emotion_classifier(wave), tolerance=1e-3)

    def test_more_than_ten_seconds_are_cut(self, emotion_classifier):
        long = make_wave(12.0)
        assert_same(emotion_classifier(long), emotion_classifier(long[: 10 * RATE]))


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (b"not a sound", "Cannot decode '11 bytes' .*, expected wav, flac, ogg or mp3"),
            (b"", "Cannot decode '0 bytes'"),
            ({"bytes": b"nothing", "path": "a.wav"}, "Cannot decode 'a.wav'"),
            ({"array": np.ones(9)}, "Got 'array' without 'sampling_rate', expected both"),
            ({"raw": np.ones(9), "sampling_rate": None}, "Got 'raw' without 'sampling_rate'"),
            ({"array": np.ones(9), "sampling_rate": 0}, "Bad sampling_rate 0, expected a positive"),
            ({"array": np.ones(9), "sampling_rate": -8000}, "Bad sampling_rate -8000"),
            ({"text": "hello"}, r"Bad keys \['text'\], expected 'audio', 'array' or 'raw'"),
            ({"bytes": None, "path": None}, r"Bad keys \['bytes', 'path'\]"),
            (np.zeros(0), "Got a recording without samples"),
            (torch.zeros(2, 0), "Got a recording without samples"),
            (encode(np.zeros(0)), "Got a recording without samples"),
            (encode(np.zeros((0, 2))), "Got a recording without samples"),
            (np.zeros((1, 2, 9)), r"Bad shape \(1, 2, 9\), expected \(samples,\) or \(channels"),
            (np.array(0.5), r"Bad shape \(\)"),
            (np.array([0.0, np.nan]), "NaN"),
            (np.zeros(9, dtype=np.int64), "Bad type torch.int64, expected floating point, int16"),
        ],
    )
    def test_no_sound_is_refused(self, emotion_classifier, given, message):
        with pytest.raises(ValueError, match=message):
            emotion_classifier(given)

    @pytest.mark.parametrize("content", ["Der Lappen liegt auf dem Eisschrank.", ""])
    def test_text_and_empty_files_are_named(self, emotion_classifier, tmp_path, content):
        path = tmp_path / "transcript.txt"
        path.write_text(content)
        with pytest.raises(ValueError, match=r"Cannot decode '.*transcript.txt' .*, expected wav"):
            emotion_classifier(path)

    def test_missing_file_is_named(self, emotion_classifier, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone.wav"):
            emotion_classifier(tmp_path / "gone.wav")

    def test_missing_address_is_named(self, emotion_classifier, server):
        with pytest.raises(Exception, match=r"404 .*gone\.wav"):
            emotion_classifier(f"{server}/gone.wav")

    @pytest.mark.parametrize(
        ("given", "name"), [(None, "NoneType"), (3.5, "float"), (object(), "object")]
    )
    def test_other_types_are_refused(self, emotion_classifier, given, name):
        with pytest.raises(TypeError, match=f"Bad input of type {name}, expected a path, URL"):
            emotion_classifier(given)

    def test_unknown_corpus_is_refused(self, emotion_classifier, wave):
        with pytest.raises(ValueError, match=r"Bad corpus 'iemocap', expected one of \['emodb'"):
            emotion_classifier(wave, corpus="iemocap")


class TestOutput:
    def test_every_class_most_probable_first(self, emotion_classifier, wave):
        output = emotion_classifier(wave)
        assert {entry["label"] for entry in output} == EMOTIONS
        values = [entry["score"] for entry in output]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-5)

    def test_scores_are_those_of_the_model(self, emotion_classifier, wave):
        model, extractor = emotion_classifier.model, emotion_classifier.feature_extractor
        with torch.no_grad():
            probabilities = model(**extractor(wave, return_tensors="pt")).logits.softmax(-1)[0]
        named = {model.config.id2label[i]: p.item() for i, p in enumerate(probabilities)}
        assert scores(emotion_classifier(wave)) == pytest.approx(named, abs=1e-5)

    @pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (6, 6), (100, 6), (None, 6)])
    def test_top_k(self, emotion_classifier, wave, top_k, count):
        output = emotion_classifier(wave, top_k=top_k)
        assert output == emotion_classifier(wave)[:count]

    def test_top_k_of_the_construction_holds_until_a_call_says_otherwise(
        self, emotion_classifier, wave
    ):
        two = EmotionClassificationPipeline(
            model=emotion_classifier.model,
            feature_extractor=emotion_classifier.feature_extractor,
            top_k=2,
        )
        assert len(two(wave)) == 2
        assert len(two(wave, top_k=4)) == 4

    def test_corpus_selects_its_statistics(self, emotion_classifier, wave):
        default, emodb, ravdess = (
            scores(emotion_classifier(wave, corpus=corpus)) for corpus in (None, "emodb", "ravdess")
        )
        assert default == emodb
        assert default != pytest.approx(ravdess, abs=0.01)

    def test_corpus_can_be_chosen_at_construction(self, emotion_classifier, wave):
        chosen = EmotionClassificationPipeline(
            model=emotion_classifier.model,
            feature_extractor=emotion_classifier.feature_extractor,
            corpus="ravdess",
        )
        assert chosen(wave) == emotion_classifier(wave, corpus="ravdess")

    def test_function_to_apply(self, emotion_classifier, wave):
        logits = scores(emotion_classifier(wave, function_to_apply="none"))
        probabilities = torch.tensor(list(logits.values())).softmax(-1)
        expected = dict(zip(logits, probabilities.tolist(), strict=True))
        assert scores(emotion_classifier(wave)) == pytest.approx(expected, abs=1e-5)


class TestBatches:
    @pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
    def test_equal_one_by_one(self, emotion_classifier, waves, batch_size):
        together = emotion_classifier(waves, batch_size=batch_size)
        assert len(together) == len(waves)
        for output, wave in zip(together, waves, strict=True):
            assert_same(output, emotion_classifier(wave), tolerance=1e-4)

    def test_kinds_of_input_can_be_mixed(self, emotion_classifier, recordings, encoded):
        path = recordings / "clip.wav"
        outputs = emotion_classifier([path, encoded, {"audio": {"path": str(path)}}], batch_size=2)
        assert_same(outputs[1], outputs[0])
        assert_same(outputs[2], outputs[0])

    @pytest.mark.parametrize(
        "give",
        [
            lambda rows: (row for row in rows),
            lambda rows: rows,
            lambda rows: rows["audio"],
            lambda rows: rows.to_iterable_dataset(),
            lambda rows: KeyDataset(rows, "audio"),
        ],
        ids=["generator", "dataset", "column", "iterable_dataset", "key_dataset"],
    )
    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_stream_in_order(self, emotion_classifier, rows, give, batch_size):
        outputs = list(emotion_classifier(give(rows), batch_size=batch_size))
        assert len(outputs) == len(rows)
        for output, row in zip(outputs, rows, strict=True):
            assert_same(output, emotion_classifier(row), tolerance=1e-4)

    def test_generator_is_consumed_lazily(self, emotion_classifier, wave):
        def endless():
            while True:
                yield wave

        assert_same(next(iter(emotion_classifier(endless()))), emotion_classifier(wave))


class TestForeignModel:
    def test_decodes_resamples_and_averages_for_it(self, foreign_classifier, recordings):
        samples, _ = soundfile.read(recordings / "clip.wav", dtype="float32")
        with torch.no_grad():
            inputs = foreign_classifier.feature_extractor(
                samples, sampling_rate=16_000, return_tensors="pt"
            )
            expected = foreign_classifier.model(**inputs).logits.softmax(-1)[0]
        output = scores(foreign_classifier(recordings / "clip.wav"))
        assert [output["calm"], output["excited"]] == pytest.approx(expected.tolist(), abs=1e-5)
        stereo = {"array": np.stack([samples, samples]), "sampling_rate": 16_000}
        assert scores(foreign_classifier(stereo)) == pytest.approx(output, abs=1e-5)

    def test_batch_equals_one_by_one(self, foreign_classifier, rows):
        outputs = foreign_classifier(list(rows), batch_size=3)
        for output, row in zip(outputs, rows, strict=True):
            assert_same(output, foreign_classifier(row), tolerance=1e-4)


class TestSaved:
    """What `pipeline` makes of the folder, in process and in a process without this project."""

    def test_folder_holds_everything(self, model_folder):
        names = {path.name for path in model_folder.iterdir()}
        assert names >= {
            "audio_classification.py",
            "config.json",
            "configuration_emotion_resnet.py",
            "feature_extraction_emotion.py",
            "model.safetensors",
            "modeling_emotion_resnet.py",
            "preprocessor_config.json",
        }

    def test_task_gives_this_pipeline_in_process(self, emotion_classifier, model_folder, wave):
        loaded = pipeline("audio-classification", str(model_folder), trust_remote_code=True)
        assert type(loaded).__name__ == "EmotionClassificationPipeline"
        assert_same(loaded(wave), emotion_classifier(wave))

    def test_half_precision(self, emotion_classifier, model_folder, wave):
        loaded = pipeline(
            "audio-classification", str(model_folder), trust_remote_code=True, dtype=torch.bfloat16
        )
        assert loaded.model.dtype == torch.bfloat16
        assert_same(loaded(wave), emotion_classifier(wave), tolerance=0.05)

    def test_task_gives_this_pipeline_to_a_stranger(self, fresh_process):
        assert fresh_process["importable"] == []
        assert fresh_process["pipeline"] == "EmotionClassificationPipeline"
        assert "not supported" not in fresh_process["stderr"]

    @pytest.mark.parametrize("name", ["wav", "flac", "pathlib", "bytes", "url", "row"])
    def test_stranger_needs_no_ffmpeg(self, fresh_process, emotion_classifier, recordings, name):
        assert fresh_process["ffmpeg"] is None
        assert_same(fresh_process["outputs"][name], emotion_classifier(recordings / "clip.wav"))

    @pytest.mark.parametrize("suffix", ["ogg", "mp3"])
    def test_stranger_hears_lossy_files(
        self, fresh_process, emotion_classifier, recordings, suffix
    ):
        expected = emotion_classifier(recordings / f"clip.{suffix}")
        assert_same(fresh_process["outputs"][suffix], expected)

    def test_stranger_hears_arrays(self, fresh_process, emotion_classifier, wave):
        assert_same(fresh_process["outputs"]["array"], emotion_classifier(wave))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_says_the_same(model_folder, emotion_classifier, wave):
    on_gpu = pipeline(
        "audio-classification", str(model_folder), trust_remote_code=True, device="cuda"
    )
    expected = emotion_classifier(wave)
    assert_same(on_gpu(wave), expected, tolerance=1e-3)
    assert_same(on_gpu(torch.from_numpy(wave).cuda()), expected, tolerance=1e-3)
