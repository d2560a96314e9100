"""One function that loads any corpus."""

from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from .registry import CORPORA, source_hash


def load_corpus(
    name: str,
    config: str = "six_emotions",
    data_dir: str | Path | None = None,
    *,
    streaming: bool = False,
    on_error: str = "skip",
    cache_dir: str | None = None,
    **config_kwargs: Any,
) -> Dataset | IterableDataset:
    """Load all recordings of a corpus, sorted by file name.

    The same as `datasets.load_dataset(name, config, data_dir=data_dir, split="train")`. What was
    prepared before is reused as long as the files of the folder and the options are the same.

    Args:
        name: `"emodb"`, `"ravdess"` or `"toy_emotions"`.
        config: `"six_emotions"`, or `"all"` for all emotions of the corpus.
        data_dir: Folder that holds the recordings, nested as they may be; the official archive is
            downloaded when not given.
        streaming: Read recordings as they are asked for, prepare nothing.
        on_error: `"skip"` (with a warning) or `"raise"` for malformed names and for unreadable,
            empty or truncated files.
        cache_dir: Where to keep what is downloaded and prepared; that of `datasets` by default.
        config_kwargs: Further options of the corpus, e.g. `speakers=4` of `toy_emotions`.

    Raises:
        ValueError: An unknown corpus, configuration or option, no recordings in the folder, or a
            broken one with `on_error="raise"`.
        OSError: A failed download; the message says what to fetch by hand.
    """
    if name not in CORPORA:
        raise ValueError(f"Bad corpus '{name}', expected one of {list(CORPORA)}")
    builder = CORPORA[name](
        cache_dir=cache_dir,
        config_name=config,
        data_dir=None if data_dir is None else str(data_dir),
        hash=source_hash(),
        on_error=on_error,
        **config_kwargs,
    )
    if streaming:
        return builder.as_streaming_dataset(split="train")
    builder.download_and_prepare()
    return builder.as_dataset(split="train")
