"""Plots that compare systems, drawn from the records of all of them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .conditions import (
    AS_RECORDED,
    CALIBRATED_BY_TITLES,
    CONDITION_TITLES,
    CONDITIONS,
    parse_condition,
)
from .plots import EMOTION_COLORS, INK, MUTED, OTHER_COLOR, TRAIN_COLOR, _new_figure, _save, styled
from .tables import CORPUS_TITLES, PROTOCOL_TITLES, recognition_by_condition

# One colour a system, in the order in which records name them.
SYSTEM_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", OTHER_COLOR, INK)
CONDITION_COLORS = {
    AS_RECORDED: INK,
    "corpus_unnamed": TRAIN_COLOR,
    "calibrated": OTHER_COLOR,
    "level_minus_20": "#0072B2",
    "level_plus_20": "#E69F00",
    "noise_10db": "#D55E00",
    "telephone": "#CC79A7",
    "mp3_32k": "#009E73",
    "reverb": "#F0E442",
}
BY_LINES: dict[str, dict[str, Any]] = {
    "room": {"linestyle": "--", "marker": "s"},
    "speaker": {"linestyle": "-", "marker": "o"},
    "room_neutral": {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    "speaker_neutral": {"linestyle": "-", "marker": "o", "markerfacecolor": "white"},
}
CHANCE = 100 / len(EMOTION_COLORS)

Scores = Mapping[str, Mapping[str, Any]]


def plot_comparisons(records: Sequence[Mapping[str, Any]], folder: str | os.PathLike[str]) -> None:
    """Draw `robustness.png` and `calibration.png`, each if there are records for it."""
    if _robustness_rows(records):
        plot_robustness(records, Path(folder) / "robustness.png")
    if _calibration_lines(records):
        plot_calibration(records, Path(folder) / "calibration.png")


@styled
def plot_robustness(records: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """WA of every system in every condition: a panel per corpus and protocol, a group per system.

    Args:
        records: Measured records; those of recognition, on original data, that were tested in
            another condition than as recorded are drawn.
        path: Where the PNG goes.

    Raises:
        ValueError: There are none.
    """
    rows = _robustness_rows(records)
    if not rows:
        raise ValueError("Bad records, expected some in other conditions than 'as_recorded'")
    panels = list(dict.fromkeys((corpus, protocol) for corpus, protocol, _ in rows))
    conditions = [name for name in CONDITIONS if any(name in row for row in rows.values())]
    figure, axes = _panels(panels, columns=1, width=8.4, height=2.9)
    for place, panel in zip(axes, panels, strict=True):
        systems = {system: row for (*own, system), row in rows.items() if tuple(own) == panel}
        _draw_conditions(place, systems, conditions)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return _save(figure, path)


@styled
def plot_calibration(records: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """UA over the number of unlabelled recordings that calibrate: a panel per corpus and protocol.

    Args:
        records: Measured records; those of recognition, on original data, in a condition
            `calibrated_<by>_<number>` are drawn, beside those of their system as recorded (none).
        path: Where the PNG goes.

    Raises:
        ValueError: There are none.
    """
    lines = _calibration_lines(records)
    if not lines:
        raise ValueError("Bad records, expected some calibrated by a number of recordings")
    panels = list(dict.fromkeys((corpus, protocol) for corpus, protocol, _, _ in lines))
    systems = list(dict.fromkeys(system for _, _, system, _ in lines))
    numbers = sorted({number for line in lines.values() for number in line})
    figure, axes = _panels(panels, columns=2, width=4.2, height=3)
    drawn: dict[str, Any] = {}
    for (*panel, system, by), line in lines.items():
        label = f"{system}, by {CALIBRATED_BY_TITLES[by]}"
        place = axes[panels.index((panel[0], panel[1]))]
        color = SYSTEM_COLORS[systems.index(system) % len(SYSTEM_COLORS)]
        # Numbers stand side by side: what 5 recordings bring and 50 do not is what is asked.
        steps, scores = [numbers.index(number) for number in line], list(line.values())
        drawn[label] = place.plot(steps, scores, color=color, markersize=5, **BY_LINES[by])[0]
    for place in axes:
        place.axhline(CHANCE, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        place.set_xticks(range(len(numbers)), [str(n) if n else "none" for n in numbers])
        place.set(xlabel="unlabelled recordings", ylabel="UA (%)")
    figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=2)
    return _save(figure, path)


def _robustness_rows(
    records: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str], dict[str, Mapping[str, Any]]]:
    rows = recognition_by_condition(records)
    return {key: row for key, row in rows.items() if set(row) & set(CONDITIONS[1:])}


def _calibration_lines(
    records: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], dict[int, float]]:
    """UA in percent by number of recordings, for each corpus, protocol, system and `by`."""
    lines: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for key, row in recognition_by_condition(records).items():
        for condition, metrics in row.items():
            if calibration := parse_condition(condition):
                line = lines.setdefault((*key, calibration.by), {})
                line[calibration.number] = 100 * metrics["UA"]
                if AS_RECORDED in row:
                    line[0] = 100 * row[AS_RECORDED]["UA"]
    return {key: dict(sorted(line.items())) for key, line in lines.items()}


def _panels(
    panels: Sequence[tuple[str, str]], columns: int, width: float, height: float
) -> tuple[Figure, list[Axes]]:
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = _new_figure(width * columns, height * rows + 0.6, dpi=110)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    places = list(grid.flat[: len(panels)])
    for axes, (corpus, protocol) in zip(places, panels, strict=True):
        title = PROTOCOL_TITLES.get(protocol, protocol.replace("_", " "))
        axes.set_title(f"{CORPUS_TITLES.get(corpus, corpus)}, {title}")
    return figure, places


def _draw_conditions(axes: Axes, systems: Mapping[str, Scores], conditions: Sequence[str]) -> None:
    """A group of bars per system, a bar per condition."""
    width = 0.84 / len(conditions)
    for i, condition in enumerate(conditions):
        own = [place for place, row in enumerate(systems.values()) if condition in row]
        heights = [100 * row[condition]["WA"] for row in systems.values() if condition in row]
        places = np.array(own) + (i - (len(conditions) - 1) / 2) * width
        color, label = CONDITION_COLORS[condition], CONDITION_TITLES[condition]
        bars = axes.bar(places, heights, 0.9 * width, color=color, label=label)
        axes.bar_label(bars, fmt="%.0f", padding=1, color=MUTED, size=7)
    axes.set_xticks(range(len(systems)), systems)
    axes.set(ylabel="WA (%)", ylim=(0, 105), xlim=(-0.5, len(systems) - 0.5))
