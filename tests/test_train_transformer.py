"""Training of the classifier on a pretrained encoder, with the settings as they are shipped."""

import json

import datasets
import pytest
import torch
from safetensors.torch import load_file
from toy_encoders import save_toy_encoder
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

import train_classifier
from datasets_scripts import EMOTIONS, load_corpus
from pipelines import EmotionClassificationPipeline
from training.config import ClassifierConfig, load_config

CONFIG = train_classifier.Path(train_classifier.__file__).parent / "configs" / "transformer.yaml"
TOY = {"speakers": 6, "repetitions": 1}
HEADS = "{name: heads, epochs: 6, learning_rate: 0.01, mixup_probability: 0.3}"


@pytest.fixture(scope="module", autouse=True)
def quiet():
    torch.set_num_threads(1)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_toy_encoder(tmp_path_factory.mktemp("encoder"), dtype=torch.float16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return TOY | {"cache_dir": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def train(encoder, corpus, tmp_path_factory):
    def run(*arguments, output=None):
        output = output or tmp_path_factory.mktemp("run") / "out"
        corpora = f"corpora={{toy_emotions: {json.dumps(corpus)}}}"
        small = ["batch_size=6", "copies=1", "evaluations_per_stage=2", "model.projection_size=16"]
        given = [f"encoder_name_or_path={encoder}", corpora, f"output_dir={output}", *small]
        train_classifier.main(["--config", str(CONFIG), *given, *arguments])
        return output

    return run


@pytest.fixture(scope="module")
def finished(train):
    """A run of the shipped stage, shortened. Not to be changed."""
    return train(f"stages=[{HEADS}]")


def read(file):
    return json.loads(file.read_text())


def test_loss_falls_and_the_encoder_stays_what_it_was(finished, encoder):
    history = read(finished / "history.json")
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    trained, given = (load_file(f"{f}/model.safetensors") for f in (finished / "model", encoder))
    name = "layers.0.fc1.weight"
    torch.testing.assert_close(trained[f"encoder.{name}"], given[f"encoder.{name}"].float())


def test_pipeline_says_the_same_as_the_script(finished, corpus):
    model = AutoModelForAudioClassification.from_pretrained(finished / "model")
    extractor = AutoFeatureExtractor.from_pretrained(finished / "model")
    classifier = EmotionClassificationPipeline(model=model, feature_extractor=extractor)
    audio = {row["file"]: row["audio"] for row in load_corpus("toy_emotions", **corpus)}
    for row in read(finished / "predictions.json")[:4]:
        guesses = classifier(audio[row["file"]], corpus="toy_emotions")
        said = {guess["label"]: guess["score"] for guess in guesses}
        expected = dict(zip(EMOTIONS, row["probabilities"], strict=True))
        # The script kept frames in half precision, of an encoder whose channels hardly move.
        assert said == pytest.approx(expected, abs=0.03)


def test_evaluate_only_measures_the_same(finished, train):
    before = read(finished / "metrics.json")[0]["metrics"]
    train(f"stages=[{HEADS}]", "--evaluate_only", output=finished)
    assert read(finished / "metrics.json")[0]["metrics"] == before


def test_an_encoder_that_is_none_is_refused(train, finished, tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder '/nowhere/at/all'"):
        train("encoder_name_or_path=/nowhere/at/all", output=tmp_path / "run")
    with pytest.raises(
        ValueError, match="Bad encoder of type 'emotion-transformer', expected a sp"
    ):
        train(f"encoder_name_or_path={finished / 'model'}", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_path_of_this_machine_is_saved(finished, encoder):
    assert encoder not in (finished / "model/config.json").read_text()
    assert encoder not in (finished / "model/preprocessor_config.json").read_text()


def test_scores_are_made_probabilities_on_validation_speakers(finished):
    settings = read(finished / "model/config.json")
    assert settings["score_temperature"] != 1.0
    assert settings["calibrations"] == ["toy_emotions"]


def test_everybody_trains_weights_that_are_handed_out(train, tmp_path):
    """In half precision, and with a card that claims no score of anybody else's model."""
    stage = "stages=[{epochs: 1}]"
    out = train("protocol=everybody", "half_precision=true", stage, output=tmp_path / "run")
    assert read(out / "metrics.json") == []
    settings = read(out / "model/config.json")
    assert settings["trained_on"]["protocol"] == "everybody"
    weights = load_file(out / "model/model.safetensors")
    assert weights["statistics"].dtype == weights["layer_weights"].dtype == torch.float16
    model = AutoModelForAudioClassification.from_pretrained(out / "model")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.statistics.dtype == torch.float32
    assert "Nothing was measured." in (out / "model/README.md").read_text()


def test_a_card_shows_records_of_its_recipe_and_corpora_alone(tmp_path):
    results = train_classifier.Path(train_classifier.__file__).parent / "results"
    given = ["--config", str(CONFIG), "--config", str(CONFIG.with_name("everybody.yaml"))]

    def shown(*overrides):
        files = given[1::2]
        config = load_config(ClassifierConfig, files, [f"card_records={results}", *overrides])
        return {(r["corpus"], r["protocol"]) for r in train_classifier.recipe_records(config)}

    both = shown("corpora.ravdess=x")
    assert {("emodb", "speaker_independent"), ("ravdess", "speaker_independent")} <= both
    assert not any(protocol == "cross_corpus" for _, protocol in both)
    assert ("ravdess", "cross_corpus") in shown()
    assert shown("corpora.crema_d=x") == set()
    with pytest.raises(FileNotFoundError, match="Bad results folder"):
        train_classifier.main([*given, f"card_records={tmp_path / 'none'}"])


@pytest.mark.parametrize(
    ("choice", "trained"), [("last_1", ["layers.2"]), ("lora", ["q_proj", "v_proj"])]
)
def test_encoder_trains_after_its_heads(train, encoder, choice, trained):
    stage = f"{{name: encoder, epochs: 2, learning_rate: 0.01, train_encoder: {choice}}}"
    folder = train(f"stages=[{HEADS.replace('6', '1')}, {stage}]")
    assert [entry["stage"] for entry in read(folder / "history.json")][-1] == "encoder"
    new = load_file(folder / "model/model.safetensors")
    old = load_file(f"{encoder}/model.safetensors")
    changed = {
        name.removeprefix("encoder.")
        for name, value in new.items()
        if name.startswith("encoder.") and not torch.equal(value, old[name].float())
    }
    assert changed
    assert all(any(part in name for part in trained) for name in changed)
    measured = read(folder / "metrics.json")[0]["metrics"]
    train(f"stages=[{HEADS.replace('6', '1')}, {stage}]", "--evaluate_only", output=folder)
    assert read(folder / "metrics.json")[0]["metrics"]["WA"] == measured["WA"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stages.0.train_encoder=some"], "Bad train_encoder 'some', expected 'frozen'"),
        (["stages=[{train_encoder: all}, {epochs: 1}]"], "frozen stage after"),
        (["model_name_or_path=x"], "expected one of them"),
        (["copies=-1"], "Bad copies -1, expected 0 or more"),
        (["model.proj=8"], r"Unknown setting model\.proj, expected .*'projection_size'"),
        (["stages.0.augmentation.level=3"], "frozen encoder, where it has no effect"),
        (["model.layers=1"], "Bad layers 1, expected a list"),
        (["model.layers=[9]"], r"Bad layers \[9\], expected different ones among 1 to 4"),
        (
            ["stages.0.train_encoder=last_7"],
            "Bad train_encoder 'last_7', expected at most 'last_3'",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(train, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(*arguments, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
