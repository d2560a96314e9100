"""Toy-size real components, and what a process sees in which this project is not importable."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Before anybody imports torch: toy networks are slower on several threads, and two processes that
# each take all cores wait for one another. Programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anybody imports a library of Hugging Face: what tests cache is nobody else's.
HOME = tempfile.TemporaryDirectory(prefix="hf_home_")
os.environ["HF_HOME"] = HOME.name
# Nor does anything reach the real Hub: theirs is a port where nobody answers, until a server of
# `hub/local_hub.py` does, which speaks no xet.
HUB_SOCKET = socket.socket()
HUB_SOCKET.bind(("127.0.0.1", 0))
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:{1}".format(*HUB_SOCKET.getsockname())
os.environ["HF_HUB_DISABLE_XET"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402
from toy_components import make_wave, randomize  # noqa: E402

FRESH_PROCESS = Path(__file__).parent / "fresh_process.py"


def pytest_collection_modifyitems(items):
    """The longest file first: files go to processes whole, and nobody waits for it in the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session")
def hub_socket():
    """Bound to the address that libraries take for that of the Hub."""
    return HUB_SOCKET


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
def toy_spec(tmp_path_factory):
    """A part of the embedded corpus, 24 recordings of which train, and a cache for it."""
    cache = tmp_path_factory.mktemp("toy_emotions")
    return {"speakers": 6, "repetitions": 1, "cache_dir": str(cache)}


@pytest.fixture(scope="session")
def model_folder(emotion_classifier, tmp_path_factory):
    """What a training run would send to the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "emotion-resnet"
    emotion_classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """One recording as `clip.wav`, `clip.flac`, `clip.ogg` and `clip.mp3`, 16 kHz mono."""
    folder = tmp_path_factory.mktemp("recordings")
    pcm = (make_wave(rate=16_000) * 32_767).astype(np.int16)
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"clip.{suffix}", pcm, 16_000)
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
