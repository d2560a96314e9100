"""Judge enhanced speech of people whom neither the enhancer nor the judges of emotion ever heard.

    python -m benchmarks.enhancement --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --output results/enhancement.json

Each run is an output folder of `train_diffusion.py`; what is tested is the test side of its fold.
Everybody listens to waveforms at the enhancer's rate. The judges are trained here, on real speech:

* emotion: the judges of `benchmarks.judges`; training speakers only;
* sentence: a time-delay network; training speakers only;
* speaker: a time-delay network that must know the speakers tested: it learns one half of
  everybody's recordings, and is asked about the other half.

With `--trade_off` settings are tried on the validation speakers instead, which the default of
strength and guidance is chosen by. Everything is kept in `--work`, so that a call goes on where the
one before was stopped; runs may be measured by several calls side by side.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS
from evaluation import (
    Record,
    plot_enhancement,
    plot_trade_off,
    provenance,
    write_records,
)
from evaluation.preservation import preservation_metrics
from evaluation.tables import ENHANCER
from modeling.modeling_emotion_shift import match_level
from pipelines import (
    ENHANCEMENT_SETTINGS,
    EmotionEnhancementPipeline,
    add_enhancement_arguments,
)
from training.config import DiffusionConfig, from_dict
from training.enhancer_card import write_enhancer_card
from training.run import has_fast_bfloat16
from training.state import write_json

from .clarity import condition_records, describe, identity, join, joined_provenance, read_reports
from .judges import EMOTION_JUDGES, log_mels
from .panel import (
    Clips,
    EnhancerFold,
    Fold,
    Panel,
    load_fold,
    runs_parser,
    some_clips,
    wrong_emotions,
)

CONDITIONS = (
    "original",
    "vocoder_only",
    "autoencoder_only",
    "unconditional",
    "wrong_emotion",
    "enhanced",
    "level_matched",
    "enhanced_guessed",
)
# What of the original's speaker and sentence accuracy a default has to keep.
KEPT = 0.95


@dataclass(frozen=True)
class Settings:
    """How the enhancer is used."""

    method: str
    strength: float
    guidance_scale: float
    intensity: float
    num_inference_steps: int
    injection: str
    anchor: str
    num_noises: int
    vocoder: str
    seed: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every run, then write the records of all that are finished."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.enhancement", *arguments]
    for run in options.runs:
        claim(run, options)
        if not options.collect_only:
            fold = load_fold(run, options.work)
            panel = Panel.of(fold, options)
            (try_settings if options.trade_off else measure)(fold, panel, options)
    folders = [options.work / Path(run).name for run in options.runs]
    if options.trade_off:
        write_trade_off(folders, options)
        return
    write_records(options.output, collect(folders))
    for run, folder in zip(options.runs, folders, strict=True):
        update_card(Path(run), collect([folder]))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = runs_parser("benchmarks.enhancement", __doc__, "results/enhancement.json")
    parser.add_argument("--trade_off", action="store_true", help="try settings on validation")
    parser.add_argument("--collect_only", action="store_true", help="measure nothing")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.4, 0.6, 0.8])
    parser.add_argument("--guidance_scales", type=float, nargs="+", default=[2.0, 4.0, 6.0])
    parser.add_argument("--plots", type=Path, default=Path("results/plots"))
    add_enhancement_arguments(parser)
    parser.set_defaults(method="diffusion")
    return parser.parse_args(arguments)


# --- Conditions ----------------------------------------------------------------------------------


def make_condition(
    fold: EnhancerFold, clips: Clips, condition: str, settings: Settings
) -> tuple[list[np.ndarray], list[str]]:
    """Waveforms of a condition, and the emotion that each was aimed at."""
    emotions: Sequence[str | None] = clips.emotions
    options: dict[str, Any] = {}
    if condition == "original":
        return clips.waves, clips.emotions
    if condition == "vocoder_only":
        options = {"strength": 0.0}
    elif condition == "unconditional":
        options = {"intensity": 0.0, "guidance_scale": 1.0, "anchor": "source"}
    elif condition == "wrong_emotion":
        emotions = wrong_emotions(clips.emotions, settings.seed)
    elif condition == "enhanced_guessed":
        emotions = [None] * len(clips.rows)
    waves, aimed = [], []
    jobs = zip(clips.waves, clips.corpora, emotions, clips.rows, strict=True)
    for wave, corpus, emotion, row in tqdm(
        jobs, total=len(clips.rows), desc=condition, mininterval=5
    ):
        if condition == "autoencoder_only":
            output = fold.pipe.reconstruct(wave, corpus=corpus, vocoder=settings.vocoder)
        else:
            output = enhance(fold.pipe, wave, corpus, emotion, row, settings, **options)
        sound = output.audios[0]
        waves.append(match_level(sound, wave) if condition == "level_matched" else sound)
        aimed.append(emotion or output.emotions[0])
    return waves, aimed


def enhance(
    pipe: EmotionEnhancementPipeline,
    wave: np.ndarray,
    corpus: str,
    emotion: str | None,
    row: int,
    settings: Settings,
    **options: Any,
) -> Any:
    """One recording enhanced; the noise depends on the recording and the seed alone."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + row)
    given = {name: getattr(settings, name) for name in ENHANCEMENT_SETTINGS}
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
        return pipe(wave, corpus=corpus, emotion=emotion, generator=generator, **given | options)


def measure(fold: EnhancerFold, panel: Panel, options: argparse.Namespace) -> None:
    """Make all conditions of the test recordings and note what the judges hear."""
    clips = some_clips(fold, fold.corpora.fold.test, options.limit, options.seed)
    settings = settings_of(options)
    for condition in CONDITIONS:
        report = fold.folder / f"{condition}.json"
        if report.exists():
            continue
        waves = listen(fold, panel, clips, condition, settings, report, options.command)
        if condition == "enhanced":
            draw_examples(fold, clips, waves, options.plots)


def listen(
    fold: EnhancerFold,
    panel: Panel,
    clips: Clips,
    condition: str,
    settings: Settings,
    report: Path,
    command: Sequence[str],
) -> list[np.ndarray]:
    """Make a condition, have it judged and write down what was heard, and how; the waveforms."""
    started = time.monotonic()
    waves, aimed = make_condition(fold, clips, condition, settings)
    heard = panel.hear(clips, waves, aimed)
    kept = preserved(fold, clips, waves)
    content = describe(fold, clips, aimed, heard, kept, settings.seed)
    content["provenance"] = provenance(settings.seed, time.monotonic() - started, command)
    write_json(report, content)
    return waves


def preserved(fold: Fold, clips: Clips, waves: Sequence[np.ndarray]) -> dict[str, Any]:
    """What is left of each corpus's recordings as it was."""
    rate = fold.feature_extractor.sampling_rate
    return {
        corpus: preservation_metrics(
            [w for w, c in zip(clips.waves, clips.corpora, strict=True) if c == corpus],
            [w for w, c in zip(waves, clips.corpora, strict=True) if c == corpus],
            rate,
        )
        for corpus in dict.fromkeys(clips.corpora)
    }


def draw_examples(fold: Fold, clips: Clips, waves: Sequence[np.ndarray], plots: Path) -> None:
    """The first recording of each emotion of each corpus, before and after."""
    for corpus in dict.fromkeys(clips.corpora):
        pairs = {}
        for emotion in EMOTIONS:
            for i, (c, e) in enumerate(zip(clips.corpora, clips.emotions, strict=True)):
                if (c, e) == (corpus, emotion) and emotion not in pairs:
                    before, after = log_mels(fold.feature_extractor, [clips.waves[i], waves[i]])
                    pairs[emotion] = (before, after)
        if pairs:
            plot_enhancement(pairs, plots / f"enhancement_{corpus}_{fold.name}.png")


def settings_of(options: argparse.Namespace, **changed: Any) -> Settings:
    """Settings of the command line, some of them changed."""
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    return Settings(**given | changed)


def claim(run: str, options: argparse.Namespace) -> None:
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
    now["enhancer"] = digest_of(Path(run) / "model" / "unet")
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


def collect(folders: Sequence[Path]) -> list[Record]:
    """Records of all conditions that every fold has finished."""
    records = []
    originals = read_reports(folders, "original")
    for condition in CONDITIONS:
        reports = read_reports(folders, condition)
        for corpus in dict.fromkeys(c for r in reports for c in r["clips"]["corpus"]):
            records += condition_records(ENHANCER, condition, corpus, reports, originals)
    return records


def update_card(run: Path, records: Sequence[Record]) -> None:
    """Say in the card of a run's model what judges heard of it."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    write_enhancer_card(run / "model", from_dict(DiffusionConfig, settings), history, records)


# --- Trade-off -----------------------------------------------------------------------------------


def try_settings(fold: EnhancerFold, panel: Panel, options: argparse.Namespace) -> None:
    """Judge several strengths and guidance scales on some validation recordings."""
    clips = some_clips(fold, fold.corpora.fold.validation, options.limit, options.seed)
    grid = itertools.product(options.strengths, options.guidance_scales)
    for strength, scale in [(0.0, 1.0), *grid]:
        name = f"trade_off_{strength:g}_{scale:g}"
        if (fold.folder / f"{name}.json").exists():
            continue
        settings = settings_of(options, strength=strength, guidance_scale=scale)
        report = fold.folder / f"{name}.json"
        listen(fold, panel, clips, "enhanced", settings, report, options.command)


def write_trade_off(folders: Sequence[Path], options: argparse.Namespace) -> None:
    """The points that all folds have, with the chosen one, as JSON and as a picture."""
    source = point(folders, 0.0, 1.0, lambda _: 1.0)
    if source is None:
        return
    kept = source["speaker_WA"] + source["sentence_WA"]
    found = [
        point(folders, strength, scale, lambda p: (p["speaker_WA"] + p["sentence_WA"]) / kept)
        for strength, scale in itertools.product(options.strengths, options.guidance_scales)
    ]
    points = [p for p in found if p is not None]
    faithful = [p for p in points if p["preservation"] >= KEPT]
    if faithful:
        max(faithful, key=lambda p: p["emotion"])["chosen"] = True
    files = [file for folder in folders for file in sorted(folder.glob("trade_off_*.json"))]
    made_by = joined_provenance([json.loads(file.read_text(encoding="utf-8")) for file in files])
    content = {"source": source, "points": points, "kept": KEPT, "provenance": made_by}
    write_json(options.output.parent / "curves" / "enhancement_trade_off.json", content)
    plot_trade_off(points, options.plots / "enhancement_trade_off.png", source["emotion"])


def point(
    folders: Sequence[Path],
    strength: float,
    scale: float,
    preservation: Callable[[dict[str, float]], float],
) -> dict[str, Any] | None:
    """One setting on the validation recordings of all folds and corpora."""
    files = [folder / f"trade_off_{strength:g}_{scale:g}.json" for folder in folders]
    if not all(file.exists() for file in files):
        return None
    clips = [json.loads(file.read_text(encoding="utf-8"))["clips"] for file in files]
    table = join([{name: np.asarray(c) for name, c in columns.items()} for columns in clips])
    judges = [judge for judge in EMOTION_JUDGES if judge in table]
    emotion = [float((table[judge] == table["emotion"]).mean()) for judge in judges]
    found: dict[str, Any] = {"strength": strength, "guidance_scale": scale, **identity(table)}
    found["emotion"] = float(np.mean(emotion))
    found["preservation"] = preservation(found)
    return found


if __name__ == "__main__":
    main()
