"""Tables that lie beside recordings: labels, ages, votes of listeners.

Nothing here is a builder: `datasets` replaces `open` in the modules of builders.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .recordings import CorpusError

TABLES: Final = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = ",;\t|"


def find_beside(data_dir: str | Path, patterns: Iterable[str]) -> dict[str, Path]:
    """Files in a data folder, or else above it, by name; `patterns` are those of `Path.glob`."""
    folder = Path(data_dir).expanduser().resolve()
    patterns = tuple(patterns)
    found: dict[str, Path] = {}
    for place in (folder, folder.parent):
        for path in (path for pattern in patterns for path in sorted(place.glob(pattern))):
            if path.is_file():
                found.setdefault(path.name, path)
    return found


def read_number(cell: Any, column: str, path: Path) -> float:
    """The number in a cell of a table, whose decimals may follow a comma.

    Raises:
        CorpusError: It is none; the message names the table and the column.
    """
    try:
        return float(str(cell).replace(",", "."))
    except ValueError:
        raise CorpusError(f"Bad {column} '{cell}' in '{path}', expected a number") from None


def read_table(path: Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of a table, in the type that its ending names.

    The cells of `.csv` and `.tsv` are text. CSV may be separated by commas, semicolons, tabs or
    bars, and be written in UTF-8 or, as some spreadsheets do, in Windows' code page.

    Raises:
        CorpusError: Another ending, nothing that can be read, or a table without one of `columns`.
    """
    readers = {
        ".csv": _read_text,
        ".tsv": _read_text,
        ".jsonl": _read_json,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise CorpusError(f"Bad table '{path}', expected one of {list(TABLES)}")
    try:
        rows = readers[path.suffix.lower()](path)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise CorpusError(f"Cannot read the table '{path}': {error}") from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    absent = [name for name in columns if name not in names]
    if absent or not rows:
        what = f"without the columns {absent}" if absent else "without rows"
        raise CorpusError(f"Bad table '{path}' {what}, found the columns {names}")
    return rows


def _read_text(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=header.count)
    lines = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter, restkey="")
    return [{str(name).strip(): cell for name, cell in row.items()} for row in lines]


def _read_json(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected one JSON object a line")
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    return pq.ParquetFile(path).read().to_pylist()
