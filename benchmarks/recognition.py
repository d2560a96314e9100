"""Train and test a classifier on every fold of the protocols, and write the records.

    python -m benchmarks.recognition --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --base configs/transformer.yaml --protocols speaker_independent paper cross_corpus \\
        --conditions corpus_unnamed noise_10db calibrated_speaker_10 \\
        --output results/emotion_transformer.json

Every fold is a run of `train_classifier.py` in a folder of its own. Folds that are finished are not
run again and interrupted ones are resumed, so the command can be repeated until all are there. In
other conditions than as recorded, the saved model of each fold hears its test recordings again
(`benchmarks.classifier_conditions`).
"""

import argparse
import copy
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from datasets_scripts import EMOTIONS, PROTOCOLS, load_corpus, protocol_folds
from evaluation import (
    make_record,
    plot_confusion,
    plot_per_emotion,
    plot_reliability,
    provenance,
    recognition_metrics,
    write_records,
)
from evaluation.conditions import AS_RECORDED, parse_condition
from evaluation.predictions import FOLDER, Prediction, write_predictions
from evaluation.report import write_report
from evaluation.results import Provenance, Record
from training.state import complete_checkpoints, write_json

from .classifier_conditions import TestRecordings, hear
from .command_line import add_corpora
from .frame_classifier import FrameClassifier

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
EXAMPLES = ("distribution", "mels", "attention")


@dataclass(frozen=True)
class FoldRun:
    """One fold of a protocol, trained on all corpora that it allows."""

    protocol: str
    fold: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return all((self.folder / name).exists() for name in ("metrics.json", "model/config.json"))

    def predictions(self, condition: str = AS_RECORDED) -> list[list[dict[str, Any]]]:
        """What the model of this fold said about its test recordings, in each draw."""
        if condition == AS_RECORDED:
            return [json.loads((self.folder / "predictions.json").read_text())]
        return json.loads(self.condition_file(condition).read_text())

    def condition_file(self, condition: str) -> Path:
        """Where the predictions of a condition are kept."""
        return self.folder / "conditions" / f"{condition}.json"

    def record(self) -> Record:
        """A record of this fold alone: the system's name, what trained it, how long it took."""
        return json.loads((self.folder / "metrics.json").read_text())[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the records and plots of what is there."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    corpora = dict(options.corpus)
    numbers = {protocol: count_folds(corpora, protocol) for protocol in options.protocols}
    runs = [
        FoldRun(protocol, fold, Path(options.runs) / protocol / f"fold_{fold}")
        for protocol, folds in numbers.items()
        for fold in options.folds or range(max(folds.values()))
    ]
    if options.collect_only:
        check_runs(runs, corpora, options.seed)
    else:
        run_all([run for run in runs if not run.finished], corpora, options)
    finished = [run for run in runs if run.finished]
    hear_missing(finished, corpora, numbers, options)
    command = ["-m", "benchmarks.recognition", *(a for a in arguments if a != "--collect_only")]
    for protocol, folds in numbers.items():
        own = [run for run in finished if run.protocol == protocol]
        for corpus, count in folds.items():
            counted = [run for run in own if run.fold < count and tests(run, corpus)]
            if counted:
                records, rows = collect(counted, corpus, options, command)
                beside = Path(options.output).parent
                for file in {record["predictions"] for record in records} - {None}:
                    write_predictions(beside / str(file), rows)
                write_records(options.output, records)
                draw_plots(records, Path(options.plots))
    if finished and options.examples:
        draw_examples(finished[0], list(corpora), Path(options.plots))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_corpora(parser)
    parser.add_argument(
        "--protocols", nargs="+", default=["speaker_independent"], choices=PROTOCOLS
    )
    parser.add_argument(
        "--conditions",
        nargs="+",
        default=[AS_RECORDED],
        type=_condition,
        help="corpus_unnamed, noise_10db, calibrated_speaker_10, ...; as_recorded when not given",
    )
    parser.add_argument("--base", default=str(CONFIGS / "classifier.yaml"), help="base settings")
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--config", action="append", default=[], help="deltas to the base settings")
    parser.add_argument("--output", default="results/emotion_resnet.json")
    parser.add_argument("--plots", default="results/plots")
    parser.add_argument("--runs", default="outputs/recognition", help="where the folds are trained")
    parser.add_argument("--processes", type=int, default=1, help="folds trained side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--collect_only", action="store_true", help="train nothing")
    parser.add_argument("--examples", action="store_true", help="draw examples of the first fold")
    return parser.parse_args(arguments)


def _condition(text: str) -> str:
    try:
        parse_condition(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def count_folds(corpora: dict[str, str | None], protocol: str) -> dict[str, int]:
    """Folds of a protocol that test each corpus; in `cross_corpus`, the number of directions."""
    if protocol == "cross_corpus":
        directions = len(corpora) * (len(corpora) - 1)
        return dict.fromkeys(corpora, directions)
    return {
        name: len(protocol_folds(load_corpus(name, data_dir=folder), protocol))
        for name, folder in corpora.items()
    }


def run_all(
    runs: Iterable[FoldRun], corpora: dict[str, str | None], options: argparse.Namespace
) -> None:
    """Train folds side by side, each with its share of the cores.

    Raises:
        RuntimeError: A fold failed; names its log. The others are finished first.
    """
    threads = max(1, (os.cpu_count() or 1) // options.processes)
    with ThreadPoolExecutor(options.processes) as pool:
        jobs = [(run, pool.submit(train_fold, run, corpora, options, threads)) for run in runs]
        failed = [run.folder for run, job in jobs if job.result() != 0]
    if failed:
        raise RuntimeError(f"{len(failed)} folds failed, see {failed[0].with_suffix('.log')}")


def train_fold(
    run: FoldRun, corpora: dict[str, str | None], options: argparse.Namespace, threads: int
) -> int:
    """Launch one fold, or resume it; returns the exit status."""
    # Settings of a protocol belong to those that they change: classifier_cross_corpus.yaml.
    base = Path(options.base)
    delta = base.with_name(f"{base.stem}_{run.protocol}.yaml")
    files = [options.base, *([delta] if delta.exists() else []), *options.config]
    command = [sys.executable, str(ROOT / "train_classifier.py")]
    for file in files:
        command += ["--config", str(file)]
    command += ["--resume" if complete_checkpoints(run.folder) else "--overwrite"]
    command += [f"corpora={json.dumps(corpora)}", f"output_dir={run.folder}"]
    command += [f"protocol={run.protocol}", f"fold={run.fold}", f"seed={options.seed}"]
    run.folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    with run.folder.with_suffix(".log").open("ab") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=log).returncode


def check_runs(runs: Sequence[FoldRun], corpora: dict[str, str | None], seed: int) -> None:
    """Refuse to collect runs of another protocol, fold, seed or corpora than those asked for.

    Raises:
        ValueError: Names the folder, what was expected and what was found.
    """
    for run in (run for run in runs if run.finished):
        settings = yaml.safe_load((run.folder / "config.yaml").read_text())
        found = {name: settings[name] for name in ("protocol", "fold", "seed")}
        found["corpora"] = sorted(settings["corpora"])
        expected = {"protocol": run.protocol, "fold": run.fold, "seed": seed}
        expected["corpora"] = sorted(corpora)
        if found != expected:
            raise ValueError(f"Bad run '{run.folder}' of {found}, expected {expected}")


def tests(run: FoldRun, corpus: str) -> bool:
    """Whether a fold tests a corpus; in `cross_corpus` it tests one of them."""
    return any(row["corpus"] == corpus for row in run.predictions()[0])


def hear_missing(
    runs: Sequence[FoldRun],
    corpora: dict[str, str | None],
    numbers: Mapping[str, Mapping[str, int]],
    options: argparse.Namespace,
) -> None:
    """Let the saved models hear their test recordings in the conditions in which they have not.

    Corpora of fewer folds are heard in those that count.
    """
    threads = max(1, (os.cpu_count() or 1) // options.processes)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, spawn, torch.set_num_threads, (threads,)) as pool:
        jobs = [
            pool.submit(hear_run, run, missing, counted(run, corpora, numbers), options.seed)
            for run in runs
            if (missing := [c for c in options.conditions if not condition_is_there(run, c)])
        ]
        for job in jobs:
            job.result()


def counted(
    run: FoldRun, corpora: dict[str, str | None], numbers: Mapping[str, Mapping[str, int]]
) -> dict[str, str | None]:
    """Those of the corpora for which this fold is no repetition."""
    counts = numbers[run.protocol]
    return {name: folder for name, folder in corpora.items() if run.fold < counts[name]}


def hear_run(
    run: FoldRun, conditions: Sequence[str], corpora: dict[str, str | None], seed: int
) -> None:
    """Let the saved model of one fold hear its test recordings, and keep what it says."""
    datasets = {name: load_corpus(name, data_dir=folder) for name, folder in corpora.items()}
    classifier = FrameClassifier(run.folder / "model")
    rows = [row for row in run.predictions()[0] if row["corpus"] in corpora]
    recordings = TestRecordings(classifier, rows, datasets, seed)
    for condition in conditions:
        write_json(run.condition_file(condition), hear(recordings, condition))


def condition_is_there(run: FoldRun, condition: str) -> bool:
    """Whether the predictions of a condition are kept; as recorded they always are."""
    return condition == AS_RECORDED or run.condition_file(condition).exists()


def collect(
    runs: Sequence[FoldRun], corpus: str, options: argparse.Namespace, command: Sequence[str]
) -> tuple[list[Record], list[Prediction]]:
    """A record per condition over folds, and the predictions of all but calibrations.

    A calibration's scores are those of several draws, of which no one stands for all.

    With several corpora a run holds a fold of each; a corpus of fewer folds begins anew when it has
    none left, and those repetitions do not count.
    """
    records, rows = [], []
    for condition in options.conditions:
        parts = [
            [[p for p in draw if p["corpus"] == corpus] for draw in run.predictions(condition)]
            for run in runs
        ]
        records.append(build_record(runs, corpus, condition, parts, command))
        rows += [
            prediction_row(prediction, run.fold, condition)
            for run, part in zip(runs, parts, strict=True)
            if parse_condition(condition) is None
            for prediction in part[0]
        ]
    return records, rows


def join_provenance(command: Sequence[str], folds: Sequence[Provenance]) -> Provenance:
    """The command of this series; commits, seconds, versions and day are those of its folds."""
    joined = copy.copy(folds[-1])
    joined["command"] = provenance(0, 0, command)["command"]
    joined["seconds"] = round(sum(fold["seconds"] for fold in folds), 1)
    joined["commit"] = ", ".join(dict.fromkeys(fold["commit"] for fold in folds))
    joined["date"] = max(fold["date"] for fold in folds)
    return joined


def build_record(
    runs: Sequence[FoldRun],
    corpus: str,
    condition: str,
    parts: Sequence[Sequence[list[dict[str, Any]]]],
    command: Sequence[str],
) -> Record:
    """Scores over all folds and draws, and of each fold."""
    flat = [[prediction for draw in part for prediction in draw] for part in parts]
    per_fold = [
        {name: score(part)[name] for name in ("WA", "UA")}
        | {"n": len(part), "speakers": sorted({p["speaker"] for p in part})}
        for part in flat
    ]
    own = [run.record() for run in runs]
    system, protocol = own[0]["system"], runs[0].protocol
    predictions = f"{FOLDER}/{system}_{protocol}_{corpus}.csv"
    return make_record(
        task="recognition",
        corpus=corpus,
        protocol=protocol,
        system=system,
        condition=condition,
        metrics=score([prediction for part in flat for prediction in part]),
        folds=len(parts),
        per_fold=per_fold,
        predictions=None if parse_condition(condition) else predictions,
        provenance=join_provenance(command, [record["provenance"] for record in own]),
    )


def prediction_row(prediction: dict[str, Any], fold: int, condition: str) -> Prediction:
    """A prediction of a fold as it is kept beside the records."""
    probabilities = prediction["probabilities"]
    best = int(np.argmax(probabilities))
    return Prediction(
        corpus=prediction["corpus"],
        file=prediction["file"],
        speaker=prediction["speaker"],
        fold=fold,
        emotion=prediction["emotion"],
        prediction=EMOTIONS[best],
        probability_of_emotion=probabilities[EMOTIONS.index(prediction["emotion"])],
        probability_of_prediction=probabilities[best],
        condition=condition,
    )


def score(predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All recognition metrics of predictions."""
    probabilities = np.array([p["probabilities"] for p in predictions])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return recognition_metrics(
        probabilities.argmax(axis=1),
        [EMOTIONS.index(p["emotion"]) for p in predictions],
        probabilities=probabilities,
        speakers=[p["speaker"] for p in predictions],
    )


def draw_plots(records: Sequence[Record], folder: Path) -> None:
    """Confusion, reliability and scores of each emotion, as recorded."""
    for record in (record for record in records if record["condition"] == AS_RECORDED):
        name = f"{record['corpus']}_{record['protocol']}"
        metrics, title = record["metrics"], f"{record['system']}, {name.replace('_', ' ')}"
        path = folder / record["system"]
        plot_confusion(metrics["confusion_matrix"], EMOTIONS, path / f"{name}_confusion.png", title)
        plot_reliability(metrics, path / f"{name}_reliability.png", title)
        plot_per_emotion(
            {record["system"]: metrics["per_emotion"]}, path / f"{name}_per_emotion.png"
        )


def draw_examples(run: FoldRun, corpora: Sequence[str], folder: Path) -> None:
    """Pictures of one fold: its training, the corpora, and where the heads look."""
    write_report(run.folder)
    names = [f"{corpus}_{what}" for corpus in corpora for what in EXAMPLES]
    for name in ["history", *names]:
        shutil.copy(run.folder / "plots" / f"{name}.png", folder / f"{name}.png")


if __name__ == "__main__":
    main()
