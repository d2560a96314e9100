"""`speech-emotion evaluate`."""

import csv as csv_format
import json as json_format
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Optional

import typer

from . import options
from .classify import DIGITS, Verdict, choose_statistics, hear, labels_of
from .files import Recording
from .messages import Failures, progress, refusing, say
from .models import load_classifier
from .tables import bar, print_table

RATES = {"WA": "WA", "UA": "UA", "macro_F1": "macro-F1"}


@dataclass(frozen=True)
class Tested:
    """A recording whose emotion is known, and what was heard in it."""

    verdict: Verdict
    emotion: str
    speaker: str | None


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS[=FOLDER]|FOLDER",
            help="A corpus by name (emodb, ravdess, ...) and its folder, or a folder of your own "
            "with metadata.csv or a sub-folder for each emotion, or a saved dataset.",
            show_default=False,
        ),
    ],
    speakers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="A,B,...", help="Test these speakers alone."),
    ] = None,
    calibrate: options.Calibrate = None,
    corpus: options.Corpus = None,
    json: options.Json = False,
    csv: options.Csv = False,
    model: options.Model = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
) -> None:
    """Test a classifier on labelled recordings.

    \b
    Examples:
      speech-emotion evaluate path/to/mine
      speech-emotion evaluate ravdess=path/to/ravdess --model outputs/transformer_0/model
      speech-emotion evaluate emodb=path/to/emodb --speakers 03,08 --json

    WA is the accuracy over all recordings, UA the mean of the recalls of the emotions; the 95 %
    intervals are over speakers where these are known. --csv prints what was heard in each
    recording. Speakers that the model was trained on say nothing about others: `info` names the
    corpora of its training.
    """
    options.check_format(json, csv)
    if calibrate is not None and corpus is not None:
        raise typer.BadParameter("Got --calibrate and --corpus, expected one of them")
    failures = Failures()
    rows = select_speakers(load_labelled(data), speakers)
    classifier = load_classifier(model, revision, trust_remote_code, device)
    labels = labels_of(classifier)
    names = rows.features["emotion"].names
    if unknown := sorted(set(names) - set(labels)):
        raise typer.BadParameter(f"Bad emotions {unknown} of '{data}', expected some of {labels}")
    warn_of_known_speakers(classifier, rows)
    statistics = choose_statistics(classifier, calibrate, corpus, failures)
    tested = test_all(classifier, rows, statistics, failures)
    if not tested:
        failures.finish()
    if csv:
        print_predictions(tested, labels)
    else:
        report(data, tested, labels, failures.count, json)
    failures.finish()


def load_labelled(data: str) -> Any:
    """Rows with `audio` and `emotion` of a corpus, a folder of recordings or a saved dataset.

    Raises:
        typer.BadParameter: Nothing of that kind, or no recordings in it.
    """
    from datasets import Audio, ClassLabel, disable_progress_bars, load_dataset

    from datasets_scripts import CORPORA, load_corpus

    name, _, folder = data.partition("=")
    path = Path(data).expanduser()
    if not sys.stderr.isatty():
        disable_progress_bars()
    with refusing(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if name in CORPORA and name != "folder":
            rows = load_corpus(name, data_dir=Path(folder).expanduser() if folder else None)
        elif folder:
            own = Path(folder).expanduser()
            rows = load_corpus(name, data_dir=own, builder="folder")
        elif not path.is_dir():
            known = [corpus for corpus in CORPORA if corpus != "folder"]
            raise ValueError(f"Bad data '{data}', expected a folder, or one of {known}")
        elif any(path.rglob("[!.]*.parquet")) and not (path / "metadata.parquet").exists():
            rows = load_dataset(str(path), split="train").cast_column("audio", Audio(decode=False))
        else:
            rows = load_corpus("folder", data_dir=path)
        if not isinstance(rows.features.get("emotion"), ClassLabel):
            raise ValueError(f"Bad data '{data}' without labels, expected a column `emotion`")
    for warning in caught:
        say(str(warning.message))
    return rows


def select_speakers(rows: Any, speakers: str | None) -> Any:
    """The rows of some speakers.

    Raises:
        typer.BadParameter: A speaker who is not there.
    """
    if speakers is None:
        return rows
    wanted = {name.strip() for name in speakers.split(",")}
    column = rows["speaker"] if "speaker" in rows.column_names else []
    known = {str(name) for name in column if name is not None}
    if not wanted or wanted - known:
        missing = sorted(wanted - known)
        raise typer.BadParameter(f"Bad --speakers {missing}, expected some of {sorted(known)}")
    return rows.select([place for place, name in enumerate(column) if str(name) in wanted])


def warn_of_known_speakers(classifier: Any, rows: Any) -> None:
    """Say so where a corpus is tested that the model was trained on."""
    trained_on = getattr(classifier.model.config, "trained_on", None) or {}
    corpora = set(rows["corpus"]) if "corpus" in rows.column_names else set()
    for name in sorted(corpora & set(trained_on.get("corpora", []))):
        say(
            f"The model was trained on {name} (protocol {trained_on.get('protocol')}, fold "
            f"{trained_on.get('fold')}): on its own speakers it is better than on others"
        )


def test_all(classifier: Any, rows: Any, corpus: str | None, failures: Failures) -> list[Tested]:
    """Classify all rows; those that fail are named and left out."""
    names = rows.features["emotion"].names
    tested = []
    for place, row in enumerate(progress(rows, len(rows), "Testing")):
        name = row.get("file") or row["audio"].get("path") or f"row {place}"
        with failures.noting(name):
            label = row["emotion"]
            if label is None or label < 0:  # as `datasets` keeps what has none
                raise ValueError("Bad row without a label, expected one, or a corpus without it")
            verdict = hear(classifier, Recording(name, row["audio"], PurePosixPath(name)), corpus)
            tested.append(Tested(verdict, names[label], row.get("speaker")))
    return tested


def score(tested: Sequence[Tested], labels: Sequence[str]) -> dict[str, Any]:
    """The metrics of a results record."""
    import numpy as np

    from evaluation import recognition_metrics

    scores = np.array([[t.verdict.scores[label] for label in labels] for t in tested])
    speakers = [t.speaker for t in tested]
    return recognition_metrics(
        scores.argmax(axis=1),
        [labels.index(t.emotion) for t in tested],
        probabilities=scores / scores.sum(axis=1, keepdims=True),
        speakers=None if None in speakers else speakers,
        label_names=labels,
    )


def report(
    data: str, tested: Sequence[Tested], labels: Sequence[str], failed: int, json: bool
) -> None:
    """Print the metrics."""
    metrics = score(tested, labels)
    if json:
        content = {"data": data, "recordings": len(tested), "failed": failed, "metrics": metrics}
        print(json_format.dumps(content, indent=1, ensure_ascii=False))
        return
    rows = [
        [shown, f"{100 * metrics[name]:.1f}", interval(metrics.get(f"{name}_ci95"))]
        for name, shown in RATES.items()
    ]
    rows.append(["ECE", f"{100 * metrics['ECE']:.1f}", ""])
    title = f"{data}: {len(tested)} recordings, in percent"
    print_table(["", "score", "95 % interval"], rows, title)
    print()
    print_table(["emotion", "recall", "", "precision", "F1", "number"], per_emotion(metrics))
    print()
    header = ["carries \\ heard", *labels]
    counts = zip(labels, metrics["confusion_matrix"], strict=True)
    print_table(header, [[label, *(str(n) for n in row)] for label, row in counts])


def per_emotion(metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row for each emotion that was tested."""
    return [
        [
            label,
            f"{100 * of['recall']:.1f}",
            bar(of["recall"]),
            f"{100 * of['precision']:.1f}",
            f"{100 * of['f1']:.1f}",
            str(of["support"]),
        ]
        for label, of in metrics["per_emotion"].items()
        if of["support"]
    ]


def interval(bounds: Sequence[float] | None) -> str:
    """In percent."""
    return "" if bounds is None else f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def print_predictions(tested: Sequence[Tested], labels: Sequence[str]) -> None:
    """A row for each recording."""
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "speaker", "emotion", "prediction", "speech_score", *labels])
    for one in tested:
        verdict = one.verdict
        scores = [round(verdict.scores[label], DIGITS) for label in labels]
        speech = round(verdict.speech_score, DIGITS)
        writer.writerow(
            [verdict.file, one.speaker or "", one.emotion, verdict.emotion, speech, *scores]
        )
