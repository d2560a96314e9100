"""What is sent to the Hub, and what is said where that cannot be."""

import json
import signal
from pathlib import Path

import processes
import pytest
from huggingface_hub import HfApi, ModelCard, hf_hub_download

import train_classifier
from datasets_scripts.export import main as export
from datasets_scripts.hub import push_folder

SPACE = "---\ntitle: Toy\nsdk: static\n---\n\n# Toy\n"


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def space(tmp_path):
    folder = tmp_path / "space"
    (folder / "assets").mkdir(parents=True)
    (folder / "README.md").write_text(SPACE)
    (folder / "index.html").write_text("<h1>Toy</h1>")
    (folder / "assets" / "clip.wav").write_bytes(bytes(range(256)) * 40)
    return folder


def test_training_pushes_exactly_the_folder(hub, trained):
    assert hub.store.read("model", "me/trained") == contents(trained / "model")
    card = ModelCard((trained / "model" / "README.md").read_text())
    assert '"me/trained", trust_remote_code=True' in card.text
    assert card.data.license == "apache-2.0"


def test_space(hub, owner, space):
    with owner():
        address = push_folder(space, "me/space", "space")
    assert address.startswith(f"{hub.url}/spaces/me/space/")
    assert hub.store.read("space", "me/space") == contents(space)
    assert HfApi().space_info("me/space").sdk == "static"


def test_space_that_does_not_say_what_it_runs_with(hub, owner, space):
    (space / "README.md").write_text("# Toy\n")
    with owner(), pytest.raises(ValueError, match="expected a README.md that names its 'sdk'"):
        push_folder(space, "me/nothing", "space")
    assert ("space", "me/nothing") not in hub.store.repositories


def test_what_was_pushed_before_is_not_sent_again(hub, owner, space):
    with owner():
        first = push_folder(space, "me/twice", "space", private=True)
        hub.requests.clear()
        assert push_folder(space, "me/twice", "space").rsplit("/", 1) == first.rsplit("/", 1)
    assert hub.paths("PUT") == []
    assert hub.store.repositories["space", "me/twice"].private


def test_code_of_an_earlier_model_goes(hub, owner, tmp_path):
    for file in ("model.safetensors", "old.py", "part/old.py", "same.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(file)
    with owner():
        push_folder(tmp_path, "me/renewed")
        (tmp_path / "old.py").unlink()
        (tmp_path / "part" / "old.py").rename(tmp_path / "part" / "new.py")
        push_folder(tmp_path, "me/renewed")
    assert hub.store.read("model", "me/renewed") == contents(tmp_path)


@pytest.mark.parametrize(
    ("token", "repository", "message"),
    [
        ("hf_nobody", "me/new", r"Cannot push to 'me/new': the Hub does not know the token, expe"),
        ("hf_reader", "me/new", r"Cannot push to 'me/new', expected a repository that your toke"),
        ("hf_owner", "other/new", r"Cannot push to 'other/new', expected a repository that your"),
    ],
)
class TestRefused:
    """Before anything else is done."""

    def test_export(
        self, hub, monkeypatch, tmp_path, recordings_of_emodb, token, repository, message
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        arguments = ["--corpus", "emodb", "--data_dir", str(recordings_of_emodb)]
        with pytest.raises(OSError, match=message):
            export([*arguments, "--output_dir", str(tmp_path / "out"), "--push_to_hub", repository])
        assert not (tmp_path / "out").exists()
        assert ("dataset", repository) not in hub.store.repositories

    def test_training(self, hub, monkeypatch, tmp_path, toy_spec, token, repository, message):
        monkeypatch.setenv("HF_TOKEN", token)
        corpora = f"corpora={json.dumps({'toy_emotions': toy_spec})}"
        settings = [corpora, "mixed_precision=no", "batch_size=6", f"output_dir={tmp_path}/r"]
        with pytest.raises(OSError, match=message):
            train_classifier.main(["--push_to_hub", "--hub_model_id", repository, *settings])
        assert not (tmp_path / "r").exists()
        assert ("model", repository) not in hub.store.repositories


def test_export_without_a_token(hub, tmp_path):
    arguments = ["--corpus", "emodb", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="Got push_to_hub without a token, expected one from"):
        export([*arguments, "--push_to_hub", "me/emodb"])
    with pytest.raises(ValueError, match="Bad push_to_hub 'not an id!', expected user/name"):
        export([*arguments, "--push_to_hub", "not an id!"])
    assert not (tmp_path / "out").exists()


def test_hub_that_cannot_be_reached(owner, space, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with owner(), pytest.raises(OSError, match="Cannot push to 'me/x', expected a Hub that can be"):
        push_folder(space, "me/x", "space")


def test_push_that_was_interrupted_is_repeated(hub, owner, recordings_of_emodb, tmp_path):
    """Killed amid an upload, it leaves the repository as it was; then the rest alone is sent."""
    hub.stall_uploads(after=1)
    hub.requests.clear()
    program = ("-m", "datasets_scripts.export", "--corpus", "emodb", "--protocols", "paper")
    program += ("--data_dir", recordings_of_emodb, "--output_dir", tmp_path / "emodb")
    process = processes.start(
        tmp_path / "log", *program, "--push_to_hub", "me/interrupted", HF_TOKEN="hf_owner"
    )
    assert hub.stalled.wait(300), (tmp_path / "log").read_text()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    hub.resume_uploads()
    assert hub.store.read("dataset", "me/interrupted") == {}
    uploaded = sum(hub.store.path_of(path.rsplit("/", 1)[1]).exists() for path in hub.paths("PUT"))
    hub.requests.clear()
    with owner():
        push_folder(tmp_path / "emodb", "me/interrupted", "dataset")
    expected = contents(tmp_path / "emodb")
    assert hub.store.read("dataset", "me/interrupted") == expected
    large = sum(name.endswith(".parquet") for name in expected)
    assert uploaded >= 1
    assert len(hub.paths("PUT")) == large - uploaded


def test_download_that_breaks_off_is_begun_again(hub, owner, space, tmp_path):
    with owner():
        push_folder(space, "me/broken", "space")
    hub.break_next_download()
    hub.requests.clear()
    options = {"repo_type": "space", "cache_dir": tmp_path / "cache"}
    file = hf_hub_download("me/broken", "assets/clip.wav", **options)
    assert Path(file).read_bytes() == (space / "assets" / "clip.wav").read_bytes()
    assert len(hub.paths("GET")) == 2
