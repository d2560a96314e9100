"""A Hub on 127.0.0.1, what its owner sends there, and strangers who load it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import HfApi
from local_hub import LocalHub
from toy_components import make_wave
from toy_encoders import save_toy_encoder
from toy_enhancer import get_dummy_components

import train_classifier
from datasets_scripts.export import main as export
from datasets_scripts.hub import push_folder
from modeling import EmotionTransformerFeatureExtractor, EmotionTransformerForAudioClassification
from pipelines import EmotionClassificationPipeline, EmotionEnhancementPipeline

ROOT = Path(__file__).parents[2]
STRANGER = Path(__file__).parent / "stranger.py"
OWNER, READER, OTHER = "hf_owner", "hf_reader", "hf_other"
STEPS = (
    "refusals",
    "classify",
    "score_with_two_revisions",
    "enhance_with_two_revisions",
    "load_fold",
    "load_secrets",
)
TOY_RUN = {
    "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "stages": [{"name": "only", "epochs": 1, "learning_rate": 0.01}],
    "batch_size": 6,
    "crop_seconds": 0.5,
}


@pytest.fixture(scope="session")
def hub(hub_socket, tmp_path_factory):
    """The server; the tokens are of "me", who may write or only read, and of somebody else."""
    server = LocalHub(tmp_path_factory.mktemp("hub_files"), hub_socket)
    server.store.tokens = {OWNER: ("me", True), READER: ("me", False), OTHER: ("other", True)}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.resume_uploads()
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def owner(hub):
    """Code in `with owner():` runs with the token of "me"."""

    @contextmanager
    def logged_in():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", OWNER)
            yield

    return logged_in


@pytest.fixture(scope="session")
def emotion_transformer(tmp_path_factory):
    """A tiny Whisper with heads, in a pipeline."""
    folder = save_toy_encoder(tmp_path_factory.mktemp("whisper"))
    model = EmotionTransformerForAudioClassification.from_encoder(folder, projection_size=8)
    extractor = EmotionTransformerFeatureExtractor.from_encoder(folder)
    return EmotionClassificationPipeline(model=model.eval(), feature_extractor=extractor)


@pytest.fixture(scope="session")
def enhancer():
    return EmotionEnhancementPipeline(**get_dummy_components())


@pytest.fixture(scope="session")
def older_enhancer(tmp_path_factory):
    """The enhancer of an older version of this project, which says some things otherwise."""
    folder = tmp_path_factory.mktemp("older_project")
    for name in ("modeling", "pipelines"):
        shutil.copytree(ROOT / name, folder / "older" / name)
        (folder / "older" / name / "__init__.py").write_text("")
    for file, now in (
        ("pipelines/enhancement_checks.py", "Bad {name} {value!r}, expected {expected}"),
        ("modeling/calibration.py", "Bad name {name!r}, expected a text"),
    ):
        text = (folder / "older" / file).read_text()
        assert now in text
        (folder / "older" / file).write_text(text.replace(now, f"In older words: {now}"))
    sys.path.append(str(folder))
    pipelines, modeling = (
        importlib.import_module(f"older.{name}")
        for name in ("pipelines.emotion_enhancement", "modeling.feature_extraction_emotion")
    )
    sys.path.remove(str(folder))
    parts = get_dummy_components()
    settings = parts["feature_extractor"].to_dict()
    parts["feature_extractor"] = modeling.EmotionFeatureExtractor.from_dict(settings)
    return pipelines.EmotionEnhancementPipeline(**parts)


@pytest.fixture(scope="session")
def recordings_of_emodb(tmp_path_factory):
    """Four speakers of EmoDB by the names of the files, each with six emotions."""
    folder = tmp_path_factory.mktemp("emodb")
    for speaker in ("03", "08", "09", "10"):
        for number, letter in enumerate("NFTWAE"):
            wave = make_wave(0.2, 16_000, seed=int(speaker) * 10 + number)
            soundfile.write(folder / f"{speaker}a01{letter}a.wav", wave, 16_000)
    return folder


@pytest.fixture(scope="session")
def trained(hub, owner, toy_spec, tmp_path_factory):
    """The folder of a run of train_classifier.py that has pushed its model to "me/trained"."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "toy.yaml").write_text(json.dumps(TOY_RUN | {"corpora": {"toy_emotions": toy_spec}}))
    with owner():
        train_classifier.main(
            [
                *("--config", str(folder / "toy.yaml"), f"output_dir={folder / 'run'}"),
                *("--push_to_hub", "--hub_model_id", "me/trained"),
            ]
        )
    return folder / "run"


@pytest.fixture(scope="session")
def pushed(
    hub,
    owner,
    emotion_classifier,
    emotion_transformer,
    enhancer,
    older_enhancer,
    recordings_of_emodb,
    trained,
    tmp_path_factory,
):
    """What the owner has sent to the Hub: commits by what they are of."""
    work = tmp_path_factory.mktemp("owner")
    commits = {}
    with owner():
        commits["resnet"] = emotion_classifier.push_to_hub("me/resnet").oid
        # A newer version of the code and the same weights, as a folder.
        emotion_classifier.save_pretrained(work / "newer")
        code = work / "newer" / "speech_presence.py"
        newer = "SAMPLING_RATE = 8_000\n", "SAMPLING_RATE = 8_000\nFOUND = 0.125\n"
        score = "return max(_score(part)", "return FOUND or max(_score(part)"
        text = code.read_text()
        for before, after in (newer, score):
            assert before in text
            text = text.replace(before, after)
        code.write_text(text)
        push_folder(work / "newer", "me/resnet")
        emotion_transformer.push_to_hub("me/transformer")
        commits["older enhancer"] = older_enhancer.push_to_hub("me/enhancer").oid
        HfApi().create_tag("me/enhancer", tag="v1")
        enhancer.push_to_hub("me/enhancer")
        emotion_classifier.push_to_hub("me/secret", private=True)
        enhancer.push_to_hub("me/secret-enhancer", private=True)
        arguments = ["--corpus", "emodb", "--data_dir", str(recordings_of_emodb)]
        arguments += ["--output_dir", str(work / "emodb"), "--push_to_hub", "me/emodb"]
        export([*arguments, "--protocols", "speaker_independent"])
    return commits


@pytest.fixture(scope="session")
def run_stranger(hub, pushed):
    """Run steps of `stranger.py` in a folder, without the project; returns its report."""

    def run(work, *steps, start=None, **environment):
        np.save(work / "wave.npy", make_wave())
        (work / "pushed.json").write_text(json.dumps(pushed))
        names = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "OMP_NUM_THREADS")
        process = subprocess.run(
            # Isolated: neither the current folder, nor the script's, nor PYTHONPATH is searched.
            [sys.executable, "-I", STRANGER, *steps],
            cwd=work,
            env={"PATH": "", **{name: os.environ[name] for name in names}, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            preexec_fn=start,
        )
        assert process.returncode == 0, process.stderr
        return json.loads((work / "report.json").read_text())

    return run


@pytest.fixture(scope="session")
def stranger(run_stranger, tmp_path_factory):
    """What a stranger without a token and with an empty cache reports, and their folder."""
    work = tmp_path_factory.mktemp("stranger")
    return run_stranger(work, *STEPS, HF_HOME=str(work / "home")), work
