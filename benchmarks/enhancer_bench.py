"""A trained enhancer with the people of its fold, and how benchmarks call it.

The enhancer, and the shift and the filter beside it, are of one run: fitted and trained on the same
speakers, told the same emotion, and, where versions are reranked, chosen by the same listener.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS
from evaluation.tables import (
    ANOTHER,
    BAND_FILTER,
    CLASS_SHIFT,
    DIFFUSION,
    ENHANCER,
    RECORDINGS,
    RERANKED_SHIFT,
    UNRANKED,
)
from pipelines import (
    EmotionEnhancementOutput,
    EmotionEnhancementPipeline,
    add_enhancement_arguments,
    load_classifier,
)
from training.prosodies import load_prosodies
from training.run import has_fast_bfloat16
from training.shift import fit_band_filter, load_voices
from training.state import write_json

from .clarity import Condition
from .judges import log_mels
from .panel import Clips, load_clips, load_fold, runs_parser, some_clips, wrong_emotions

# How the pipeline is called for each system.
CALLS: dict[str, dict[str, Any]] = {
    ENHANCER: {"method": "both", "rerank": True},
    RERANKED_SHIFT: {"method": "shift", "rerank": True},
    UNRANKED: {"method": "both", "rerank": False},
    CLASS_SHIFT: {"method": "shift", "rerank": False},
    BAND_FILTER: {"method": "shift", "rerank": False},
    DIFFUSION: {"method": "diffusion", "rerank": False},
}
# What makes a take of a recording of what converts it: a single noise.
TAKE = {"num_noises": 1}
# The filter and how far it goes, as was best for both corpora in `results/curves/class_shift_*`.
FILTER = {"kind": "towards_mean", "own": (1.0, 0.0), "other": (1.5, 0.0)}


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


def settings_of(options: argparse.Namespace, **changed: Any) -> Settings:
    """Settings of the command line, some of them changed."""
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    return Settings(**given | changed)


def enhancer_parser(module: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """The command line that benchmarks of enhanced speech have in common."""
    parser = runs_parser(module, description, output)
    parser.add_argument("--collect_only", action="store_true", help="measure nothing")
    parser.add_argument(
        "--listeners", nargs="+", help="runs of train_classifier.py, one for each of the runs"
    )
    add_enhancement_arguments(parser, without=["method", "rerank"])
    return parser


def each_listener(options: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    """Every run with its listener.

    Raises:
        ValueError: Not one listener for each run.
    """
    listeners = options.listeners or [None] * len(options.runs)
    if len(listeners) != len(options.runs):
        raise ValueError(f"Got {len(listeners)} listeners, expected one for each of the runs")
    return zip(options.runs, listeners, strict=True)


class EnhancerBench:
    """A run: its enhancer and its recordings.

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

    @cached_property
    def clips(self) -> Clips:
        """Recordings of those who are tested."""
        return self.some_clips(self.fold.corpora.fold.test)

    def some_clips(self, rows: Sequence[int]) -> Clips:
        """As many of them as the command line says."""
        return some_clips(self.fold, rows, self.options.limit, self.options.seed)

    @cached_property
    def filtering(self) -> EmotionEnhancementPipeline:
        """The enhancer with a band filter, fitted on the training speakers, as its shift."""
        fold, pipe = self.fold, self.fold.pipe
        clips = load_clips(fold, fold.corpora.fold.train)
        mels = dict(zip(clips.rows, log_mels(fold.feature_extractor, clips.waves), strict=True))
        prosodies = load_prosodies(fold.corpora.dataset, clips.rows, fold.feature_extractor)
        voices = load_voices(fold.corpora.dataset, clips.rows, mels, prosodies)
        factors = {
            f"{use}_factors": dict.fromkeys(voices.corpora, FILTER[use]) for use in ("own", "other")
        }
        shift = fit_band_filter(voices, EMOTIONS, str(FILTER["kind"]), **factors)
        return EmotionEnhancementPipeline(**{**pipe.components, "shift": shift})

    def make(
        self, condition: Condition, settings: Settings, clips: Clips
    ) -> tuple[list[np.ndarray], list[str]]:
        """Waveforms of a condition of some clips, and the emotion that each was aimed at."""
        if condition.system == RECORDINGS:
            return clips.waves, list(clips.emotions)
        made = self.outputs(condition, settings, clips)
        # Nothing is aimed at where only the autoencoder is asked.
        pairs = zip(made, clips.emotions, strict=True)
        return [one.audios[0] for one in made], [one.emotions[0] or own for one, own in pairs]

    def outputs(
        self, condition: Condition, settings: Settings, clips: Clips
    ) -> list[EmotionEnhancementOutput]:
        """What the enhancer, or what stands beside it, makes of each of some clips."""
        aimed = list(clips.emotions)
        if condition.data in ("wrong_emotion", *ANOTHER):
            aimed = wrong_emotions(clips.emotions, settings.seed)
        jobs = zip(clips.waves, clips.corpora, aimed, clips.emotions, clips.rows, strict=True)
        shown = tqdm(jobs, total=len(clips.rows), desc=condition.name, mininterval=5)
        return [self.change(condition, settings, *job) for job in shown]

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
        data = condition.data
        pipe = self.filtering if condition.system == BAND_FILTER else self.fold.pipe
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + row)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            if data == "autoencoder_only":
                return pipe.reconstruct(wave, corpus=corpus)
            options: dict[str, Any] = asdict(settings)
            options.pop("seed")
            call = CALLS[condition.system]
            if call["method"] == "shift":
                options = {"intensity": settings.intensity}
            elif data == "unconditional":
                options |= {"intensity": 0.0, "guidance_scale": 1.0}
            # A wrong emotion is one that the recording is wrongly said to carry already.
            carried = target if data == "wrong_emotion" else source
            said = {"emotion": target, "source_emotion": carried, "corpus": corpus}
            if data == "enhanced_guessed":
                said = {"corpus": corpus}
            elif data.endswith("_untold"):
                # As whoever has a recording and nothing else calls it.
                said = {"emotion": target} if data in ANOTHER else {}
            if data == "generated":
                return pipe.generate(wave, generator=generator, **said, **{**options, **TAKE})
            return pipe(wave, **said, generator=generator, **options, **call)


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


def claim(
    run: str, listener: str | None, options: argparse.Namespace, name: str, **changed: Any
) -> None:
    """Refuse to go on with, or to collect, what was measured otherwise or of another enhancer.

    Args:
        run: Output folder of `train_diffusion.py`.
        listener: Output folder of `train_classifier.py`.
        options: The command line.
        name: Of the file that keeps what was measured, in the run's folder of `--work`.
        changed: What is not as the command line says, and what else must stay the same.

    Raises:
        FileNotFoundError: There is nothing to collect.
        ValueError: The folder holds measurements of something else; names what differs.
    """
    folder = options.work / Path(run).name
    file = folder / name
    if options.collect_only and not file.exists():
        raise FileNotFoundError(f"No measurement in '{folder}', expected a call that measures")
    now = {**asdict(settings_of(options)), "limit": options.limit}
    now |= {"judges": list(options.judges), "judge_seeds": options.judge_seeds, **changed}
    now["enhancer"] = digest_of(Path(run) / "model" / "denoiser")
    now["listener"] = None if listener is None else digest_of(Path(listener) / "model")
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
    different = sorted(key for key in now if before.get(key) != now[key])
    if different:
        raise ValueError(f"'{folder}' was measured with other {different}, expected a new --work")
    write_json(file, now)


def digest_of(folder: Path) -> str:
    """What tells weights from others."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
