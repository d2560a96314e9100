"""What a folder of one's own says about its recordings: its table, its names, its sub-folders."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..recordings import MORE_EXTENSIONS, CorpusError, shorten, walk_recordings, warn
from ..tables import TABLES, is_blank, read_number, read_numbers, read_table

TABLE: Final = "metadata"
# The columns of a row that a table may have, and the names they are found under, in any case, with
# or without spaces and underscores.
USUAL_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "file": ("file", "file_name", "path", "file_path", "audio", "wav"),
    "emotion": ("emotion", "label", "emotion_label"),
    "speaker": ("speaker", "speaker_id", "spk", "actor", "actor_id"),
    "gender": ("gender", "sex"),
    "age": ("age",),
    "sentence": ("sentence", "sentence_id", "text_id"),
    "transcript": ("transcript", "transcription", "text", "raw_text"),
    "intensity": ("intensity", "level"),
    "repetition": ("repetition", "take"),
    "agreement": ("agreement",),
}
_NUMBERS = ("age", "agreement")
_GENDERS = {"m": "male", "man": "male", "f": "female", "w": "female", "woman": "female"}


class TableCells(NamedTuple):
    """Cells of a table by recording and column, and the table's columns that were not used."""

    cells: dict[Path, dict[str, str]]
    unused: list[str]


def find_table(folder: Path, name: str | None) -> Path | None:
    """The table of a folder: the named one, or `metadata` in one of the known types.

    Raises:
        CorpusError: The named one is not there, or several could be meant.
    """
    if name is not None:
        path = folder / Path(name).expanduser()
        if not path.is_file():
            raise CorpusError(f"Bad metadata '{path}', expected a file in {list(TABLES)}")
        return path
    found = [folder / f"{TABLE}{ending}" for ending in TABLES]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        names = [path.name for path in found]
        raise CorpusError(f"Several tables {names} in '{folder}', expected metadata to name one")
    return found[0] if found else None


def list_table(folder: Path, table: Path, given: Mapping[str, str | None]) -> TableCells:
    """Cells of a table by recording.

    A [`CorpusWarning`] names the rows whose age or agreement is no number; those cells are left
    out.

    Args:
        folder: The data folder.
        table: Its rows name recordings by a path from where it lies, or by a bare file name, with
            or without its ending, that occurs once in the folder.
        given: Names of the table's columns, by column of a row; the usual ones where `None`.

    Raises:
        CorpusError: A column that is not there, a named one that should hold numbers and does not,
            a row without a file, or a file in two rows.
    """
    rows = read_table(table)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns = _choose_columns(table, names, given)
    by_name = _index(folder)
    cells: dict[Path, dict[str, str]] = {}
    places: set[Path] = set()
    doubled = []
    numbers = _check_numbers(table, rows, columns, given)
    for number, row in rows.items():
        values = {
            column: _text(row.get(name))
            for column, name in columns.items()
            if number in numbers.get(column, rows)
        }
        file = values.pop("file")
        if not file:
            raise CorpusError(f"No file in row {number} of '{table}'")
        path = _find(table.parent, file, by_name)
        place = _place(path)
        doubled += [file] if place in places else []
        places.add(place)
        cells[_spell(folder, path)] = values
    if doubled:
        raise CorpusError(f"Files in several rows of '{table}': {shorten(doubled)}")
    _warn_of_unlisted(table, cells, by_name)
    return TableCells(cells, [name for name in names if name and name not in columns.values()])


def _check_numbers(
    table: Path,
    rows: Mapping[int, Mapping[str, Any]],
    columns: Mapping[str, str],
    given: Mapping[str, str | None],
) -> dict[str, set[int]]:
    """Rows whose cell is a number, by column of numbers; a warning names those that are none.

    Raises:
        CorpusError: A column that was named by an option holds no number at all.
    """
    checked = {}
    for column, name in columns.items():
        if column in _NUMBERS:
            filled = [text for row in rows.values() if (text := _text(row.get(name)))]
            if filled and given.get(column) and not any(map(_is_number, filled)):
                raise CorpusError(
                    f"Bad {column}_column '{given[column]}', expected a column of numbers in "
                    f"'{table}', found '{filled[0]}'"
                )
            checked[column] = set(read_numbers(rows, name, table))
    return checked


def _is_number(cell: str) -> bool:
    return read_number(cell) is not None


def _choose_columns(
    table: Path, names: Sequence[str], given: Mapping[str, str | None]
) -> dict[str, str]:
    """Which of a table's columns is which of a row's."""
    by_spelling = {_plain(name): name for name in reversed(names)}
    chosen = {}
    for column, usual in USUAL_NAMES.items():
        name = given.get(column)
        if name is not None and name not in names:
            name = by_spelling.get(_plain(name))
        if name is None and given.get(column) is not None:
            raise CorpusError(
                f"Bad {column}_column '{given[column]}', expected one of {names} of '{table}'"
            )
        found = next((by_spelling[_plain(u)] for u in usual if _plain(u) in by_spelling), None)
        if (name := name or found) is not None:
            chosen[column] = name
    if "file" not in chosen:
        raise CorpusError(f"No file_column for '{table}', expected one of {names}")
    return chosen


def _plain(name: str) -> str:
    """A column's name in the form that names are compared in: `speakerid` of `Speaker ID`."""
    return re.sub(r"[\s_-]", "", name.casefold())


def _text(cell: Any) -> str:
    """A cell as text, empty where there is nothing; whole numbers have no decimals."""
    if is_blank(cell):
        return ""
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()


def _index(folder: Path) -> dict[str, list[Path]]:
    """The recordings of a folder by name, with and without the ending."""
    by_name = defaultdict(list)
    for path in walk_recordings(folder, MORE_EXTENSIONS):
        by_name[path.name].append(path)
        by_name[path.stem].append(path)
    return by_name


def _find(base: Path, file: str, by_name: Mapping[str, list[Path]]) -> Path:
    """The recording that a cell names; one that does not exist is refused when it is read."""
    path = base / Path(file.replace("\\", "/")).expanduser()
    if path.is_file():
        return path
    candidates = by_name.get(file, [])
    if len(candidates) > 1:
        raise CorpusError(
            f"Ambiguous file '{file}', expected a path: {shorten(map(str, candidates))}"
        )
    return candidates[0] if candidates else path


def _place(path: Path) -> Path:
    """Where a file lies, however its path is spelled; a link is a file of its own."""
    return path.parent.resolve() / path.name


def _spell(folder: Path, path: Path) -> Path:
    """The path by which a file in the data folder is known there, without detours."""
    if path.is_relative_to(folder) and ".." not in path.parts:
        return path
    place = _place(path)
    return place if place.is_relative_to(folder) else path


def _warn_of_unlisted(
    table: Path, listed: Mapping[Path, Any], by_name: Mapping[str, list[Path]]
) -> None:
    places = {path.resolve() for path in listed}
    present = {path for paths in by_name.values() for path in paths}
    unlisted = sorted(str(path) for path in present if path.resolve() not in places)
    if unlisted:
        warn(f"Left out {len(unlisted)} files that '{table}' does not list: {shorten(unlisted)}")


def match_names(
    folder: Path, paths: Sequence[Path], pattern: re.Pattern[str]
) -> tuple[dict[Path, dict[str, str]], list[CorpusError]]:
    """What the named groups of a pattern find in the paths; errors for those it is not in.

    A [`CorpusWarning`] names the paths whose age or agreement is no number.
    """
    found, errors, refused = {}, [], []
    for path in paths:
        match = pattern.search(name_in(folder, path))
        if match:
            found[path] = {name: _text(value) for name, value in match.groupdict().items()}
            for column in _NUMBERS:
                if found[path].get(column) and not _is_number(found[path][column]):
                    refused.append(f"{column} '{found[path].pop(column)}' in '{path}'")
        else:
            errors.append(
                CorpusError(f"Bad name '{path}', expected the file_pattern '{pattern.pattern}'")
            )
    if refused:
        warn(f"Left out what names say, expected numbers, found {shorten(refused)}")
    return found, errors


def name_in(folder: Path, path: Path) -> str:
    """Path of a recording from the data folder; the whole one of what lies elsewhere."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def count_labels(cells: Mapping[Path, Mapping[str, str]]) -> Counter[str]:
    """How many recordings have each label; those without one are not counted."""
    return Counter(values["emotion"] for values in cells.values() if values.get("emotion"))


def row_columns(cells: Mapping[str, str]) -> dict[str, Any]:
    """Columns of a row, in their types, from cells of text whose numbers were checked before."""
    columns: dict[str, Any] = {name: cell for name, cell in cells.items() if cell}
    if gender := columns.get("gender"):
        columns["gender"] = _GENDERS.get(gender.casefold(), gender.casefold())
    if "age" in columns:
        columns["age"] = int(read_number(columns["age"]) or 0)
    if "agreement" in columns:
        columns["agreement"] = read_number(columns["agreement"])
    if "transcript" in columns:
        columns.setdefault("sentence", columns["transcript"])
    return columns
