"""What a stranger does with repositories on the Hub, who has the libraries but not this project.

Run as `python -I stranger.py STEP ...` in a folder with `wave.npy` and `pushed.json`, in an
environment that says where the Hub and the cache are. Writes what each of the functions named gives
to `report.json`.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from diffusers import DiffusionPipeline
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

ANGRY = {"emotion": "anger", "num_inference_steps": 2, "method": "diffusion"}
TRUST, REFUSE = {"trust_remote_code": True}, {"trust_remote_code": False}
# `make` installs the project so; it is found through a finder of its own.
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
WAVE = np.load("wave.npy")
PUSHED = json.loads(Path("pushed.json").read_text())


def error_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def classifier(name, **options):
    return pipeline("audio-classification", name, device="cpu", **options)


def load_task(*_, **options):
    return pipeline("emotion-enhancement", "me/enhancer", device="cpu", **options)


def enhance(pipe):
    sound = pipe(WAVE, generator=torch.Generator().manual_seed(7), **ANGRY).audios[0]
    return [float(value) for value in sound[::500]]


def refusals():
    refused = {}
    for name, load in (
        ("me/resnet", classifier),
        ("me/transformer", classifier),
        ("me/enhancer", DiffusionPipeline.from_pretrained),
        (
            "me/enhancer as a task",
            lambda name, **k: pipeline("emotion-enhancement", name[:11], **k),
        ),
    ):
        refused[name] = [error_of(load, name, **options) for options in ({}, REFUSE)]
    home = Path(os.environ["HF_HOME"])
    files = (*home.rglob("*.py"), *Path(os.environ.get("HF_HUB_CACHE", home)).rglob("*.py"))
    refused["code"] = [str(file) for file in files if file.name != "__init__.py"]
    return refused


def classify():
    """Of each classifier: from the Hub, from what that was saved as, and in parts."""
    said = {}
    for name in ("resnet", "transformer", "trained"):
        loaded = classifier(f"me/{name}", **TRUST)
        loaded.save_pretrained(f"again/{name}")
        saved = classifier(f"again/{name}", **TRUST)
        said[name] = [loaded(WAVE), saved(WAVE), save_apart(name)(WAVE)]
    return said


def save_apart(name):
    """A pipeline of the model and the feature extractor, saved each for itself."""
    for kind in (AutoModelForAudioClassification, AutoFeatureExtractor):
        kind.from_pretrained(f"me/{name}", **TRUST).save_pretrained(f"again/apart/{name}")
    return classifier(f"again/apart/{name}", **TRUST)


def score_with_two_revisions():
    older = classifier("me/resnet", revision=PUSHED["resnet"], **TRUST)
    scores = [older.speech_score(WAVE)]
    newer = classifier("me/resnet", **TRUST)
    scores += [newer.speech_score(WAVE), older.speech_score(WAVE)]
    again = classifier("me/resnet", revision=PUSHED["resnet"], **TRUST)
    return [*scores, again.speech_score(WAVE), newer.speech_score(WAVE)]


def words_of(pipe):
    """What the code of the pipeline, and that of a part of it, say of what cannot be."""
    rate = pipe.feature_extractor.sampling_rate
    return [
        error_of(pipe, WAVE, strength=7),
        error_of(pipe.feature_extractor.calibrate, [WAVE], rate, name=""),
    ]


def enhance_with_two_revisions():
    older = DiffusionPipeline.from_pretrained("me/enhancer", revision="v1", **TRUST)
    words = [words_of(older)]
    newer = DiffusionPipeline.from_pretrained("me/enhancer", **TRUST)
    words += [words_of(newer), words_of(older)]
    pinned = {"revision": PUSHED["older enhancer"]}
    again = DiffusionPipeline.from_pretrained("me/enhancer", **pinned, **TRUST)
    words += [words_of(again), words_of(newer)]
    newer.save_pretrained("again/enhancer")
    older.save_pretrained("again/older")
    saved = DiffusionPipeline.from_pretrained("again/enhancer", **TRUST)
    words += [words_of(DiffusionPipeline.from_pretrained("again/older", **TRUST)), words_of(saved)]
    sounds = [enhance(pipe) for pipe in (newer, saved, older)]
    heard = load_task(**TRUST)(WAVE, generator=torch.Generator().manual_seed(7), **ANGRY)["audio"]
    return {"words": words, "sounds": [*sounds, [float(value) for value in heard[::500]]]}


def load_fold():
    from datasets import Audio, load_dataset  # here, since other strangers do without

    fold = ("me/emodb", "speaker_independent_fold0")
    loaded = load_dataset(*fold)
    rows = loaded["test"].cast_column("audio", Audio(decode=False))
    Path("clip.wav").write_bytes(rows[0]["audio"]["bytes"])
    samples, rate = soundfile.read("clip.wav")
    return {
        "speakers": {split: sorted(set(part["speaker"])) for split, part in loaded.items()},
        "emotions": loaded["test"].features["emotion"].names,
        "streamed": sum(1 for _ in load_dataset(*fold, split="test", streaming=True)),
        "rows": len(load_dataset("me/emodb", split="train")),
        "first": [rows[0]["file"], rate, samples.tolist()[:9]],
    }


def load_secrets():
    """Without a token, with one that nobody has, with another person's, and with the owner's."""
    loads = {"classifier": lambda: classifier("me/secret", **TRUST)}
    loads["enhancer"] = lambda: DiffusionPipeline.from_pretrained("me/secret-enhancer", **TRUST)
    errors = {}
    for token in ("", "hf_nobody", "hf_other", "hf_owner"):
        os.environ["HF_TOKEN"] = token
        errors[token] = {name: error_of(load) for name, load in loads.items()}
    del os.environ["HF_TOKEN"]
    return errors


def main():
    names = ("modeling", "pipelines", "datasets_scripts")
    report = {"importable": [n for n in names if importlib.util.find_spec(n) is not None]}
    for step in sys.argv[1:]:
        report[step] = globals()[step]()
    Path("report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
