"""Builder of a corpus of one's own: a folder with a table, or with one sub-folder an emotion."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import datasets

from ..builder import (
    CorpusConfig,
    FileCorpusBuilder,
    Recording,
    configurations,
    warn_of_skipped,
)
from ..recordings import MORE_EXTENSIONS, CorpusError, resolve_folder, walk_recordings, warn
from ..schema import EMOTIONS
from .labels import OTHER_EMOTIONS, is_label, normalize_names, resolve_labels
from .listing import (
    TABLE,
    USUAL_NAMES,
    count_labels,
    find_table,
    list_table,
    match_names,
    name_in,
    row_columns,
)


@dataclass
class FolderConfig(CorpusConfig):
    """Options of a folder of one's own; everything but `data_dir` has a default.

    Args:
        data_dir: The folder.
        corpus_name: What the rows call the corpus.
        metadata: Name of the table in the folder; `metadata.csv`, `.tsv`, `.jsonl` or `.parquet`
            when not given.
        emotion_names: Emotion of each label, e.g. `{"wut": "anger", "xxx": None}`: one of the six,
            one of `OTHER_EMOTIONS`, or `None` to leave those recordings out. English spellings
            (`angry`, `hap`, `joy`, ...) are known.
        file_pattern: Regular expression that finds columns in the path of a recording, as named
            groups, e.g. `(?P<speaker>[^/]+)/[^/]+$`. What the table says goes before it.
        file_column: Name of the table's column of files, and so on; the usual names when not given.
        emotion_column: As `file_column`.
        speaker_column: As `file_column`.
        gender_column: As `file_column`.
        age_column: As `file_column`.
        sentence_column: As `file_column`; the transcript when there is none.
        transcript_column: As `file_column`.
        intensity_column: As `file_column`.
        repetition_column: As `file_column`.
        agreement_column: As `file_column`.
    """

    corpus_name: str = "folder"
    metadata: str | None = None
    emotion_names: Mapping[Any, Any] | None = None
    file_pattern: str | None = None
    file_column: str | None = None
    emotion_column: str | None = None
    speaker_column: str | None = None
    gender_column: str | None = None
    age_column: str | None = None
    sentence_column: str | None = None
    transcript_column: str | None = None
    intensity_column: str | None = None
    repetition_column: str | None = None
    agreement_column: str | None = None

    @property
    def columns(self) -> dict[str, str | None]:
        """Names of the table's columns, by column of a row."""
        return {name: getattr(self, f"{name}_column") for name in USUAL_NAMES}

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The compiled `file_pattern`."""
        return None if self.file_pattern is None else re.compile(self.file_pattern)

    @property
    def names(self) -> dict[str, str | None]:
        """`emotion_names` in the form that labels are compared in."""
        return normalize_names(self.emotion_names or {})

    def validate(self) -> None:
        """Refuse options that cannot be meant.

        Raises:
            ValueError: No folder, no name, a pattern that is none or finds no column, an unknown
                emotion, or the address of an archive.
        """
        super().validate()
        self.refuse("url", "md5", reason="for a folder, which is not downloaded")
        if not self.data_dir:
            raise ValueError('No data_dir for folder, expected load_corpus("folder", data_dir=...)')
        if not self.corpus_name or not isinstance(self.corpus_name, str):
            raise ValueError(f"Bad corpus_name {self.corpus_name!r}, expected a name")
        if not isinstance(self.emotion_names, Mapping | None):
            raise ValueError(
                f"Bad emotion_names {self.emotion_names!r}, expected emotions by label"
            )
        _ = self.names
        self._validate_pattern()

    def _validate_pattern(self) -> None:
        try:
            groups = set(self.pattern.groupindex) if self.pattern else {"emotion"}
        except re.error as error:
            raise ValueError(f"Bad file_pattern '{self.file_pattern}': {error}") from error
        expected = [name for name in USUAL_NAMES if name != "file"]
        if not groups or not groups <= set(expected):
            raise ValueError(
                f"Bad file_pattern '{self.file_pattern}' with the named groups {sorted(groups)}, "
                f"expected some of {expected}"
            )

    def sources(self) -> list[Any]:
        """The recordings, and the table where there is one."""
        folder = resolve_folder(str(self.data_dir))
        table = find_table(folder, self.metadata)
        return [*walk_recordings(folder, MORE_EXTENSIONS), *([table] if table else [])]


class Listing(NamedTuple):
    """The recordings of a folder with an emotion each, or `None` each, and what is refused."""

    recordings: list[Recording]
    refused: list[CorpusError]


class Folder(FileCorpusBuilder):
    """Recordings of one's own, labelled by a table, by sub-folders, or not at all.

    ```python
    from datasets_scripts import load_corpus

    dataset = load_corpus(
        "folder", data_dir="path/to/folder", emotion_column="mood", speaker_column="who",
        emotion_names={"furious": "anger"},
    )
    ```
    """

    CORPUS = "folder"
    DESCRIPTION = "A folder of recordings of one's own."
    LICENSE = "unknown"
    BUILDER_CONFIG_CLASS = FolderConfig
    BUILDER_CONFIGS = configurations(FolderConfig, "a folder of one's own")

    @property
    def corpus_name(self) -> str:
        """What the rows call the corpus."""
        return self.config.corpus_name

    @property
    def emotions(self) -> tuple[str, ...]:
        """The six emotions, and in the configuration "all" the others that the folder has."""
        if self.config.name != "all":
            return EMOTIONS
        present = {recording.columns["emotion"] for recording in self._listing.recordings}
        return EMOTIONS + tuple(emotion for emotion in OTHER_EMOTIONS if emotion in present)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        recordings, errors = self._listing
        refused: list[CorpusError] = []
        for error in errors:
            self._handle(error, refused)
        warn_of_skipped(refused)
        wanted = {None, *self.emotions}
        chosen = [r for r in recordings if r.columns["emotion"] in wanted]
        if not chosen:
            others = sorted({r.columns["emotion"] for r in recordings}) or errors[:1]
            raise CorpusError(
                f"No recording to use in '{self.config.data_dir}', expected some of "
                f"{list(self.emotions)}, found {[str(other) for other in others]}"
            )
        return self._split(chosen)

    @cached_property
    def _listing(self) -> Listing:
        folder = resolve_folder(self.config.data_dir)
        cells, errors = self._read_cells(folder)
        labels = count_labels(cells)
        emotion_of = resolve_labels(labels, self.config.names)
        if cells and not labels:
            self._check_unlabelled(folder)
        recordings = []
        for path, values in cells.items():
            label = values.get("emotion")
            if labels and not label:
                errors.append(CorpusError(f"No emotion of '{path}', expected one for each file"))
                continue
            emotion = emotion_of[label] if label else None
            if label and emotion is None:
                continue
            file = name_in(folder, path)
            columns = row_columns(values) | {"emotion": emotion}
            recordings.append(Recording(str(path), file, file, columns))
        return Listing(sorted(recordings, key=lambda recording: recording.file), errors)

    def _read_cells(self, folder: Any) -> tuple[dict[Any, dict[str, str]], list[CorpusError]]:
        """Cells by recording: of the table, the pattern and, for want of others, sub-folders."""
        table = find_table(folder, self.config.metadata)
        if table:
            cells, unused = list_table(folder, table, self.config.columns)
        else:
            unused = []
            given = [f"{name}_column" for name, column in self.config.columns.items() if column]
            self.config.refuse(*given, reason=f"for '{folder}', which has no {TABLE} table")
            cells = {path: {} for path in walk_recordings(folder, MORE_EXTENSIONS)}
            if not cells:
                raise CorpusError(f"No {' or '.join(MORE_EXTENSIONS)} file below '{folder}'")
        errors: list[CorpusError] = []
        if self.config.pattern:
            found, errors = match_names(folder, list(cells), self.config.pattern)
            cells = {path: found[path] | cells[path] for path in found}
        if not any("emotion" in values for values in cells.values()):
            self._label_by_folders(folder, cells)
        if unused:
            _warn_of_unfound(table, cells, unused)
        return cells, errors

    def _label_by_folders(self, folder: Any, cells: dict[Any, dict[str, str]]) -> None:
        """Take labels from the innermost folders that are called as an emotion, if any is."""
        parents = {path: name_in(folder, path).split("/")[:-1] for path in cells}
        names = self.config.names
        known = {
            path: [name for name in reversed(parts) if is_label(name, names)]
            for path, parts in parents.items()
        }
        if any(known.values()):
            for path, labels in known.items():
                # A folder of another name is an unknown label, which is refused with all others.
                cells[path]["emotion"] = (labels or parents[path][-1:] or [""])[0]

    def _check_unlabelled(self, folder: Any) -> None:
        """Warn of a folder without labels; refuse it where all emotions are asked for."""
        message = (
            f"No emotions in '{folder}', expected a column of them in {TABLE}.csv, .tsv, .jsonl or "
            ".parquet (emotion_column), one sub-folder an emotion, or a file_pattern"
        )
        if self.config.name == "all":
            raise CorpusError(message)
        warn(f"{message}: the recordings are loaded without labels")


def _warn_of_unfound(table: Any, cells: Mapping[Any, Mapping[str, str]], unused: list[str]) -> None:
    """Warn of speakers or emotions that nothing names, where a column of the table might."""
    for column in ("speaker", "emotion"):
        if not any(column in values for values in cells.values()):
            warn(
                f"No {column} in '{table}' under a usual name, expected {column}_column to name "
                f"one of {unused} if it holds them"
            )
