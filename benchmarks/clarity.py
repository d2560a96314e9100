"""What judges heard, as records: clarity of the emotion, gain over the originals, what was kept.

A report is what was heard of one condition in one fold: a JSON file with a column for each fact of
the recordings (`describe`). Records are made from the reports of several folds.

The gain is paired: each recording is compared with itself unchanged. Recordings that share a fold
share an enhancer and judges, so folds are the clusters of its 95 % interval (speakers, if there is
one fold): a t interval of the linearised mean, with as many degrees of freedom as clusters less one
(Cameron & Miller 2015).
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from datasets_scripts import EMOTIONS
from evaluation import Record, make_record, recognition_metrics
from evaluation.predictions import FOLDER
from evaluation.results import Provenance
from evaluation.tables import PANEL
from training.state import write_text

from .judges import EMOTION_JUDGES
from .panel import Clips, Fold

Table = dict[str, np.ndarray]
PROTOCOL = "speaker_independent"


@dataclass(frozen=True)
class Condition:
    """What is done to recordings.

    Args:
        system: Who does it.
        data: What it is asked for; see `evaluation.results.DATA`.
    """

    system: str
    data: str

    @property
    def name(self) -> str:
        """Of its report."""
        return f"{self.system}_{self.data}"


def describe(
    fold: Fold,
    clips: Clips,
    aimed: Sequence[str],
    heard: Mapping[str, Sequence[Any]],
    preservation: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """A report: everything that the records are made from.

    Args:
        fold: Where the recordings are from.
        clips: The recordings as they were.
        aimed: The emotion that each was moved towards.
        heard: What `Panel.hear` returned.
        preservation: Measures of each corpus.
    """
    columns = {
        "row": clips.rows,
        "file": clips.files,
        "corpus": clips.corpora,
        "emotion": clips.emotions,
        "speaker": clips.speakers,
        "sentence": clips.sentences,
        "aimed": list(aimed),
        **heard,
    }
    return {"fold": fold.name, "preservation": preservation, "clips": columns}


def read_reports(folders: Sequence[Path], condition: str) -> list[dict[str, Any]]:
    """What was heard of a condition in every fold; nothing while a fold is missing."""
    files = [folder / f"{condition}.json" for folder in folders]
    if not all(file.exists() for file in files):
        return []
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def condition_records(
    system: str,
    data: str,
    corpus: str,
    reports: Sequence[Mapping[str, Any]],
    originals: Sequence[Mapping[str, Any]],
    predictions: str | None = None,
    beside: str | None = None,
) -> list[Record]:
    """Clarity by each judge of emotion and by all of them, and preservation.

    Args:
        system: What changed the recordings.
        data: What it was asked for.
        corpus: Whose recordings.
        reports: Of this condition, one a fold.
        originals: Of the same recordings unchanged.
        predictions: File with what each judge said of each recording.
        beside: Whose control the system is; see `evaluation.results.Record`.
    """
    tables = [of_corpus(report, corpus) for report in reports]
    common: dict[str, Any] = {
        "corpus": corpus,
        "protocol": PROTOCOL,
        "system": system,
        "data": data,
        "provenance": joined_provenance(reports),
        "folds": len(reports),
        "beside": beside,
    }
    records = [
        make_record(
            task="clarity",
            judge=judge,
            metrics=clarity(join(tables), judge),
            per_fold=named(reports, [clarity(table, judge, brief=True) for table in tables]),
            predictions=predictions,
            **common,
        )
        for judge in EMOTION_JUDGES
        if judge in tables[0]
    ]
    before = [of_corpus(report, corpus) for report in originals]
    mean = panel_clarity(join(before), join(tables))
    pairs = zip(before, tables, strict=True)
    per_fold = named(reports, [panel_clarity(*pair) for pair in pairs])
    records.append(
        make_record(
            task="clarity",
            judge=PANEL,
            metrics=mean,
            per_fold=per_fold,
            predictions=predictions,
            **common,
        )
    )
    kept = mean_preservation(reports, corpus)
    if kept:
        records.append(make_record(task="preservation", judge=None, metrics=kept, **common))
    return records


def named(
    reports: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Metrics of each fold, with the name of the fold that its report holds."""
    return [{"fold": r["fold"], **m} for r, m in zip(reports, metrics, strict=True)]


def mean_preservation(reports: Sequence[Mapping[str, Any]], corpus: str) -> dict[str, float]:
    """Measures of preservation over folds, weighted by their recordings."""
    counts = [report["clips"]["corpus"].count(corpus) for report in reports]
    measured = [report["preservation"].get(corpus, {}) for report in reports]
    means = {}
    for name in measured[0]:
        pairs = [(m[name], n) for m, n in zip(measured, counts, strict=True) if name in m]
        values, weights = zip(*pairs, strict=True)
        means[name] = float(np.average(values, weights=weights))
    return means


def joined_provenance(reports: Sequence[Mapping[str, Any]]) -> Provenance:
    """How reports came to be that several calls made: what all of them were, and the latest date.

    Of the measurement: when and from which commit it is collected does not matter.
    """
    made: list[Provenance] = [report["provenance"] for report in reports]
    latest = max(made, key=lambda one: one["date"])
    return {
        **latest,
        "command": " && ".join(dict.fromkeys(one["command"] for one in made)),
        "commit": ", ".join(dict.fromkeys(one["commit"] for one in made)),
        "seconds": round(sum(one["seconds"] for one in made), 1),
    }


def of_corpus(report: Mapping[str, Any], corpus: str) -> Table:
    """The columns of one corpus, and the fold of each recording."""
    clips = report["clips"]
    own = np.asarray(clips["corpus"]) == corpus
    table = {name: np.asarray(column)[own] for name, column in clips.items()}
    return {**table, "fold": np.repeat(report["fold"], own.sum())}


def join(tables: Sequence[Mapping[str, np.ndarray]]) -> Table:
    """The rows of several folds."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


# --- Measures ------------------------------------------------------------------------------------


def clarity(table: Mapping[str, np.ndarray], judge: str, brief: bool = False) -> dict[str, Any]:
    """How often a judge hears the speaker's emotion, and the one aimed at, and how surely."""
    heard, true, aimed = (
        np.asarray([EMOTIONS.index(name) for name in table[key]])
        for key in (judge, "emotion", "aimed")
    )
    scores = recognition_metrics(heard, true, speakers=table["speaker"].tolist())
    of_target = recognition_metrics(heard, aimed, speakers=table["speaker"].tolist())
    target = {f"target_{name}": of_target[name] for name in ("WA", "WA_ci95")}
    if brief:
        scores = {name: scores[name] for name in ("WA", "UA")}
        target.pop("target_WA_ci95")
    return {**scores, **_on_target(table, judge), **target}


def _on_target(table: Mapping[str, np.ndarray], judge: str) -> dict[str, float]:
    """Mean probability of the emotion aimed at, where it was kept."""
    name = f"{judge} on target"
    return {"target_probability": float(table[name].mean())} if name in table else {}


def panel_clarity(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """All judges of emotion together: means, and how many more recordings they name rightly.

    Args:
        before: The recordings unchanged.
        after: The same in the same order, changed.

    Returns:
        "WA", "UA", "target_WA", "target_UA" (of the emotions aimed at), "target_probability", the
        gains "gain_WA" and "gain_UA" over the original with their intervals, "gain_by_emotion".
    """
    judges = [judge for judge in EMOTION_JUDGES if judge in after]
    right, right_before, on_target = (
        np.mean([table[judge] == table[wanted] for judge in judges], axis=0)
        for table, wanted in ((after, "emotion"), (before, "emotion"), (after, "aimed"))
    )
    emotion, gain = after["emotion"], right - right_before
    clusters = after["fold"] if len(set(after["fold"])) > 1 else after["speaker"]
    of_all, of_classes = np.full(len(gain), 1 / len(gain)), balanced(emotion)
    found = {
        "WA": float(right.mean()),
        "UA": float(of_classes @ right),
        "target_WA": float(on_target.mean()),
        "target_UA": float(balanced(after["aimed"]) @ on_target),
        "gain_WA": float(gain.mean()),
        "gain_WA_ci95": interval(gain, of_all, clusters, np.zeros(len(gain))),
        "gain_UA": float(of_classes @ gain),
        "gain_UA_ci95": interval(gain, of_classes, clusters, emotion),
        "gain_by_emotion": {
            name: float(gain[emotion == name].mean()) for name in EMOTIONS if name in emotion
        },
    }
    sure = [_on_target(after, judge).get("target_probability") for judge in judges]
    known = [value for value in sure if value is not None]
    return found | ({"target_probability": float(np.mean(known))} if known else {})


def target_gain(
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    only: str | None = None,
) -> dict[str, Any]:
    """How much more often judges hear the target, paired: "gain" and "gain_ci95".

    Args:
        before: Recordings moved towards a target by one method.
        after: The same in the same order, moved towards the same target by another.
        only: This judge; all of them when not given.
    """
    judges = [judge for judge in EMOTION_JUDGES if judge in after and only in (None, judge)]
    heard, heard_before = (
        np.mean([table[judge] == table["aimed"] for judge in judges], axis=0)
        for table in (after, before)
    )
    gain = heard - heard_before
    clusters = after["fold"] if len(set(after["fold"])) > 1 else after["speaker"]
    weights = np.full(len(gain), 1 / len(gain))
    return {
        "gain": float(gain.mean()),
        "gain_ci95": interval(gain, weights, clusters, np.zeros(len(gain))),
    }


def balanced(classes: np.ndarray) -> np.ndarray:
    """Weights `(recordings,)` that sum to 1 and give each class the same."""
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[place])


def interval(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray, classes: np.ndarray
) -> list[float]:
    """95 % t interval of a weighted mean, or of a mean of class means, of clustered values.

    Args:
        values: `(recordings,)`.
        weights: `(recordings,)`, sum 1.
        clusters: What recordings have in common beside their class.
        classes: Whose means the mean is made of.

    Returns:
        Both ends, -1 to 1; without width for a single cluster, of which nothing is known.
    """
    mean = float(weights @ values)
    names, owner = np.unique(clusters, return_inverse=True)
    count = len(names)
    if count < 2:
        return [mean, mean]
    _, place = np.unique(classes, return_inverse=True)
    centres = np.bincount(place, weights * values) / np.bincount(place, weights)
    residuals = np.bincount(owner, weights * (values - centres[place]))
    error = np.sqrt(count / (count - 1) * np.square(residuals).sum())
    half = float(stats.t.ppf(0.975, count - 1) * error)
    return [max(mean - half, -1.0), min(mean + half, 1.0)]


# --- Votes ---------------------------------------------------------------------------------------


def write_votes(
    folder: Path, system: str, corpus: str, reports: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """Keep what each judge said of each recording beside the records.

    Args:
        folder: Of the results file.
        system: Whose file.
        corpus: Whose recordings.
        reports: Of each `data`, one a fold.

    Returns:
        The name of the file, relative to the folder.
    """
    rows = []
    for data, of_folds in reports.items():
        for report in of_folds:
            table = of_corpus(report, corpus)
            names = [name for name in table if name not in ("row", "corpus", "sentence")]
            columns = [table[name].tolist() for name in names]
            rows += [
                {"data": data, **dict(zip(names, row, strict=True))}
                for row in zip(*columns, strict=True)
            ]
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    name = f"{FOLDER}/{system}_{corpus}.csv"
    write_text(folder / name, text.getvalue())
    return name
