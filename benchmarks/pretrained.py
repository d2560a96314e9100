"""Let other people's pretrained models recognise our corpora, or judge speech that was changed.

    python -m benchmarks.pretrained --models superb/hubert-large-superb-er models/whisper-tiny.en \\
        --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --protocols speaker_independent --output results/pretrained.json

A model is a Hub id or a folder. What its labels stand for and what trained it is read from
`evaluation/label_maps.json`, and from a file of the same form (`--label_maps`). A classifier that
is in there is used as it is: it learns nothing, folds only say what is tested. Of any other model
the mean over time of the encoder's last hidden state is what a logistic regression learns from on
the training speakers of each fold (see `benchmarks.baseline`). Metrics say `"use"`,
`"trained_on"`, and `"contaminated"` where the corpus tested was among those; a model of four
emotions is tested on their recordings, and metrics say how many of the corpus those are. Models
whose head is not in their checkpoint, or does not fit the map, are refused.

    python -m benchmarks.pretrained --models superb/hubert-large-superb-er \\
        --recordings enhanced/emodb --data enhanced --output results/pretrained.json

judges what `enhance_dataset.py` made (or any folder of recordings with labels, or a Parquet file
with `audio`): records of clarity, with the model as `judge`. Enhanced speech is to sound like its
`emotion`, converted speech like its `target_emotion`. A judge that has to learn needs the originals
(`--corpus`), and hears each recording in the fold that tests its original.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Audio, Dataset

from datasets_scripts import EMOTIONS, Fold, load_corpus, protocol_folds
from evaluation import Record, make_record, provenance
from evaluation.conditions import AS_RECORDED, parse_condition
from evaluation.label_maps import CLASSIFICATION, find_model, read_label_maps
from evaluation.predictions import FOLDER, Prediction

from .baseline import (
    Baseline,
    Heard,
    Table,
    baseline_parser,
    describe_test,
    extract_features,
    fit_fold,
    known_part,
    list_predictions,
    listen,
    parse_options,
    run_baseline,
    score_folds,
    select_layers,
    write_results,
)
from .pretrained_judge import (
    MODULE,
    PretrainedJudge,
    UnusableModelError,
    system_name,
)

__all__ = ["PretrainedJudge", "UnusableModelError", "main"]

# The column of what speech is to sound like.
AIMS: Final = {"enhanced": "emotion", "converted": "target_emotion"}
# Protocol of judges that learn nothing.
ALL_RECORDINGS: Final = "all_recordings"
LAYER: Final = (0,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Test one model after the other; exit status 1 if some were refused."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    maps = read_label_maps()
    if options.label_maps:
        maps |= read_label_maps(options.label_maps)
    refused = []
    for name in options.models:
        try:
            judge = PretrainedJudge.load(
                name,
                find_model(name, maps.values()),
                revision=options.revision,
                trust_remote_code=options.trust_remote_code,
                device=options.device,
            )
        except (UnusableModelError, OSError) as error:
            print(f"Refused: {error}", file=sys.stderr)
            refused.append(name)
            continue
        print(describe_use(judge), file=sys.stderr)
        if options.recordings is None:
            run_baseline(judge.baseline(), fitting_conditions(judge, options), arguments)
        else:
            judge_recordings(judge, load_spoken(options), options, arguments)
    return 1 if refused else 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    output = "results/pretrained.json"
    parser = baseline_parser(MODULE, __doc__, output, corpus_required=False)
    parser.add_argument("--models", nargs="+", required=True, help="Hub ids or folders")
    parser.add_argument("--label_maps", type=Path, help="further models, or others of their names")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub, of a single model")
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run the code of that revision"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--recordings", type=Path, help="changed speech to be judged: a folder or a Parquet file"
    )
    parser.add_argument("--data", choices=list(AIMS), default="enhanced", help="what it is")
    parser.add_argument("--system", help="who changed it; the model that settings.json names")
    options = parse_options(parser, arguments)
    if not options.corpus and options.recordings is None:
        parser.error("expected --corpus, or --recordings")
    if options.recordings is not None and "cross_corpus" in options.protocols:
        parser.error("cross_corpus is not for --recordings")
    if options.trust_remote_code and options.revision is None:
        parser.error("--trust_remote_code needs --revision, the commit whose code is run")
    if options.revision is not None and len(options.models) > 1:
        parser.error(f"--revision is that of one model, got {options.models}")
    names = Counter(system_name(name) for name in options.models)
    if max(names.values()) > 1:
        parser.error(f"expected models of different names, got {options.models}")
    return options


def fitting_conditions(judge: PretrainedJudge, options: argparse.Namespace) -> argparse.Namespace:
    """The options without calibrations where there are no features to calibrate, but verdicts."""
    if judge.known.use != CLASSIFICATION:
        return options
    kept = [name for name in options.conditions if parse_condition(name) is None]
    left_out = sorted(set(options.conditions) - set(kept))
    if left_out:
        print(f"{judge.name}: not in {left_out}, its own classifier is as it is", file=sys.stderr)
    return argparse.Namespace(**{**vars(options), "conditions": kept})


def describe_use(judge: PretrainedJudge) -> str:
    """How a model is used, for people."""
    if judge.known.use == CLASSIFICATION:
        return f"{judge.name}: its own classifier, of {', '.join(judge.emotions)}"
    reason = "" if judge.known.source else "no label map, so "
    return f"{judge.name}: {reason}a regression on the mean of its encoder's last hidden state"


# --- Changed speech ------------------------------------------------------------------------------


def load_spoken(options: argparse.Namespace) -> Dataset:
    """Changed speech as rows that can be judged.

    Returns:
        `audio` (encoded), `corpus`, `speaker` ("" if unknown), `source` (name of the original),
        `file` (the same, numbered where there are several copies), `emotion` (id of what it is to
        sound like), and where they are known `own` and `target`, ids of the original's emotion and
        of what was aimed at, -1 for others than the six.

    Raises:
        ValueError: No column of what the speech is to sound like, or no recordings of the six.
    """
    path, aim = options.recordings.expanduser(), AIMS[options.data]
    rows = read_rows(path)
    known = {"emotion": "own", "target_emotion": "target"}
    ids = {n: emotion_ids(rows, name) for name, n in known.items() if name in rows.column_names}
    if known[aim] not in ids:
        raise ValueError(
            f"Bad recordings '{path}' of the columns {rows.column_names}, expected '{aim}' for "
            f"{options.data} speech"
        )
    sources = _column(rows, "file", [f"row {i}" for i in range(len(rows))])
    wanted = ids[known[aim]]
    columns: dict[str, list[Any]] = {
        "corpus": _column(rows, "corpus", [path.stem] * len(rows)),
        "speaker": _column(rows, "speaker", [""] * len(rows)),
        "source": sources,
        "file": number_copies(sources),
        **ids,
        "emotion": wanted,
    }
    spoken = rows.select_columns(["audio"])
    for name, values in columns.items():
        spoken = spoken.add_column(name, values)
    kept = [i for i, emotion in enumerate(wanted) if emotion >= 0]
    if not kept:
        raise ValueError(f"Bad recordings '{path}', expected some of {list(EMOTIONS)}")
    return spoken.select(kept)


def read_rows(path: Path) -> Dataset:
    """The rows of a Parquet file, of a folder of them, or of a folder of recordings.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: A folder without labels, or rows without `audio`.
    """
    if not path.exists():
        raise FileNotFoundError(f"No '{path}', expected a folder of recordings or a Parquet file")
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        return load_corpus("folder", data_dir=path)
    wanted = {"audio", "corpus", "speaker", "file", "emotion", "target_emotion"}
    names = [name for name in pq.read_schema(files[0]).names if name in wanted]
    if "audio" not in names:
        raise ValueError(f"Bad recordings '{path}', expected `audio` among the columns")
    # Not through the cache of `datasets`, to which folders of one name are one dataset.
    rows = Dataset(pa.concat_tables([pq.read_table(file, columns=names) for file in files]))
    return rows.cast_column("audio", Audio(decode=False))


def emotion_ids(rows: Dataset, column: str) -> list[int]:
    """Places of a column's emotions among the six, -1 for others.

    Raises:
        ValueError: Numbers without names.
    """
    names = rows[column]
    if hasattr(rows.features[column], "names"):
        to_name = rows.features[column].int2str
        names = [None if i is None or i < 0 else to_name(i) for i in names]
    if any(isinstance(name, int) for name in names):
        raise ValueError(f"Bad column '{column}' of numbers, expected names, or a class label")
    return [EMOTIONS.index(name) if name in EMOTIONS else -1 for name in names]


def number_copies(files: Sequence[str]) -> list[str]:
    """Names that are different: `a.wav`, `a.wav#2`, ..."""
    seen: Counter[str] = Counter()
    numbered = []
    for file in files:
        seen[file] += 1
        numbered.append(file if seen[file] == 1 else f"{file}#{seen[file]}")
    return numbered


def _column(rows: Dataset, name: str, default: Sequence[str]) -> list[str]:
    if name not in rows.column_names:
        return list(default)
    pairs = zip(rows[name], default, strict=True)
    return [other if value is None else str(value) for value, other in pairs]


def judge_recordings(
    judge: PretrainedJudge, spoken: Dataset, options: argparse.Namespace, arguments: Sequence[str]
) -> None:
    """Let a judge hear changed speech, and write what came out."""
    baseline = judge.baseline()
    heard = extract_features(baseline, spoken, options.cache, seed=options.seed)
    table = Table(spoken, {AS_RECORDED: heard})
    for corpus in dict.fromkeys(table.columns["corpus"].tolist()):
        protocols = options.protocols
        if judge.known.use == CLASSIFICATION:
            protocols = [ALL_RECORDINGS]
        for protocol in protocols:
            records, rows = judge_corpus(baseline, table, corpus, protocol, options, arguments)
            write_results(options.output, records, rows)


def judge_corpus(
    baseline: Baseline,
    table: Table,
    corpus: str,
    protocol: str,
    options: argparse.Namespace,
    arguments: Sequence[str],
) -> tuple[list[Record], list[Prediction]]:
    """The record of changed speech of one corpus, and the predictions."""
    started = time.monotonic()
    folds, by_fold, features = [], [], table.sounds[AS_RECORDED]
    sides = list(judged_sides(baseline, table, corpus, protocol, options))
    for side, fitted in sides:
        fold = known_part(baseline, table, side)
        folds.append(fold)
        by_fold.append([listen(fitted, select_layers(features[list(fold.test)], LAYER), fold.test)])
    notes = describe_test(baseline, [side for side, _ in sides], folds)
    notes |= aims_heard(table, Heard.join([heard for (heard,) in by_fold]))
    system = options.system or changed_by(options.recordings.expanduser())
    name = "_".join((baseline.file_name, options.data, system, protocol, corpus))
    record = make_record(
        task="clarity",
        corpus=corpus,
        protocol=protocol,
        system=system,
        judge=baseline.system,
        data=options.data,
        predictions=f"{FOLDER}/{name.replace('/', '--')}.csv",
        provenance=provenance(
            options.seed, time.monotonic() - started, ["-m", baseline.module, *arguments]
        ),
        **score_folds(table, folds, by_fold, notes),
    )
    rows = list_predictions(table, folds, [{AS_RECORDED: heard} for heard in by_fold])
    return [record], list(rows)


def judged_sides(
    baseline: Baseline, table: Table, corpus: str, protocol: str, options: argparse.Namespace
) -> Iterator[tuple[Fold, Any]]:
    """Changed speech of one corpus by the fold that tests its originals, and who judges it.

    Raises:
        ValueError: A judge that has to learn, without the corpus to learn from; or no original
            among those that are tested.
    """
    own = table.columns["corpus"] == corpus
    if protocol == ALL_RECORDINGS:
        rows = tuple(np.flatnonzero(own).tolist())
        yield Fold(protocol, corpus, 0, corpus, (), (), rows), baseline.build()
        return
    folders = dict(options.corpus)
    if corpus not in folders:
        raise ValueError(
            f"'{baseline.system}' has to learn from originals, expected --corpus {corpus}=FOLDER"
        )
    originals = load_corpus(corpus, "six_emotions", folders[corpus])
    features = extract_features(baseline, originals, options.cache, seed=options.seed)
    training = Table(originals, {AS_RECORDED: features})
    files, sources = training.columns["file"], np.asarray(table.dataset["source"])
    found = False
    for fold in protocol_folds(originals, protocol, options.seed):
        rows = tuple(np.flatnonzero(own & np.isin(sources, files[list(fold.test)])).tolist())
        if rows and (not options.folds or fold.index in options.folds):
            found = True
            fitted = fit_fold(baseline, training, fold, LAYER)
            yield Fold(protocol, corpus, fold.index, fold.name, (), (), rows), fitted
    if not found:
        raise ValueError(f"Bad recordings, expected names (`file`) of originals of {corpus}")


def aims_heard(table: Table, heard: Heard) -> dict[str, float]:
    """How often what was aimed at, and the original's emotion, is heard; as far as it is known."""
    shares = {}
    for column, name in (("target", "target_WA"), ("own", "own_WA")):
        if column in table.dataset.column_names:
            wanted = np.asarray(table.dataset[column])[heard.rows]
            shares[name] = float((heard.predicted == wanted).mean())
    return shares


def changed_by(path: Path) -> str:
    """The model that made a folder, as `settings.json` says; else the name of the folder."""
    settings = path / "settings.json"
    if not settings.is_file():
        return path.stem
    model = Path(json.loads(settings.read_text(encoding="utf-8"))["model"])
    # Runs keep their model in a folder of that name.
    return model.parent.name if model.name == "model" else os.fspath(model.name)


if __name__ == "__main__":
    sys.exit(main())
