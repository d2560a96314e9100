"""What a system said of each recording, kept beside the records, so that anybody can test again.

A file under `results/predictions/` is a CSV table with a row for each recording and condition; the
records that were made from it name it in `predictions`.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypedDict

from .conditions import AS_RECORDED, CONDITIONS, parse_condition

# Where programs keep them, beside their results file.
FOLDER = "predictions"


class Prediction(TypedDict):
    """One recording, heard in one condition.

    `file` is its name in the corpus, `fold` the index of the fold that tested it, `emotion` what
    was portrayed and `prediction` what was heard. The probabilities, 0 to 1, that the system gave
    to either are None where it gives none.
    """

    corpus: str
    file: str
    speaker: str
    fold: int
    emotion: str
    prediction: str
    probability_of_emotion: float | None
    probability_of_prediction: float | None
    condition: str


COLUMNS = tuple(Prediction.__annotations__)
PROBABILITIES = ("probability_of_emotion", "probability_of_prediction")


def write_predictions(path: str | os.PathLike[str], rows: Iterable[Prediction]) -> Path:
    """Put predictions into a file, atomically: sorted, probabilities with three decimals.

    What the file holds of the same corpus and condition is replaced, the rest is kept. A file of
    nothing but recordings as they are has no column for the condition.

    Raises:
        ValueError: A row is not valid, or two rows are of one recording, fold and condition.
    """
    path, new = Path(path), list(rows)
    replaced = {(row["corpus"], row["condition"]) for row in new}
    old = read_predictions(path) if path.exists() else []
    kept = [row for row in old if (row["corpus"], row["condition"]) not in replaced]
    table = sorted([*kept, *new], key=_order)
    _check(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(_to_csv(table), encoding="utf-8", newline="")
    os.replace(temporary, path)
    return path


def read_predictions(path: str | os.PathLike[str]) -> list[Prediction]:
    """Read and check the predictions of a file.

    Raises:
        ValueError: The file holds something else.
        FileNotFoundError: There is no such file.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        expected = COLUMNS if "condition" in (reader.fieldnames or ()) else COLUMNS[:-1]
        if tuple(reader.fieldnames or ()) != expected:
            raise ValueError(
                f"Bad predictions '{path}' of the columns {reader.fieldnames}, "
                f"expected {list(COLUMNS)}, the last one optional"
            )
        try:
            rows = [_from_text(row) for row in reader]
            _check(rows)
        except (ValueError, TypeError) as error:
            raise ValueError(f"Bad predictions '{path}': {error}") from error
    return rows


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    condition = row["condition"]
    calibration = parse_condition(condition)
    place = (len(CONDITIONS), *calibration) if calibration else (CONDITIONS.index(condition),)
    return (*place[:1], place[1:], row["corpus"], row["fold"], row["file"])


def _check(rows: Iterable[Mapping[str, Any]]) -> None:
    seen = set()
    for row in rows:
        parse_condition(row["condition"])
        key = (row["condition"], row["corpus"], row["fold"], row["file"])
        if key in seen:
            raise ValueError(f"found twice: {key}, expected each of them once")
        seen.add(key)
        empty = [name for name in ("corpus", "file", "emotion", "prediction") if not row[name]]
        if empty:
            raise ValueError(f"Bad row {dict(row)}, expected names in {empty}, got none")
        for name in PROBABILITIES:
            if row[name] is not None and not 0 <= row[name] <= 1:
                raise ValueError(f"Bad {name} {row[name]!r}, expected None or 0 to 1")


def _to_csv(rows: list[Prediction]) -> str:
    several = any(row["condition"] != AS_RECORDED for row in rows)
    columns = COLUMNS if several else COLUMNS[:-1]
    text = StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **dict(_rounded(row))} for row in rows)
    return text.getvalue()


def _rounded(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in PROBABILITIES:
        yield name, "" if row[name] is None else f"{row[name]:.3f}"


def _from_text(row: Mapping[str, str]) -> Prediction:
    probabilities = {name: float(row[name]) if row[name] else None for name in PROBABILITIES}
    fields = {"condition": AS_RECORDED, **row, **probabilities, "fold": int(row["fold"])}
    return Prediction(**fields)  # type: ignore[typeddict-item]
