"""Is converted speech worth training on? A judge learns from nothing else, and hears real people.

    python -m benchmarks.usefulness --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --listeners outputs/listener_0 outputs/listener_1 --output results/usefulness.json

Every training recording of a fold is converted to another emotion, drawn at random; a logistic
regression on frozen layers of Whisper, one for each corpus, learns the emotions aimed at from that
alone, and names those of the real recordings of the fold's test speakers. A conversion that does
not carry what it was aimed at teaches what is wrong (train on synthetic, test on real: Esteban et
al. 2017). Beside the enhancer, called as in `benchmarks.enhancement`, stand the shift that knows as
much, and the recordings themselves, with their own emotions.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets_scripts import EMOTIONS
from evaluation import Record, make_record, provenance, recognition_metrics, write_records
from evaluation.tables import ENHANCER, RECORDINGS, RERANKED_SHIFT
from training.state import write_json

from .clarity import (
    PROTOCOL,
    Condition,
    Table,
    describe,
    join,
    joined_provenance,
    of_corpus,
    read_reports,
)
from .enhancer_bench import EnhancerBench, claim, each_listener, enhancer_parser, settings_of
from .judges import REGRESSION, Lesson, build_judges, votes
from .panel import some_clips

CONDITIONS = (
    Condition(RECORDINGS, "original"),
    Condition(RERANKED_SHIFT, "converted"),
    Condition(ENHANCER, "converted"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every run, then write the records of all that are finished."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.usefulness", *arguments]
    for run, listener in each_listener(options):
        claim(run, listener, options, "learned_with.json", train_limit=options.train_limit)
        if not options.collect_only:
            measure(EnhancerBench(run, listener, options))
    folders = [options.work / Path(run).name for run in options.runs]
    write_records(options.output, collect(folders))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = enhancer_parser("benchmarks.usefulness", __doc__, "results/usefulness.json")
    parser.set_defaults(work=Path("outputs/usefulness"))
    parser.add_argument("--train_limit", type=int, help="training recordings of a corpus and fold")
    return parser.parse_args(arguments)


def measure(bench: EnhancerBench) -> None:
    """Note what is named by whoever learned from each kind of speech."""
    fold, options = bench.fold, bench.options
    settings = settings_of(options)
    clips = some_clips(fold, fold.corpora.fold.train, options.train_limit, options.seed)
    for condition in CONDITIONS:
        report = fold.folder / f"{condition.name}.json"
        if report.exists():
            continue
        started = time.monotonic()
        waves, labels = bench.make(condition, settings, clips)
        lesson = Lesson(waves, clips.corpora, labels, clips.files)
        learned = build_judges(
            [REGRESSION],
            lesson,
            fold.feature_extractor,
            fold.folder,
            options.work / "features",
            options.judge_seeds,
            options.encoder,
        )
        heard = {
            n: j.predict_proba(bench.clips.waves, bench.clips.corpora) for n, j in learned.items()
        }
        content = describe(fold, bench.clips, bench.clips.emotions, votes(heard), {})
        seconds = time.monotonic() - started
        content["provenance"] = provenance(settings.seed, seconds, options.command)
        write_json(report, content)


def collect(folders: Sequence[Path]) -> list[Record]:
    """Records of all that every fold has finished."""
    records = []
    for condition in CONDITIONS:
        reports = read_reports(folders, condition.name)
        for corpus in dict.fromkeys(c for r in reports for c in r["clips"]["corpus"]):
            tables = [of_corpus(report, corpus) for report in reports]
            records.append(
                make_record(
                    task="usefulness",
                    corpus=corpus,
                    protocol=PROTOCOL,
                    system=condition.system,
                    judge=REGRESSION,
                    data=condition.data,
                    metrics=scores(join(tables)),
                    folds=len(tables),
                    per_fold=[scores(table) for table in tables],
                    provenance=joined_provenance(reports),
                )
            )
    return records


def scores(table: Table) -> dict[str, Any]:
    """WA and UA of what was named, with their intervals over speakers."""
    heard, true = (
        [EMOTIONS.index(name) for name in table[column]] for column in (REGRESSION, "emotion")
    )
    found = recognition_metrics(heard, true, speakers=table["speaker"].tolist())
    return {name: value for name, value in found.items() if name.startswith(("WA", "UA"))}


if __name__ == "__main__":
    main()
