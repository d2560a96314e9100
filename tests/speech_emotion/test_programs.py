"""Programs behind the command: their arguments arrive, and results name the program itself."""

import json

import pytest
import yaml
from datasets import load_dataset

from pretrained import CLASSIFIER, ENHANCER

TINY = {
    "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "stages": [{"name": "only", "epochs": 1, "learning_rate": 0.01}],
    "batch_size": 6,
    "crop_seconds": 0.5,
    "evaluations_per_stage": 1,
}


def test_train_a_classifier_and_use_it(run, toy_spec, speech, tmp_path):
    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump(TINY | {"corpora": {"toy_emotions": toy_spec}}))
    result = run("train", "classifier", "--config", settings, "output_dir=trained", "seed=3")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads((tmp_path / "trained/metrics.json").read_text())
    command = record["provenance"]["command"]
    assert command.startswith("python train_classifier.py --config")
    assert command.endswith("seed=3")
    content = json.loads(run("info", "trained/model", "--json").stdout)
    assert content["trained_on"]["corpora"] == ["toy_emotions"]
    assert run("classify", speech / "a.wav", "--model", "trained/model").exit_code == 0


def test_dataset_of_a_folder(run, enhancer, speech, tmp_path):
    result = run(
        *("dataset", "--model", enhancer, "--dataset", speech, "--output_dir", "made"),
        *("--emotion", "anger", "--method", "shift", "--min_speech", "0"),
    )
    assert result.exit_code == 0, result.stderr
    made = load_dataset(str(tmp_path / "made"), split="train", cache_dir=tmp_path / "cache")
    assert len(made) == 3


def test_the_classifier_in_the_box_listens_for_the_enhancer_there(run, speech, tmp_path):
    result = run(
        *("dataset", "--dataset", speech / "inner", "--output_dir", "made"),
        *("--emotion", "anger", "--method", "shift", "--min_speech", "0"),
    )
    assert result.exit_code == 0, result.stderr
    settings = json.loads((tmp_path / "made" / "settings.json").read_text())
    assert settings["model"] == str(ENHANCER)
    assert settings["listener"] == str(CLASSIFIER)


def test_a_recording_that_fails_is_no_wrong_command(run, enhancer, speech):
    (speech / "broken.wav").write_bytes(b"no sound")
    result = run(
        *("dataset", "--model", enhancer, "--dataset", speech, "--output_dir", "made"),
        *("--emotion", "anger", "--method", "shift", "--min_speech", "0"),
    )
    assert result.exit_code == 1
    assert f"Failed: Cannot enhance row 2 ({speech / 'broken.wav'}): Cannot decode" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "classifier", "--config", "gone.yaml"), "gone.yaml"),
        (("train", "enhancer", "epochs=1", "output_dir=x"), "epochs"),
        (("train", "poet"), "poet"),
        (("dataset", "--model", "gone", "--output_dir", "x"), "--corpus --dataset is required"),
    ],
)
def test_mistakes(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (("train", "classifier"), "usage: train_classifier.py"),
        (("train", "enhancer"), "usage: train_diffusion.py"),
        (("dataset",), "usage: enhance_dataset.py"),
    ],
)
def test_the_programs_own_help(run, arguments, usage):
    result = run(*arguments, "--", "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(usage)
