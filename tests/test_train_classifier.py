import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import processes
import pytest
import torch
import transformers
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForAudioClassification, pipeline

import train_classifier
from datasets_scripts import EMOTIONS, load_corpus

ROOT = Path(train_classifier.__file__).parent
# 24 recordings train, hence 4 batches an epoch.
TOY = {"speakers": 6, "repetitions": 1}
SETTINGS = {
    "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "dropout": 0.2},
    "stages": [
        {
            "name": "everything",
            "epochs": 3,
            "learning_rate": 0.01,
            "mixup_probability": 0.4,
            "augmentation": {"tempo": 0.1, "level": 3.0, "noise_probability": 0.5, "masks": 1},
        },
        {"name": "fine-tuning", "epochs": 2, "learning_rate": 0.003},
    ],
    "batch_size": 6,
    "crop_seconds": 0.5,
    "ema_decay": 0.7,
    "evaluations_per_stage": 3,
    # Steps 6 and 18 lie within an epoch of the first and second stage and between evaluations.
    "checkpoint_every": 6,
    "checkpoint_limit": 10,
}
ONE_STAGE = "stages=[{name: only, epochs: 1, learning_rate: 0.01}]"


@pytest.fixture(scope="module", autouse=True)
def quiet():
    # As many as the launched processes have: another number rounds sums otherwise.
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A settings file of a run that takes seconds, with a cache of its own."""
    folder = tmp_path_factory.mktemp("settings")
    corpora = {"toy_emotions": TOY | {"cache_dir": str(folder / "cache")}}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | {"corpora": corpora}))
    return path


@pytest.fixture
def train(settings, tmp_path):
    """Run the script in this process; its folder is `tmp_path / "run"` unless named."""

    def run(*arguments, output=None):
        output = output or tmp_path / "run"
        train_classifier.main(["--config", str(settings), f"output_dir={output}", *arguments])
        return output

    return run


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The folder of an uninterrupted run of two stages. Not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "run"
    train_classifier.main(
        ["--config", str(settings), f"output_dir={output}", "tracker=tensorboard"]
    )
    return output


def launch(settings, output, *arguments, two=False, **environment):
    """Launch the script as a user does, alone or in two processes."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *(["-m", *launcher] if two else []), "train_classifier.py"]
    done = subprocess.run(
        [*command, "--config", str(settings), f"output_dir={output}", *arguments],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def train_in_two(settings, output, *arguments):
    """The same in two processes, which is quicker than launching them."""
    log = output.with_suffix(".log")
    command = ("train_classifier.py", "--config", settings, f"output_dir={output}", *arguments)
    printed, status = processes.finish(log, *processes.start_two(log, *command))
    assert status == 0, printed


def run_until(checkpoint, settings, output, *arguments):
    """Start the script in a process that is killed as soon as it has written a checkpoint."""
    log, written = output.with_suffix(".log"), output / "checkpoints" / checkpoint
    killer = ("tests/killed_after.py", written, "train_classifier.py", "--config", settings)
    arguments = (f"output_dir={output}", *arguments)
    printed, status = processes.run(log, *killer, *arguments, ACCELERATE_USE_CPU="true")
    assert status == -signal.SIGKILL, printed


def read_json(path):
    return json.loads(path.read_text())


def probabilities(output):
    rows = read_json(output / "predictions.json")
    return {row["file"]: np.array(row["probabilities"]) for row in rows}


def assert_same_predictions(one, other, tolerance):
    first, second = probabilities(one), probabilities(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=tolerance, err_msg=name)


def assert_same_run(one, other):
    """Weights byte for byte, history and predictions."""
    for name in ("model/model.safetensors", "history.json", "predictions.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestResume:
    def test_killed_in_both_stages_equals_uninterrupted(self, settings, finished, train, tmp_path):
        output = tmp_path / "run"
        run_until("step-00000006-stage-0", settings, output)
        assert not (output / "history.json").exists()
        run_until("step-00000018-stage-1", settings, output, "--resume")
        assert not (output / "model").exists()
        train("--resume")
        assert_same_run(finished, output)

    def test_killed_while_writing_the_first_checkpoint_of_a_stage(self, finished, train, tmp_path):
        """Back to the stage before, although this one has its best weights already."""
        output = tmp_path / "run"
        shutil.copytree(finished, output)
        checkpoint = output / "checkpoints" / "step-00000018-stage-1"
        checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.tmp"))
        shutil.rmtree(output / "model")
        train("--resume")
        assert_same_run(finished, output)

    def test_within_an_accumulation_nothing_is_saved(self, train, tmp_path):
        """Gradients are not part of a checkpoint: it waits for the update."""
        accumulate = ("gradient_accumulation_steps=2", "checkpoint_every=3")
        output = train(*accumulate, output=tmp_path / "uninterrupted")
        checkpoints = sorted(path.name for path in (output / "checkpoints").iterdir())
        assert checkpoints[0] == "step-00000004-stage-0"
        resumed = tmp_path / "resumed"
        shutil.copytree(output, resumed)
        for name in checkpoints[1:]:
            shutil.rmtree(resumed / "checkpoints" / name)
        train(*accumulate, "--resume", output=resumed)
        assert_same_run(output, resumed)

    def test_nothing_to_resume(self, train, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No checkpoint in '.*run' to resume from"):
            train("--resume")
        assert not (tmp_path / "run").exists()


class TestHistory:
    def test_entries(self, finished):
        history = read_json(finished / "history.json")
        assert [entry["step"] for entry in history] == [4, 8, 12, 14, 16, 18, 20]
        assert [entry["stage"] for entry in history] == ["everything"] * 3 + ["fine-tuning"] * 4
        for entry in history:
            assert 0 <= entry["validation_UA"] <= 1
            assert entry["validation_loss"] > 0

    def test_loss_falls(self, train):
        quick = "stages=[{name: only, epochs: 10, learning_rate: 0.02}]"
        output = train(quick, "crop_seconds=1.0", "evaluations_per_stage=4")
        losses = [entry["train_loss"] for entry in read_json(output / "history.json")]
        assert losses[-1] < 0.8 * losses[0]

    def test_learning_rate_warms_up_and_decays_in_each_stage(self, finished):
        rates = [entry["learning_rate"] for entry in read_json(finished / "history.json")]
        assert 0.01 > rates[0] > rates[1] > rates[2] > 0
        assert 0.003 > rates[3] > rates[-1] > 0

    def test_tensorboard_receives_events(self, finished):
        events = list(finished.rglob("events.out.tfevents.*"))
        assert any(b"validation_UA" in path.read_bytes() for path in events)

    def test_early_stopping_stops(self, train):
        # Steps far too long: the loss only gets worse.
        stages = "stages=[{name: only, epochs: 10, learning_rate: 0.5}]"
        output = train(stages, "early_stopping_patience=2", "evaluations_per_stage=20")
        history = read_json(output / "history.json")
        assert len(history) < 20
        losses = [entry["validation_loss"] for entry in history]
        assert min(losses[-2:]) >= min(losses[:-2])
        assert (output / "model" / "model.safetensors").exists()

    def test_accumulation_updates_half_as_often(self, finished, train):
        def updates(output, checkpoint):
            saved = output / "checkpoints" / checkpoint / "optimizer.bin"
            state = torch.load(saved, weights_only=True)["state"]
            return {int(values["step"]) for values in state.values()}

        output = train(ONE_STAGE, "gradient_accumulation_steps=2", "checkpoint_every=4")
        assert updates(output, "step-00000004-stage-0") == {2}
        assert updates(finished, "step-00000006-stage-0") == {6}


class TestExport:
    def test_safetensors_and_no_pickle(self, finished):
        names = set(contents(finished / "model"))
        assert {"model.safetensors", "config.json", "preprocessor_config.json"} <= names
        assert {"README.md", "audio_classification.py", "modeling_emotion_resnet.py"} <= names
        assert {Path(name).suffix for name in names} == {".safetensors", ".json", ".md", ".py"}

    def test_labels_are_the_six_in_order(self, finished):
        config = read_json(finished / "model" / "config.json")
        assert list(config["id2label"].values()) == list(EMOTIONS)
        assert config["label2id"] == {name: i for i, name in enumerate(EMOTIONS)}

    def test_card_says_what_was_measured(self, finished):
        (record,) = read_json(finished / "metrics.json")
        assert record["protocol"] == "speaker_independent"
        card = ModelCard.load(finished / "model" / "README.md")
        measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert measured["accuracy"] == record["metrics"]["WA"]
        assert measured["recall"] == record["metrics"]["UA"]
        assert f"{100 * record['metrics']['UA']:.1f}" in card.text
        assert str(finished.parent) not in card.content

    def test_metrics_are_those_of_the_predictions(self, finished):
        (record,) = read_json(finished / "metrics.json")
        rows = read_json(finished / "predictions.json")
        assert {row["speaker"] for row in rows} == {"01", "02"}
        right = [EMOTIONS[np.argmax(row["probabilities"])] == row["emotion"] for row in rows]
        assert record["metrics"]["WA"] == pytest.approx(np.mean(right))

    def test_pipeline_says_the_same_as_the_script(self, finished, settings):
        corpora = yaml.safe_load(settings.read_text())["corpora"]
        dataset = load_corpus("toy_emotions", "all", **corpora["toy_emotions"])
        expected = probabilities(finished)
        classify = pipeline(
            "audio-classification", str(finished / "model"), trust_remote_code=True, device="cpu"
        )
        for row in (row for row in dataset if row["speaker"] == "01"):
            scores = {guess["label"]: guess["score"] for guess in classify(row["audio"])}
            given = [scores[name] for name in EMOTIONS]
            # Batches round otherwise, and hardly trained heads magnify it.
            np.testing.assert_allclose(given, expected[row["file"]], atol=5e-4)

    def test_plots_are_drawn(self, finished):
        names = {path.name for path in (finished / "plots").iterdir()}
        assert {"history.png", "toy_emotions_confusion.png"} <= names

    def test_evaluate_only_measures_the_same(self, finished, train, tmp_path):
        output = tmp_path / "run"
        shutil.copytree(finished, output)
        before = contents(output / "model")
        train("--evaluate_only")
        assert_same_predictions(finished, output, 1e-5)
        assert contents(output / "model").keys() == before.keys()
        (old,), (new,) = read_json(finished / "metrics.json"), read_json(output / "metrics.json")
        # Sums of a loaded network are rounded otherwise than those of a trained one.
        for name in ("WA", "UA", "macro_F1", "ECE"):
            assert new["metrics"][name] == pytest.approx(old["metrics"][name], abs=1e-6)
        assert new["metrics"]["confusion_matrix"] == old["metrics"]["confusion_matrix"]


def tiny_encoder():
    """Sizes that wav2vec2, HuBERT and WavLM share; a frame every 20 ms."""
    return {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8, 8, 8],
        "conv_kernel": [10, 8, 8],
        "conv_stride": [5, 8, 8],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "classifier_proj_size": 8,
    }


def tiny_ast():
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_mel_bins=16,
        max_length=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return config, transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64)


def tiny_whisper():
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        num_mel_bins=16,
        max_source_positions=100,
        classifier_proj_size=8,
    )
    return config, transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2)


def tiny_pretrained(kind, folder):
    """Save a random checkpoint of an architecture, with a head of two classes, and its features."""
    torch.manual_seed(0)
    if kind in ("ast", "whisper"):
        config, extractor = tiny_ast() if kind == "ast" else tiny_whisper()
    else:
        # Layers are dropped on one process and not on the other.
        config = transformers.AutoConfig.for_model(kind, **tiny_encoder(), layerdrop=0.5)
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "ast", "whisper"])
def test_pretrained_models_are_fine_tuned(train, tmp_path, kind):
    pretrained = tiny_pretrained(kind, tmp_path / "pretrained")
    output = train(ONE_STAGE, f"model_name_or_path={pretrained}", "model={}", "batch_size=12")
    before = load_file(pretrained / "model.safetensors")
    after = load_file(output / "model" / "model.safetensors")
    assert any(
        not torch.equal(value, after[name])
        for name, value in before.items()
        if not name.startswith("classifier.") and value.dtype.is_floating_point
    )
    assert not list((output / "model").glob("*.bin"))
    classify = pipeline(
        "audio-classification", str(output / "model"), trust_remote_code=True, device="cpu"
    )
    guesses = classify({"array": np.zeros(16_000), "sampling_rate": 16_000})
    assert {guess["label"] for guess in guesses} == set(EMOTIONS)
    assert sum(guess["score"] for guess in guesses) == pytest.approx(1, abs=1e-4)


class TestShippedSettings:
    """Each delta of `configs/` on the embedded corpus, as small and short as it can be."""

    @pytest.fixture
    def train_shipped(self, toy_spec, tmp_path):
        def run(delta, *arguments):
            small = f"corpora={{toy_emotions: {json.dumps(toy_spec)}}}"
            configs = [f"--config={ROOT / 'configs' / name}" for name in ("classifier.yaml", delta)]
            short = [f"output_dir={tmp_path / 'run'}", small, "stages.0.epochs=1", "batch_size=12"]
            # Accelerate takes another precision in a new process only.
            short += ["mixed_precision=no"]
            train_classifier.main([*configs, *short, "evaluations_per_stage=1", *arguments])
            return read_json(tmp_path / "run" / "history.json"), tmp_path / "run" / "model"

        return run

    TINY = "model={embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1]}"

    def test_cross_corpus(self, train_shipped):
        history, model = train_shipped("classifier_cross_corpus.yaml", self.TINY)
        assert [entry["stage"] for entry in history] == ["mixup"]
        assert (model / "model.safetensors").exists()

    def test_refit_trains_on_those_who_validate(self, train_shipped):
        history, model = train_shipped("refit.yaml", self.TINY, "stages.1.epochs=1")
        # Twice as many train, and nobody is left to choose by.
        assert history[0]["step"] == 4
        assert "validation_loss" not in history[-1]
        assert (model / "model.safetensors").exists()

    def test_pretrained_trains_in_full_precision_whatever_the_checkpoint_holds(
        self, train_shipped, tmp_path
    ):
        pretrained = tiny_pretrained("hubert", tmp_path / "pretrained")
        half = AutoModelForAudioClassification.from_pretrained(pretrained, dtype=torch.float16)
        half.save_pretrained(pretrained)
        history, model = train_shipped("pretrained.yaml", f"model_name_or_path={pretrained}")
        assert np.isfinite(history[-1]["validation_loss"])
        weights = load_file(model / "model.safetensors")
        assert {value.dtype for value in weights.values()} == {torch.float32}


class TestTwoProcesses:
    def test_evaluation_is_that_of_one(self, settings, finished, tmp_path):
        output = tmp_path / "run"
        shutil.copytree(finished, output)
        # 24 recordings in batches of 10: the last one is short, and padded by accelerate.
        train_in_two(settings, output, "--evaluate_only", "batch_size=10")
        assert_same_predictions(finished, output, 1e-5)
        (one,), (two,) = (read_json(folder / "metrics.json") for folder in (finished, output))
        assert two["metrics"]["WA"] == one["metrics"]["WA"]
        assert two["metrics"]["UA"] == pytest.approx(one["metrics"]["UA"])

    def test_training_is_that_of_one(self, settings, train, tmp_path):
        """A model without batch normalisation, whose statistics are those of a process."""
        pretrained = tiny_pretrained("ast", tmp_path / "pretrained")
        arguments = (
            f"model_name_or_path={pretrained}",
            "model={}",
            "stages=[{name: only, epochs: 3, learning_rate: 0.01, mixup_probability: 0.5}]",
        )
        two = tmp_path / "two"
        launch(settings, two, *arguments, two=True)
        one = train(*arguments, output=tmp_path / "one")
        assert_same_predictions(one, two, 1e-3)
        scores = [
            [entry["validation_UA"] for entry in read_json(folder / "history.json")]
            for folder in (one, two)
        ]
        assert scores[0] == pytest.approx(scores[1])

    def test_layers_may_be_dropped(self, settings, tmp_path):
        pretrained = tiny_pretrained("hubert", tmp_path / "pretrained")
        output = tmp_path / "run"
        arguments = (ONE_STAGE, f"model_name_or_path={pretrained}", "model={}")
        train_in_two(settings, output, *arguments)
        assert (output / "model" / "model.safetensors").exists()


class TestErrors:
    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("batchsize=3", "Unknown setting batchsize, expected"),
            ("batch_size=many", "Bad setting batch_size='many', expected int"),
            ("tracker=wandb", r"Bad tracker 'wandb', expected one of \['tensorboard', 'trackio'\]"),
            ("stages=[]", "Got no stages, expected at least one"),
            ("stages.1.emotions=five", "Bad emotions 'five' of stage 'fine-tuning', expected one"),
            (
                "stages.1.corpora=[emodb]",
                r"Stage 'fine-tuning' names \['emodb'\], expected \['toy_emotions'\]",
            ),
            ("push_to_hub=true", "Got push_to_hub without hub_model_id"),
            ("statistics.corpus=-1", r"Bad statistics\.corpus -1\.0, expected 0 or more"),
            ("statistics.corpus=0", "Bad statistics of zeros, expected at least one share above 0"),
            (
                "statistics.recordings=[20,5]",
                r"Bad statistics\.recordings .*expected 1 or more tha",
            ),
            ("crop_seconds=0", r"Bad crop_seconds 0\.0, expected more than 0"),
            ("ema_decay=1.5", r"Bad ema_decay 1\.5, expected 0 or more and less than 1"),
            ("stages.0.epochs=0", r"Bad stages\.0\.epochs 0, expected 1 or more"),
            ("stages.1.learning_rate=.nan", r"Bad stages\.1\.learning_rate nan, expected more th"),
            ("stages.0.augmentation.noise_probability=3", "expected 0 to 1"),
            ("copies=1", "Got copies or degradation without encoder_name_or_path"),
            ("model.hiden_sizes=[8]", r"Unknown setting model\.hiden_sizes, expected .*hidden_si"),
            ("feature_extractor.n_mel=40", r"Unknown setting feature_extractor\.n_mel, expected"),
            ("fold=7", "Bad fold 7, expected 0 to 2"),
            ("corpora={}", "Got no corpora, expected at least one"),
            ("hub_model_id=not a valid id!", "Bad hub_model_id 'not a valid id!', expected user/n"),
            ("hub_model_id=one/two/three", "Bad hub_model_id 'one/two/three', expected user/name"),
        ],
    )
    def test_bad_settings_are_refused_before_anything_is_made(
        self, train, tmp_path, override, message
    ):
        with pytest.raises(ValueError, match=message):
            train(override)
        assert not (tmp_path / "run").exists()

    def test_push_without_a_token(self, train, tmp_path, monkeypatch):
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
        with pytest.raises(ValueError, match="Got push_to_hub without a token, expected one from"):
            train("push_to_hub=true", "hub_model_id=someone/toy")
        assert not (tmp_path / "run").exists()

    @pytest.mark.skipif(importlib.util.find_spec("trackio") is not None, reason="is installed")
    def test_tracker_that_is_not_installed(self, train):
        with pytest.raises(ValueError, match="Tracker 'trackio' is not installed"):
            train("tracker=trackio")

    def test_earlier_run_is_refused_and_left_alone(self, finished, train):
        before = contents(finished)
        with pytest.raises(FileExistsError, match="holds a run, expected --resume, --overwrite"):
            train(output=finished)
        assert contents(finished) == before

    @pytest.mark.parametrize("flag", ["--resume", "--evaluate_only"])
    def test_other_people_cannot_slip_into_a_run(self, finished, train, flag):
        before = contents(finished)
        with pytest.raises(ValueError, match=r"Settings \['fold'\] differ .* expected {'fold': 0}"):
            train(flag, "fold=1", output=finished)
        assert contents(finished) == before

    def test_overwrite_discards_a_run(self, finished, train, tmp_path):
        output = tmp_path / "run"
        shutil.copytree(finished, output)
        train(ONE_STAGE, "--overwrite")
        assert not (output / "checkpoints").exists()
        assert {entry["stage"] for entry in read_json(output / "history.json")} == {"only"}

    def test_overwrite_spares_a_folder_that_is_no_run(self, train, tmp_path):
        notes = tmp_path / "run" / "notes.txt"
        notes.parent.mkdir()
        notes.write_text("precious")
        with pytest.raises(ValueError, match="Bad batch_size"):
            train("batch_size=25", "--overwrite")
        assert notes.read_text() == "precious"

    def test_nothing_to_evaluate(self, train):
        with pytest.raises(FileNotFoundError, match=r"No model in '.*/model' to evaluate"):
            train("--evaluate_only")

    def test_batch_larger_than_the_data(self, train):
        with pytest.raises(ValueError, match="Bad batch_size 25, expected at most 24"):
            train("batch_size=25")

    def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoints(self, train, tmp_path):
        stages = "stages=[{name: exploding, epochs: 2, learning_rate: 1e30}]"
        with pytest.raises(
            FloatingPointError, match=r"Loss is \S+ at step \d of stage 'exploding'"
        ):
            train(stages, "checkpoint_every=1")
        assert list((tmp_path / "run" / "checkpoints").glob("step-*/model.safetensors"))
        assert not (tmp_path / "run" / "model").exists()
