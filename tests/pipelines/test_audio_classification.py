import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from toy_components import RATE, make_wave
from transformers import (
    AudioClassificationPipeline,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from datasets_scripts import decode_audio, load_corpus
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


@pytest.fixture(scope="module")
def spoken():
    """Synthetic speech and its rate."""
    row = load_corpus("toy_emotions", speakers=1, repetitions=1)[0]
    return decode_audio(row["audio"])


def rebuilt(classifier, **arguments):
    """The same classifier, constructed with other arguments."""
    parts = {"model": classifier.model, "feature_extractor": classifier.feature_extractor}
    return EmotionClassificationPipeline(**parts, **arguments)


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

    @pytest.mark.parametrize(
        "give",
        [
            lambda file: io.BytesIO(file.read_bytes()),
            lambda file: open(file, "rb"),  # noqa: SIM115
            lambda file: memoryview(file.read_bytes()),
        ],
        ids=["BytesIO", "open_file", "memoryview"],
    )
    def test_binary_files(self, emotion_classifier, recordings, expected, give):
        given = give(recordings / "clip.wav")
        assert_same(emotion_classifier(given), expected)
        # Again: it is read from its start.
        assert_same(emotion_classifier([given, given])[1], expected)

    @pytest.mark.parametrize("rate", [16_000, np.int64(16_000), 16_000.0, torch.tensor(16_000)])
    def test_pairs_of_rate_and_samples(self, emotion_classifier, recordings, expected, rate):
        samples, _ = soundfile.read(recordings / "clip.wav", dtype="float32")
        pcm = (samples * 32_768).astype(np.int16)
        pairs = [(rate, samples), (samples, rate), (rate, pcm), (torch.from_numpy(samples), rate)]
        for pair in pairs:
            assert_same(emotion_classifier(pair), expected)
        assert_same(emotion_classifier(pairs)[3], expected)

    def test_rate_of_arrays_can_be_named(self, emotion_classifier, recordings, expected):
        samples, _ = soundfile.read(recordings / "clip.wav", dtype="float32")
        assert_same(emotion_classifier(samples, sampling_rate=16_000), expected)
        assert_same(emotion_classifier([samples], sampling_rate=16_000)[0], expected)
        assert_same(emotion_classifier(samples.tolist(), sampling_rate=16_000), expected)
        assert_same(rebuilt(emotion_classifier, sampling_rate=16_000)(samples), expected)

    @pytest.mark.parametrize(
        "collect",
        [list, tuple, np.array, lambda paths: np.array(paths, dtype=object)],
        ids=["list", "tuple", "array", "object_array"],
    )
    def test_several_paths(self, emotion_classifier, recordings, expected, collect):
        outputs = emotion_classifier(collect([str(recordings / "clip.wav")] * 2))
        assert len(outputs) == 2
        assert_same(outputs[1], expected)

    def test_home_folder(self, emotion_classifier, recordings, expected, monkeypatch):
        monkeypatch.setenv("HOME", str(recordings))
        assert_same(emotion_classifier("~/clip.wav"), expected)

    def test_autocast_is_for_networks(self, emotion_classifier, recordings, expected):
        """And not for the sound that they are given."""
        with torch.autocast("cpu", torch.bfloat16):
            assert_same(emotion_classifier(str(recordings / "clip.wav")), expected, tolerance=0.05)

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

    @pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4"])
    def test_integers_are_pcm(self, emotion_classifier, wave, dtype):
        pcm = (wave.astype(np.float64) * np.iinfo(dtype).max).astype(dtype)
        assert_same(emotion_classifier(pcm), emotion_classifier(wave), tolerance=1e-3)

    def test_eight_bits(self, emotion_classifier, wave):
        signed = np.round(wave * 127).astype(np.int8)
        expected = emotion_classifier(signed.astype(np.float32) / 128)
        assert_same(emotion_classifier(signed), expected)
        unsigned = (signed.astype(np.int16) + 128).astype(np.uint8)
        assert_same(emotion_classifier(unsigned), expected)

    def test_modest_overshoot_is_sound(self, emotion_classifier, wave):
        loud = encode(10 * wave, subtype="FLOAT")
        expected = emotion_classifier({"array": 10 * wave, "sampling_rate": 16_000})
        assert_same(emotion_classifier(loud), expected)

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
            (
                {"array": np.ones(9), "sampling_rate": 0},
                "Bad sampling_rate 0, expected a whole number",
            ),
            ({"array": np.ones(9), "sampling_rate": "16k"}, "Bad sampling_rate '16k', expected a"),
            ((16_000.5, np.ones(9)), "Bad sampling_rate 16000.5, expected a whole number of Hz"),
            ({"array": np.ones(9), "sampling_rate": -8000}, "Bad sampling_rate -8000"),
            ({"text": "hello"}, r"Bad keys \['text'\], expected 'audio', 'array' or 'raw'"),
            ({"bytes": None, "path": None}, r"Bad keys \['bytes', 'path'\]"),
            (np.zeros(0), "Got a recording without samples"),
            (torch.zeros(2, 0), "Got a recording without samples"),
            (encode(np.zeros(0)), "Got '44 bytes' without samples"),
            (encode(np.zeros((0, 2))), "Got '44 bytes' without samples"),
            (
                np.zeros((1, 2, 9)),
                r"Bad shape \(1, 2, 9\) of a recording, expected \(samples,\) or",
            ),
            (
                np.zeros((32, 99)),
                r"Bad shape \(32, 99\) .*at most 8 channels; give several .* list",
            ),
            (
                encode(np.zeros((99, 9))),
                r"Bad shape \(99, 9\) of '.* bytes', expected .*8 channels",
            ),
            (make_wave(0.1) * 32_767, "Got a recording with a peak of .*, expected floats.*int16"),
            (encode(make_wave(0.1) * 32_767, subtype="FLOAT"), "with a peak of .*int16"),
            ([], "Got no recordings, expected at least one"),
            (np.array([], dtype=object), "Got no recordings, expected at least one"),
            ([0, 5, -7], "Bad type 'int64' of a recording, expected one of .*'floating point'"),
            (np.ones(9) > 0, "Bad type 'bool' of a recording, expected one of"),
            (
                {"array": [[0.1], [0.1, 0.2]], "sampling_rate": 8_000},
                "expected numbers of one shape",
            ),
            (np.array(0.5), r"Bad shape \(\)"),
            (np.array([0.0, np.nan]), "NaN"),
            (
                np.zeros(9, dtype=np.int64),
                r"Bad type 'int64' of .*, expected one of \['floating point', 'uint8'",
            ),
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

    @pytest.mark.parametrize(
        ("bad", "error", "message"),
        [
            (
                "gone.wav",
                FileNotFoundError,
                "Recording 2: Bad path '.*gone.wav', expected an audio",
            ),
            ("", FileNotFoundError, "Recording 2: Bad path '.*', .* got a folder"),
            ("clip.txt", ValueError, "Recording 2: Cannot decode '.*clip.txt'"),
        ],
    )
    def test_a_bad_file_of_a_list_is_named_before_anything_is_computed(
        self, emotion_classifier, recordings, tmp_path, bad, error, message
    ):
        (tmp_path / "clip.txt").write_text("Der Lappen liegt auf dem Eisschrank.")
        computed = []
        hook = emotion_classifier.model.register_forward_hook(lambda *_: computed.append(1))
        good = recordings / "clip.wav"
        with pytest.raises(error, match=message):
            emotion_classifier([good, good, tmp_path / bad])
        hook.remove()
        assert computed == []

    def test_a_bad_recording_of_a_stream_is_named(self, emotion_classifier, wave):
        outputs = iter(emotion_classifier(sound for sound in (wave, wave * np.nan)))
        next(outputs)
        with pytest.raises(ValueError, match="Recording 1: Got a recording with NaN"):
            next(outputs)

    def test_messages_hold_no_memory_addresses(self, emotion_classifier):
        with pytest.raises(ValueError, match="Cannot decode") as caught:
            emotion_classifier(b"not a sound")
        assert "0x" not in str(caught.value)

    def test_text_mode_is_refused(self, emotion_classifier, tmp_path):
        (tmp_path / "clip.wav").write_text("text")
        with (
            (tmp_path / "clip.wav").open() as file,
            pytest.raises(TypeError, match="clip.wav' of text, expected one opened in binary mode"),
        ):
            emotion_classifier(file)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"topk": 1}, TypeError, r"Bad arguments \['topk'\], expected some of .*'top_k'"),
            ({"top_k": 0}, ValueError, "Bad top_k 0, expected a whole number, 1 or more, or None"),
            ({"top_k": "3"}, ValueError, "Bad top_k '3', expected a whole number"),
            ({"top_k": True}, ValueError, "Bad top_k True"),
            ({"function_to_apply": "max"}, ValueError, r"Bad function_to_apply 'max', .*'softmax'"),
            ({"batch_size": 0}, ValueError, "Bad batch_size 0, expected a whole number, 1 or more"),
            ({"batch_size": "2"}, ValueError, "Bad batch_size '2', expected a whole number"),
            ({"num_workers": -1}, ValueError, "Bad num_workers -1, expected a whole number, 0"),
            ({"corpus": 3}, ValueError, r"Bad corpus 3, expected one of \['emodb', 'ravdess'\]"),
            ({"sampling_rate": "16k"}, ValueError, "Bad sampling_rate '16k', expected a whole"),
            ({"sampling_rate": 0}, ValueError, "Bad sampling_rate 0, expected .* 1000 to 768000"),
        ],
    )
    def test_arguments_of_calls_and_constructions(
        self, emotion_classifier, wave, arguments, error, message
    ):
        with pytest.raises(error, match=message):
            emotion_classifier(wave, **arguments)
        with pytest.raises(error, match=message):
            rebuilt(emotion_classifier, **arguments)

    @pytest.mark.parametrize("given", ["file", "pair", "mapping"])
    def test_another_rate_than_the_recordings_own(
        self, emotion_classifier, recordings, wave, given
    ):
        inputs = {
            "file": recordings / "clip.wav",
            "pair": (16_000, wave),
            "mapping": {"array": wave, "sampling_rate": 16_000},
        }
        with pytest.raises(ValueError, match="Bad sampling_rate 8000, expected 16000, the rec"):
            emotion_classifier(inputs[given], sampling_rate=8_000)
        expected = emotion_classifier(inputs[given])
        assert_same(emotion_classifier(inputs[given], sampling_rate=16_000), expected)

    def test_missing_file_is_named(self, emotion_classifier, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone.wav"):
            emotion_classifier(tmp_path / "gone.wav")

    def test_missing_address_is_named(self, emotion_classifier, server):
        with pytest.raises(Exception, match=r"404 .*gone\.wav"):
            emotion_classifier(f"{server}/gone.wav")

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            (None, "NoneType"),
            (3.5, "float"),
            (object(), "object"),
            (np.array([3.5], dtype=object), "float"),
        ],
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
        emodb, ravdess = (
            scores(emotion_classifier(wave, corpus=corpus)) for corpus in ("emodb", "ravdess")
        )
        assert emodb != pytest.approx(ravdess, abs=0.01)

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


class TestSpeechScore:
    def test_tells_speech_from_tones_in_whatever_form_it_is_given(self, emotion_classifier, spoken):
        samples, rate = spoken
        assert emotion_classifier.speech_score((rate, samples)) > 0.9
        assert emotion_classifier.speech_score(encode(samples, rate)) > 0.9
        assert emotion_classifier.speech_score(samples, sampling_rate=rate) > 0.9
        assert emotion_classifier.speech_score(np.zeros(RATE)) < 0.1

    def test_of_several_is_one_each(self, emotion_classifier, spoken):
        samples, rate = spoken
        found = emotion_classifier.speech_score([(rate, samples), make_wave(2.0)])
        assert [score > 0.5 for score in found] == [True, False]

    def test_of_nothing_readable(self, emotion_classifier, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"Recording 1: .*gone\.wav"):
            emotion_classifier.speech_score([np.zeros(9), tmp_path / "gone.wav"])


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
            "audio_inputs.py",
            "speech_presence.py",
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

    @pytest.mark.parametrize("way", ["pipeline", "apart", "trainer"])
    def test_what_transformers_saves_of_it_loads_again(
        self, emotion_classifier, model_folder, wave, tmp_path, way
    ):
        copy = str(tmp_path / "copy")
        loaded = pipeline("audio-classification", str(model_folder), trust_remote_code=True)
        if way == "pipeline":
            loaded.save_pretrained(copy)
        else:
            load = {"trust_remote_code": True}
            model = AutoModelForAudioClassification.from_pretrained(model_folder, **load)
            extractor = AutoFeatureExtractor.from_pretrained(model_folder, **load)
            if way == "apart":
                model.save_pretrained(copy)
                extractor.save_pretrained(copy)
            else:
                arguments = TrainingArguments(copy, report_to="none", use_cpu=True)
                Trainer(model, arguments, processing_class=extractor).save_model()
        again = pipeline("audio-classification", copy, trust_remote_code=True)
        assert_same(again(wave, top_k=6), emotion_classifier(wave))
        if way == "pipeline":
            assert type(again).__name__ == "EmotionClassificationPipeline"

    def test_model_of_a_foreign_pipeline_loads_again(self, foreign_classifier, wave, tmp_path):
        folder, copy = str(tmp_path / "folder"), str(tmp_path / "copy")
        foreign_classifier.save_pretrained(folder)
        loaded = pipeline("audio-classification", folder, trust_remote_code=True)
        assert type(loaded).__name__ == "EmotionClassificationPipeline"
        loaded.model.save_pretrained(copy)
        loaded.feature_extractor.save_pretrained(copy)
        again = pipeline("audio-classification", copy)
        assert_same(again(wave), foreign_classifier(wave))

    def test_stock_models_keep_the_stock_pipeline(self, foreign_classifier, tmp_path):
        foreign_classifier.model.save_pretrained(tmp_path)
        foreign_classifier.feature_extractor.save_pretrained(tmp_path)
        stock = pipeline("audio-classification", str(tmp_path))
        assert type(stock) is AudioClassificationPipeline

    def test_code_is_not_run_without_consent(self, model_folder):
        with pytest.raises(ValueError, match="trust_remote_code"):
            pipeline("audio-classification", str(model_folder), trust_remote_code=False)

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
