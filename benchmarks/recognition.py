"""Train and test the recogniser on every fold of the protocols, and write the records.

    python -m benchmarks.recognition --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --protocols speaker_independent paper cross_corpus --output results/emotion_resnet.json

Every fold is a run of `train_classifier.py` in a folder of its own. Folds that are finished are not
run again and interrupted ones are resumed, so the command can be repeated until all are there.
"""

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets_scripts import EMOTIONS, load_corpus, protocol_folds
from evaluation import (
    make_record,
    plot_confusion,
    plot_per_emotion,
    plot_reliability,
    provenance,
    recognition_metrics,
    write_records,
)
from evaluation.report import write_report
from evaluation.results import Provenance, Record
from training.state import complete_checkpoints

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
        return (self.folder / "metrics.json").exists()

    def predictions(self) -> list[dict[str, Any]]:
        """What the model of this fold said about its test recordings."""
        return json.loads((self.folder / "predictions.json").read_text())

    def provenance(self) -> Provenance:
        """What trained this fold, and how long it took."""
        return json.loads((self.folder / "metrics.json").read_text())[0]["provenance"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the records and plots of what is there."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    corpora = dict(parse_corpus(corpus) for corpus in options.corpus)
    numbers = {protocol: count_folds(corpora, protocol) for protocol in options.protocols}
    runs = [
        FoldRun(protocol, fold, Path(options.runs) / protocol / f"fold_{fold}")
        for protocol, folds in numbers.items()
        for fold in options.folds or range(max(folds.values()))
    ]
    if not options.collect_only:
        run_all([run for run in runs if not run.finished], corpora, options)
    made_by = provenance(options.seed, 0, ["-m", "benchmarks.recognition", *arguments])
    records = [
        record
        for protocol, folds in numbers.items()
        for record in collect([r for r in runs if r.protocol == protocol], folds, made_by)
    ]
    write_records(options.output, records)
    draw_plots(records, Path(options.plots))
    finished = [run for run in runs if run.finished]
    if finished:
        draw_examples(finished[0], list(corpora), Path(options.plots))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME[=FOLDER]")
    parser.add_argument("--protocols", nargs="+", default=["speaker_independent"])
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--config", action="append", default=[], help="deltas to the base settings")
    parser.add_argument("--output", default="results/emotion_resnet.json")
    parser.add_argument("--plots", default="results/plots")
    parser.add_argument("--runs", default="outputs/recognition", help="where the folds are trained")
    parser.add_argument("--processes", type=int, default=1, help="folds trained side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--collect_only", action="store_true", help="train nothing")
    return parser.parse_args(arguments)


def parse_corpus(text: str) -> tuple[str, str | None]:
    """A corpus and its folder; it is downloaded, or synthesised, without one."""
    name, _, folder = text.partition("=")
    return name, folder or None


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
    delta = CONFIGS / f"{run.protocol}.yaml"
    files = [CONFIGS / "classifier.yaml", *([delta] if delta.exists() else []), *options.config]
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


def collect(runs: Sequence[FoldRun], folds: dict[str, int], made_by: Provenance) -> list[Record]:
    """One record per corpus over the finished runs: scores of all their predictions together.

    With several corpora a run holds a fold of each; a corpus of fewer folds begins anew when it has
    none left, and those repetitions do not count.
    """
    records = []
    for corpus, count in folds.items():
        counted = [run for run in runs if run.finished and run.fold < count]
        parts = [[p for p in run.predictions() if p["corpus"] == corpus] for run in counted]
        parts = [part for part in parts if part]
        if parts:
            joined = join_provenance(made_by, [run.provenance() for run in counted])
            records.append(build_record(corpus, counted[0].protocol, parts, joined))
    return records


def join_provenance(made_by: Provenance, folds: Sequence[Provenance]) -> Provenance:
    """The command of this series, with the commits and the seconds of its folds."""
    joined = copy.copy(made_by)
    joined["seconds"] = round(sum(fold["seconds"] for fold in folds), 1)
    joined["commit"] = ", ".join(dict.fromkeys(fold["commit"] for fold in folds))
    return joined


def build_record(
    corpus: str, protocol: str, parts: Sequence[list[dict[str, Any]]], made_by: Provenance
) -> Record:
    """Scores over all folds, and of each fold."""
    metrics = score([prediction for part in parts for prediction in part])
    per_fold = [
        {name: score(part)[name] for name in ("WA", "UA")}
        | {"n": len(part), "speakers": sorted({p["speaker"] for p in part})}
        for part in parts
    ]
    return make_record(
        task="recognition",
        corpus=corpus,
        protocol=protocol,
        system="emotion-resnet",
        metrics=metrics,
        folds=len(parts),
        per_fold=per_fold,
        provenance=made_by,
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
    """Confusion and reliability of each record; per-emotion scores of each corpus."""
    for record in records:
        name = f"{record['corpus']}_{record['protocol']}"
        title = name.replace("_", " ")
        metrics = record["metrics"]
        plot_confusion(
            metrics["confusion_matrix"], EMOTIONS, folder / f"{name}_confusion.png", title
        )
        plot_reliability(metrics, folder / f"{name}_reliability.png", title)
    for corpus in dict.fromkeys(record["corpus"] for record in records):
        systems = {
            record["protocol"].replace("_", " "): record["metrics"]["per_emotion"]
            for record in records
            if record["corpus"] == corpus
        }
        plot_per_emotion(systems, folder / f"{corpus}_per_emotion.png")


def draw_examples(run: FoldRun, corpora: Sequence[str], folder: Path) -> None:
    """Pictures of one fold: its training, the corpora, and where the heads look."""
    write_report(run.folder)
    names = [f"{corpus}_{what}" for corpus in corpora for what in EXAMPLES]
    for name in ["history", *names]:
        shutil.copy(run.folder / "plots" / f"{name}.png", folder / f"{name}.png")


if __name__ == "__main__":
    main()
