"""Judge enhanced speech of people whom neither the enhancer nor the judges of emotion ever heard.

    python -m benchmarks.enhancement --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --output results/enhancement.json

Each run is an output folder of `train_diffusion.py`; what is tested is the test side of its fold.
Everybody listens to waveforms at the enhancer's rate. The judges are trained here, on real speech:

* emotion: openSMILE ComParE 2016 with an SVM, and a time-delay network on mels; training speakers
  only;
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import bootstrap
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS
from evaluation import (
    Record,
    make_record,
    plot_enhancement,
    plot_trade_off,
    provenance,
    recognition_metrics,
    write_records,
)
from evaluation.preservation import preservation_metrics
from evaluation.results import Provenance
from evaluation.tables import PANEL
from pipelines import (
    ENHANCEMENT_SETTINGS,
    EmotionEnhancementPipeline,
    add_enhancement_arguments,
)
from training.config import DiffusionConfig, from_dict
from training.enhancer_card import write_enhancer_card
from training.state import write_json

from .panel import (
    EMOTION_JUDGES,
    Clips,
    Fold,
    Panel,
    describe_rows,
    halves,
    load_clips,
    load_fold,
    log_mels,
    runs_parser,
)

SYSTEM = "emotion-enhancer"
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
            panel = Panel.of(fold, options.seed)
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
    parser.add_argument("--limit", type=int, help="recordings of a corpus and fold, at random")
    add_enhancement_arguments(parser)
    return parser.parse_args(arguments)


def some_clips(fold: Fold, rows: Sequence[int], options: argparse.Namespace) -> Clips:
    """At most `limit` recordings of each corpus, at random: files in order alternate in takes."""
    clips = load_clips(fold, rows)
    order = np.random.default_rng(options.seed).permutation(len(clips.rows)).tolist()
    chosen: list[int] = []
    for corpus in dict.fromkeys(clips.corpora):
        chosen += [i for i in order if clips.corpora[i] == corpus][: options.limit]
    return clips.take(sorted(chosen))


# --- Conditions ----------------------------------------------------------------------------------


def make_condition(
    fold: Fold, clips: Clips, condition: str, settings: Settings
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
    with torch.autocast("cpu", torch.bfloat16):
        return pipe(wave, corpus=corpus, emotion=emotion, generator=generator, **given | options)


def match_level(wave: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A waveform `(samples,)` at its source's RMS, so that its level alone tells no emotion."""
    return wave * np.sqrt(np.mean(source**2) / max(np.mean(wave**2), np.finfo(np.float32).tiny))


def wrong_emotions(emotions: Iterable[str], seed: int) -> list[str]:
    """For each emotion another one, drawn at random."""
    generator = np.random.default_rng(seed)
    return [
        str(generator.choice([other for other in EMOTIONS if other != emotion]))
        for emotion in emotions
    ]


def measure(fold: Fold, panel: Panel, options: argparse.Namespace) -> None:
    """Make all conditions of the test recordings and note what the judges hear."""
    clips = some_clips(fold, fold.corpora.fold.test, options)
    settings = settings_of(options)
    for condition in CONDITIONS:
        report = fold.folder / f"{condition}.json"
        if report.exists():
            continue
        waves = listen(fold, panel, clips, condition, settings, report, options.command)
        if condition == "enhanced":
            draw_examples(fold, clips, waves, options.plots)


def listen(
    fold: Fold,
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
    heard = panel.hear(clips, waves, report.with_suffix(".npy"))
    content = describe(fold, clips, waves, aimed, heard, settings.seed)
    content["provenance"] = provenance(settings.seed, time.monotonic() - started, command)
    write_json(report, content)
    return waves


def describe(
    fold: Fold,
    clips: Clips,
    waves: Sequence[np.ndarray],
    aimed: Sequence[str],
    heard: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, Any]:
    """Everything that the records are made from."""
    known = fold.corpora.fold
    everybody = describe_rows(fold, [*known.train, *known.validation, *known.test])
    asked = {everybody.rows[i] for i in halves(everybody, seed)[1]}
    rate = fold.pipe.feature_extractor.sampling_rate
    preservation = {
        corpus: preservation_metrics(
            [w for w, c in zip(clips.waves, clips.corpora, strict=True) if c == corpus],
            [w for w, c in zip(waves, clips.corpora, strict=True) if c == corpus],
            rate,
        )
        for corpus in dict.fromkeys(clips.corpora)
    }
    columns = {
        "row": clips.rows,
        "corpus": clips.corpora,
        "emotion": clips.emotions,
        "speaker": clips.speakers,
        "sentence": clips.sentences,
        "aimed": list(aimed),
        "asked_speaker": [row in asked for row in clips.rows],
        **heard,
    }
    return {"fold": fold.name, "preservation": preservation, "clips": columns}


def draw_examples(fold: Fold, clips: Clips, waves: Sequence[np.ndarray], plots: Path) -> None:
    """The first recording of each emotion of each corpus, before and after."""
    for corpus in dict.fromkeys(clips.corpora):
        pairs = {}
        for emotion in EMOTIONS:
            for i, (c, e) in enumerate(zip(clips.corpora, clips.emotions, strict=True)):
                if (c, e) == (corpus, emotion) and emotion not in pairs:
                    before, after = log_mels(fold, [clips.waves[i], waves[i]])
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
            records += condition_records(condition, corpus, reports, originals)
    return records


def read_reports(folders: Sequence[Path], condition: str) -> list[dict[str, Any]]:
    """What was heard of a condition in every fold; nothing while a fold is missing."""
    files = [folder / f"{condition}.json" for folder in folders]
    if not all(file.exists() for file in files):
        return []
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def condition_records(
    condition: str,
    corpus: str,
    reports: Sequence[dict[str, Any]],
    originals: Sequence[dict[str, Any]],
) -> list[Record]:
    """Clarity by each judge of emotion and by all of them, and preservation."""
    tables = [of_corpus(report["clips"], corpus) for report in reports]
    common = {
        "corpus": corpus,
        "protocol": "speaker_independent",
        "system": SYSTEM,
        "data": condition,
        "provenance": joined_provenance(reports),
        "folds": len(reports),
    }
    records = [
        make_record(
            task="clarity",
            judge=judge,
            metrics=clarity(join(tables), judge),
            per_fold=[clarity(table, judge, brief=True) for table in tables],
            **common,
        )
        for judge in EMOTION_JUDGES
        if judge in tables[0]
    ]
    before = [of_corpus(report["clips"], corpus) for report in originals]
    panel = panel_clarity(join(before), join(tables))
    per_fold = [panel_clarity(*fold) for fold in zip(before, tables, strict=True)]
    records.append(
        make_record(task="clarity", judge=PANEL, metrics=panel, per_fold=per_fold, **common)
    )
    kept = identity(join(tables))
    names = reports[0]["preservation"][corpus]
    for name in names:
        values = [r["preservation"][corpus].get(name, np.nan) for r in reports]
        kept[name] = float(np.nanmean(values))
    return [*records, make_record(task="preservation", judge=None, metrics=kept, **common)]


def joined_provenance(reports: Sequence[Mapping[str, Any]]) -> Provenance:
    """How reports came to be that several calls made: what all of them were, and the latest date.

    Of the measurement: when and from which commit it is collected does not matter.
    """
    made: list[Provenance] = [report["provenance"] for report in reports]
    latest = max(made, key=lambda one: one["date"])
    return {
        **latest,
        "command": " && ".join(dict.fromkeys(one["command"] for one in made)),
        "commit": ", ".join(dict.fromkeys(one["commit"] for one in made)),
        "seconds": round(sum(one["seconds"] for one in made), 1),
    }


def update_card(run: Path, records: Sequence[Record]) -> None:
    """Say in the card of a run's model what judges heard of it."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    write_enhancer_card(run / "model", from_dict(DiffusionConfig, settings), history, records)


def of_corpus(clips: Mapping[str, list[Any]], corpus: str) -> dict[str, np.ndarray]:
    """The rows of one corpus."""
    own = np.asarray(clips["corpus"]) == corpus
    return {name: np.asarray(column)[own] for name, column in clips.items()}


def join(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of several folds."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def clarity(table: Mapping[str, np.ndarray], judge: str, brief: bool = False) -> dict[str, Any]:
    """How often a judge hears the speaker's emotion, and the one aimed at."""
    heard, true, aimed = (
        np.asarray([EMOTIONS.index(name) for name in table[key]])
        for key in (judge, "emotion", "aimed")
    )
    scores = recognition_metrics(heard, true, speakers=table["speaker"].tolist())
    if brief:
        scores = {name: scores[name] for name in ("WA", "UA")}
    return {**scores, "target_WA": float((heard == aimed).mean())}


def panel_clarity(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """All judges of emotion together: means, and how many more recordings they name rightly.

    The gain is paired: each recording is compared with itself unchanged. Its 95 % interval is a
    percentile bootstrap over speakers, or over the recordings of a single speaker.
    """
    judges = [judge for judge in EMOTION_JUDGES if judge in after]
    right, right_before, on_target = (
        np.mean([table[judge] == table[wanted] for judge in judges], axis=0)
        for table, wanted in ((after, "emotion"), (before, "emotion"), (after, "aimed"))
    )
    gain = right - right_before
    return {
        "WA": float(right.mean()),
        "target_WA": float(on_target.mean()),
        "gain": float(gain.mean()),
        "gain_ci95": interval_of_mean(gain, after["speaker"]),
    }


def interval_of_mean(values: np.ndarray, speakers: np.ndarray) -> list[float]:
    """95 % interval of a mean, by drawing speakers; without width for a single recording."""
    names, owner = np.unique(speakers, return_inverse=True)
    owner = owner if len(names) > 1 else np.arange(len(values))
    if len(values) < 2:
        return [float(values.mean())] * 2
    interval = bootstrap(
        (np.bincount(owner, values), np.bincount(owner)),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def identity(table: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How often the judges still name the speaker and the sentence."""
    asked = table["asked_speaker"].astype(bool)
    speakers = (table["speaker-tdnn"] == table["speaker"])[asked]
    sentences = table["sentence-tdnn"] == table["sentence"]
    return {"speaker_WA": float(speakers.mean()), "sentence_WA": float(sentences.mean())}


# --- Trade-off -----------------------------------------------------------------------------------


def try_settings(fold: Fold, panel: Panel, options: argparse.Namespace) -> None:
    """Judge several strengths and guidance scales on some validation recordings."""
    clips = some_clips(fold, fold.corpora.fold.validation, options)
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
