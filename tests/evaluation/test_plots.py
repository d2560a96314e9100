import threading
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import soundfile
from datasets import ClassLabel, Dataset, Features, Value
from matplotlib.colors import to_rgb
from PIL import Image

from datasets_scripts import EMOTIONS
from evaluation import (
    plot_attention,
    plot_confusion,
    plot_dataset_distribution,
    plot_history,
    plot_mel_gallery,
    plot_per_emotion,
    plot_pitch,
    plot_reliability,
    plot_trade_off,
    recognition_metrics,
)
from evaluation.plots import EMOTION_COLORS

RATE = 16000


def history(best=7, stages=("pretrain", "finetune")):
    return [
        {
            "step": 100 * i,
            "epoch": i,
            "train_loss": None if i == 0 else 2 / i,
            "validation_loss": 2 / (i + 1),
            "validation_UA": 0.9 if i == best else 0.05 * i,
            "validation_WA": 0.05 * i + 0.02,
            "learning_rate": 1e-3 * (10 - i),
            "stage": stages[i // 6],
        }
        for i in range(10)
    ]


def metrics(seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(6, 0.4), 300)
    references = np.where(
        generator.random(300) < 0.3, generator.integers(0, 6, 300), probabilities.argmax(axis=1)
    )
    return recognition_metrics(probabilities.argmax(axis=1), references, probabilities)


def corpus(seed=0):
    generator = np.random.default_rng(seed)
    rows = [
        {"audio": tone(generator), "emotion": i % 6, "speaker": f"{i % 4:02d}"} for i in range(48)
    ]
    audio = {"bytes": Value("binary"), "path": Value("string")}
    labels = ClassLabel(names=list(EMOTIONS))
    features = Features({"audio": audio, "emotion": labels, "speaker": Value("string")})
    return Dataset.from_list(rows, features=features)


def tone(generator):
    seconds = generator.uniform(0.1, 0.5)
    samples = generator.uniform(0, 0.9) * np.sin(np.arange(int(seconds * RATE)) / 10)
    file = BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return {"bytes": file.getvalue(), "path": "tone.wav"}


def mels(seed=0, frames=861):
    """Ten seconds of syllables with formants, in noise."""
    generator = np.random.default_rng(seed)
    syllables = np.abs(np.sin(np.arange(frames) / generator.uniform(10, 20)))
    formants = np.cos(np.arange(80) / generator.uniform(3, 6))
    clean = 4 * np.outer(syllables, formants)
    return {emotion: clean + 0.3 * generator.normal(size=clean.shape) for emotion in EMOTIONS}


def attention(seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(200, 0.1), 6).reshape(6, 10, 20)


PLOTS = {
    "history": lambda path, seed: plot_history(history(best=7 - seed), path),
    "confusion": lambda path, seed: plot_confusion(
        metrics(seed)["confusion_matrix"], EMOTIONS, path, "title"
    ),
    "per_emotion": lambda path, seed: plot_per_emotion(
        {"ours": metrics(seed)["per_emotion"], "theirs": metrics(2)["per_emotion"]}, path
    ),
    "reliability": lambda path, seed: plot_reliability(metrics(seed), path),
    "distribution": lambda path, seed: plot_dataset_distribution(corpus(seed), path),
    "gallery": lambda path, seed: plot_mel_gallery(mels(seed), path, 22025, 256),
    "attention": lambda path, seed: plot_attention(
        mels()["anger"], attention(seed), EMOTIONS, path
    ),
}


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def share_of_color(path, color):
    return np.mean(np.abs(pixels(path) - 255 * np.array(to_rgb(color))).max(axis=-1) < 2)


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_small_and_show_their_data(name, tmp_path):
    path = PLOTS[name](tmp_path / "plots" / "one.png", 0)
    other = PLOTS[name](tmp_path / "plots" / "two.png", 1)
    assert path == tmp_path / "plots" / "one.png"
    assert path.stat().st_size < 300_000
    assert min(pixels(path).shape[:2]) > 300
    assert pixels(path).std() > 5
    assert pixels(path).shape != pixels(other).shape or (pixels(path) != pixels(other)).any()
    assert {file.name for file in path.parent.iterdir()} == {"one.png", "two.png"}


def test_plots_leave_no_global_state(tmp_path):
    before = dict(mpl.rcParams)
    thread = threading.Thread(target=plot_history, args=(history(), tmp_path / "a.png"))
    thread.start()
    thread.join()
    assert (tmp_path / "a.png").exists()
    assert dict(mpl.rcParams) == before


def test_history_marks_stages_and_survives_gaps(tmp_path):
    one_stage = plot_history(history(stages=("train", "train")), tmp_path / "one.png")
    two_stages = plot_history(history(), tmp_path / "two.png")
    assert (pixels(one_stage)[:, 300:] != pixels(two_stages)[:, 300:]).any()
    bare = plot_history([{"step": 10, "train_loss": 1.0}], tmp_path / "bare.png")
    # No empty panel where nobody validated.
    assert pixels(bare).shape[0] < pixels(two_stages).shape[0]
    with pytest.raises(ValueError, match="Bad history"):
        plot_history([], tmp_path / "none.png")


def test_confusion_darkens_with_the_share(tmp_path):
    sharp = plot_confusion(np.eye(6, dtype=int) * 9, EMOTIONS, tmp_path / "a.png", "sharp")
    blurred = plot_confusion(np.ones((6, 6), dtype=int), EMOTIONS, tmp_path / "b.png", "blurred")
    assert share_of_color(sharp, "#08306B") > 0.05
    assert share_of_color(blurred, "#08306B") == 0
    with pytest.raises(ValueError, match=r"Bad confusion of shape \(5, 5\), expected 6 classes"):
        plot_confusion(np.eye(5), EMOTIONS, tmp_path / "c.png", "bad")


def test_bars_grow_with_the_score(tmp_path):
    def bars(recall):
        scores = {"recall": recall, "precision": 0.0, "f1": 0.0}
        systems = {"ours": dict.fromkeys(EMOTIONS, scores)}
        path = plot_per_emotion(systems, tmp_path / f"{recall}.png")
        return [share_of_color(path, EMOTION_COLORS[emotion]) for emotion in EMOTIONS]

    assert np.allclose(np.divide(bars(0.8), bars(0.4)), 2, atol=0.1)


def test_systems_must_name_the_same_emotions(tmp_path):
    scores = metrics()["per_emotion"]
    with pytest.raises(ValueError, match="same emotions"):
        plot_per_emotion({"a": scores, "b": {"joy": scores["anger"]}}, tmp_path / "a.png")


def test_reliability_needs_probabilities(tmp_path):
    with pytest.raises(ValueError, match="compute them with probabilities"):
        plot_reliability(recognition_metrics([0, 1], [0, 1]), tmp_path / "a.png")


def test_distribution_survives_silence_and_refuses_nothing(tmp_path):
    silent = BytesIO()
    soundfile.write(silent, np.zeros(RATE), RATE, format="WAV")
    rows = corpus().select(range(6))
    audio = [{"bytes": silent.getvalue(), "path": None}] * 6
    quiet = rows.remove_columns("audio").add_column("audio", audio)
    assert plot_dataset_distribution(quiet, tmp_path / "a.png").exists()
    with pytest.raises(ValueError, match="Bad dataset"):
        plot_dataset_distribution(rows.select([]), tmp_path / "b.png")


def test_attention_is_drawn_where_it_is(tmp_path):
    """All weight on late, high sound colours the upper right quarter of a panel."""
    weights = np.zeros((1, 8, 8))
    weights[0, 6:, 6:] = 1
    path = plot_attention(np.zeros((100, 80)), weights, ["anger"], tmp_path / "a.png")
    image = pixels(path).astype(int)
    tinted = image[..., 0] - image[..., 2] > 60
    tinted[: int(0.15 * len(tinted))] = False  # the title has the same colour
    rows, columns = np.nonzero(tinted)
    assert columns.mean() > 0.7 * image.shape[1]
    assert rows.mean() < 0.5 * image.shape[0]
    with pytest.raises(ValueError, match=r"expected \(2, freq', time'\)"):
        plot_attention(np.zeros((100, 80)), weights, ["anger", "fear"], tmp_path / "b.png")


def test_gallery_needs_a_mel_and_shows_missing_emotions_as_gaps(tmp_path):
    some = {emotion: mels(frames=400)[emotion] for emotion in EMOTIONS[:4]}
    assert plot_mel_gallery(some, tmp_path / "a.png", 22025, 256).exists()
    with pytest.raises(ValueError, match="Bad mels"):
        plot_mel_gallery({}, tmp_path / "b.png", 22025, 256)


def test_a_melody_is_drawn_where_it_is(tmp_path):
    """Over the same spectrogram, and nowhere but where something is voiced."""
    mel, low, high = np.zeros((100, 80)), np.full(100, 80.0), np.full(100, 400.0)
    low[:50] = high[:50] = np.nan
    pixels = []
    for name, f0 in (("low", low), ("high", high), ("none", np.full(100, np.nan))):
        path = plot_pitch({"anger": [("recorded", mel, f0)]}, tmp_path / f"{name}.png")
        pixels.append(np.asarray(Image.open(path).convert("RGB"), dtype=int))
    differs = [np.abs(image - pixels[2]).sum(axis=2) > 60 for image in pixels[:2]]
    (rows_low, columns_low), (rows_high, columns_high) = (np.nonzero(d) for d in differs)
    assert rows_low.mean() > rows_high.mean() + 10
    assert min(columns_low.min(), columns_high.min()) > 0.35 * pixels[0].shape[1]
    with pytest.raises(ValueError, match="Bad sounds"):
        plot_pitch({}, tmp_path / "empty.png")


def test_what_conversion_costs_is_drawn_with_what_was_chosen(tmp_path):
    """Pictures with other settings chosen differ at the two of them, left and right."""

    def points(chosen):
        kept = {0.6: 0.98, 0.8: 0.93, 1.0: 0.8}
        return [
            {
                "guidance_scale": 3.0,
                "strength": strength,
                "emotion": strength / 2,
                "preservation": share,
                **({"chosen": True} if strength == chosen else {}),
            }
            for strength, share in kept.items()
        ]

    first, second = (
        pixels(plot_trade_off(points(chosen), tmp_path / f"{chosen}.png", 0.1)).astype(int)
        for chosen in (0.6, 1.0)
    )
    rows, columns = np.nonzero(np.abs(first - second).sum(axis=2) > 60)
    left, right = columns < 0.5 * first.shape[1], columns > 0.5 * first.shape[1]
    # Little of the voice is left where the target is heard most.
    assert rows[left].mean() < rows[right].mean() - 50
    with pytest.raises(ValueError, match="Bad points"):
        plot_trade_off([], tmp_path / "none.png")
