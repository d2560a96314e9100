import json
import shutil

from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file


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
    assert content["parts"]["denoiser"] == "EmotionDenoiser"
    assert content["emotions"][3] == "anger"


def test_neither_model_nor_dataset(run, speech):
    for command in (("info", speech), ("push", speech, "someone/something")):
        result = run(*command)
        assert result.exit_code == 2
        assert "expected a saved classifier (config.json), an enhancer" in result.stderr
