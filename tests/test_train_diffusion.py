import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
import transformers
import yaml
from diffusers import AutoencoderKL, DDPMScheduler
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from toy_components import RATE, make_wave
from toy_enhancer import get_dummy_components

import train_classifier
import train_diffusion
from datasets_scripts import EMOTIONS, decode_audio
from pipelines import EmotionEnhancementPipeline
from training.config import DiffusionConfig, load_config
from training.data import load_corpora
from training.features import MelFeatures
from training.latents import encode_recordings

ROOT = Path(train_diffusion.__file__).parent
CLASSIFIER = {
    "model": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "stages": [{"epochs": 1, "learning_rate": 0.01}],
    "batch_size": 6,
    "crop_seconds": 0.5,
}
# 24 recordings train, hence 4 batches an epoch and 8 a stage.
SETTINGS = {
    "vae": {
        "block_out_channels": [4, 4, 8],
        "layers_per_block": 1,
        "latent_channels": 2,
        "norm_num_groups": 2,
        "mid_block_add_attention": False,
    },
    "unet": {
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "scheduler": {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    "style_encoder": {"hidden_size": 16, "num_tokens": 2, "num_heads": 2},
    "autoencoder": {"epochs": 2, "learning_rate": 0.02, "crop_seconds": 0.3},
    "denoiser": {"epochs": 2, "learning_rate": 0.003, "crop_seconds": 0.3},
    "augmentation": {"level": 6.0, "filter": 2.0},
    "batch_size": 6,
    "ema_decay": 0.7,
    "evaluations_per_stage": 2,
    # Steps 3 and 12 lie within an epoch of either stage, and between evaluations.
    "checkpoint_every": 3,
    "checkpoint_limit": 10,
}
SHORT = ("autoencoder.epochs=1", "denoiser.epochs=1", "evaluations_per_stage=1")
# The first tests, the second validates.
EMODB_SPEAKERS = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    # As many as the launched processes have: another number rounds sums otherwise.
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def classifier(toy_spec, tmp_path_factory):
    """The folder of a run of train_classifier.py on the same fold."""
    folder = tmp_path_factory.mktemp("classifier")
    settings = folder / "toy.yaml"
    settings.write_text(yaml.safe_dump(CLASSIFIER | {"corpora": {"toy_emotions": toy_spec}}))
    train_classifier.main(["--config", str(settings), f"output_dir={folder / 'run'}"])
    return folder / "run" / "model"


@pytest.fixture(scope="module")
def settings(toy_spec, classifier, tmp_path_factory):
    """A settings file of a run that takes seconds."""
    path = tmp_path_factory.mktemp("settings") / "toy.yaml"
    own = {"corpora": {"toy_emotions": toy_spec}, "classifier": str(classifier)}
    path.write_text(yaml.safe_dump(SETTINGS | own))
    return path


@pytest.fixture
def train(settings, tmp_path):
    """Run the script in this process; its folder is `tmp_path / "run"` unless named."""

    def run(*arguments, output=None):
        output = output or tmp_path / "run"
        train_diffusion.main(["--config", str(settings), f"output_dir={output}", *arguments])
        return output

    return run


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The folder of an uninterrupted run. Not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "run"
    train_diffusion.main(["--config", str(settings), f"output_dir={output}"])
    return output


def launch(settings, output, *arguments, processes=1, killed_after=None):
    """Start the script in a process, or two, of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    killer = ["tests/killed_after.py", str(killed_after)]
    command = [sys.executable, *(launcher if processes > 1 else killer if killed_after else [])]
    command += ["train_diffusion.py", "--config", str(settings), f"output_dir={output}"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    try:
        printed, _ = process.communicate(timeout=600)
    finally:
        process.terminate()
    assert process.returncode == 0, printed


def run_until(checkpoint, settings, output, *arguments):
    """Start the script in a process that is killed as soon as it has written a checkpoint."""
    process = launch(settings, output, *arguments, killed_after=output / "checkpoints" / checkpoint)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, printed


def read_json(path):
    return json.loads(path.read_text())


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def weights(output):
    """Files of weights by name."""
    return {n: c for n, c in contents(output / "model").items() if n.endswith(".safetensors")}


def assert_same_run(one, other):
    """Weights and history byte for byte, and what was enhanced on the way."""
    assert weights(one) == weights(other)
    assert len(weights(one)) == 5
    assert (one / "history.json").read_bytes() == (other / "history.json").read_bytes()
    sounds = [path.name for path in (one / "samples").glob("*.wav")]
    for name in sounds:
        assert (one / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes()
    settings = [read_json(folder / "model" / "vae" / "config.json") for folder in (one, other)]
    assert settings[0]["scaling_factor"] == settings[1]["scaling_factor"]


def load(output):
    pipe = EmotionEnhancementPipeline.from_pretrained(output / "model", trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def enhanced(output, **settings):
    """What a run's model makes of a recording."""
    generator = torch.Generator().manual_seed(0)
    diffusion = {"method": "diffusion", "num_inference_steps": 5, "generator": generator}
    return load(output)(make_wave(0.6), **{"emotion": "anger", **diffusion, **settings})


class TestModel:
    def test_loads_and_enhances(self, finished):
        (angry,) = enhanced(finished).audios
        # At another tempo, of which there is a limit.
        assert 0.5 <= len(angry) / round(0.6 * RATE) <= 2
        assert np.isfinite(angry).all()
        (before,) = enhanced(finished, strength=0.0).audios
        np.testing.assert_array_equal(before, make_wave(0.6))
        (afraid,) = enhanced(finished, emotion="fear").audios
        for other in (before, afraid):
            assert len(angry) != len(other) or np.abs(angry - other).max() > 1e-3

    def test_knows_the_emotions_and_the_corpora_by_name(self, finished):
        denoiser = load(finished).denoiser
        assert denoiser.emotions == list(EMOTIONS)
        assert denoiser.corpus_index("toy_emotions") != denoiser.corpus_index(None)

    def test_safetensors_and_no_pickle(self, finished):
        names = contents(finished / "model")
        assert {name.rsplit(".")[-1] for name in names} == {"safetensors", "json", "md", "py"}
        assert {"README.md", "model_index.json"} <= set(names)

    def test_recogniser_is_the_one_that_was_given(self, finished, classifier):
        given, exported = (
            load_file(folder / "model.safetensors")
            for folder in (classifier, finished / "model" / "classifier")
        )
        assert given.keys() == exported.keys()
        for name, value in given.items():
            assert torch.equal(value, exported[name]), name

    def test_latents_of_those_who_train_have_deviation_one(self, finished, settings):
        config = load_config(DiffusionConfig, [settings])
        corpora = load_corpora(config)
        pipe = load(finished)
        features = MelFeatures(corpora.dataset, pipe.feature_extractor, 1.0)
        vae = AutoencoderKL.from_pretrained(finished / "model" / "vae")
        rows = corpora.fold.train
        latents = encode_recordings(vae, features, rows)
        power = [latent.square().mean().item() for _, latent in latents]
        assert np.mean(power) * vae.config.scaling_factor**2 == pytest.approx(1, rel=1e-3)

    def test_card_names_no_folder_of_ours(self, finished):
        card = ModelCard.load(finished / "model" / "README.md")
        assert str(finished.parent) not in card.content
        assert "toy_emotions" in card.content


class TestHistory:
    def test_entries(self, finished):
        history = read_json(finished / "history.json")
        assert [entry["step"] for entry in history] == [4, 8, 12, 16]
        assert [entry["stage"] for entry in history] == ["autoencoder"] * 2 + ["denoiser"] * 2
        for entry in history:
            assert entry["train_loss"] > 0
            assert entry["validation_loss"] > 0

    def test_quarters_of_the_schedule_make_the_loss(self, finished):
        """24 validation recordings, 6 of each quarter."""
        for entry in read_json(finished / "history.json")[2:]:
            quarters = [entry[f"validation_loss_quarter_{i}"] for i in (1, 2, 3, 4)]
            assert np.mean(quarters) == pytest.approx(entry["validation_loss"], rel=1e-4)
            assert len(set(quarters)) == 4

    def test_both_networks_learn(self, finished):
        history = read_json(finished / "history.json")
        for first, last in ((history[0], history[1]), (history[2], history[3])):
            assert first["stage"] == last["stage"]
            assert last["validation_loss"] < first["validation_loss"]

    def test_samples_are_one_recording_said_with_each_emotion(self, finished, settings):
        corpora = load_corpora(load_config(DiffusionConfig, [settings]))
        samples, rate = decode_audio(corpora.dataset[corpora.fold.validation[0]]["audio"])
        level = np.sqrt(np.mean(np.square(samples)))
        sounds = {path.stem: soundfile.read(path) for path in finished.glob("samples/*.wav")}
        assert set(sounds) == set(EMOTIONS)
        for sound, rate_of_sample in sounds.values():
            assert rate_of_sample == RATE
            assert 0.5 <= len(sound) / RATE / (len(samples) / rate) <= 2
            # It tells nothing by how loud it is.
            assert np.sqrt(np.mean(np.square(sound))) == pytest.approx(level, rel=0.02)
        assert len({sound.tobytes() for sound, _ in sounds.values()}) == len(EMOTIONS)
        assert len(list(finished.glob("samples/*.png"))) == 2


class TestResume:
    def test_killed_in_both_stages_equals_uninterrupted(self, settings, finished, train, tmp_path):
        output = tmp_path / "run"
        run_until("step-00000003-stage-0", settings, output)
        assert not (output / "vae").exists()
        run_until("step-00000012-stage-1", settings, output, "--resume")
        assert not (output / "model").exists()
        train("--resume")
        assert_same_run(finished, output)

    def test_between_the_stages(self, finished, train, tmp_path):
        """The autoencoder is done, nothing of the denoiser was saved."""
        output = tmp_path / "run"
        shutil.copytree(finished, output)
        for checkpoint in (output / "checkpoints").glob("*-stage-1"):
            checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.tmp"))
        shutil.rmtree(output / "model")
        train("--resume")
        assert_same_run(finished, output)

    def test_nothing_to_resume(self, train, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No checkpoint in '.*run' to resume from"):
            train("--resume")
        assert not (tmp_path / "run").exists()


def test_shipped_settings_of_the_demo_train(toy_spec, classifier, tmp_path):
    names = ("diffusion.yaml", "toy_diffusion.yaml")
    configs = [f"--config={ROOT / 'configs' / name}" for name in names]
    small = [f"corpora={{toy_emotions: {json.dumps(toy_spec)}}}", f"classifier={classifier}"]
    train_diffusion.main([*configs, *small, f"output_dir={tmp_path / 'run'}", *SHORT])
    history = read_json(tmp_path / "run" / "history.json")
    assert [entry["stage"] for entry in history] == ["autoencoder", "denoiser"]
    assert np.isfinite(enhanced(tmp_path / "run").audios[0]).all()


def test_two_processes_train_as_one(settings, train, tmp_path):
    two = tmp_path / "two"
    finish(launch(settings, two, *SHORT, "shift=null", processes=2))
    one = train(*SHORT, "shift=null", output=tmp_path / "one")
    histories = [read_json(folder / "history.json") for folder in (one, two)]
    for first, second in zip(*histories, strict=True):
        assert first.pop("stage") == second.pop("stage")
        assert second == pytest.approx(first, rel=1e-4)
    # Of one length, whatever their tempo is.
    settings = {"vocoder": "source_filter", "output_type": "mel"}
    mels = [enhanced(folder, **settings).log_mels[0] for folder in (one, two)]
    torch.testing.assert_close(*mels, atol=5e-3, rtol=0)


def test_classifier_that_has_not_heard_the_corpus(train, unknown_classifier):
    """Its front end takes the statistics of unknown origin."""
    with pytest.warns(UserWarning, match="cannot know whether the classifier was trained"):
        output = train(*SHORT, "shift=null", f"classifier={unknown_classifier}")
    assert len(list(output.glob("samples/*.wav"))) == len(EMOTIONS)
    assert np.isfinite(enhanced(output, vocoder="source_filter").audios[0]).all()


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_network_learns_what_the_scheduler_steps_with(prediction_type):
    """Given just what is wanted of the network, a scheduler finds what was noisy."""
    scheduler = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    latents, noise = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    for timestep in (10, 500, 900):
        batch = {"latents": latents, "noise": noise, "timestep": torch.tensor([timestep])}
        noisy = scheduler.add_noise(latents, noise, batch["timestep"])
        wanted = train_diffusion.wanted_prediction(scheduler, batch)
        found = scheduler.step(wanted, timestep, noisy).pred_original_sample
        torch.testing.assert_close(found, latents, atol=1e-4, rtol=1e-3)


def test_pitch_and_tempo_weigh_what_is_said():
    errors = torch.zeros(2, 22)
    errors[0, :20], errors[1, 20:] = 1.0, 1.0
    for weight, latents in ((1.0, 20 / 22), (4.0, 20 / 28), (0.0, 1.0)):
        mean = train_diffusion.mean_of_rows(errors, weight)
        torch.testing.assert_close(mean, torch.tensor([latents, 1 - latents]))


def test_accumulation_updates_half_as_often(train):
    def updates(output, name):
        saved = next((output / "checkpoints").glob(name)) / "optimizer.bin"
        state = torch.load(saved, weights_only=True)["state"]
        return {int(values["step"]) for values in state.values()}

    output = train(*SHORT, "shift=null", "gradient_accumulation_steps=2", "checkpoint_every=4")
    assert updates(output, "step-00000004-stage-0") == {2}


@pytest.fixture(scope="module")
def unknown_classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown") / "model"
    components = get_dummy_components()
    components["classifier"].save_pretrained(folder)
    components["feature_extractor"].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def train_with_other(settings, unknown_classifier, tmp_path_factory):
    """Train with other recordings of somebody."""

    def train(other=None):
        folder = tmp_path_factory.mktemp("emodb")
        for i, speaker in enumerate(EMODB_SPEAKERS):
            generator = np.random.default_rng([i, speaker == other])
            # Whoever is exchanged speaks longer, too.
            samples = 6000 if speaker == other else 4800
            for emotion in "WEAFTN":
                noise = 0.1 * generator.standard_normal(samples)
                soundfile.write(folder / f"{speaker}a01{emotion}a.wav", noise, 16_000)
        output = folder / "run"
        spec = f"{{emodb: {{data_dir: {folder}, cache_dir: {folder / 'cache'}}}}}"
        arguments = [f"output_dir={output}", f"classifier={unknown_classifier}", *SHORT]
        with pytest.warns(UserWarning, match="cannot know whether the classifier was trained"):
            train_diffusion.main(
                ["--config", str(settings), f"corpora={spec}", "batch_size=16", *arguments]
            )
        return output

    return train


@pytest.fixture(scope="module")
def original(train_with_other):
    """A run on noise in the layout of EmoDB."""
    return train_with_other()


class TestStrangers:
    """One speaker's recordings are exchanged for others."""

    @pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")
    def test_those_who_are_tested_are_never_looked_at(self, train_with_other, original):
        assert_same_run(original, train_with_other(other=EMODB_SPEAKERS[0]))

    @pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")
    def test_those_who_validate_only_measure(self, train_with_other, original):
        other = train_with_other(other=EMODB_SPEAKERS[1])
        assert weights(other) == weights(original)
        measured = [
            [entry["validation_loss"] for entry in read_json(folder / "history.json")]
            for folder in (original, other)
        ]
        assert measured[0] != measured[1]


class TestErrors:
    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("fold=1", r"was trained with other \['fold'\], expected {'fold': 1}"),
            ("seed=5", r"was trained with other \['seed'\], expected {'seed': 5}"),
            ("protocol=paper", r"trained with other \['protocol'\], expected {'protocol': 'paper'"),
            ("corpora={emodb: null}", r"was trained with other \['corpora'\]"),
            ("classifier=null", "Got no classifier, expected the folder of one trained on this"),
            ("denoiser.epochs=0", r"Bad denoiser\.epochs 0, expected 1 or more"),
            ("batchsize=3", "Unknown setting batchsize, expected"),
            ("checkpoint_every=0", "Bad checkpoint_every 0, expected 1 or more"),
            ("tracker=wandb", r"Bad tracker 'wandb', expected one of"),
            ("own_emotion_probability=1.5", "Bad own_emotion_probability 1.5, expected 0 to 1"),
            ("snr_gamma=5.0", "Unknown setting snr_gamma, expected"),
            ("push_to_hub=true", "Got push_to_hub without hub_model_id"),
            ("batch_size=25", "Bad batch_size 25, expected at most 24"),
        ],
    )
    def test_bad_settings_are_refused(self, train, tmp_path, override, message):
        with pytest.raises(ValueError, match=message):
            train(override)
        assert not (tmp_path / "run" / "checkpoints").exists()

    def test_missing_classifier(self, train, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"No classifier in '.*gone', expected a folder"
        ):
            train(f"classifier={tmp_path / 'gone'}")
        assert not (tmp_path / "run").exists()

    @pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")
    @pytest.mark.filterwarnings("ignore:No .*cannot know:UserWarning")
    def test_recording_shorter_than_a_latent(self, settings, unknown_classifier, tmp_path):
        generator = np.random.default_rng(0)
        for speaker in EMODB_SPEAKERS:
            for emotion in "WEAFTN":
                samples = 100 if (speaker, emotion) == ("12", "T") else 4800
                noise = generator.standard_normal(samples)
                soundfile.write(tmp_path / f"{speaker}a01{emotion}a.wav", 0.1 * noise, 16_000)
        spec = f"{{emodb: {{data_dir: {tmp_path}, cache_dir: {tmp_path / 'cache'}}}}}"
        arguments = [f"output_dir={tmp_path / 'run'}", f"classifier={unknown_classifier}"]
        with pytest.raises(ValueError, match=r"1 recordings are too short, '.*12a01Ta.* 1 frames"):
            train_diffusion.main(["--config", str(settings), f"corpora={spec}", *arguments])
        assert not (tmp_path / "run").exists()

    def test_classifier_that_trained_on_those_who_validate(self, train, classifier, tmp_path):
        shutil.copytree(classifier.parent, tmp_path / "refit")
        saved = tmp_path / "refit" / "model" / "config.json"
        theirs = json.loads(saved.read_text())
        theirs["trained_on"]["train_on_validation"] = True
        saved.write_text(json.dumps(theirs))
        with pytest.raises(ValueError, match=r"trained with other \['train_on_validation'\]"):
            train(f"classifier={tmp_path / 'refit' / 'model'}")

    def test_earlier_run_is_refused_and_left_alone(self, finished, train):
        before = contents(finished)
        with pytest.raises(FileExistsError, match="holds a run, expected --resume, --overwrite"):
            train(output=finished)
        with pytest.raises(ValueError, match=r"Settings \['vae'\] differ from those of the run"):
            train("--resume", "vae.latent_channels=3", output=finished)
        assert contents(finished) == before

    @pytest.mark.parametrize("stage", ["autoencoder", "denoiser"])
    def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoints(self, train, tmp_path, stage):
        with pytest.raises(
            FloatingPointError, match=rf"Loss is \S+ at step \d of stage '{stage}', expected"
        ):
            train(*SHORT, f"{stage}.learning_rate=1e30", "checkpoint_every=1")
        saved = list((tmp_path / "run" / "checkpoints").glob("step-*/model.safetensors"))
        assert saved
        assert not (tmp_path / "run" / "model").exists()
