import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import hub_server
from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file

from datasets_scripts import export_parquet, load_corpus

ROOT = Path(__file__).resolve().parents[2]


def test_versions_and_device(run):
    content = json.loads(run("info", "--json").stdout)
    assert content["torch"].startswith("2.")
    assert content["device"].startswith(("cpu", "cuda"))
    assert "transformers" in run("info").stdout


def test_what_a_classifier_is(run, model_folder, emotion_classifier, tmp_path):
    content = json.loads(run("info", model_folder, "--json").stdout)
    assert (content["kind"], content["type"]) == ("classifier", "emotion-resnet")
    assert content["emotions"][:2] == ["neutral", "happiness"]
    assert content["statistics_of"] == ["emodb", "ravdess"]
    tensors = load_file(model_folder / "model.safetensors").values()
    assert content["parameters"] == sum(tensor.numel() for tensor in tensors)
    assert "modeling_emotion_resnet.py" in content["own_code"]
    assert "emotion-resnet" in run("info", model_folder).stdout


def test_licence_and_training_are_told(run, model_folder, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["trained_on"] = {"corpora": ["emodb"], "protocol": "everybody"}
    (folder / "config.json").write_text(json.dumps(config))
    card = ModelCardData(license="cc0-1.0", language="de")
    ModelCard(f"---\n{card.to_yaml()}\n---\n").save(folder / "README.md")
    content = json.loads(run("info", folder, "--json").stdout)
    assert content["license"] == "cc0-1.0"
    assert content["trained_on"]["corpora"] == ["emodb"]


def test_what_an_enhancer_is(run, enhancer):
    content = json.loads(run("info", enhancer, "--json").stdout)
    assert content["kind"] == "enhancer"
    assert content["parts"]["unet"] == "UNet2DConditionModel"
    assert content["emotions"][3] == "anger"


def test_neither_model_nor_dataset(run, speech):
    for command in (("info", speech), ("push", speech, "someone/something")):
        result = run(*command)
        assert result.exit_code == 2
        assert "expected a saved classifier (config.json), an enhancer" in result.stderr


@pytest.fixture
def dataset(tmp_path):
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1)
    return export_parquet(corpus, tmp_path / "dataset", protocols=())


def push(folder, *arguments, **environment):
    command = [sys.executable, "-m", "speech_emotion", "push", folder, *arguments]
    variables = {"PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_secret", **environment}
    return subprocess.run(
        command, env=os.environ | variables, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_push_sends_exactly_the_folder(dataset):
    with hub_server("someone/toy") as hub:
        done = push(dataset, hub.repository, "--private", HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stderr
        files = [path for path in dataset.rglob("*") if path.is_file()]
        assert hub.files == {p.relative_to(dataset).as_posix(): p.read_bytes() for p in files}
        (created,) = hub.created
    assert created["type"] == "dataset"
    # The name that it has depends on the version of huggingface_hub.
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    assert done.stdout.strip().endswith("/commit/0")


def test_push_is_refused_in_one_line(run, dataset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_server() as hub:
        hub.refuses = True
        # Read from the environment when the library was imported.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        result = run("push", dataset, hub.repository)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Failed: {dataset}: Cannot push to '{hub.repository}'")
    assert result.stderr.count("\n") == 1


def test_push_without_a_card_or_a_token(run, model_folder, dataset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    result = run("push", dataset, "someone/toy")
    assert result.exit_code == 2
    assert "Got no token, expected one from `hf auth login` or in HF_TOKEN" in result.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = run("push", model_folder, "someone/toy")
    assert result.exit_code == 2
    assert "without a card, expected a README.md" in result.stderr
    assert run("push", dataset, "some one/toy").exit_code == 2
