import json

import numpy as np

from benchmarks import style_probe
from benchmarks.panel import Clips
from datasets_scripts import EMOTIONS
from evaluation.results import render_table


def made_up_clips(speakers=8, takes=2):
    """Every speaker says two sentences in every emotion."""
    rows = [
        (f"toy {s}", e, f"toy {t}") for s in range(speakers) for e in EMOTIONS for t in range(takes)
    ]
    spoken_by, emotions, sentences = (list(column) for column in zip(*rows, strict=True))
    numbers = list(range(len(rows)))
    files = [f"{number}.wav" for number in numbers]
    return Clips(numbers, [], ["toy"] * len(rows), emotions, spoken_by, sentences, files)


def split(clips):
    """Two speakers are tested, one validates."""
    number = [int(speaker.split()[1]) for speaker in clips.speakers]
    parts = {"test": (0, 1), "validation": (2,), "train": (3, 4, 5, 6, 7)}
    return {
        name: [row for row in clips.rows if number[row] in members]
        for name, members in parts.items()
    }


def one_hot(values):
    names, ids = np.unique(values, return_inverse=True)
    noise = np.random.default_rng(0).normal(size=(len(ids), len(names)))
    return np.eye(len(names))[ids] + 0.1 * noise


def test_a_probe_reads_what_is_there_and_no_more():
    clips = made_up_clips()
    of_emotion = style_probe.scores(probe(one_hot(clips.emotions), clips))
    of_voice = style_probe.scores(probe(one_hot(clips.speakers), clips))
    assert of_emotion["UA"] == 1
    assert of_voice["speaker_WA"] == 1
    assert of_voice["UA"] < 0.4
    assert of_emotion["speaker_WA"] < 0.4


def probe(view, clips):
    return style_probe.probe(view, clips, split(clips), seed=0)


def test_a_run_is_probed(run, tmp_path):
    arguments = ["--runs", str(run), "--work", str(tmp_path), "--output"]
    style_probe.main([*arguments, str(tmp_path / "style.json")])
    records = json.loads((tmp_path / "style.json").read_text())
    systems = {record["system"] for record in records}
    assert systems == {style_probe.TOKENS, style_probe.BANDS, style_probe.VECTOR}
    assert render_table("style", records).count("\n") == 1 + len(systems)
