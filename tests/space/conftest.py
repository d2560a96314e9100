"""A page with models of toy size, and what people upload."""

import numpy as np
import pytest
import soundfile
from toy_components import make_wave
from toy_enhancer import get_dummy_components

from datasets_scripts import load_corpus
from pipelines import EmotionEnhancementPipeline
from space.actions import Models

RATE = 16_000


@pytest.fixture(scope="session")
def models(model_folder, tmp_path_factory):
    """Both models in folders, as somebody would name them."""
    enhancer = tmp_path_factory.mktemp("enhancer")
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(enhancer)
    return Models(str(model_folder), str(enhancer))


@pytest.fixture(scope="session")
def uploads(tmp_path_factory, toy_spec):
    """Files by what is in them."""
    folder = tmp_path_factory.mktemp("uploads")
    rows = list(load_corpus("toy_emotions", **toy_spec))[:4]
    for number, row in enumerate(rows):
        (folder / f"speech_{number}.wav").write_bytes(row["audio"]["bytes"])
    speech, rate = soundfile.read(folder / "speech_0.wav")
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(folder / "twelve_seconds.flac", np.tile(speech, 12 * rate // len(speech)), rate)
    soundfile.write(folder / "a minute and more.ogg", make_wave(61, RATE), RATE)
    soundfile.write(folder / "click.wav", make_wave(0.1, RATE), RATE)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "noise & hum.wav", noise, RATE)
    soundfile.write(folder / "many_channels.flac", np.zeros((31 * 96_000, 8), "int16"), 96_000)
    (folder / "text.wav").write_text("These are words.")
    return folder
