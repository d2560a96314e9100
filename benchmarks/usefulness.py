"""Is converted speech worth training on? A judge learns from nothing else, and hears real people.

    python -m benchmarks.usefulness --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --listeners outputs/listener_0 outputs/listener_1 --output results/usefulness.json

Every training recording of a fold is converted to another emotion, drawn at random; a logistic
regression on frozen layers of Whisper, one for each corpus, learns the emotions aimed at from that
alone, and names those of the real recordings of the fold's test speakers. A conversion that does
not carry what it was aimed at teaches what is wrong (train on synthetic, test on real: Esteban et
al. 2017). So two more learn from that half alone that whoever reranked them was surer of, and from
it beside the recordings. Beside the enhancer, called as in `benchmarks.enhancement`, stand the
shift that knows as much, and the recordings themselves, with their own emotions.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
from .panel import Clips, some_clips

Item = TypeVar("Item")
CONVERTED, HEARD, ADDED = "converted", "converted_heard", "converted_added"
CONDITIONS = (
    Condition(RECORDINGS, "original"),
    *(
        Condition(system, data)
        for system in (RERANKED_SHIFT, ENHANCER)
        for data in (CONVERTED, HEARD, ADDED)
    ),
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
    clips = some_clips(fold, fold.corpora.fold.train, options.train_limit, options.seed)
    for system in dict.fromkeys(condition.system for condition in CONDITIONS):
        wanted = [c for c in CONDITIONS if c.system == system]
        reports = {c.data: fold.folder / f"{c.name}.json" for c in wanted}
        if all(report.exists() for report in reports.values()):
            continue
        started = time.monotonic()
        for data, lesson in lessons(bench, system, clips).items():
            said = learn_and_name(bench, lesson)
            content = describe(fold, bench.clips, bench.clips.emotions, said, {})
            content["lesson"] = len(lesson.waves)
            seconds = time.monotonic() - started
            content["provenance"] = provenance(options.seed, seconds, options.command)
            write_json(reports[data], content)


def lessons(bench: EnhancerBench, system: str, clips: Clips) -> dict[str, Lesson]:
    """What is learned from, by the name of the data."""
    if system == RECORDINGS:
        return {"original": clips.lesson(clips.emotions)}
    made = bench.outputs(Condition(system, CONVERTED), settings_of(bench.options), clips)
    waves, aimed = [one.audios[0] for one in made], [one.emotions[0] for one in made]
    converted = Lesson(waves, clips.corpora, aimed, clips.files)
    heard = part_of(converted, surer_half(converted, [one.certainties[0] or 0.0 for one in made]))
    added = Lesson(
        [*clips.waves, *heard.waves],
        [*clips.corpora, *heard.corpora],
        [*clips.emotions, *heard.labels],
        [*clips.files, *heard.names],
    )
    return {CONVERTED: converted, HEARD: heard, ADDED: added}


def surer_half(lesson: Lesson, certainties: Sequence[float]) -> list[int]:
    """Of each emotion of each corpus, places of those that whoever reranked was surest of."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, group in enumerate(zip(lesson.corpora, lesson.labels, strict=True)):
        groups.setdefault(group, []).append(i)
    kept = []
    for own in groups.values():
        own.sort(key=lambda i: certainties[i], reverse=True)
        kept += own[: math.ceil(len(own) / 2)]
    return sorted(kept)


def part_of(lesson: Lesson, places: Sequence[int]) -> Lesson:
    """Some of what is to be learned."""

    def take(column: Sequence[Item]) -> list[Item]:
        return [column[i] for i in places]

    return Lesson(take(lesson.waves), take(lesson.corpora), take(lesson.labels), take(lesson.names))


def learn_and_name(bench: EnhancerBench, lesson: Lesson) -> dict[str, list[Any]]:
    """What is said of the recordings of those who are tested."""
    fold, options, test = bench.fold, bench.options, bench.clips
    cache, seeds = options.work / "features", options.judge_seeds
    extractor, encoder = fold.feature_extractor, options.encoder
    learned = build_judges([REGRESSION], lesson, extractor, fold.folder, cache, seeds, encoder)
    judge = learned[REGRESSION]
    return votes({REGRESSION: judge.predict_proba(test.waves, test.corpora)})


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
                    metrics=scores(join(tables)) | {"learned_from": learned_from(reports)},
                    folds=len(tables),
                    per_fold=[scores(table) for table in tables],
                    provenance=joined_provenance(reports),
                )
            )
    return records


def learned_from(reports: Sequence[Mapping[str, Any]]) -> int:
    """Recordings of all corpora that were learned from, in the mean of the folds."""
    return round(sum(report["lesson"] for report in reports) / len(reports))


def scores(table: Table) -> dict[str, Any]:
    """WA and UA of what was named, with their intervals over speakers."""
    heard, true = (
        [EMOTIONS.index(name) for name in table[column]] for column in (REGRESSION, "emotion")
    )
    found = recognition_metrics(heard, true, speakers=table["speaker"].tolist())
    return {name: value for name, value in found.items() if name.startswith(("WA", "UA"))}


if __name__ == "__main__":
    main()
