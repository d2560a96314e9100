"""`speech-emotion push`, to the Hub on 127.0.0.1."""

import pytest
from typer.testing import CliRunner

from datasets_scripts import export_parquet, load_corpus
from pipelines import load_enhancer
from pretrained import ENHANCER
from speech_emotion.main import app

CARD = "---\nlicense: cc0-1.0\n---\n# A model\n"


def push(folder, *arguments):
    return CliRunner().invoke(app, ["push", str(folder), *arguments])


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1)
    return export_parquet(corpus, tmp_path_factory.mktemp("corpus") / "dataset", protocols=())


def test_it_sends_exactly_the_folder(hub, owner, dataset):
    with owner():
        done = push(dataset, "me/toys", "--private")
    assert done.exit_code == 0, done.stderr
    assert hub.store.read("dataset", "me/toys") == contents(dataset)
    assert hub.store.repositories["dataset", "me/toys"].private
    assert done.stdout.startswith(f"{hub.url}/datasets/me/toys/commit/")


def test_an_enhancer_that_lies_without_code_gets_it(hub, owner, enhancer, tmp_path):
    enhancer.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(CARD)
    expected = contents(tmp_path)
    for file in tmp_path.rglob("*.py"):
        file.unlink()
    with owner():
        done = push(tmp_path, "me/without-code")
    assert done.exit_code == 0, done.stderr
    sent = hub.store.read("model", "me/without-code")
    assert set(sent) == set(expected)
    code = {name for name in expected if name.endswith(".py")}
    assert len(code) > 3
    assert all(sent[name] == expected[name] for name in code)


def test_the_enhancer_in_the_box_is_sent_with_the_code_that_others_need(hub, owner, tmp_path):
    load_enhancer(ENHANCER).save_pretrained(tmp_path)
    with owner():
        done = push(ENHANCER, "me/box")
    assert done.exit_code == 0, done.stderr
    sent = hub.store.read("model", "me/box")
    expected = contents(tmp_path)
    code = {name for name in expected if name.endswith(".py")}
    assert {name for name in sent if name.endswith(".py")} == code
    assert all(sent[name] == expected[name] for name in code)
    assert sent["README.md"] == (ENHANCER / "README.md").read_bytes()


def test_it_is_refused_in_one_line(hub, dataset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    done = push(dataset, "me/refused")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Failed: {dataset}: Cannot push to 'me/refused', expected")
    assert done.stderr.count("\n") == 1


def test_without_a_card_a_name_or_a_token(hub, model_folder, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    done = push(dataset, "me/toy")
    assert done.exit_code == 2
    assert "Got push without a token, expected one from `hf auth login`" in done.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    (tmp_path / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    done = push(tmp_path, "me/toy")
    assert done.exit_code == 2
    assert "without a card, expected a README.md" in done.stderr
    assert push(dataset, "some one/toy").exit_code == 2
