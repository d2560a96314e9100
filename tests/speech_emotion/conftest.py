"""The command in this process, with models of toy size."""

import pytest
import soundfile
from toy_components import make_wave
from toy_encoders import save_toy_encoder
from toy_enhancer import get_dummy_components
from typer.testing import CliRunner

from datasets_scripts import load_corpus
from speech_emotion.main import app

RATE = 16_000


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in an empty folder; its result has `exit_code`, `stdout` and `stderr`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=None):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run


@pytest.fixture
def speech(tmp_path):
    """Three recordings in nested folders, and what is no recording beside them."""
    folder = tmp_path / "speech"
    (folder / "inner").mkdir(parents=True)
    for seed, name in enumerate(("a.wav", "b [1].flac", "inner/c.wav")):
        soundfile.write(folder / name, make_wave(0.6, RATE, seed), RATE)
    (folder / "notes.txt").write_text("not a recording")
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Twelve spoken recordings, one sub-folder an emotion."""
    folder = tmp_path_factory.mktemp("labelled") / "mine"
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1)
    names = corpus.features["emotion"].names
    for row in corpus:
        place = folder / names[row["emotion"]]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row['file']}".replace("/", "_")).write_bytes(row["audio"]["bytes"])
    return folder


@pytest.fixture(scope="session")
def enhancer(tmp_path_factory):
    from pipelines import EmotionEnhancementPipeline

    folder = tmp_path_factory.mktemp("enhancer") / "model"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def transformer(tmp_path_factory):
    """A classifier on an encoder, of the kind that comes with the package."""
    from modeling import (
        EmotionTransformerFeatureExtractor,
        EmotionTransformerForAudioClassification,
    )
    from pipelines import EmotionClassificationPipeline

    folder = tmp_path_factory.mktemp("transformer")
    encoder = save_toy_encoder(folder / "encoder")
    sizes = {"layers": (1, 3), "projection_size": 8, "attention_size": 4}
    model = EmotionTransformerForAudioClassification.from_encoder(encoder, **sizes)
    extractor = EmotionTransformerFeatureExtractor.from_encoder(encoder)
    classifier = EmotionClassificationPipeline(model=model.eval(), feature_extractor=extractor)
    classifier.save_pretrained(folder / "model")
    return folder / "model"
