"""Enhance, convert or multiply a whole corpus; the result is a dataset that `load_dataset` reads.

    accelerate launch enhance_dataset.py --model outputs/enhancer/model \\
        --corpus emodb=/data/emodb --output_dir enhanced/emodb --copies 2 --num_noises 1

Any dataset with an `audio` column serves instead of a corpus, or a folder of recordings
(`--dataset <folder or Hub id>`). Recordings without speech are left out and named. The work is
divided into shards: several processes share them, those that are finished are not made again, so an
interrupted command is simply repeated.
"""

import argparse
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from accelerate import PartialState
from datasets import Audio, ClassLabel, Dataset, Features, List, Value, load_dataset
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import DatasetCard, DatasetCardData
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from datasets_scripts import CORPORA, EMOTIONS, decode_audio, load_corpus
from datasets_scripts.recordings import MORE_EXTENSIONS, RecordingError, walk_recordings
from evaluation import plot_enhancement
from evaluation.cards import weights_license
from modeling import EmotionFeatureExtractor
from pipelines import (
    ENHANCEMENT_SETTINGS,
    add_enhancement_arguments,
    load_classifier,
    load_enhancer,
    speech_score,
)
from pipelines.speech_presence import LEAST_SPEECH
from training.state import write_json

OWN, GUESS = "own", "guess"
SETTINGS = (
    *("model", "revision", "listener", "corpus", "dataset", "split", "emotion", "copies"),
    *ENHANCEMENT_SETTINGS,
    *("calibrate", "min_speech", "shard_size", "seed"),
)
# Statistics of the recordings of --calibrate.
CALIBRATED = "calibrated"
# Seeds of one run lie this far from those of the next.
SEED_STEP = 1_000_003
# With one slash at most, and none at its end.
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
SHARDS = "data/*.parquet"
ADDED = ("mel", "target_emotion", "seed", "settings")
CARD = """---
{yaml}
---

# {title}

{rows} recordings made by `enhance_dataset.py` of speech-emotion-diffusion from {source}:
**synthetic speech, in which the emotion was changed by a model**. Say so wherever it is used.

{left_out}

Columns are the source's, with `audio` enhanced, and `mel` (natural-log mel magnitudes, frames by
bands), `target_emotion`, `seed` of the noise and `settings` (JSON), with the method that was used.

```json
{settings}
```

![Original and enhanced](sheet.png)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the shards that are missing, then the card and the sheet."""
    options = parse_arguments(arguments)
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    state = PartialState()
    folder = Path(options.output_dir)
    check_folder(folder, options)
    with state.main_process_first():
        source = load_source(options)
    pipe = load_enhancer(options.model, options.revision, options.trust_remote_code)
    if options.listener is not None:
        pipe.listener = load_classifier(options.listener, device=state.device)
    check_source(source, pipe, options)
    if options.calibrate is not None:
        calibrate(pipe, Path(options.calibrate))
    with state.main_process_first():
        claim_folder(folder, options, len(source))
    pipe.to(state.device)
    pipe.set_progress_bar_config(disable=True)
    shards = list(enumerate(shard_rows(len(source), options)))
    with state.split_between_processes(shards) as own:
        for number, rows in tqdm(own, desc="shards", disable=not state.is_main_process):
            file = folder / "data" / f"train-{number:05d}-of-{len(shards):05d}.parquet"
            if not (file.exists() or nothing_of(file).exists()):
                made = (make_row(source, row, copy, pipe, options) for row, copy in rows)
                write_shard(file, source, [row for row in made if row is not None])
    state.wait_for_everyone()
    if state.is_main_process:
        finish(folder, source, options)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="folder or Hub id of an enhancer")
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument(
        "--trust_remote_code",
        action="store_true",
        help="run the code saved with the model, in place of this package's",
    )
    given = parser.add_mutually_exclusive_group(required=True)
    known = ", ".join(name for name in CORPORA if name != "folder")
    given.add_argument("--corpus", metavar="NAME[=FOLDER]", help=known)
    given.add_argument(
        "--dataset", help="folder of recordings, or folder or Hub id of a dataset with `audio`"
    )
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--listener",
        help="folder or Hub id of a classifier that hears what is carried, and how clearly",
    )
    parser.add_argument("--output_dir", required=True)
    parser.add_argument(
        "--emotion", default=OWN, help=f"{OWN} (each its label), {GUESS}, or one for all"
    )
    parser.add_argument(
        "--copies",
        type=int,
        default=1,
        help="versions of each recording, which differ by diffusion, more with --num_noises 1",
    )
    add_enhancement_arguments(parser)
    parser.add_argument(
        "--calibrate",
        metavar="FOLDER",
        help="a few unlabelled recordings of the same room, whose statistics are used for all",
    )
    parser.add_argument(
        "--min_speech",
        type=float,
        default=LEAST_SPEECH,
        help="recordings with a lower speech score (0 to 1) are left out; 0 keeps all",
    )
    parser.add_argument("--shard_size", type=int, default=64, help="recordings of a file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for name in ("copies", "shard_size"):
        if getattr(options, name) < 1:
            parser.error(f"Bad {name} {getattr(options, name)}, expected 1 or more")
    if options.seed < 0:
        parser.error(f"Bad seed {options.seed}, expected 0 or more")
    if not 0 <= options.min_speech <= 1:
        parser.error(f"Bad min_speech {options.min_speech}, expected 0 to 1")
    for name in ("model", "listener", "dataset", "output_dir", "calibrate"):
        if getattr(options, name) is not None:
            setattr(options, name, os.path.expanduser(getattr(options, name)))
    return options


def load_source(options: argparse.Namespace) -> Dataset:
    """The recordings to be enhanced, not decoded."""
    if options.corpus is not None:
        name, _, folder = options.corpus.partition("=")
        return load_corpus(name, "six_emotions", os.path.expanduser(folder) or None)
    if os.path.isdir(options.dataset):
        folder = Path(options.dataset)
        recordings = walk_recordings(folder, MORE_EXTENSIONS)
        # A table that describes recordings is called so; other notes beside them say nothing.
        if recordings and not any(folder.rglob("metadata.*")):
            return list_recordings(folder)
        if not recordings and not any(folder.rglob("[!.]*")):
            raise ValueError(f"Bad dataset '{folder}', expected recordings or a saved dataset")
    elif not HUB_ID.fullmatch(options.dataset):
        raise ValueError(f"Bad dataset '{options.dataset}', expected a folder that is there")
    dataset = load_dataset(options.dataset, split=options.split)
    if "audio" not in dataset.column_names:
        raise ValueError(f"Bad dataset '{options.dataset}', expected `audio` among its columns")
    return dataset.cast_column("audio", Audio(decode=False))


def list_recordings(folder: Path) -> Dataset:
    """The recordings below a folder, hidden ones left out, with their path in it as `file`.

    Raises:
        ValueError: There are none.
    """
    found = walk_recordings(folder, MORE_EXTENSIONS)
    if not found:
        raise ValueError(
            f"Bad folder '{folder}' without recordings, expected files of {list(MORE_EXTENSIONS)}"
        )
    audio = [{"bytes": None, "path": str(path)} for path in found]
    columns = {"audio": audio, "file": [path.relative_to(folder).as_posix() for path in found]}
    return Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))


def calibrate(pipe: Any, folder: Path) -> None:
    """Give the model the statistics of the recordings of a folder.

    Raises:
        ValueError: No folder, no recordings, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"Bad calibrate '{folder}', expected a folder of recordings")
    recordings = [audio["path"] for audio in list_recordings(folder)["audio"]]
    pipe.calibrate(recordings, name=CALIBRATED)


def check_folder(folder: Path, options: argparse.Namespace) -> None:
    """Refuse a folder that cannot be used, before anything is loaded.

    Raises:
        FileExistsError: The folder holds something else, or was made with other settings.
    """
    settings = {name: getattr(options, name) for name in SETTINGS}
    file = folder / "settings.json"
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = sorted(name for name in settings if before.get(name) != settings[name])
        if changed and any(folder.glob(SHARDS)):
            raise FileExistsError(f"'{folder}' was made with other {changed}, expected the same")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"Bad output_dir '{folder}', expected one that is empty or new")


def claim_folder(folder: Path, options: argparse.Namespace, recordings: int) -> None:
    """Note the settings, so that shards of different ones never lie side by side.

    Raises:
        FileExistsError: There are shards of another number of recordings.
    """
    file = folder / "settings.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if before.get("recordings", recordings) != recordings and any(folder.glob(SHARDS)):
        raise FileExistsError(
            f"'{folder}' was made of {before['recordings']} recordings, got {recordings}, expected "
            "the same"
        )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in SETTINGS}
    write_json(file, {**settings, "recordings": recordings})


def check_source(source: Dataset, pipe: Any, options: argparse.Namespace) -> None:
    """Refuse what would fail only after hours.

    Raises:
        ValueError: A setting out of range, an unknown emotion, `own` without labels that the model
            knows, or no recordings.
    """
    of_all = None if options.emotion in (OWN, GUESS) else options.emotion
    pipe.check(of_all, **{name: getattr(options, name) for name in ENHANCEMENT_SETTINGS})
    if len(source) == 0:
        raise ValueError("Got no recordings, expected at least one")
    if options.emotion == OWN:
        names = getattr(source.features.get("emotion"), "names", [])
        unknown = sorted(set(names) - set(pipe.emotions))
        if not names or unknown:
            raise ValueError(
                f"Bad labels {names} for --emotion {OWN}, the default, expected a class label "
                f"`emotion` of {pipe.emotions}; or --emotion {GUESS}, or one of them for all"
            )


def shard_rows(count: int, options: argparse.Namespace) -> Iterator[list[tuple[int, int]]]:
    """Rows and numbers of the copy, divided into shards."""
    rows = [(row, copy) for row in range(count) for copy in range(options.copies)]
    for first in range(0, len(rows), options.shard_size):
        yield rows[first : first + options.shard_size]


def make_row(
    source: Dataset, row: int, copy: int, pipe: Any, options: argparse.Namespace
) -> dict[str, Any] | None:
    """One recording enhanced, `None` without speech in it.

    The noise depends on the row, the copy and the seed alone.

    Raises:
        RecordingError: The recording cannot be used; says which one.
    """
    given = source[row]
    path = (given["audio"] or {}).get("path")
    seed = (options.seed * SEED_STEP + row) * options.copies + copy
    settings = {name: getattr(options, name) for name in ENHANCEMENT_SETTINGS}
    try:
        emotion = wanted_emotion(source, given, options)
        (wave,) = pipe.read(given["audio"])
        if speech_score(wave.numpy(), pipe.feature_extractor.sampling_rate) < options.min_speech:
            return None
        output = pipe(
            wave,
            emotion=emotion,
            corpus=known_corpus(pipe, given),
            generator=torch.Generator().manual_seed(seed),
            **settings,
        )
    except (ValueError, TypeError, OSError) as error:
        raise RecordingError(f"Cannot enhance row {row} ({path}): {error}") from error
    done = {
        "method": output.methods[0],
        "amount": output.amounts[0],
        "certainty": output.certainties[0],
    }
    return {
        **given,
        "audio": encode(output.audios[0], output.sampling_rate, path),
        "mel": output.log_mels[0].tolist(),
        "target_emotion": pipe.emotions.index(output.emotions[0]),
        "seed": seed,
        "settings": json.dumps(settings | done),
    }


def wanted_emotion(
    source: Dataset, given: dict[str, Any], options: argparse.Namespace
) -> str | None:
    """What a row is aimed at; `None` for what is heard in it.

    Raises:
        ValueError: A row without a label, which should be its own.
    """
    if options.emotion != OWN:
        return None if options.emotion == GUESS else options.emotion
    label = given["emotion"]
    if label is None or label < 0:  # as `datasets` keeps what has none
        raise ValueError(f"Got no label, expected one, or --emotion {GUESS}")
    return source.features["emotion"].int2str(label)


def known_corpus(pipe: Any, row: dict[str, Any]) -> str | None:
    """What the model was calibrated with, or else the corpus of a row, if it has its statistics."""
    if CALIBRATED in pipe.feature_extractor.names:
        return CALIBRATED
    corpus = row.get("corpus")
    return corpus if corpus in pipe.feature_extractor.corpus_statistics else None


def encode(wave: np.ndarray, sampling_rate: int, path: str | None) -> dict[str, Any]:
    """A waveform as FLAC of 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, wave, sampling_rate, format="FLAC", subtype="PCM_16")
    return {"bytes": file.getvalue(), "path": f"{Path(path or 'audio').stem}.flac"}


def write_shard(file: Path, source: Dataset, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as Parquet under a temporary name and move it; without any, note that."""
    if not rows:  # which `load_dataset` does not read
        nothing_of(file).touch()
        return
    features = Features(
        {
            **source.features,
            "audio": Audio(decode=False),
            "mel": List(List(Value("float32"))),
            "target_emotion": ClassLabel(names=list(EMOTIONS)),
            "seed": Value("int64"),
            "settings": Value("string"),
        }
    )
    # `Dataset.from_list` would encode audio, which needs torchcodec.
    table = pa.Table.from_pylist(list(rows), schema=features.arrow_schema)
    temporary = file.with_name(f".{file.name}.tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, file)


def nothing_of(shard: Path) -> Path:
    """The file that stands for a shard of recordings all of which were left out."""
    return shard.with_name(f".{shard.name}.nothing")


def finish(folder: Path, source: Dataset, options: argparse.Namespace) -> None:
    """The sheet of spectrograms and the dataset card."""
    shards = sorted(folder.glob(SHARDS))
    rows = source_rows(shards, options)
    silent = sorted(set(range(len(source))) - set(rows))
    left_out = describe_left_out(source, silent, options)
    if left_out:
        print(left_out)
    if not rows:
        raise ValueError(f"Got no recording with speech, expected some in '{folder}'")
    draw_sheet(folder / "sheet.png", source, shards, options)
    corpora = set(source["corpus"]) if "corpus" in source.column_names else {"unknown"}
    name = options.corpus.partition("=")[0] if options.corpus else Path(options.dataset).name
    data = DatasetCardData(
        license=weights_license(corpora),
        task_categories=["audio-classification", "audio-to-audio"],
        tags=["speech-emotion-recognition", "synthetic"],
        pretty_name=f"{name}, enhanced",
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
    )
    settings = {key: getattr(options, key) for key in SETTINGS if key not in ("model", "corpus")}
    content = CARD.format(
        yaml=data.to_yaml(),
        title=data.pretty_name,
        rows=len(rows),
        left_out=left_out,
        source=f"`{name}`",
        settings=json.dumps(settings, indent=2),
    )
    DatasetCard(content).save(folder / "README.md")
    print(f"{len(rows)} recordings in {folder}")


def source_rows(shards: Sequence[Path], options: argparse.Namespace) -> list[int]:
    """The row of the source that each row of the shards was made of."""
    seeds = [seed for shard in shards for seed in pq.read_table(shard, columns=["seed"])["seed"]]
    return [seed.as_py() // options.copies - options.seed * SEED_STEP for seed in seeds]


def describe_left_out(source: Dataset, rows: Sequence[int], options: argparse.Namespace) -> str:
    """How many recordings have no speech, and which; empty where all have."""
    if not rows:
        return ""
    names = [source[row]["audio"]["path"] or f"row {row}" for row in rows]
    names = [Path(name).name for name in names]
    return (
        f"{len(rows)} of {len(source)} recordings were left out, since their speech score is below "
        f"{options.min_speech}: {', '.join(names)}."
    )


def draw_sheet(
    path: Path, source: Dataset, shards: Sequence[Path], options: argparse.Namespace
) -> None:
    """The first recording aimed at each emotion, before and after."""
    folder = {"subfolder": "feature_extractor", "revision": options.revision}
    extractor = EmotionFeatureExtractor.from_pretrained(options.model, **folder)
    extractor.mean, extractor.std = 0.0, 1.0
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rows = source_rows(shards, options)
    for number, row in zip(rows, rows_of(shards), strict=True):
        emotion = EMOTIONS[row["target_emotion"].as_py()]
        if emotion not in pairs:
            wave, rate = decode_audio(source[number]["audio"])
            before = extractor(wave, sampling_rate=rate, padding=False, truncation=False)
            pairs[emotion] = (before["input_features"][0], np.asarray(row["mel"].as_py()))
        if len(pairs) == len(EMOTIONS):
            break
    ordered = {emotion: pairs[emotion] for emotion in EMOTIONS if emotion in pairs}
    plot_enhancement(ordered, path, extractor.sampling_rate, extractor.hop_length)


def rows_of(shards: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Targets and mels, one file in memory at a time, as Arrow scalars."""
    for shard in shards:
        table = pq.read_table(shard, columns=["target_emotion", "mel"])
        for i in range(len(table)):
            yield {name: table[name][i] for name in table.column_names}


if __name__ == "__main__":
    main()
