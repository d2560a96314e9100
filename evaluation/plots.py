"""Plots of measured data. Every function writes one PNG, atomically, and returns its path.

Figures are built as objects, without pyplot, so that plotting needs no screen and leaves nothing
behind. Each emotion has one colour throughout (Okabe & Ito's palette, which people with colour
vision deficiencies tell apart).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import librosa
import matplotlib as mpl
import numpy as np
from datasets import Dataset
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from datasets_scripts.schema import decode_audio

EMOTION_COLORS = {
    "neutral": "#7A7A7A",
    "happiness": "#E69F00",
    "sadness": "#0072B2",
    "anger": "#D55E00",
    "fear": "#CC79A7",
    "disgust": "#009E73",
}
OTHER_COLOR = "#56B4E9"
INK, MUTED, GRID = "#222222", "#6B6B6B", "#E4E4E4"
TRAIN_COLOR, VALIDATION_COLOR, SECOND_COLOR = "#9A9A9A", "#0072B2", "#D55E00"
KHZ_TICKS = (0.5, 1, 2, 4, 8)
SILENCE_DBFS = -100.0
# Few levels and fewer pixels keep spectrograms, which compress badly, below 300 kB.
MEL_CMAP = mpl.colormaps["magma"].resampled(24)
PALE_GRAY = LinearSegmentedColormap.from_list("pale_gray", ["white", "#4D4D4D"], N=10)
MEL_DPI = 100

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#B0B0B0",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 7,
    "savefig.dpi": "figure",
}
styled = mpl.rc_context(STYLE)


def _new_figure(width: float, height: float, dpi: int = 130) -> Figure:
    """An empty figure; sizes in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=dpi, layout=layout)


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", pil_kwargs={"optimize": True})
    os.replace(temporary, path)
    return path


def _color(label: str) -> str:
    return EMOTION_COLORS.get(label, OTHER_COLOR)


def _tint(color: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white; strength 1 leaves it as it is."""
    red, green, blue = (1 - strength * (1 - channel) for channel in to_rgb(color))
    return red, green, blue


def _white_to(color: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("white_to_color", ["white", color])


# --- Training ------------------------------------------------------------------------------------


@styled
def plot_history(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """Losses, validation scores and learning rate over the steps of a training run.

    Args:
        history: One entry an evaluation, with "step", "train_loss", "validation_loss",
            "validation_UA", "validation_WA" (0..1), "learning_rate" and "stage"; values may be
            None or absent, and where nobody validated that panel is left out. Borders of stages and
            the weights kept, those of the lowest validation loss of the last stage, are marked.
        path: Where the PNG goes.

    Raises:
        ValueError: The history is empty.
    """
    if not history:
        raise ValueError("Bad history, expected at least one evaluation, got none")
    validated = any(row.get("validation_UA") is not None for row in history)
    heights = [3, 3, 1.1] if validated else [3, 1.1]
    figure = _new_figure(7.2, 0.8 * sum(heights))
    losses, *scores, rates = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_series(losses, history, "train_loss", "training", TRAIN_COLOR)
    _draw_series(losses, history, "validation_loss", "validation", VALIDATION_COLOR)
    losses.set(ylabel="loss")
    for axes in scores:
        _draw_scores(axes, history)
    _draw_series(rates, history, "learning_rate", "", INK)
    rates.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    rates.yaxis.set_major_formatter("{x:g}")
    rates.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (losses, *scores):
        if axes.lines:
            axes.legend(loc="best")
    _mark_stages((losses, *scores, rates), history)
    return _save(figure, path)


def _draw_scores(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    _draw_series(axes, history, "validation_WA", "WA", TRAIN_COLOR, scale=100)
    _draw_series(axes, history, "validation_UA", "UA", VALIDATION_COLOR, scale=100)
    axes.set(ylabel="validation accuracy (%)")
    _mark_kept(axes, history)


def _draw_series(
    axes: Axes,
    history: Sequence[Mapping[str, Any]],
    key: str,
    label: str,
    color: str,
    scale: float = 1,
) -> None:
    points = [(row["step"], scale * row[key]) for row in history if row.get(key) is not None]
    if points:
        marker = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker)


def _mark_kept(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """The evaluation whose weights the run kept: the lowest loss of its last stage."""
    last = [row for row in history if row.get("stage") == history[-1].get("stage")]
    scored = [row for row in last if None not in (_loss(row), row.get("validation_UA"))]
    if not scored:
        return
    kept = min(scored, key=_loss)
    step, score = kept["step"], 100 * kept["validation_UA"]
    label = f"kept, UA {score:.1f} % at step {step:,}"
    axes.plot(step, score, "o", color=SECOND_COLOR, markeredgecolor="white", zorder=5, label=label)


def _loss(row: Mapping[str, Any]) -> Any:
    return row.get("validation_loss")


def _mark_stages(all_axes: Sequence[Axes], history: Sequence[Mapping[str, Any]]) -> None:
    """A dashed line where a stage begins, and its name at the top."""
    stages = [row.get("stage") for row in history]
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    if len(starts) < 2:
        return
    for i in starts:
        border = history[max(i - 1, 0)]["step"]
        for axes in all_axes if i else ():
            axes.axvline(border, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        all_axes[0].annotate(
            str(stages[i]),
            (border, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, 2),
            textcoords="offset points",
            color=MUTED,
            va="bottom",
            annotation_clip=False,
        )


# --- Recognition ---------------------------------------------------------------------------------


@styled
def plot_confusion(
    confusion: ArrayLike, label_names: Sequence[str], path: str | os.PathLike[str], title: str
) -> Path:
    """Confusion matrix `(classes, classes)`, rows are references: share of the row, and the count.

    Raises:
        ValueError: The matrix does not fit the names.
    """
    counts = np.asarray(confusion)
    if counts.shape != (len(label_names), len(label_names)):
        raise ValueError(
            f"Bad confusion of shape {counts.shape}, expected {len(label_names)} classes"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _new_figure(5.6, 5.2)
    axes = figure.subplots()
    axes.imshow(shares, cmap=_white_to("#08306B"), vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        _write_cell(axes, row, column, share, counts[row, column])
    ticks = range(len(label_names))
    axes.set_xticks(ticks, label_names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, label_names)
    axes.set(xlabel="recognised as", ylabel="spoken")
    axes.set_title(title, pad=12)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _save(figure, path)


def _write_cell(axes: Axes, row: int, column: int, share: float, count: int) -> None:
    if count == 0:
        return
    ink = "white" if share > 0.5 else INK
    bold = "bold" if row == column else "normal"
    axes.text(
        column, row - 0.1, f"{100 * share:.0f} %", ha="center", va="center", color=ink, weight=bold
    )
    axes.text(
        column, row + 0.22, f"{count:,}", ha="center", va="center", color=ink, size=7, alpha=0.8
    )


@styled
def plot_per_emotion(
    systems: Mapping[str, Mapping[str, Mapping[str, float]]], path: str | os.PathLike[str]
) -> Path:
    """Recall, precision and F1 of every emotion, systems side by side.

    Args:
        systems: The "per_emotion" metrics of each system by its name, the most important first; it
            gets the full colour, and the others lighter ones. All name the same emotions.
        path: Where the PNG goes.

    Raises:
        ValueError: There is no system, or they name different emotions.
    """
    emotions = {tuple(scores) for scores in systems.values()}
    if len(emotions) != 1:
        raise ValueError(
            f"Bad systems, expected all with the same emotions, got {sorted(emotions)}"
        )
    labels = emotions.pop()
    figure = _new_figure(7.2, 6.4)
    for axes, score in zip(
        figure.subplots(3, 1, sharex=True), ("recall", "precision", "f1"), strict=True
    ):
        _draw_grouped_bars(axes, systems, labels, score)
        axes.set(title={"f1": "F1"}.get(score, score.capitalize()), ylim=(0, 112), ylabel="%")
        axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_xticks(range(len(labels)), labels)
    handles = [Patch(color=_tint(INK, s)) for s in _strengths(len(systems))]
    figure.legend(handles, systems, loc="outside upper right", ncols=len(systems))
    return _save(figure, path)


def _strengths(count: int) -> NDArray[np.float64]:
    return np.linspace(1, 0.35, count) if count > 1 else np.ones(1)


def _draw_grouped_bars(
    axes: Axes,
    systems: Mapping[str, Mapping[str, Mapping[str, float]]],
    labels: Sequence[str],
    score: str,
) -> None:
    width = 0.8 / len(systems)
    for i, (scores, strength) in enumerate(
        zip(systems.values(), _strengths(len(systems)), strict=True)
    ):
        places = np.arange(len(labels)) + (i - (len(systems) - 1) / 2) * width
        heights = [100 * scores[label][score] for label in labels]
        colors = [_tint(_color(label), strength) for label in labels]
        bars = axes.bar(places, heights, 0.92 * width, color=colors)
        axes.bar_label(bars, fmt="%.0f", padding=1, color=MUTED, size=7)


@styled
def plot_reliability(
    metrics: Mapping[str, Any], path: str | os.PathLike[str], title: str = "Reliability"
) -> Path:
    """Accuracy against confidence in equal-width bins, and how often each confidence occurs.

    Args:
        metrics: Recognition metrics computed with probabilities ("ECE", "reliability_bins").
        path: Where the PNG goes.
        title: Of the figure.

    Raises:
        ValueError: The metrics were computed without probabilities.
    """
    if "reliability_bins" not in metrics:
        raise ValueError("Bad metrics without 'reliability_bins', compute them with probabilities")
    bins = {
        key: np.array(values, dtype=float) for key, values in metrics["reliability_bins"].items()
    }
    edges = np.linspace(0, 1, len(bins["count"]) + 1)
    figure = _new_figure(4.8, 5.6)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.2])
    _draw_reliability(curve, bins, edges)
    curve.set_title(f"{title}: ECE {100 * metrics['ECE']:.1f} %")
    share = 100 * bins["count"] / bins["count"].sum()
    histogram.bar(
        edges[:-1], share, np.diff(edges), align="edge", color=TRAIN_COLOR, edgecolor="white"
    )
    histogram.set(xlabel="confidence", ylabel="% of\nutterances", xlim=(0, 1))
    return _save(figure, path)


def _draw_reliability(
    axes: Axes, bins: Mapping[str, NDArray[np.float64]], edges: NDArray[np.float64]
) -> None:
    filled = bins["count"] > 0
    left, width = edges[:-1][filled], np.diff(edges)[filled]
    confidence, accuracy = bins["confidence"][filled], bins["accuracy"][filled]
    axes.bar(
        left,
        accuracy,
        width,
        align="edge",
        color=VALIDATION_COLOR,
        edgecolor="white",
        label="accuracy",
    )
    axes.bar(
        left,
        confidence - accuracy,
        width,
        bottom=accuracy,
        align="edge",
        facecolor="none",
        edgecolor=SECOND_COLOR,
        linewidth=0.9,
        hatch="////",
        label="gap to confidence",
    )
    axes.plot(
        [0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration"
    )
    axes.set(ylabel="accuracy", ylim=(0, 1))
    axes.legend(loc="upper left")


# --- Corpora -------------------------------------------------------------------------------------


@styled
def plot_dataset_distribution(dataset: Dataset, path: str | os.PathLike[str]) -> Path:
    """Utterances of each emotion and speaker, and the durations and levels of each emotion.

    Args:
        dataset: Rows with `audio` (encoded), `emotion` (ClassLabel) and `speaker`.
        path: Where the PNG goes.

    Raises:
        ValueError: The dataset has no row, or a recording cannot be decoded.
    """
    if len(dataset) == 0:
        raise ValueError("Bad dataset, expected at least one recording, got none")
    names = dataset.features["emotion"].names
    emotions = np.array(dataset["emotion"])
    durations, levels = np.array(list(_measure(dataset))).T
    figure = _new_figure(8.4, 5.8)
    grid = figure.add_gridspec(2, 2, height_ratios=[1.1, 1])
    _draw_speaker_counts(
        figure.add_subplot(grid[0, :]), emotions, np.array(dataset["speaker"]), names
    )
    lengths = figure.add_subplot(grid[1, 0])
    _draw_spread(lengths, durations, emotions, names)
    lengths.set(title="Duration", xlabel="seconds", xlim=(0, None))
    loudness = figure.add_subplot(grid[1, 1], sharey=lengths)
    _draw_spread(loudness, levels, emotions, names)
    loudness.set(title="Level (RMS)", xlabel="dBFS")
    loudness.tick_params(labelleft=False)
    return _save(figure, path)


def _measure(dataset: Dataset) -> Iterator[tuple[float, float]]:
    """Duration in seconds and RMS level in dB relative to full scale of every recording."""
    for audio in dataset.select_columns("audio"):
        samples, sampling_rate = decode_audio(audio["audio"])
        rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
        level = 20 * np.log10(rms) if rms > 0 else SILENCE_DBFS
        yield len(samples) / sampling_rate, max(level, SILENCE_DBFS)


def _draw_speaker_counts(
    axes: Axes, emotions: NDArray[np.int64], speakers: NDArray[np.str_], names: Sequence[str]
) -> None:
    speaker_names, speaker_ids = np.unique(speakers, return_inverse=True)
    counts = np.zeros((len(names), len(speaker_names)), dtype=int)
    np.add.at(counts, (emotions, speaker_ids), 1)
    for row, name in enumerate(names):
        shares = counts[row : row + 1] / counts.max()
        extent = (-0.5, len(speaker_names) - 0.5, row + 0.5, row - 0.5)
        axes.imshow(
            shares, cmap=_white_to(_color(name)), vmin=0, vmax=1.6, extent=extent, aspect="auto"
        )
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, count or "", ha="center", va="center", size=7.5)
    labels = [f"{name}  {total}" for name, total in zip(names, counts.sum(axis=1), strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xticks(range(len(speaker_names)), speaker_names)
    axes.set(xlim=(-0.5, len(speaker_names) - 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="speaker")
    axes.set_title(f"{len(emotions):,} utterances of {len(speaker_names)} speakers")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _draw_spread(
    axes: Axes, values: NDArray[np.float64], emotions: NDArray[np.int64], names: Sequence[str]
) -> None:
    """Every value as a dot, with the median and the quartiles of each emotion."""
    generator = np.random.default_rng(0)
    for row, name in enumerate(names):
        own = values[emotions == row]
        jitter = row + generator.uniform(-0.28, 0.28, len(own))
        axes.scatter(own, jitter, s=7, color=_color(name), alpha=0.45, linewidths=0)
        if len(own):
            low, middle, high = np.percentile(own, [25, 50, 75])
            axes.plot([low, high], [row, row], color=INK, linewidth=2.2, solid_capstyle="round")
            axes.plot(middle, row, "o", color="white", markeredgecolor=INK, markersize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")


# --- Spectrograms --------------------------------------------------------------------------------


@styled
def plot_mel_gallery(
    mels: Mapping[str, ArrayLike], path: str | os.PathLike[str], sampling_rate: int, hop_length: int
) -> Path:
    """One log-mel spectrogram of each emotion, all with the same time axis and colour scale.

    Args:
        mels: `(frames, n_mels)` by emotion, of any lengths.
        path: Where the PNG goes.
        sampling_rate: In Hz; the mel bands reach up to half of it.
        hop_length: Samples between frames.

    Raises:
        ValueError: There is nothing to show.
    """
    if not mels:
        raise ValueError("Bad mels, expected one of at least one emotion, got none")
    arrays = {name: np.asarray(mel, dtype=np.float64) for name, mel in mels.items()}
    low, high = np.percentile(np.concatenate([mel.ravel() for mel in arrays.values()]), [25, 99.8])
    seconds = max(len(mel) for mel in arrays.values()) * hop_length / sampling_rate
    figure, all_axes = _panels(len(arrays))
    for axes, (name, mel) in zip(all_axes, arrays.items(), strict=False):
        image = _draw_mel(axes, mel, sampling_rate, hop_length, MEL_CMAP, low, high)
        axes.set_xlim(0, seconds)
        axes.set_title(name, color=_color(name))
    bar = figure.colorbar(image, ax=list(all_axes), shrink=0.8, aspect=30, pad=0.01)
    bar.set_label("log-mel")
    bar.outline.set_visible(False)
    return _save(figure, path)


@styled
def plot_attention(
    mel: ArrayLike,
    attention: ArrayLike,
    label_names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    sampling_rate: int = 22025,
    hop_length: int = 256,
) -> Path:
    """Where the head of each emotion looks, laid over the mel that it hears.

    Args:
        mel: `(frames, n_mels)`.
        attention: `(emotions, freq', time')`, weights of each emotion over a coarser grid that
            spans the same frequencies and the same time as `mel`.
        label_names: Emotions in the order of `attention`.
        path: Where the PNG goes.
        sampling_rate: In Hz.
        hop_length: Samples between frames.

    Raises:
        ValueError: There is not one map an emotion.
    """
    mel, weights = np.asarray(mel, dtype=np.float64), np.asarray(attention, dtype=np.float64)
    if weights.ndim != 3 or len(weights) != len(label_names):
        raise ValueError(
            f"Bad attention of shape {weights.shape}, expected ({len(label_names)}, freq', time')"
        )
    low, high = np.percentile(mel, [2, 99.9])
    figure, all_axes = _panels(len(label_names))
    for axes, name, weight in zip(all_axes, label_names, weights, strict=False):
        image = _draw_mel(axes, mel, sampling_rate, hop_length, PALE_GRAY, low, high)
        _overlay(axes, weight, _color(name), image.get_extent())
        axes.set_title(name, color=_color(name))
    return _save(figure, path)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Rows of three panels that share their axes; those beyond `count` are removed."""
    rows, columns = -(-count // 3), min(count, 3)
    figure = _new_figure(3 * columns + 0.8, 2.1 * rows + 0.4, dpi=MEL_DPI)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid[:, 0]:
        axes.set_ylabel("frequency (kHz)")
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[max(count - columns, 0) : count]:
        axes.set_xlabel("time (s)")
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])


def _draw_mel(
    axes: Axes,
    mel: NDArray[np.float64],
    sampling_rate: int,
    hop_length: int,
    cmap: Colormap,
    low: float,
    high: float,
) -> Any:
    """Draw a mel `(frames, n_mels)` over seconds and mel bands, the latter labelled in kHz."""
    frames, n_mels = mel.shape
    extent = (0, frames * hop_length / sampling_rate, -0.5, n_mels - 0.5)
    image = axes.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap=cmap,
        vmin=low,
        vmax=high,
        interpolation="antialiased",
        interpolation_stage="data",
    )
    # The bands are evenly spaced on the mel scale; the first and the last edge are no centres.
    centres = librosa.mel_frequencies(n_mels + 2, fmin=0, fmax=sampling_rate / 2)[1:-1] / 1000
    ticks = [tick for tick in KHZ_TICKS if tick <= centres[-1]]
    axes.set_yticks(np.interp(ticks, centres, np.arange(n_mels)), [f"{tick:g}" for tick in ticks])
    axes.grid(visible=False)
    return image


def _overlay(
    axes: Axes, weight: NDArray[np.float64], color: str, extent: tuple[float, float, float, float]
) -> None:
    """Colour the mel where the weight is high, and outline where it is above half of its peak."""
    share = weight / max(weight.max(), np.finfo(float).tiny)
    veil = ListedColormap([(*to_rgb(color), 0.7 * step / 6) for step in range(7)])
    spread: dict[str, Any] = {"origin": "lower", "extent": extent}
    axes.imshow(
        share,
        cmap=veil,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="bilinear",
        interpolation_stage="data",
        **spread,
    )
