"""One function that loads any corpus."""

import dataclasses
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from .folder.folder import Folder
from .registry import CORPORA, source_hash


def load_corpus(
    name: str,
    config: str = "six_emotions",
    data_dir: str | Path | None = None,
    *,
    builder: str | None = None,
    streaming: bool = False,
    on_error: str = "skip",
    cache_dir: str | None = None,
    **config_kwargs: Any,
) -> Dataset | IterableDataset:
    """Load all recordings of a corpus, sorted by file name.

    The same as `datasets.load_dataset(name, config, data_dir=data_dir, split="train")`. What was
    prepared before is reused as long as the files of the folder and the options are the same.

    Args:
        name: `"emodb"`, `"ravdess"`, `"crema_d"`, `"savee"`, `"tess"`, `"nemo"`,
            `"toy_emotions"`, or `"folder"` for recordings of one's own, whose options are those of
            `FolderConfig`. With `builder="folder"` any other name.
        config: `"six_emotions"`, or `"all"` for all emotions of the corpus.
        data_dir: Folder that holds the recordings, nested as they may be. When not given, the
            official archives of `"emodb"` and `"ravdess"` are downloaded; the others say where
            they can be had.
        builder: `"folder"` where `name` is what the rows are to call the corpus, so that one run
            may have several: `load_corpus("studio", data_dir=..., builder="folder")`.
        streaming: Read recordings as they are asked for, prepare nothing.
        on_error: `"skip"` (with a warning) or `"raise"` for malformed names and for unreadable,
            empty or truncated files.
        cache_dir: Where to keep what is downloaded and prepared; that of `datasets` by default.
        config_kwargs: Further options of the corpus, e.g. `speakers=4` of `toy_emotions`, or
            `emotion_column="mood"` of `folder`.

    Raises:
        ValueError: An unknown corpus, configuration or option, no recordings in the folder, or a
            broken one with `on_error="raise"`.
        OSError: A failed download; the message says what to fetch by hand.
    """
    kind = name
    if builder is not None:
        kind = _check_builder(name, builder)
        config_kwargs["corpus_name"] = name
    if kind not in CORPORA:
        raise ValueError(
            f"Bad corpus '{kind}', expected one of {list(CORPORA)}, or any name with "
            f'builder="{Folder.CORPUS}", which reads any folder of recordings'
        )
    _check_options(kind, config_kwargs)
    made = CORPORA[kind](
        cache_dir=cache_dir,
        config_name=config,
        data_dir=None if data_dir is None else str(data_dir),
        hash=source_hash(),
        on_error=on_error,
        **config_kwargs,
    )
    if streaming:
        return made.as_streaming_dataset(split="train")
    made.download_and_prepare()
    return made.as_dataset(split="train")


def _check_builder(name: str, builder: str) -> str:
    """Refuse names for corpora that have their own, and the names of published corpora."""
    if builder != Folder.CORPUS:
        raise ValueError(f"Bad builder '{builder}', expected '{Folder.CORPUS}' or none")
    if name in CORPORA and name != builder:
        raise ValueError(
            f"Bad name '{name}' of a folder, which is that of a corpus, expected another"
        )
    return builder


def _check_options(kind: str, options: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(CORPORA[kind].BUILDER_CONFIG_CLASS)]
    own = [name for name in known if name not in ("name", "version", "data_files", "description")]
    for name in options:
        if name not in own:
            raise ValueError(f"Bad option '{name}' of {kind}, expected one of {own}")
