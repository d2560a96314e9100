"""What a folder of one's own says about its recordings: its table, its names, its sub-folders."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..recordings import MORE_EXTENSIONS, CorpusError, shorten, walk_recordings, warn
from ..tables import TABLES, read_number, read_table

TABLE: Final = "metadata"
# The columns of a row that a table may have, and the names they are found under.
USUAL_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "file": ("file", "file_name", "filename", "path", "file_path", "filepath", "audio", "wav"),
    "emotion": ("emotion", "label", "emotion_label"),
    "speaker": ("speaker", "speaker_id", "spk", "actor", "actor_id", "actorid"),
    "gender": ("gender", "sex"),
    "age": ("age",),
    "sentence": ("sentence", "sentence_id", "text_id"),
    "transcript": ("transcript", "transcription", "text", "raw_text"),
    "intensity": ("intensity", "level"),
    "repetition": ("repetition", "take"),
    "agreement": ("agreement",),
}
_GENDERS = {"m": "male", "man": "male", "f": "female", "w": "female", "woman": "female"}


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


def list_table(
    folder: Path, table: Path, given: Mapping[str, str | None]
) -> dict[Path, dict[str, str]]:
    """Cells of a table by recording.

    Args:
        folder: The data folder.
        table: Its rows name recordings by a path from where it lies, or by a bare file name, with
            or without its ending, that occurs once in the folder.
        given: Names of the table's columns, by column of a row; the usual ones where `None`.

    Raises:
        CorpusError: A column that is not there, a row without a file, or a file in two rows.
    """
    rows = read_table(table)
    columns = _choose_columns(table, list(dict.fromkeys(n for row in rows for n in row)), given)
    by_name = _index(folder)
    cells: dict[Path, dict[str, str]] = {}
    doubled = []
    for number, row in enumerate(rows, 1):
        values = {column: _text(row.get(name)) for column, name in columns.items()}
        file = values.pop("file")
        if not file:
            raise CorpusError(f"No file in row {number} of '{table}'")
        path = _find(table.parent, file, by_name)
        doubled += [file] if path in cells else []
        cells[path] = values
    if doubled:
        raise CorpusError(f"Files in several rows of '{table}': {shorten(doubled)}")
    _warn_of_unlisted(table, cells, by_name)
    return cells


def _choose_columns(
    table: Path, names: Sequence[str], given: Mapping[str, str | None]
) -> dict[str, str]:
    """Which of a table's columns is which of a row's."""
    by_usual = {name.casefold(): name for name in names}
    chosen = {}
    for column, usual in USUAL_NAMES.items():
        name = given.get(column)
        if name is not None and name not in names:
            raise CorpusError(f"Bad {column}_column '{name}', expected one of {names} of '{table}'")
        found = next((by_usual[u] for u in usual if u in by_usual), None)
        if (name := name or found) is not None:
            chosen[column] = name
    if "file" not in chosen:
        raise CorpusError(f"No file_column for '{table}', expected one of {names}")
    return chosen


def _text(cell: Any) -> str:
    """A cell as text, empty where there is nothing; whole numbers have no decimals."""
    if cell is None or cell != cell:
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
    """What the named groups of a pattern find in the paths; errors for those it is not in."""
    found, errors = {}, []
    for path in paths:
        match = pattern.search(name_in(folder, path))
        if match:
            found[path] = {name: _text(value) for name, value in match.groupdict().items()}
        else:
            errors.append(
                CorpusError(f"Bad name '{path}', expected the file_pattern '{pattern.pattern}'")
            )
    return found, errors


def name_in(folder: Path, path: Path) -> str:
    """Path of a recording from the data folder; the whole one of what lies elsewhere."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def count_labels(cells: Mapping[Path, Mapping[str, str]]) -> Counter[str]:
    """How many recordings have each label; those without one are not counted."""
    return Counter(values["emotion"] for values in cells.values() if values.get("emotion"))


def row_columns(cells: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Columns of a row, in their types, from cells of text.

    Raises:
        CorpusError: An age or agreement that is no number.
    """
    columns: dict[str, Any] = {name: cell for name, cell in cells.items() if cell}
    if gender := columns.get("gender"):
        columns["gender"] = _GENDERS.get(gender.casefold(), gender.casefold())
    if "age" in columns:
        columns["age"] = int(read_number(columns["age"], "age", path))
    if "agreement" in columns:
        columns["agreement"] = read_number(columns["agreement"], "agreement", path)
    if "transcript" in columns:
        columns.setdefault("sentence", columns["transcript"])
    return columns
