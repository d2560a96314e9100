"""What it is worth to share training speakers: judges who know the shift's people, or others.

    python -m benchmarks.shared_speakers --corpus emodb=/data/emodb \\
        --output results/shared_speakers.json

The training speakers of a fold are divided in two halves. The class shift is fitted on one of them;
what it makes of the fold's test speakers is judged by judges trained on the same half, and by
judges trained on the other one, who have nobody in common with it. A gain that only the former hear
would be taste that both have learned from the same people. How far to go is read from what
`benchmarks.class_shift` chose.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation import Record, provenance, write_records
from evaluation.tables import CLASS_SHIFT, JUDGES_OF
from training.state import write_json

from .clarity import condition_records, describe, read_reports
from .class_shift import ORIGINAL, Setting, Stage, fold_indices
from .command_line import add_corpora
from .panel import Fold, describe_rows, judged_parser, some_clips

# Whom the judges know: the people whom the shift was fitted on, or others.
JUDGES = ("same_speakers", "other_speakers")
DATA = ("original", "enhanced", "converted")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every fold of every corpus, then write the records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.shared_speakers", *arguments]
    for corpus, data_dir in options.corpus:
        indices = fold_indices(corpus, data_dir, options.folds)
        chosen = chosen_settings(options.curves / f"class_shift_{corpus}.json")
        for index in indices:
            measure(corpus, data_dir, index, chosen, options)
        write_records(options.output, collect(corpus, indices, options))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = judged_parser("benchmarks.shared_speakers", __doc__, "results/shared_speakers.json")
    parser.set_defaults(work=Path("outputs/shared_speakers"))
    add_corpora(parser)
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--curves", type=Path, default=Path("results/curves"))
    return parser.parse_args(arguments)


def chosen_settings(file: Path) -> dict[str, Setting]:
    """How far the class shift goes for each use; recordings as they are."""
    points = json.loads(file.read_text(encoding="utf-8"))
    chosen = {
        p["use"]: Setting(p["system"], p["kind"], tuple(p["factors"]))
        for p in points
        if p["chosen"] and p["system"] == CLASS_SHIFT
    }
    return {"original": Setting(ORIGINAL, "none", (0.0, 0.0)), **chosen}


def measure(
    corpus: str,
    data_dir: str | None,
    index: int,
    chosen: dict[str, Setting],
    options: argparse.Namespace,
) -> None:
    """What both kinds of judges hear in the test recordings of a fold, moved and as they are."""
    stages = [Stage(corpus, data_dir, index, options) for _ in JUDGES]
    for half, stage in enumerate(stages):
        stage.fold = half_of(stage.fold, half)
    fitted = stages[0]
    clips = some_clips(fitted.fold, fitted.fold.corpora.fold.test, options.limit, options.seed)
    for data in DATA:
        folder = options.work / f"{corpus}_{index}"
        reports = [folder / f"{judges}_{data}.json" for judges in JUDGES]
        if all(report.exists() for report in reports):
            continue
        started = time.monotonic()
        aimed = fitted.aims(clips, data)
        waves = fitted.move(clips, aimed, data, chosen[data])
        for stage, report in zip(stages, reports, strict=True):
            content = describe(stage.fold, clips, aimed, stage.panel.hear(clips, waves, aimed), {})
            seconds = time.monotonic() - started
            content["provenance"] = provenance(options.seed, seconds, options.command)
            write_json(report, content)


def half_of(fold: Fold, half: int) -> Fold:
    """A fold with half of its training speakers: two of four in their order, or the other two.

    Neighbours stay together, since corpora that number men and women in turn would be divided by
    sex otherwise.

    Raises:
        ValueError: Too few speakers for two halves.
    """
    known = describe_rows(fold, fold.corpora.fold.train)
    order = sorted(set(known.speakers))
    if len(order) < len(JUDGES):
        raise ValueError(f"Got the training speakers {order}, expected two or more")
    together = 2 if len(order) >= 2 * len(JUDGES) else 1
    places = [order.index(name) // together % len(JUDGES) for name in known.speakers]
    kept = tuple(row for row, place in zip(known.rows, places, strict=True) if place == half)
    corpora = replace(fold.corpora, fold=replace(fold.corpora.fold, train=kept))
    folder = fold.folder / f"half_{half}"
    folder.mkdir(parents=True, exist_ok=True)
    return replace(fold, corpora=corpora, folder=folder)


def collect(corpus: str, indices: Sequence[int], options: argparse.Namespace) -> list[Record]:
    """Records of all folds: "class-shift" in the ears of either kind of judges."""
    folders = [options.work / f"{corpus}_{index}" for index in indices]
    records = []
    for judges in JUDGES:
        originals = read_reports(folders, f"{judges}_original")
        for data in DATA:
            reports = read_reports(folders, f"{judges}_{data}")
            if reports:
                system = ORIGINAL if data == "original" else CLASS_SHIFT
                records += condition_records(
                    system, data, corpus, reports, originals, beside=f"{JUDGES_OF}{judges}"
                )
    return records


if __name__ == "__main__":
    main()
