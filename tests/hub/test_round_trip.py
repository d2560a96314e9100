"""What was pushed to the Hub is what a stranger loads from there."""

import ctypes

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from datasets_scripts import EMOTIONS
from pipelines import load_enhancer

ANGRY = {"emotion": "anger", "num_inference_steps": 2, "method": "diffusion"}
# Half a step of 16-bit sound is 1.5e-5; this is inaudible.
SAME_SOUND = 1e-3
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


@pytest.fixture(scope="module")
def report(stranger):
    return stranger[0]


def test_the_stranger_has_nothing_of_this_project(report):
    assert report["importable"] == []


@pytest.mark.parametrize(
    "name", ["me/resnet", "me/transformer", "me/enhancer", "me/enhancer as a task"]
)
def test_no_code_runs_unless_that_is_allowed(report, name):
    """Nor is any downloaded."""
    for refusal in report["refusals"][name]:
        assert refusal.startswith("ValueError")
        assert "trust_remote_code=True" in refusal
    assert report["refusals"]["code"] == []


@pytest.fixture(scope="module")
def owned(emotion_classifier, emotion_transformer, trained):
    """Classifiers as their owner has them."""
    loaded = pipeline("audio-classification", str(trained / "model"), trust_remote_code=True)
    return {"resnet": emotion_classifier, "transformer": emotion_transformer, "trained": loaded}


@pytest.mark.parametrize("name", ["resnet", "transformer", "trained"])
def test_classifier_says_the_same_as_that_of_its_owner(report, name, owned, wave):
    expected = {guess["label"]: guess["score"] for guess in owned[name](wave)}
    for guesses in report["classify"][name]:
        said = {guess["label"]: guess["score"] for guess in guesses}
        assert said == pytest.approx(expected, abs=1e-5)


def test_two_revisions_of_a_classifier_keep_to_their_code(report, emotion_classifier, wave):
    older = emotion_classifier.speech_score(wave)
    assert report["score_with_two_revisions"] == [older, 0.125, older, older, 0.125]


def test_two_revisions_of_an_enhancer_keep_to_their_code(report):
    """A pinned one, the newest, and what they were saved as, one after the other."""
    older, newer = report["enhance_with_two_revisions"]["words"][:2]
    assert newer[0] == "ValueError: Bad strength 7, expected 0 to 1"
    assert newer[1] == "ValueError: Bad name '', expected a text that is not empty"
    assert older == [words.replace(": ", ": In older words: ", 1) for words in newer]
    assert report["enhance_with_two_revisions"]["words"][2:] == [older, older, newer, older, newer]


def test_enhancer_sounds_as_that_of_its_owner(report, enhancer, wave):
    """Loaded, saved and loaded again, of an older revision, and as a task of transformers."""
    sound = enhancer(wave, generator=torch.Generator().manual_seed(7), **ANGRY).audios[0]
    for heard in report["enhance_with_two_revisions"]["sounds"]:
        np.testing.assert_allclose(heard, sound[::500], atol=SAME_SOUND)


@pytest.mark.parametrize("options", [{}, {"revision": "v1"}])
def test_enhancer_without_its_code(pushed, enhancer, wave, options):
    """The weights, in the classes of this package."""
    loaded = load_enhancer("me/enhancer", **options)
    assert type(loaded) is type(enhancer)
    expected, heard = (
        pipe(wave, generator=torch.Generator().manual_seed(7), **ANGRY).audios[0]
        for pipe in (enhancer, loaded)
    )
    np.testing.assert_allclose(heard, expected, atol=SAME_SOUND)


@pytest.mark.parametrize("trust", [False, True])
def test_enhancers_that_cannot_be_loaded(pushed, monkeypatch, trust):
    """One that is not there, another's, a revision that is not there, and a wrong token."""
    options = {"trust_remote_code": trust}
    for name in ("me/nothing", "me/secret-enhancer"):
        with pytest.raises(OSError, match=f"^{name} is not a local folder and is not a valid"):
            load_enhancer(name, **options)
    with pytest.raises(OSError, match="^v9 is not a valid git identifier"):
        load_enhancer("me/enhancer", revision="v9", **options)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with pytest.raises(OSError, match="Invalid credentials in Authorization header"):
        load_enhancer("me/secret-enhancer", **options)


def test_fold_of_a_corpus(report, recordings_of_emodb, hub):
    loaded = report["load_fold"]
    assert loaded["streamed"] == 6
    assert hub.ranges
    assert loaded["emotions"] == list(EMOTIONS)
    assert loaded["rows"] == 24
    speakers = loaded["speakers"]
    assert speakers.keys() == {"train", "validation", "test"}
    assert sorted(name for split in speakers.values() for name in split) == ["03", "08", "09", "10"]
    file, rate, samples = loaded["first"]
    assert rate == 16_000
    np.testing.assert_array_equal(soundfile.read(recordings_of_emodb / file)[0][:9], samples)


def test_private_repositories(report):
    errors = report["load_secrets"]
    for token in ("", "hf_nobody", "hf_other"):
        for error in errors[token].values():
            assert error is not None
    assert errors["hf_owner"] == {"classifier": None, "enhancer": None}


def test_read_only_cache_that_is_shared(stranger, run_stranger, hub, tmp_path):
    """Somebody else's cache, where nothing can be written, serves without downloading anew."""
    report, work = stranger
    shared = work / "home" / "hub"
    folders = [shared, *(path for path in shared.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    hub.requests.clear()
    steps = ("classify", "enhance_with_two_revisions")
    try:
        again = run_stranger(
            tmp_path,
            *steps,
            start=forget_that_root_may_write,
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_CACHE=str(shared),
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    for step in steps:
        assert again[step] == report[step]
    assert [path for path in hub.paths("GET") if path.startswith("/storage")] == []


def forget_that_root_may_write():
    """Whoever runs the tests as root does not see permissions otherwise."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
