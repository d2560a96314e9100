"""Judge enhanced and converted speech of people whom neither enhancer nor judges ever heard.

    python -m benchmarks.enhancement --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --output results/enhancement.json

Each run is an output folder of `train_diffusion.py`; what is tested is the test side of its fold.
Everybody listens to waveforms at the enhancer's rate. The judges (`benchmarks.judges`) are trained
here, on real speech of training speakers. Voice, words and sound are measured by models of others
(`evaluation.quality`).

What is judged is the enhancer as it converts best (`method="both"`: the class shift, and denoising
on top of it; `rerank=True`: of several versions the least changed one is kept that its recogniser
and a classifier of the same fold, `--listeners`, are sure of), and beside it, on the same
recordings, by the same judges, told the same: the shift reranked alike, both without reranking,
either of the two alone, and a fixed filter of bands. The primary comparison is how often the target
is heard in what the enhancer converts, less how often in what the reranked shift converts
(`"over_shift"` in the records), in the mean of all judges.

With `--trade_off` settings of the diffusion, alone, are tried on the validation speakers instead:
what strength and guidance bring, and what they cost of the voice. Everything is kept in `--work`,
so that a call goes on where the one before was stopped; runs may be measured by several calls side
by side.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets_scripts import EMOTIONS
from evaluation import (
    Record,
    plot_pitch,
    plot_trade_off,
    provenance,
    write_records,
)
from evaluation.quality import QualityMeter
from evaluation.tables import (
    BAND_FILTER,
    CLASS_SHIFT,
    DIFFUSION,
    ENHANCER,
    OVER_FILTER,
    OVER_SHIFT,
    PANEL,
    RECORDINGS,
    RERANKED_SHIFT,
    UNRANKED,
)
from modeling import extract_prosody
from training.config import DiffusionConfig, from_dict
from training.enhancer_card import write_enhancer_card
from training.state import write_json

from .clarity import (
    Condition,
    condition_records,
    describe,
    join,
    joined_provenance,
    of_corpus,
    read_reports,
    target_gain,
    write_votes,
)
from .enhancer_bench import (
    EnhancerBench,
    Settings,
    claim,
    each_listener,
    enhancer_parser,
    settings_of,
)
from .fold_quality import measure_quality, quality_meter
from .judges import EMOTION_JUDGES, log_mels
from .panel import (
    Clips,
    Panel,
)

ORIGINAL = Condition(RECORDINGS, "original")
CONDITIONS = (
    ORIGINAL,
    Condition(ENHANCER, "converted"),
    Condition(RERANKED_SHIFT, "converted"),
    Condition(UNRANKED, "converted"),
    Condition(CLASS_SHIFT, "converted"),
    Condition(DIFFUSION, "converted"),
    Condition(BAND_FILTER, "converted"),
    Condition(ENHANCER, "enhanced"),
    Condition(RERANKED_SHIFT, "enhanced"),
    Condition(UNRANKED, "enhanced"),
    Condition(CLASS_SHIFT, "enhanced"),
    Condition(BAND_FILTER, "enhanced"),
    Condition(ENHANCER, "enhanced_guessed"),
    Condition(RERANKED_SHIFT, "enhanced_guessed"),
    Condition(ENHANCER, "converted_untold"),
    Condition(RERANKED_SHIFT, "enhanced_untold"),
    Condition(ENHANCER, "generated"),
    Condition(ENHANCER, "unconditional"),
    Condition(ENHANCER, "autoencoder_only"),
    Condition(ENHANCER, "wrong_emotion"),
)
# The shift that each is compared with: the one that knows as much.
SHIFT_BESIDE = {ENHANCER: RERANKED_SHIFT, UNRANKED: CLASS_SHIFT, DIFFUSION: CLASS_SHIFT}
FILTER_BESIDE = dict.fromkeys(
    (ENHANCER, RERANKED_SHIFT, UNRANKED, CLASS_SHIFT, DIFFUSION), BAND_FILTER
)
# What models of others are asked about voice, words and sound of: that takes the most time.
PRESERVED = ("enhanced", "converted", "generated")
PICTURED = {
    "recorded": ORIGINAL,
    "clearer (shift)": Condition(CLASS_SHIFT, "enhanced"),
    "converted to {}": Condition(ENHANCER, "converted"),
}
# What of the original's likeness to its speaker a default has to keep.
KEPT = 0.9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every run, then write the records of all that are finished."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.enhancement", *arguments]
    name, changed = "tested_with.json", {}
    if options.trade_off:
        name, changed = "tried_with.json", {"strength": 0.0, "guidance_scale": 1.0}
    for run, listener in each_listener(options):
        claim(run, listener, options, name, **changed)
        if not options.collect_only:
            bench = Bench(run, listener, options)
            (bench.try_settings if options.trade_off else bench.measure)()
    folders = [options.work / Path(run).name for run in options.runs]
    if options.trade_off:
        write_trade_off(folders, options)
        return
    write_records(options.output, collect(folders, options.output.parent))
    for run, folder in zip(options.runs, folders, strict=True):
        update_card(Path(run), collect([folder]))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = enhancer_parser("benchmarks.enhancement", __doc__, "results/enhancement.json")
    parser.add_argument("--trade_off", action="store_true", help="try settings on validation")
    wanted = list(dict.fromkeys(condition.data for condition in CONDITIONS))
    parser.add_argument("--data", nargs="+", choices=wanted, default=wanted, help="only these")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    parser.add_argument("--guidance_scales", type=float, nargs="+", default=[2.0, 3.0, 4.5])
    parser.add_argument("--plots", type=Path, default=Path("results/plots"))
    return parser.parse_args(arguments)


# --- Conditions ----------------------------------------------------------------------------------


class Bench(EnhancerBench):
    """A run with its judges; arguments and errors as of `EnhancerBench`."""

    def __init__(self, run: str, listener: str | None, options: argparse.Namespace) -> None:
        super().__init__(run, listener, options)
        self._meters: dict[str, QualityMeter] = {}

    @cached_property
    def panel(self) -> Panel:
        """The judges."""
        return Panel.of(self.fold, self.options)

    @cached_property
    def clips(self) -> Clips:
        """Recordings of those who are tested; with `--trade_off`, of those who validate."""
        known = self.fold.corpora.fold
        return self.some_clips(known.validation if self.options.trade_off else known.test)

    def measure(self) -> None:
        """Make all conditions and note what the judges hear."""
        settings = settings_of(self.options)
        for condition in CONDITIONS:
            if condition.data not in self.options.data:
                continue
            report = self.fold.folder / f"{condition.name}.json"
            if not report.exists():
                self.listen(condition, settings, report)
        self.draw(settings)

    def draw(self, settings: Settings) -> None:
        """The first recording of each emotion of each corpus, made clearer, and converted."""
        extractor = self.fold.feature_extractor
        for corpus in dict.fromkeys(self.clips.corpora):
            own = self.clips.take([i for i, c in enumerate(self.clips.corpora) if c == corpus])
            firsts = own.take([own.emotions.index(e) for e in EMOTIONS if e in own.emotions])
            sounds: dict[str, list[Any]] = {emotion: [] for emotion in firsts.emotions}
            for title, condition in PICTURED.items():
                waves, aimed = self.make(condition, settings, firsts)
                for source, target, wave in zip(firsts.emotions, aimed, waves, strict=True):
                    (mel,) = log_mels(extractor, [wave])
                    f0 = extract_prosody(wave, extractor.sampling_rate, extractor.hop_length).f0
                    sounds[source].append((title.format(target), mel, f0))
            path = self.options.plots / f"enhancement_{corpus}_{self.fold.name}.png"
            plot_pitch(sounds, path, extractor.sampling_rate, extractor.hop_length)

    def try_settings(self) -> None:
        """Judge conversion by denoising alone; without any (strength 0) that is the recording."""
        grid = itertools.product(self.options.strengths, self.options.guidance_scales)
        for strength, scale in [(0.0, 1.0), *grid]:
            report = self.fold.folder / f"trade_off_{strength:g}_{scale:g}.json"
            if not report.exists():
                settings = settings_of(self.options, strength=strength, guidance_scale=scale)
                self.listen(Condition(DIFFUSION, "converted"), settings, report)

    def listen(self, condition: Condition, settings: Settings, report: Path) -> None:
        """Make a condition, have it judged and write down what was heard, and how."""
        started = time.monotonic()
        waves, aimed = self.make(condition, settings, self.clips)
        heard = self.panel.hear(self.clips, waves, aimed)
        kept = self.preserved(waves) if condition.data in PRESERVED else {}
        content = describe(self.fold, self.clips, aimed, heard, kept)
        seconds = time.monotonic() - started
        content["provenance"] = provenance(settings.seed, seconds, self.options.command)
        write_json(report, content)

    def preserved(self, waves: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
        """What is left of voice, words and sound; the originals are measured once."""
        kept = {}
        for corpus in dict.fromkeys(self.clips.corpora):
            own = [i for i, name in enumerate(self.clips.corpora) if name == corpus]
            clips = self.clips.take(own)
            if corpus not in self._meters:
                options = self.options
                self._meters[corpus] = quality_meter(
                    self.fold, clips, options.encoder, options.seed
                )
            moved = [waves[i] for i in own]
            kept[corpus] = measure_quality(self._meters[corpus], clips, moved)
        return kept


# --- Records -------------------------------------------------------------------------------------


def collect(folders: Sequence[Path], results: Path | None = None) -> list[Record]:
    """Records of all conditions that every fold has finished.

    Args:
        folders: Of the reports of each fold.
        results: Where to keep what each judge said of each recording; nowhere when not given.
    """
    reports = {condition: read_reports(folders, condition.name) for condition in CONDITIONS}
    originals, records = reports[ORIGINAL], []
    found = [r for of_folds in reports.values() for r in of_folds]
    for corpus in dict.fromkeys(c for r in found for c in r["clips"]["corpus"]):
        for condition, of_folds in reports.items():
            if not of_folds:
                continue
            kept = None
            if results is not None:
                done = {c.data: r for c, r in reports.items() if c.system == condition.system and r}
                kept = write_votes(results, f"{condition.system}_by_run", corpus, done)
            beside = None if condition.system == ENHANCER else ENHANCER
            own = condition_records(
                condition.system, condition.data, corpus, of_folds, originals, kept, beside
            )
            for name, system in ((OVER_SHIFT, SHIFT_BESIDE), (OVER_FILTER, FILTER_BESIDE)):
                control = Condition(system.get(condition.system, ""), condition.data)
                if reports.get(control):
                    own = [over(name, record, of_folds, reports[control]) for record in own]
            records += own
    return records


def over(
    name: str,
    record: Record,
    reports: Sequence[Mapping[str, Any]],
    control: Sequence[Mapping[str, Any]],
) -> Record:
    """Add how much more often than of a control a judge, or their mean, hears the target."""
    if record["task"] == "clarity":
        before, after = (
            join([of_corpus(one, record["corpus"]) for one in of_folds])
            for of_folds in (control, reports)
        )
        judge = None if record["judge"] == PANEL else record["judge"]
        record["metrics"][name] = target_gain(before, after, judge)
    return record


def update_card(run: Path, records: Sequence[Record]) -> None:
    """Say in the card of a run's model what judges heard of it."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    write_enhancer_card(run / "model", from_dict(DiffusionConfig, settings), history, records)


# --- Trade-off -----------------------------------------------------------------------------------


def write_trade_off(folders: Sequence[Path], options: argparse.Namespace) -> None:
    """The points that all folds have, with the chosen one, as JSON and as a picture."""
    source = point(folders, 0.0, 1.0)
    if source is None:
        return
    grid = itertools.product(options.strengths, options.guidance_scales)
    found = [point(folders, strength, scale) for strength, scale in grid]
    points = [p for p in found if p is not None]
    faithful = [p for p in points if p["preservation"] >= KEPT]
    if faithful:
        max(faithful, key=lambda p: p["emotion"])["chosen"] = True
    files = [file for folder in folders for file in sorted(folder.glob("trade_off_*.json"))]
    made_by = joined_provenance([json.loads(file.read_text(encoding="utf-8")) for file in files])
    content = {"source": source, "points": points, "kept": KEPT, "provenance": made_by}
    write_json(options.output.parent / "curves" / "enhancement_trade_off.json", content)
    plot_trade_off(points, options.plots / "enhancement_trade_off.png", source["emotion"])


def point(folders: Sequence[Path], strength: float, scale: float) -> dict[str, Any] | None:
    """One setting on the validation recordings of all folds and corpora.

    "emotion" is how often judges hear the target, "preservation" the likeness to the speaker
    relative to that of the recordings themselves; 1 where nobody could measure it.
    """
    reports = read_reports(folders, f"trade_off_{strength:g}_{scale:g}")
    if not reports:
        return None
    clips = [report["clips"] for report in reports]
    table = join([{name: np.asarray(c) for name, c in columns.items()} for columns in clips])
    judges = [judge for judge in EMOTION_JUDGES if judge in table]
    heard = [float((table[judge] == table["aimed"]).mean()) for judge in judges]
    measured = [m for report in reports for m in report["preservation"].values()]
    ratios = [
        m["speaker_similarity"] / m["speaker_similarity_original"]
        for m in measured
        if "speaker_similarity" in m
    ]
    return {
        "strength": strength,
        "guidance_scale": scale,
        "emotion": float(np.mean(heard)),
        "preservation": float(np.mean(ratios)) if ratios else 1.0,
    }


if __name__ == "__main__":
    main()
