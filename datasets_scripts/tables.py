"""Tables that lie beside recordings: labels, ages, votes of listeners.

Nothing here is a builder: `datasets` replaces `open` in the modules of builders.
"""

import codecs
import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .recordings import CorpusError, shorten, warn

TABLES: Final = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = ",;\t|"
# What Excel writes before the header to say what separates the cells.
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?[,;|\s]*", re.IGNORECASE)


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


def read_number(cell: Any) -> float | None:
    """The number in a cell, whose decimals may follow a comma; `None` where there is none."""
    try:
        number = float(str(cell).replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_numbers(
    rows: Mapping[int, Mapping[str, Any]], column: str, path: Path
) -> dict[int, float]:
    """Numbers in a column of a table, by row as [`read_table`] has them.

    Empty cells are passed over; a [`CorpusWarning`] names the rows that hold something else, since
    one of them should not cost a corpus.
    """
    filled = {number: row[column] for number, row in rows.items() if not is_blank(row.get(column))}
    numbers = {number: read_number(cell) for number, cell in filled.items()}
    bad = [f"'{filled[number]}' in row {number}" for number in filled if numbers[number] is None]
    if bad:
        warn(
            f"Left out {len(bad)} cells of the column '{column}' in '{path}', expected numbers, "
            f"found {shorten(bad)}"
        )
    return {number: value for number, value in numbers.items() if value is not None}


def read_table(path: Path, columns: Sequence[str] = ()) -> dict[int, dict[str, Any]]:
    """Rows of a table, in the type that its ending names, by number.

    The number is that of the row in a spreadsheet, where the header is the first, of the line in
    JSON, and of the row in Parquet, from 1. Rows without anything in them are left out.

    The cells of `.csv` and `.tsv` are text. CSV may be separated by commas, semicolons, tabs, bars
    or what a first line `sep=` names, and be written in UTF-8, in UTF-16 with a byte order mark
    or, as some spreadsheets do, in Windows' code page.

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
    rows = {number: row for number, row in rows.items() if not all(map(is_blank, row.values()))}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    absent = [name for name in columns if name not in names]
    if absent or not rows:
        what = f"without the columns {absent}" if absent else "without rows"
        raise CorpusError(f"Bad table '{path}' {what}, found the columns {names}")
    return rows


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing: no value, no number (NaN), or no more than spaces."""
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _decode(data: bytes) -> str:
    """Text of a table.

    Raises:
        ValueError: It is no text, or UTF-16 that does not begin by saying so.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("expected text, in UTF-8 or in UTF-16 with a byte order mark")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _read_text(path: Path) -> dict[int, dict[str, Any]]:
    first, text = _split_separator(_decode(path.read_bytes()))
    header = next((line for line in text.splitlines() if line.strip(f"{_DELIMITERS} ")), "")
    usual = "\t" if path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=header.count)
    # Not `splitlines`, which would also end lines at what some programs write within a cell.
    lines = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=first or usual), 1)
    filled = ((number, cells) for number, cells in lines if any(map(str.strip, cells)))
    names = _column_names(next(filled, (0, []))[1])
    return {
        number: dict(itertools.zip_longest(names, cells[: len(names)], fillvalue=""))
        for number, cells in filled
    }


def _split_separator(text: str) -> tuple[str, str]:
    """What a line `sep=` before the header names, else nothing, and the text without that line."""
    for line in text.splitlines(keepends=True):
        if line.strip():
            match = _SEPARATOR_LINE.fullmatch(line)
            # Blank lines before it stay, for rows are numbered as a spreadsheet shows them.
            return (match[1], text.replace(line, "", 1)) if match else ("", text)
    return "", text


def _column_names(cells: Sequence[str]) -> list[str]:
    """Names in a header, without the nameless columns at its end."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _read_json(path: Path) -> dict[int, dict[str, Any]]:
    lines = enumerate(io.StringIO(_decode(path.read_bytes()), newline=None), 1)
    rows = {number: json.loads(line) for number, line in lines if line.strip()}
    if not all(isinstance(row, dict) for row in rows.values()):
        raise ValueError("expected one JSON object a line")
    return rows


def _read_parquet(path: Path) -> dict[int, dict[str, Any]]:
    return dict(enumerate(pq.ParquetFile(path).read().to_pylist(), 1))
