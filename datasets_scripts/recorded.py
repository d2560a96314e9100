"""Base of the published corpora: what a name says, where the archive is, what is missing."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import datasets

from .builder import FileCorpusBuilder, Recording, warn_of_skipped
from .download import Archive, download_and_extract
from .recordings import CorpusError, find_recordings, resolve_folder, shorten, warn

# What published numbers of recordings may be counted by.
COUNTED = ("emotion", "speaker")


class RecordedCorpusBuilder(FileCorpusBuilder):
    """Base of the published corpora: their names, files, archive and published counts."""

    # A name of the corpus, for messages.
    EXAMPLE: ClassVar[str]
    ARCHIVE: ClassVar[Archive | None] = None
    # How to get a corpus that has no archive for everybody.
    ACCESS: ClassVar[str] = ""
    # Where not every name is known: recordings by emotion, by emotion and speaker, or of all, `()`.
    PUBLISHED: ClassVar[Mapping[tuple[str, ...], int]] = {}

    @staticmethod
    def name_of(file: str) -> str:
        """Name of a recording, the same for all copies of it, from its path in the data folder."""
        return file.rpartition("/")[2].rpartition(".")[0]

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any] | None:
        """Columns that a name gives; `None` for one that is another part of the corpus.

        Raises:
            ValueError: The name follows no pattern of the corpus.
        """
        raise NotImplementedError

    @staticmethod
    def published_stems() -> list[str]:
        """Names of all published recordings, of every emotion; none where they are not known."""
        return []

    def columns_beside(self, folder: Any) -> dict[str, dict[str, Any]]:
        """Further columns by name or by speaker, from files that lie beside the recordings."""
        return {}

    def published_columns(self) -> dict[str, dict[str, Any]]:
        """Columns of the published recordings that belong to the configuration, by name."""
        parsed = {stem: self.parse_stem(stem) for stem in self.published_stems()}
        return {
            stem: columns
            for stem, columns in parsed.items()
            if columns and columns["emotion"] in self.emotions
        }

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """As in `datasets`, with a warning when the prepared rows are not the published ones."""
        dataset = super().as_dataset(*args, **kwargs)
        self._warn_if_incomplete(self._prepared())
        return dataset

    def _prepared(self) -> dict[str, dict[str, Any]]:
        rows = super().as_dataset(split="train").select_columns(["file", *COUNTED])
        to_name = rows.features["emotion"].int2str
        return {
            self.name_of(row["file"]): row | {"emotion": to_name(row["emotion"])} for row in rows
        }

    def _warn_if_incomplete(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        what = f"{self.CORPUS} ({self.config.name})"
        if published := self.published_columns():
            _compare_names(what, found, published)
        for size in range(len(COUNTED) + 1):
            if published_counts := self._published_counts(size):
                _compare_counts(what, found, published_counts, COUNTED[:size])

    def _published_counts(self, size: int) -> dict[tuple[str, ...], int]:
        """Published numbers of the configuration that are counted by `size` columns."""
        everything = self.config.name == "all" or not self.EXTRA_EMOTIONS
        return {
            key: count
            for key, count in self.PUBLISHED.items()
            if len(key) == size and (key[0] in self.emotions if key else everything)
        }

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        folder = resolve_folder(self.config.data_dir or self._download())
        recordings = self._parse_folder(folder)
        if dl_manager.is_streaming:
            self._warn_if_incomplete({r.name: r.columns for r in recordings})
        return self._split(recordings)

    def _download(self) -> str:
        archive = self.ARCHIVE
        if self.config.url:
            archive = Archive(url=self.config.url, md5=self.config.md5)
        if archive is None:
            raise CorpusError(
                f"No data_dir for {self.CORPUS}, which cannot be downloaded automatically: "
                f"{self.ACCESS}, and pass the folder, as in "
                f'load_corpus("{self.CORPUS}", data_dir="<folder>")'
            )
        return str(download_and_extract(archive, self.CORPUS, self._cache_downloaded_dir))

    def _parse_folder(self, folder: Any) -> list[Recording]:
        """The recordings of the configuration below `folder`, sorted by name.

        Raises:
            CorpusError: The folder holds none of them, or a malformed name with
                `on_error="raise"`.
        """
        parsed, malformed = self._parse_names(folder)
        usable = {r.name: r for r in parsed if r.columns}
        others = [r.file for r in parsed if not r.columns]
        chosen = [r for r in usable.values() if r.columns["emotion"] in self.emotions]
        if not chosen:
            raise CorpusError(self._describe_contents(folder, usable, malformed, others))
        refused: list[CorpusError] = []
        for error in malformed.values():
            self._handle(error, refused)
        warn_of_skipped(refused)
        if others:
            warn(f"Left out {len(others)} files of other parts of the corpus: {shorten(others)}")
        beside = self.columns_beside(folder)
        for recording in chosen:
            of_speaker = beside.get(recording.columns["speaker"], {})
            recording.columns.update(of_speaker | beside.get(recording.name, {}))
        return chosen

    def _parse_names(self, folder: Any) -> tuple[list[Recording], dict[str, CorpusError]]:
        """Recordings, without columns where they are of another part, and errors by file."""
        parsed, malformed = [], {}
        for name, path in find_recordings(folder, self.name_of).items():
            file = path.relative_to(folder).as_posix()
            try:
                columns = self.parse_stem(name)
            except ValueError as error:
                malformed[file] = CorpusError(f"Bad name '{path}': {error}")
                continue
            parsed.append(Recording(str(path), file, name, columns or {}))
        return parsed, malformed

    def _describe_contents(
        self,
        folder: Any,
        usable: Mapping[str, Recording],
        malformed: Mapping[str, CorpusError],
        others: list[str],
    ) -> str:
        """What was expected and what was found in a folder that holds nothing to use."""
        found = []
        if usable:
            counts = Counter(recording.columns["emotion"] for recording in usable.values())
            emotions = ", ".join(f"{emotion} {n}" for emotion, n in sorted(counts.items()))
            found.append(f"{emotions}, which only the configuration 'all' holds")
        if others:
            found.append(f"{len(others)} files of other parts of the corpus: {shorten(others)}")
        if malformed:
            # The first that some corpus knows tells more than a stray file that sorts before it.
            file = next(filter(_corpora_with, malformed), next(iter(malformed)))
            likely = _corpora_with(file)
            hint = f", which is a name of {' or '.join(likely)}" if likely else ""
            names = f"such as '{file}'{hint}"
            found.append(f"{len(malformed)} files with other names, {names}")
        return (
            f"No recording of {self.CORPUS} ({self.config.name}) below '{folder}', expected names "
            f"such as '{self.EXAMPLE}', found {'; '.join(found)}"
        )


def _corpora_with(file: str) -> list[str]:
    """The published corpora that a file may be of, by its path in the data folder."""
    return [
        builder.CORPUS
        for builder in RecordedCorpusBuilder.__subclasses__()
        if _parses(builder, file)
    ]


def _parses(builder: type[RecordedCorpusBuilder], file: str) -> bool:
    try:
        builder.parse_stem(builder.name_of(file))
    except ValueError:
        return False
    return True


def _compare_names(
    what: str, found: Mapping[str, Any], published: Mapping[str, Mapping[str, Any]]
) -> None:
    missing = sorted(published.keys() - found.keys())
    if missing:
        per_speaker = Counter(published[stem]["speaker"] for stem in missing)
        counts = ", ".join(f"{speaker}: {n}" for speaker, n in sorted(per_speaker.items()))
        warn(
            f"{what} has {len(published) - len(missing)} of the {len(published)} published "
            f"recordings. Missing by speaker: {counts}. Missing: {shorten(missing)}"
        )
    unknown = sorted(found.keys() - published.keys())
    if unknown:
        warn(f"{what} has {len(unknown)} recordings beyond the published: {shorten(unknown)}")


def _compare_counts(
    what: str,
    found: Mapping[str, Mapping[str, Any]],
    published: Mapping[tuple[str, ...], int],
    columns: tuple[str, ...],
) -> None:
    counts = Counter(tuple(row[column] for column in columns) for row in found.values())
    differences = {
        " ".join(key) or "all": counts[key] - published.get(key, 0)
        for key in sorted(published.keys() | counts.keys())
        if counts[key] != published.get(key, 0)
    }
    if differences:
        by = f" by {' and '.join(columns)}" if columns else ""
        cells = (f"{cell}: {difference:+d}" for cell, difference in differences.items())
        warn(
            f"{what} has {len(found)} recordings, published are {sum(published.values())}. "
            f"Differences{by}: {shorten(cells)}"
        )
