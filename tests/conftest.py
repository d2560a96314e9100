"""Toy-size real components, and what a process sees in which this project is not importable."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

RATE = 22_025
FRESH_PROCESS = Path(__file__).parent / "fresh_process.py"


def make_wave(seconds=1.0, rate=RATE, seed=0):
    """A gliding tone in noise, `(samples,)` float32 in -1 to 1."""
    time = np.arange(round(seconds * rate)) / rate
    glide = 0.3 * np.sin(2 * np.pi * (200 * time + 150 * time**2))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
    return (glide + noise).astype(np.float32)


def randomize(model, seed=0):
    """Give parameters and BatchNorm statistics values as training leaves them: none is special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
                tensor.normal_(std=fan_in**-0.5, generator=generator)
    return model


@pytest.fixture(scope="session")
def wave():
    return make_wave()


@pytest.fixture(scope="session")
def emotion_classifier():
    """A tiny model and front end with the statistics of two corpora, in a pipeline."""
    from modeling import (
        EmotionFeatureExtractor,
        EmotionResNetConfig,
        EmotionResNetForAudioClassification,
    )
    from pipelines import EmotionClassificationPipeline

    config = EmotionResNetConfig(embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1))
    model = randomize(EmotionResNetForAudioClassification(config)).eval()
    extractor = EmotionFeatureExtractor()
    extractor.set_statistics(np.linspace(-6, -4, 80), np.linspace(1, 2, 80), corpus="emodb")
    extractor.set_statistics(-2.0, 1.5, corpus="ravdess")
    return EmotionClassificationPipeline(model=model, feature_extractor=extractor)


@pytest.fixture(scope="session")
def model_folder(emotion_classifier, tmp_path_factory):
    """What a training run would send to the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "emotion-resnet"
    emotion_classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory, wave):
    """One recording as `clip.wav`, `clip.flac`, `clip.ogg` and `clip.mp3`, 16 kHz mono."""
    folder = tmp_path_factory.mktemp("recordings")
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"clip.{suffix}", make_wave(rate=16_000), 16_000)
    return folder


@pytest.fixture(scope="session")
def server(recordings):
    """Address of an HTTP server of the recordings."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=recordings)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def fresh_process(model_folder, recordings, server, wave, tmp_path_factory):
    """What `fresh_process.py` reports: no project on its path, no programs, an empty cache."""
    work = tmp_path_factory.mktemp("stranger")
    np.save(work / "wave.npy", wave)
    environment = {"PATH": "", "HF_HOME": str(work / "cache"), "OMP_NUM_THREADS": "1"}
    if "SYSTEMROOT" in os.environ:
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    process = subprocess.run(
        # Isolated: neither the current folder, nor the script's, nor PYTHONPATH is searched.
        [sys.executable, "-I", FRESH_PROCESS, model_folder, recordings, server],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((work / "report.json").read_text()) | {"stderr": process.stderr}
