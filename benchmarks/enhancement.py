"""Judge enhanced and converted speech of people whom neither enhancer nor judges ever heard.

    python -m benchmarks.enhancement --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --output results/enhancement.json

Each run is an output folder of `train_diffusion.py`; what is tested is the test side of its fold.
Everybody listens to waveforms at the enhancer's rate. The judges (`benchmarks.judges`) are trained
here, on real speech of training speakers. Voice, words and sound are measured by models of others
(`evaluation.quality`).

What is judged is the enhancer as it converts best (`method="both"`: the class shift, and denoising
on top of it; `rerank=True`: of several versions the one is kept that a classifier of the same fold,
`--listeners`, is surest of), and beside it, on the same recordings, by the same judges, told the
same: the shift reranked alike, both without reranking, and either of the two alone. The primary
comparison is how often the target is heard in what the enhancer converts, less how often in what
the reranked shift converts (`"over_shift"` in the records), in the mean of all judges.

With `--trade_off` settings of the diffusion, alone, are tried on the validation speakers instead,
which the default of strength and guidance is chosen by. Everything is kept in `--work`, so that a
call goes on where the one before was stopped; runs may be measured by several calls side by side.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm.auto import tqdm

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
    CLASS_SHIFT,
    DIFFUSION,
    ENHANCER,
    OVER_SHIFT,
    PANEL,
    RECORDINGS,
    RERANKED_SHIFT,
    UNRANKED,
)
from modeling import extract_prosody
from pipelines import EmotionEnhancementOutput, add_enhancement_arguments, load_classifier
from training.config import DiffusionConfig, from_dict
from training.enhancer_card import write_enhancer_card
from training.run import has_fast_bfloat16
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
from .fold_quality import measure_quality, quality_meter
from .judges import EMOTION_JUDGES, log_mels
from .panel import (
    Clips,
    Panel,
    load_fold,
    runs_parser,
    some_clips,
    wrong_emotions,
)

ORIGINAL = Condition(RECORDINGS, "original")
CONDITIONS = (
    ORIGINAL,
    Condition(ENHANCER, "converted"),
    Condition(RERANKED_SHIFT, "converted"),
    Condition(UNRANKED, "converted"),
    Condition(CLASS_SHIFT, "converted"),
    Condition(DIFFUSION, "converted"),
    Condition(ENHANCER, "enhanced"),
    Condition(RERANKED_SHIFT, "enhanced"),
    Condition(UNRANKED, "enhanced"),
    Condition(CLASS_SHIFT, "enhanced"),
    Condition(ENHANCER, "enhanced_guessed"),
    Condition(RERANKED_SHIFT, "enhanced_guessed"),
    Condition(ENHANCER, "generated"),
    Condition(ENHANCER, "unconditional"),
    Condition(ENHANCER, "autoencoder_only"),
    Condition(ENHANCER, "wrong_emotion"),
)
# How the pipeline is called for each.
CALLS: dict[str, dict[str, Any]] = {
    ENHANCER: {"method": "both", "rerank": True},
    RERANKED_SHIFT: {"method": "shift", "rerank": True},
    UNRANKED: {"method": "both"},
    CLASS_SHIFT: {"method": "shift"},
    DIFFUSION: {"method": "diffusion"},
}
# The shift alone converts best on validation speakers when it may go twice as far, which is
# further than versions go: a control gets as good a choice.
INTENSITY = {Condition(RERANKED_SHIFT, "converted"): 4 / 3}
# The shift that each is compared with: the one that knows as much.
SHIFT_BESIDE = {ENHANCER: RERANKED_SHIFT, UNRANKED: CLASS_SHIFT, DIFFUSION: CLASS_SHIFT}
# What models of others are asked about voice, words and sound of: that takes the most time.
PRESERVED = ("enhanced", "converted")
PICTURED = {
    "recorded": ORIGINAL,
    "clearer (shift)": Condition(CLASS_SHIFT, "enhanced"),
    "converted to {}": Condition(ENHANCER, "converted"),
}
# What of the original's likeness to its speaker a default has to keep.
KEPT = 0.9
GENERATED_SECONDS = 3.0


@dataclass(frozen=True)
class Settings:
    """How the enhancer is used, whatever its method."""

    strength: float
    guidance_scale: float
    intensity: float
    num_inference_steps: int
    num_noises: int
    vocoder: str
    seed: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every run, then write the records of all that are finished."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.enhancement", *arguments]
    listeners = options.listeners or [None] * len(options.runs)
    if len(listeners) != len(options.runs):
        raise ValueError(f"Got {len(listeners)} listeners, expected one for each of the runs")
    for run, listener in zip(options.runs, listeners, strict=True):
        claim(run, listener, options)
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
    parser = runs_parser("benchmarks.enhancement", __doc__, "results/enhancement.json")
    parser.add_argument("--trade_off", action="store_true", help="try settings on validation")
    wanted = list(dict.fromkeys(condition.data for condition in CONDITIONS))
    parser.add_argument("--data", nargs="+", choices=wanted, default=wanted, help="only these")
    parser.add_argument("--collect_only", action="store_true", help="measure nothing")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    parser.add_argument("--guidance_scales", type=float, nargs="+", default=[2.0, 3.0, 4.5])
    parser.add_argument("--plots", type=Path, default=Path("results/plots"))
    parser.add_argument(
        "--listeners", nargs="+", help="runs of train_classifier.py, one for each of the runs"
    )
    add_enhancement_arguments(parser, without=["method", "rerank"])
    return parser.parse_args(arguments)


# --- Conditions ----------------------------------------------------------------------------------


class Bench:
    """A run: its enhancer, its judges and its recordings.

    Args:
        run: Output folder of `train_diffusion.py`.
        listener: Output folder of `train_classifier.py`; the enhancer's own recogniser, if None.
        options: The command line.

    Raises:
        ValueError: The listener was trained on other people.
    """

    def __init__(self, run: str, listener: str | None, options: argparse.Namespace) -> None:
        self.fold, self.options = load_fold(run, options.work), options
        if listener is not None:
            check_people(run, listener)
            self.fold.pipe.listener = load_classifier(f"{listener}/model")
        self._meters: dict[str, QualityMeter] = {}

    @cached_property
    def panel(self) -> Panel:
        """The judges."""
        return Panel.of(self.fold, self.options)

    @cached_property
    def clips(self) -> Clips:
        """Recordings of those who are tested; with `--trade_off`, of those who validate."""
        known = self.fold.corpora.fold
        rows = known.validation if self.options.trade_off else known.test
        return some_clips(self.fold, rows, self.options.limit, self.options.seed)

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

    def make(
        self, condition: Condition, settings: Settings, clips: Clips
    ) -> tuple[list[np.ndarray], list[str]]:
        """Waveforms of a condition of some clips, and the emotion that each was aimed at."""
        aimed = list(clips.emotions)
        if condition == ORIGINAL:
            return clips.waves, aimed
        if condition.data in ("wrong_emotion", "converted"):
            aimed = wrong_emotions(clips.emotions, settings.seed)
        jobs = zip(clips.waves, clips.corpora, aimed, clips.emotions, clips.rows, strict=True)
        shown = tqdm(jobs, total=len(clips.rows), desc=condition.name, mininterval=5)
        made = [self.change(condition, settings, *job) for job in shown]
        if condition.data == "enhanced_guessed":
            aimed = [one.emotions[0] for one in made]
        return [one.audios[0] for one in made], aimed

    def change(
        self,
        condition: Condition,
        settings: Settings,
        wave: np.ndarray,
        corpus: str,
        target: str,
        source: str,
        row: int,
    ) -> EmotionEnhancementOutput:
        """One recording; its noise depends on the recording and the seed alone."""
        pipe, data = self.fold.pipe, condition.data
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + row)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            if data == "autoencoder_only":
                return pipe.reconstruct(wave, corpus=corpus)
            if data == "generated":
                length = GENERATED_SECONDS
                return pipe.generate(wave, target, length, corpus=corpus, generator=generator)
            options: dict[str, Any] = asdict(settings)
            options.pop("seed")
            call = CALLS[condition.system]
            if call["method"] == "shift":
                options = {"intensity": settings.intensity * INTENSITY.get(condition, 1.0)}
            elif data == "unconditional":
                options |= {"intensity": 0.0, "guidance_scale": 1.0}
            # A wrong emotion is one that the recording is wrongly said to carry already.
            carried = target if data == "wrong_emotion" else source
            said = {"emotion": target, "source_emotion": carried, "corpus": corpus}
            if data == "enhanced_guessed":
                said = {"corpus": corpus}
            return pipe(wave, **said, generator=generator, **options, **call)

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


def settings_of(options: argparse.Namespace, **changed: Any) -> Settings:
    """Settings of the command line, some of them changed."""
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    return Settings(**given | changed)


def check_people(run: str, listener: str) -> None:
    """Refuse a listener that has heard people whom the enhancer is tested on.

    Raises:
        ValueError: Protocol, fold, seed or corpora are others.
    """
    theirs, ours = (
        yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8"))
        for folder in (listener, run)
    )
    told = [
        {**{name: one[name] for name in ("protocol", "fold", "seed")}, "corpora": [*one["corpora"]]}
        for one in (theirs, ours)
    ]
    if told[0] != told[1]:
        raise ValueError(
            f"Bad listener '{listener}', trained on {told[0]}, expected that of '{run}': {told[1]}"
        )


def claim(run: str, listener: str | None, options: argparse.Namespace) -> None:
    """Refuse to go on with, or to collect, what was measured otherwise or of another enhancer.

    Raises:
        FileNotFoundError: There is nothing to collect.
        ValueError: The folder holds measurements of something else; names what differs.
    """
    folder = options.work / Path(run).name
    file = folder / ("tried_with.json" if options.trade_off else "tested_with.json")
    if options.collect_only and not file.exists():
        raise FileNotFoundError(f"No measurement in '{folder}', expected a call that measures")
    varied = {"strength": 0.0, "guidance_scale": 1.0} if options.trade_off else {}
    now = {**asdict(settings_of(options, **varied)), "limit": options.limit}
    now |= {"judges": list(options.judges), "judge_seeds": options.judge_seeds}
    now["enhancer"] = digest_of(Path(run) / "model" / "denoiser")
    now["listener"] = None if listener is None else digest_of(Path(listener) / "model")
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
    changed = sorted(key for key in now if before.get(key) != now[key])
    if changed:
        raise ValueError(f"'{folder}' was measured with other {changed}, expected a new --work")
    write_json(file, now)


def digest_of(folder: Path) -> str:
    """What tells weights from others."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


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
            shift = reports.get(
                Condition(SHIFT_BESIDE.get(condition.system, ""), condition.data), []
            )
            if shift:
                own = [over_shift(record, of_folds, shift) for record in own]
            records += own
    return records


def over_shift(
    record: Record, reports: Sequence[Mapping[str, Any]], shift: Sequence[Mapping[str, Any]]
) -> Record:
    """Add to the mean of judges how much more often than of the shift they hear the target."""
    if record["judge"] == PANEL:
        tables = [
            join([of_corpus(one, record["corpus"]) for one in of_folds])
            for of_folds in (shift, reports)
        ]
        record["metrics"][OVER_SHIFT] = target_gain(*tables)
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
