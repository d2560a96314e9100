"""Parquet folders that plain `datasets.load_dataset` reads, with every fold as a configuration.

Each recording is stored once. Rows that are in the same splits of all folds share a file, named by
its cell in each protocol, and a configuration is a list of patterns over those names.
"""

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData

from .builder import CorpusBuilder
from .protocols import Fold, protocol_folds
from .registry import CORPORA

DATA: Final = "data"
CARD: Final = """---
{yaml}
---

# {title}

{descriptions}

{rows} recordings, exported by `datasets_scripts` of speech-emotion-diffusion. They are stored as
they were given, and are read without torchcodec:

```python
import io

import soundfile
from datasets import load_dataset

dataset = load_dataset("path/to/this/folder", "{example}", split="train")
samples, sampling_rate = soundfile.read(io.BytesIO(dataset[0]["audio"]["bytes"]))
```

`dataset.cast_column("audio", datasets.Audio())` decodes on access where torchcodec is installed.

## Folds

Each fold of a protocol is a configuration with the splits train, validation and test; `default`
holds all rows. Random divisions were drawn with seed {seed}. Recordings with identical samples are
never in two splits of a fold.

| configuration | corpus | test | train rows | validation rows | test rows |
|---|---|---|---|---|---|
{folds}

## Columns

| column | meaning |
|---|---|
| `audio` | the encoded recording, `bytes` and `path` |
| `emotion` | class label: {emotions} |
| `speaker`, `gender`, `age` | who speaks; age in years where it was published |
| `sentence`, `transcript` | which sentence, and its words |
| `intensity`, `repetition` | how strongly, and which of several takes |
| `corpus`, `file` | where the recording is from |
| `group` | shared by recordings with identical samples |
| `agreement` | share of listeners who recognised the emotion, 0 to 1, where it was measured |

## Source and licence

{sources}
"""


def export_parquet(
    dataset: Dataset,
    folder: str | Path,
    protocols: Sequence[str] = ("speaker_independent", "paper"),
    seed: int = 0,
) -> Path:
    """Write a dataset as Parquet files and a dataset card that names every fold.

    Args:
        dataset: Rows of one corpus, or of several that were concatenated.
        folder: Where to write; it must not exist, or be empty.
        protocols: Which of [`PROTOCOLS`] become configurations, e.g. `speaker_independent_fold0`.
        seed: Seed of the random protocols.

    Returns:
        The folder, for `datasets.load_dataset(folder, "speaker_independent_fold0")`.

    Raises:
        FileExistsError: The folder holds something.
        ValueError: An unknown protocol, or one that the dataset is too small for.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"Bad folder '{folder}', expected one that is empty or does not exist"
        )
    folds = {protocol: protocol_folds(dataset, protocol, seed) for protocol in protocols}
    cells = {protocol: _cells(folds[protocol], len(dataset)) for protocol in protocols}
    partial = folder.with_name(f"{folder.name}.incomplete")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / DATA).mkdir(parents=True)
    _write_files(dataset, cells, partial / DATA)
    _card(dataset, folds, cells, seed).save(partial / "README.md")
    os.replace(partial, folder)
    return folder


def _cells(folds: Sequence[Fold], num_rows: int) -> list[int]:
    """Number of each row's cell: rows of one cell are in the same splits of all folds."""
    memberships: list[list[tuple[int, str]]] = [[] for _ in range(num_rows)]
    for index, fold in enumerate(folds):
        for split, rows in fold.splits.items():
            for row in rows:
                memberships[row].append((index, split))
    numbers: dict[tuple[tuple[int, str], ...], int] = {}
    return [numbers.setdefault(tuple(membership), len(numbers)) for membership in memberships]


def _label(protocol: str, cell: int) -> str:
    return f"{protocol}-{cell:03d}"


def _write_files(dataset: Dataset, cells: dict[str, list[int]], folder: Path) -> None:
    """One Parquet file for each combination of the protocols' cells."""
    rows_of_file: dict[str, list[int]] = {}
    for row in range(len(dataset)):
        labels = [_label(protocol, cell_of_row[row]) for protocol, cell_of_row in cells.items()]
        rows_of_file.setdefault(".".join(["rows", *labels, "parquet"]), []).append(row)
    arrow = dataset.with_format("arrow")
    # The metadata of the schema carry the features: Audio, and the names of the emotions.
    schema = dataset.features.arrow_schema
    for name, rows in rows_of_file.items():
        pq.write_table(arrow[rows].cast(schema), folder / name)


def _configs(
    folds: dict[str, list[Fold]], cells: dict[str, list[int]]
) -> dict[str, list[dict[str, Any]]]:
    """Data files of each fold by name of its configuration."""
    return {
        f"{protocol}_fold{index}": _data_files(fold, cells[protocol])
        for protocol, of_protocol in folds.items()
        for index, fold in enumerate(of_protocol)
    }


def _data_files(fold: Fold, cells: list[int]) -> list[dict[str, Any]]:
    """The splits of a fold, each as patterns over the names of the files."""
    labels = {
        split: sorted({_label(fold.protocol, cells[row]) for row in rows})
        for split, rows in fold.splits.items()
    }
    return [
        {"split": split, "path": [f"{DATA}/*.{label}.*" for label in of_split]}
        for split, of_split in labels.items()
    ]


def _card(
    dataset: Dataset, folds: dict[str, list[Fold]], cells: dict[str, list[int]], seed: int
) -> DatasetCard:
    builders = [CORPORA[name] for name in sorted(dataset.unique("corpus")) if name in CORPORA]
    configs = _configs(folds, cells)
    data = _card_data(builders, configs)
    content = CARD.format(
        yaml=data.to_yaml(),
        title=data.pretty_name,
        descriptions="\n".join(builder.DESCRIPTION for builder in builders),
        rows=len(dataset),
        example=next(iter(configs), "default"),
        seed=seed,
        folds="\n".join(_table(folds, list(configs))),
        emotions=", ".join(dataset.features["emotion"].names),
        sources="\n".join(_source(builder) for builder in builders),
    )
    return DatasetCard(content)


def _card_data(
    builders: list[type[CorpusBuilder]], configs: dict[str, list[dict[str, Any]]]
) -> DatasetCardData:
    everything = {"config_name": "default", "default": True, "data_files": f"{DATA}/*.parquet"}
    return DatasetCardData(
        license=[builder.LICENSE for builder in builders] or ["unknown"],
        language=[builder.LANGUAGE for builder in builders if builder.LANGUAGE] or None,
        task_categories=["audio-classification"],
        tags=["speech-emotion-recognition"],
        pretty_name=" and ".join(builder.__name__ for builder in builders) or "Emotional speech",
        configs=[
            everything,
            *({"config_name": name, "data_files": files} for name, files in configs.items()),
        ],
    )


def _table(folds: dict[str, list[Fold]], names: list[str]) -> list[str]:
    """Lines of the table of folds."""
    return [
        f"| `{name}` | {fold.corpus} | {fold.name} | "
        + " | ".join(str(len(rows)) for rows in fold.splits.values())
        + " |"
        for name, fold in zip(names, itertools.chain(*folds.values()), strict=True)
    ]


def _source(builder: type[CorpusBuilder]) -> str:
    parts = (builder.LICENSE, builder.HOMEPAGE, builder.CITATION)
    return f"* {builder.__name__}: {'. '.join(part for part in parts if part)}"
