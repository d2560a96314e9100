"""What the builders of all corpora share: configurations, rows, and the checks of a data folder.

`datasets` refuses loading scripts but takes builder classes. An [`ArrowBasedBuilder`] is used
because the `Audio` feature of a `GeneratorBasedBuilder` needs torchcodec even to write.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import datasets
import pyarrow as pa
from datasets.builder import Key

from .recordings import (
    CorpusError,
    fingerprint,
    read_recording,
    resolve_folder,
    walk_recordings,
    warn,
)
from .schema import EMOTIONS, corpus_features
from .tables import find_beside

ON_ERROR = ("skip", "raise")
BATCH_SIZE = 64


class Recording(NamedTuple):
    """Where a recording lies, its path in the data folder, its name, and what is known of it."""

    path: str
    file: str
    name: str
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

    # Files beside the recordings that the rows are also made from, as patterns of `find_beside`.
    BESIDE: ClassVar[tuple[str, ...]] = ()

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
        if not self.data_dir:
            return []
        folder = resolve_folder(self.data_dir)
        return [*walk_recordings(folder), *find_beside(folder, self.BESIDE).values()]

    def refuse(self, *options: str, reason: str) -> None:
        """Refuse options that this corpus would ignore.

        Raises:
            ValueError: One of `options` is given.
        """
        for name in options:
            if getattr(self, name):
                raise ValueError(f"Bad {name} {reason}: expected none")

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
    def corpus_name(self) -> str:
        """What the rows call the corpus."""
        return self.CORPUS

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
        for row in rows:
            emotion = row["emotion"]
            row["corpus"] = self.corpus_name
            row["emotion"] = None if emotion is None else to_id(emotion)
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


class FileCorpusBuilder(CorpusBuilder):
    """Base of the corpora whose recordings are files: reads and checks them one by one."""

    def _handle(self, error: CorpusError, refused: list[CorpusError]) -> None:
        """Raise the error or note it, as the option `on_error` says."""
        if self.config.on_error == "raise":
            raise error
        refused.append(error)

    def _split(self, recordings: list[Recording]) -> list[datasets.SplitGenerator]:
        # A tuple is one shard: identical recordings are recognised over the whole corpus.
        kwargs = {"recordings": tuple(recordings)}
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs=kwargs)]

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
            group = group_of_samples.setdefault(digest, recording.name)
            audio = {"bytes": data, "path": recording.file}
            yield recording.columns | {"audio": audio, "file": recording.file, "group": group}
        if recordings and not group_of_samples:
            raise CorpusError(
                f"None of the {len(recordings)} recordings can be used, the first for this reason: "
                f"{refused[0]}"
            )
        warn_of_skipped(refused)


def warn_of_skipped(refused: list[CorpusError]) -> None:
    """Issue one warning that names everything that was skipped."""
    if refused:
        # All of them: a skipped file is never without its path.
        warn("\n  ".join([f"Skipped {len(refused)} files:", *(str(error) for error in refused)]))
