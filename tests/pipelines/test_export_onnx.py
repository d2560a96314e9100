"""Classifiers as ONNX: the probabilities of the pipeline, without PyTorch and transformers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from toy_components import make_wave, randomize
from toy_encoders import save_toy_encoder

from modeling import (
    EmotionTransformerFeatureExtractor,
    EmotionTransformerForAudioClassification,
)
from pipelines import EmotionClassificationPipeline
from pipelines.export_onnx import export_onnx, export_program

WHISPER_RATE = 16_000
README = Path(__file__).parents[2] / "README.md"


def build_transformer(encoder, tmp_path_factory):
    folder = save_toy_encoder(tmp_path_factory.mktemp(encoder), encoder)
    model = EmotionTransformerForAudioClassification.from_encoder(
        folder, layers=(1, 3), projection_size=8, attention_size=4
    )
    generator = torch.Generator().manual_seed(0)
    randomize(model.heads)
    for name, shift in ((None, 0.0), ("emodb", 0.4)):
        mean = 0.1 * torch.randn(model.config.num_channels, generator=generator)
        model.set_statistics(mean + shift, torch.ones_like(mean), name)
    model.config.score_temperature = 2.5
    return EmotionClassificationPipeline(
        model=model.eval(),
        feature_extractor=EmotionTransformerFeatureExtractor.from_encoder(folder, max_seconds=2.0),
    )


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    return build_transformer("whisper", tmp_path_factory)


@pytest.fixture(scope="module", params=["transformer", "resnet"])
def exported(request, emotion_classifier, transformer, tmp_path_factory):
    """A classifier, and a session of the file that it was exported to."""
    classifier = transformer if request.param == "transformer" else emotion_classifier
    path = export_onnx(classifier, tmp_path_factory.mktemp("onnx") / "classifier.onnx")
    return classifier, onnxruntime.InferenceSession(path)


def recordings(classifier):
    """Speech-like, short, shorter than a window, too soft to be raised, silent, and too long."""
    extractor = classifier.feature_extractor
    rate = extractor.sampling_rate
    waves = [make_wave(seconds, rate, seed) for seed, seconds in enumerate((1.0, 0.31, 1.77))]
    parts = [waves[0][:1], waves[0][:300], waves[1][:399], 1e-6 * waves[1], 0 * waves[1]]
    return [*waves, *parts, make_wave(extractor.max_seconds + 0.5, rate)]


def probabilities(classifier, wave, **options):
    scores = {guess["label"]: guess["score"] for guess in classifier(wave, **options)}
    return np.array([scores[label] for label in classifier.model.config.id2label.values()])


def run(session, waves, padding=0.0):
    batch = np.full((len(waves), max(map(len, waves))), padding, dtype=np.float32)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
    lengths = np.array([len(wave) for wave in waves])
    return session.run(None, {"waveforms": batch, "lengths": lengths})[0]


def test_every_recording_has_the_probabilities_of_the_pipeline(exported):
    classifier, session = exported
    waves = recordings(classifier)
    expected = [probabilities(classifier, wave) for wave in waves]
    alone = [run(session, [wave])[0] for wave in waves]
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    # Not all the same, which would agree whatever was computed.
    assert np.ptp(expected[:3], axis=0).max() > 1e-2


@pytest.mark.parametrize("padding", [0.0, 0.7, float("nan")])
def test_padding_is_never_heard(exported, padding):
    classifier, session = exported
    waves = recordings(classifier)
    alone = [run(session, [wave])[0] for wave in waves]
    np.testing.assert_allclose(run(session, waves, padding), alone, atol=1e-5)


def test_lengths_beyond_the_batch_are_those_of_the_batch(exported):
    classifier, session = exported
    wave = recordings(classifier)[0]
    inputs = {"waveforms": wave[None], "lengths": np.array([10 * len(wave)])}
    np.testing.assert_array_equal(session.run(None, inputs)[0], run(session, [wave]))


def test_file_says_what_it_is(exported):
    classifier, session = exported
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(classifier.model.config.id2label.values())
    assert float(about["sampling_rate"]) == classifier.feature_extractor.sampling_rate
    assert float(about["max_seconds"]) == classifier.feature_extractor.max_seconds
    assert about["model_type"] == classifier.model.config.model_type
    assert about["statistics"] == "unknown rooms"


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_program_of_torch_takes_other_batches_and_statistics_by_name(
    kind, emotion_classifier, transformer
):
    classifier = transformer if kind == "transformer" else emotion_classifier
    program = export_program(classifier, "emodb").module()
    waves = recordings(classifier)
    batch = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, waves)), batch_first=True)
    found = program(batch, torch.tensor(list(map(len, waves)))).numpy()
    expected = np.array([probabilities(classifier, wave, corpus="emodb") for wave in waves])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected[0] - probabilities(classifier, waves[0])).max() > 1e-3


def test_shell_and_readme(model_folder, tmp_path):
    """From a folder to a file half the size, run by a process that has no PyTorch."""
    card = "---\nlicense: cc0-1.0\n---\n# A classifier\n"
    (model_folder / "README.md").write_text(card)
    command = ["-m", "speech_emotion", "export", "classifier.onnx", "--model", model_folder]
    subprocess.run(
        [sys.executable, *command, "--corpus", "emodb", "--half"], cwd=tmp_path, check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.onnx"]
    soundfile.write(tmp_path / "speech.wav", np.stack(2 * [make_wave(rate=16_000)], 1), 16_000)
    page = README.read_text(encoding="utf-8")
    (snippet,) = re.findall(r"<!-- snippet: onnx -->\n```python\n(.*?)```", page, re.DOTALL)
    hidden = "import sys\nfor n in ('torch', 'transformers', 'librosa'): sys.modules[n] = None\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", hidden + snippet],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    scores = json.loads(done.stdout.replace("'", '"'))
    assert sum(scores.values()) == pytest.approx(1, abs=0.01)
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert about["statistics"] == "emodb"
    assert (about["license"], about["model"]) == ("cc0-1.0", model_folder.name)


class TestRefused:
    def test_a_corpus_that_is_not_known(self, transformer, tmp_path):
        with pytest.raises(ValueError, match=r"Bad corpus 'nowhere', expected one of \['emodb'\]"):
            export_onnx(transformer, tmp_path / "x.onnx", "nowhere")
        assert not list(tmp_path.iterdir())

    def test_an_encoder_whose_front_end_has_no_graph(self, tmp_path_factory, tmp_path):
        classifier = build_transformer("wav2vec2", tmp_path_factory)
        with pytest.raises(ValueError, match=r"'Wav2Vec2FeatureExtractor', expected .*Whisper"):
            export_onnx(classifier, tmp_path / "x.onnx")
