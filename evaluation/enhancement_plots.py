"""Plots of the enhancer: spectrograms before and after, losses, and what enhancement costs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike

from .plots import (
    INK,
    MEL_CMAP,
    MEL_DPI,
    MUTED,
    SECOND_COLOR,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    _color,
    _draw_mel,
    _draw_series,
    _new_figure,
    _save,
    styled,
)

# Decibels of one neper of amplitude.
DB_PER_NEPER = 20 / np.log(10)
CHANGE_LIMIT_DB = 12.0


@styled
def plot_enhancement(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]],
    path: str | os.PathLike[str],
    sampling_rate: int = 22_025,
    hop_length: int = 256,
) -> Path:
    """Spectrograms before, after and what changed, one row an emotion.

    Args:
        pairs: Log-mels `(frames, n_mels)` before and after, by the emotion aimed at. Of different
            lengths, frames at the same share of either are compared.
        path: Where the PNG goes.
        sampling_rate: In Hz; the mel bands reach up to half of it.
        hop_length: Samples between frames.

    Raises:
        ValueError: There is nothing to show.
    """
    if not pairs:
        raise ValueError("Bad pairs, expected one of at least one emotion, got none")
    figure = _new_figure(9.0, 1.25 * len(pairs) + 0.5, dpi=round(0.9 * MEL_DPI))
    grid = figure.subplots(len(pairs), 3, squeeze=False, sharex="row", sharey=True)
    arrays = {name: [np.asarray(mel, float) for mel in pair] for name, pair in pairs.items()}
    low, high = np.percentile(
        np.concatenate([pair[0].ravel() for pair in arrays.values()]), [25, 99.8]
    )
    for row, (name, (before, after)) in zip(grid, arrays.items(), strict=True):
        change = (_stretched(after, len(before)) - before) * DB_PER_NEPER
        limit = CHANGE_LIMIT_DB
        _draw_mel(row[0], before, sampling_rate, hop_length, MEL_CMAP, low, high)
        _draw_mel(row[1], after, sampling_rate, hop_length, MEL_CMAP, low, high)
        image = _draw_mel(row[2], change, sampling_rate, hop_length, _diverging(), -limit, limit)
        row[0].set_title(name, color=_color(name))
        for axes in row[1:]:
            axes.set_ylabel("")
    for axes, title in zip(grid[0][1:], ("after", "change"), strict=True):
        axes.set_title(title)
    bar = figure.colorbar(image, ax=list(grid[:, 2]), shrink=0.8, aspect=30, pad=0.01)
    bar.set_label("change (dB)")
    bar.outline.set_visible(False)
    return _save(figure, path)


def _stretched(mel: np.ndarray, frames: int) -> np.ndarray:
    """A log-mel `(any frames, n_mels)` as one of so many frames."""
    if len(mel) == frames:
        return mel
    places = np.linspace(0, len(mel) - 1, frames)
    return np.stack([np.interp(places, np.arange(len(mel)), band) for band in mel.T], axis=1)


@styled
def plot_pitch(
    sounds: Mapping[str, Sequence[tuple[str, ArrayLike, ArrayLike]]],
    path: str | os.PathLike[str],
    sampling_rate: int = 22_025,
    hop_length: int = 256,
) -> Path:
    """Spectrograms with the melody on them, one row an emotion and one column a version.

    Args:
        sounds: By emotion, versions of one recording: a title, log-mels `(frames, n_mels)`, and F0
            in Hz `(frames,)`, NaN where nothing is voiced.
        path: Where the PNG goes.
        sampling_rate: In Hz.
        hop_length: Samples between frames.

    Raises:
        ValueError: There is nothing to show.
    """
    if not sounds:
        raise ValueError("Bad sounds, expected versions of at least one emotion, got none")
    columns = max(len(versions) for versions in sounds.values())
    figure = _new_figure(3.0 * columns, 1.25 * len(sounds) + 0.5, dpi=round(0.9 * MEL_DPI))
    grid = figure.subplots(len(sounds), columns, squeeze=False, sharey=True)
    mels = [np.asarray(v[1], float).ravel() for versions in sounds.values() for v in versions]
    low, high = np.percentile(np.concatenate(mels), [25, 99.8])
    # One scale of time: a slower version is to look longer.
    longest = max(len(np.asarray(mel)) for versions in sounds.values() for _, mel, _ in versions)
    for row, (name, versions) in zip(grid, sounds.items(), strict=True):
        for axes, (title, mel, f0) in zip(row, versions, strict=False):
            mel = np.asarray(mel, float)
            _draw_mel(axes, mel, sampling_rate, hop_length, MEL_CMAP, low, high)
            axes.set_xlim(0, longest * hop_length / sampling_rate)
            axes.set_title(title)
            _draw_melody(axes, np.asarray(f0, float), hop_length / sampling_rate)
        row[0].set_title(f"{name}, {versions[0][0]}", color=_color(name))
        for axes in row[len(versions) :]:
            axes.remove()
    return _save(figure, path)


def _draw_melody(axes: Any, f0: np.ndarray, seconds: float) -> None:
    """F0 over a spectrogram, on a logarithmic scale of its own."""
    melody = axes.twinx()
    melody.plot(np.arange(len(f0)) * seconds, f0, color="white", linewidth=2.2, alpha=0.7)
    melody.plot(np.arange(len(f0)) * seconds, f0, color=VALIDATION_COLOR, linewidth=1.1)
    melody.set_yscale("log")
    melody.set_ylim(60, 600)
    melody.set_yticks([100, 200, 400], ["100", "200", "400 Hz"], fontsize=6)
    melody.minorticks_off()
    melody.grid(visible=False)
    melody.tick_params(length=0)


@styled
def plot_losses(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """Training and validation loss of each stage, and validation by quarter of the schedule.

    Args:
        history: One entry an evaluation, with "stage", "step", "train_loss" and, where somebody
            validates, "validation_loss" and, for the denoiser, "validation_loss_quarter_1" to 4.
        path: Where the PNG goes.

    Raises:
        ValueError: The history is empty.
    """
    stages = list(dict.fromkeys(entry["stage"] for entry in history))
    if not stages:
        raise ValueError("Bad history, expected at least one evaluation, got none")
    figure = _new_figure(4.2 * len(stages), 3.0)
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        entries = [entry for entry in history if entry["stage"] == stage]
        _draw_series(axes, entries, "train_loss", "training", TRAIN_COLOR)
        if "validation_loss" in entries[0]:
            _draw_series(axes, entries, "validation_loss", "validation", VALIDATION_COLOR)
        for quarter in range(1, 5):
            key = f"validation_loss_quarter_{quarter}"
            if key in entries[0]:
                _draw_series(axes, entries, key, f"noise, quarter {quarter}", MUTED)
                axes.lines[-1].set(linewidth=0.8, alpha=0.25 * quarter)
        axes.set(title=stage, xlabel="step", ylabel="loss", yscale="log")
        axes.legend(loc="best", fontsize=7)
    return _save(figure, path)


@styled
def plot_trade_off(
    points: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], original: float | None = None
) -> Path:
    """How often conversion is heard against what is left of the voice, one line a guidance scale.

    Args:
        points: With "guidance_scale", "strength", "emotion" (how often judges hear the emotion that
            recordings are converted to, 0..1) and "preservation" (likeness to the speaker relative
            to that of the recordings themselves, 1: the same), measured on validation speakers;
            "chosen" marks the one in which the target is heard best, of those that keep the voice.
        path: Where the PNG goes.
        original: How often judges hear those emotions in the recordings themselves, 0..1.

    Raises:
        ValueError: There is nothing to show.
    """
    if not points:
        raise ValueError("Bad points, expected at least one, got none")
    figure = _new_figure(5.6, 4.0)
    axes = figure.subplots()
    scales = sorted({point["guidance_scale"] for point in points})
    colors = (VALIDATION_COLOR, SECOND_COLOR, INK, TRAIN_COLOR, MUTED)
    for scale, color in zip(scales, colors, strict=False):
        line = sorted(
            (p for p in points if p["guidance_scale"] == scale), key=lambda p: p["strength"]
        )
        x, y = ([100 * p[key] for p in line] for key in ("preservation", "emotion"))
        axes.plot(x, y, "o-", color=color, label=f"guidance {scale:g}", markersize=4)
        for point, left, top in zip(line, x, y, strict=True):
            axes.annotate(f"{point['strength']:g}", (left, top), fontsize=7, color=MUTED)
    if original is not None:
        axes.axhline(100 * original, color=MUTED, linestyle=":", label="original")
    for point in (p for p in points if p.get("chosen")):
        axes.plot(100 * point["preservation"], 100 * point["emotion"], "o", markersize=11,
                  markerfacecolor="none", color=INK, label="best that keeps the voice")  # fmt: skip
    axes.set(xlabel="likeness to the speaker (% of the recording's own)",
             ylabel="target heard when converted (%)")  # fmt: skip
    axes.legend(loc="best")
    return _save(figure, path)


def _diverging() -> Any:
    return mpl.colormaps["RdBu_r"].resampled(17)
