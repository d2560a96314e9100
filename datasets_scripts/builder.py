"""What the builders of all corpora share: configurations, rows, and the checks of a data folder.

`datasets` refuses loading scripts but takes builder classes. An [`ArrowBasedBuilder`] is used
because the `Audio` feature of a `GeneratorBasedBuilder` needs torchcodec even to write.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import datasets
import pyarrow as pa
from datasets.builder import Key

from .download import Archive, download_and_extract
from .recordings import (
    CorpusError,
    find_recordings,
    fingerprint,
    read_recording,
    resolve_folder,
    shorten,
    walk_recordings,
    warn,
)
from .schema import EMOTIONS, corpus_features

ON_ERROR = ("skip", "raise")
BATCH_SIZE = 64


class Recording(NamedTuple):
    """Where a recording lies, and the columns that its name gives."""

    path: str
    file: str
    columns: dict[str, Any]


@dataclass
class CorpusConfig(datasets.BuilderConfig):
    """Options of a corpus.

    Args:
        data_dir: Folder that holds the recordings, nested as they may be. Downloaded when not
            given.
        on_error: `"skip"` (with a warning that names the path) or `"raise"` for a malformed name
            and for an unreadable, empty or truncated file.
        url: Address of the archive to download in place of the official one.
        md5: Checksum of the archive at `url`.
    """

    on_error: str = "skip"
    url: str | None = None
    md5: str | None = None

    def validate(self) -> None:
        """Refuse options that no builder knows.

        Raises:
            ValueError: An unknown `on_error`, or `data_files`, which would be ignored.
        """
        if self.on_error not in ON_ERROR:
            raise ValueError(f"Bad on_error '{self.on_error}', expected one of {list(ON_ERROR)}")
        if self.data_files:
            raise ValueError("Bad data_files, a corpus is read whole: expected data_dir")

    def sources(self) -> list[Any]:
        """The files that the rows are made from, for the key of the cache."""
        return walk_recordings(resolve_folder(self.data_dir)) if self.data_dir else []

    def create_config_id(
        self, config_kwargs: dict, custom_features: datasets.Features | None = None
    ) -> str:
        """Key of the cache: all options and the listing of the data folder, not its path alone."""
        self.validate()
        options = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("name", "version", "description", "data_files")
        }
        key = f"{sorted(options.items())}{fingerprint(self.sources())}"
        return super().create_config_id({"key": key}, custom_features)


def configurations(config_class: type[datasets.BuilderConfig], name: str) -> list[Any]:
    """The configurations that every corpus has."""
    return [
        config_class(name="six_emotions", description=f"The six emotions of {name}"),
        config_class(name="all", description=f"All emotions of {name}"),
    ]


class CorpusBuilder(datasets.ArrowBasedBuilder):
    """Base of all builders: one split `train` that holds every recording of a configuration."""

    CORPUS: ClassVar[str]
    EXTRA_EMOTIONS: ClassVar[tuple[str, ...]] = ()
    DESCRIPTION: ClassVar[str]
    LICENSE: ClassVar[str]
    LANGUAGE: ClassVar[str | None] = None
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""
    BUILDER_CONFIG_CLASS = CorpusConfig
    DEFAULT_CONFIG_NAME = "six_emotions"

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions of the configuration, in the order of their class ids."""
        return EMOTIONS + (self.EXTRA_EMOTIONS if self.config.name == "all" else ())

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.DESCRIPTION,
            features=corpus_features(self.emotions),
            license=self.LICENSE,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
        )

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows as Arrow; a column that a corpus does not have is null."""
        to_id = self.info.features["emotion"].str2int
        rows = [row | {"corpus": self.CORPUS, "emotion": to_id(row["emotion"])} for row in rows]
        return pa.Table.from_pylist(rows, schema=self.info.features.arrow_schema)

    def _batches(self, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[Key, pa.Table]]:
        batch: list[dict[str, Any]] = []
        index = 0
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH_SIZE:
                yield Key(0, index), self._table(batch)
                batch, index = [], index + 1
        if batch or index == 0:
            yield Key(0, index), self._table(batch)


class RecordedCorpusBuilder(CorpusBuilder):
    """Base of the corpora that are recorded: their names, files, archive and published counts."""

    ARCHIVE: ClassVar[Archive]

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any] | None:
        """Columns that the stem of a file gives; `None` for one that is another part of the corpus.

        Raises:
            ValueError: The stem follows no pattern of the corpus.
        """
        raise NotImplementedError

    @staticmethod
    def published_stems() -> list[str]:
        """Stems of all published recordings, of every emotion."""
        raise NotImplementedError

    def columns_beside(self, folder: Any) -> dict[str, dict[str, Any]]:
        """Further columns by stem, from files that lie beside the recordings."""
        return {}

    def published_columns(self) -> dict[str, dict[str, Any]]:
        """Columns of the published recordings that belong to the configuration, by stem."""
        parsed = {stem: self.parse_stem(stem) for stem in self.published_stems()}
        return {
            stem: columns
            for stem, columns in parsed.items()
            if columns and columns["emotion"] in self.emotions
        }

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """As in `datasets`, with a warning when the prepared rows are not the published ones."""
        dataset = super().as_dataset(*args, **kwargs)
        self._warn_if_incomplete(self._prepared_stems())
        return dataset

    def _prepared_stems(self) -> set[str]:
        files = super().as_dataset(split="train").select_columns("file")["file"]
        return {_stem(file) for file in files}

    def _warn_if_incomplete(self, found: set[str]) -> None:
        published = self.published_columns()
        what = f"{self.CORPUS} ({self.config.name})"
        missing = sorted(published.keys() - found)
        if missing:
            per_speaker = Counter(published[stem]["speaker"] for stem in missing)
            counts = ", ".join(f"{speaker}: {n}" for speaker, n in sorted(per_speaker.items()))
            warn(
                f"{what} has {len(published) - len(missing)} of the {len(published)} published "
                f"recordings. Missing by speaker: {counts}. Missing: {shorten(missing)}"
            )
        unknown = sorted(found - published.keys())
        if unknown:
            warn(f"{what} has {len(unknown)} recordings beyond the published: {shorten(unknown)}")

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        folder = resolve_folder(self.config.data_dir or self._download())
        recordings = self._parse_folder(folder)
        if dl_manager.is_streaming:
            self._warn_if_incomplete({_stem(recording.file) for recording in recordings})
        # A tuple is one shard: identical recordings are recognised over the whole corpus.
        kwargs = {"recordings": tuple(recordings)}
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs=kwargs)]

    def _download(self) -> str:
        archive = self.ARCHIVE
        if self.config.url:
            archive = dataclasses.replace(
                archive, url=self.config.url, md5=self.config.md5, size=None
            )
        return str(download_and_extract(archive, self.CORPUS, self._cache_downloaded_dir))

    def _parse_folder(self, folder: Any) -> list[Recording]:
        """The recordings of the configuration below `folder`, sorted by stem."""
        beside = self.columns_beside(folder)
        recordings, others = [], []
        refused: list[CorpusError] = []
        for path in find_recordings(folder):
            file = path.relative_to(folder).as_posix()
            try:
                columns = self.parse_stem(path.stem)
            except ValueError as error:
                self._handle(CorpusError(f"Bad name '{path}': {error}"), refused)
                continue
            if columns is None:
                others.append(file)
            elif columns["emotion"] in self.emotions:
                columns |= beside.get(path.stem, {})
                recordings.append(Recording(str(path), file, columns))
        _warn_of_skipped(refused)
        if others:
            warn(f"Left out {len(others)} files of other parts of the corpus: {shorten(others)}")
        return recordings

    def _handle(self, error: CorpusError, refused: list[CorpusError]) -> None:
        """Raise the error or note it, as the option `on_error` says."""
        if self.config.on_error == "raise":
            raise error
        refused.append(error)

    def _generate_tables(self, recordings: tuple[Recording, ...]) -> Iterator[tuple[Key, pa.Table]]:
        yield from self._batches(self._rows(recordings))

    def _rows(self, recordings: tuple[Recording, ...]) -> Iterator[dict[str, Any]]:
        refused: list[CorpusError] = []
        group_of_samples: dict[str, str] = {}
        for recording in recordings:
            try:
                data, digest = read_recording(recording.path)
            except CorpusError as error:
                self._handle(error, refused)
                continue
            group = group_of_samples.setdefault(digest, _stem(recording.file))
            audio = {"bytes": data, "path": recording.file}
            yield recording.columns | {"audio": audio, "file": recording.file, "group": group}
        _warn_of_skipped(refused)


def _warn_of_skipped(refused: list[CorpusError]) -> None:
    if refused:
        # All of them: a skipped file is never without its path.
        warn("\n  ".join([f"Skipped {len(refused)} files:", *(str(error) for error in refused)]))


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
