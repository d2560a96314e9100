"""The recordings of a fold, and everybody who hears them."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets_scripts import EMOTIONS
from modeling import EmotionFeatureExtractor
from pipelines import EmotionEnhancementPipeline, load_enhancer
from pipelines.audio_inputs import read_recording
from training.config import DiffusionConfig, from_dict
from training.data import Corpora, load_corpora

from .judges import EMOTION_JUDGES, Judge, Lesson, build_judges, votes
from .mel_judge import split_half
from .whisper_logistic_regression import ENCODER


@dataclass(frozen=True)
class Clips:
    """Recordings to be judged, and what is true of them.

    Args:
        rows: Their places in the dataset of the fold.
        waves: Mono `(samples,)`, float32, -1 to 1, at the fold's rate; empty where only the rest is
            asked for.
        corpora: Name of the corpus.
        emotions: Names of `EMOTIONS`.
        speakers: Unique over corpora, as sentences are.
        sentences: What is said.
        files: Names in the corpus.
    """

    rows: list[int]
    waves: list[np.ndarray]
    corpora: list[str]
    emotions: list[str]
    speakers: list[str]
    sentences: list[str]
    files: list[str]

    def take(self, indices: Sequence[int]) -> "Clips":
        """Some of them."""
        columns = (self.rows, self.waves, self.corpora, self.emotions, self.speakers)
        parts = ([column[i] for i in indices] for column in (*columns, self.sentences, self.files))
        return Clips(*parts)  # type: ignore[arg-type]

    def lesson(self, labels: Sequence[str]) -> Lesson:
        """What a judge learns from them."""
        return Lesson(self.waves, self.corpora, labels, self.files)


@dataclass
class Fold:
    """Who trains, validates and is tested.

    Args:
        name: Of the fold.
        corpora: All recordings, and who trains, validates and tests.
        feature_extractor: Makes log-mels; its rate is that of all waveforms.
        folder: Where what is measured of it is kept.
    """

    name: str
    corpora: Corpora
    feature_extractor: EmotionFeatureExtractor
    folder: Path


@dataclass
class EnhancerFold(Fold):
    """A fold with the enhancer that was trained on it.

    Args:
        pipe: The enhancer.
    """

    pipe: EmotionEnhancementPipeline


def judged_parser(module: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """The command line that benchmarks with judges have in common."""
    parser = argparse.ArgumentParser(
        f"python -m {module}", description=(description or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--work", type=Path, default=Path("outputs/enhancement"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judges", nargs="+", default=EMOTION_JUDGES, choices=EMOTION_JUDGES)
    parser.add_argument("--judge_seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoder", default=ENCODER, help="Hub id or folder of Whisper")
    parser.add_argument("--limit", type=int, help="recordings of a corpus and fold, at random")
    return parser


def runs_parser(module: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """The command line that benchmarks of trained enhancers have in common."""
    parser = judged_parser(module, description, output)
    parser.add_argument("--runs", nargs="+", required=True, help="folders of train_diffusion.py")
    return parser


def load_fold(run: str, work: Path) -> EnhancerFold:
    """An enhancer with the corpora that it was trained and is tested on."""
    settings = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
    config = from_dict(DiffusionConfig, settings)
    # The networks of the run, in the classes of this checkout.
    pipe = load_enhancer(f"{run}/model")
    pipe.set_progress_bar_config(disable=True)
    folder = work / Path(run).name
    folder.mkdir(parents=True, exist_ok=True)
    return EnhancerFold(Path(run).name, load_corpora(config), pipe.feature_extractor, folder, pipe)


def corpus_fold(corpus: str, data_dir: str | None, index: int, work: Path) -> Fold:
    """A fold of unseen speakers of one corpus, without an enhancer."""
    config = DiffusionConfig(corpora={corpus: data_dir}, protocol="speaker_independent", fold=index)
    folder = work / f"{corpus}_{index}"
    folder.mkdir(parents=True, exist_ok=True)
    return Fold(folder.name, load_corpora(config), EmotionFeatureExtractor(), folder)


def load_clips(fold: Fold, rows: Sequence[int]) -> Clips:
    """Recordings of the six emotions among some rows, at the fold's rate."""
    clips, dataset = describe_rows(fold, rows), fold.corpora.dataset
    rate = fold.feature_extractor.sampling_rate
    waves = [read_recording(dataset[row]["audio"], rate).numpy() for row in clips.rows]
    return replace(clips, waves=waves)


def describe_rows(fold: Fold, rows: Sequence[int]) -> Clips:
    """What is true of the recordings of the six emotions among some rows, without their sound."""
    dataset, targets = fold.corpora.dataset, fold.corpora.targets
    rows = [row for row in rows if targets[row] < len(EMOTIONS)]
    names = ["corpus", "speaker", "sentence", "file"]
    columns = dataset.select(rows).select_columns(names)[:]
    corpora = columns["corpus"]
    return Clips(
        rows=rows,
        waves=[],
        corpora=corpora,
        emotions=[EMOTIONS[targets[row]] for row in rows],
        speakers=[f"{c} {s}" for c, s in zip(corpora, columns["speaker"], strict=True)],
        sentences=[f"{c} {s}" for c, s in zip(corpora, columns["sentence"], strict=True)],
        files=columns["file"],
    )


def some_clips(fold: Fold, rows: Sequence[int], limit: int | None, seed: int) -> Clips:
    """At most `limit` recordings of each corpus, at random: files in order alternate in takes."""
    described = describe_rows(fold, rows)
    order = np.random.default_rng(seed).permutation(len(described.rows)).tolist()
    chosen: list[int] = []
    for corpus in dict.fromkeys(described.corpora):
        chosen += [i for i in order if described.corpora[i] == corpus][:limit]
    return load_clips(fold, [described.rows[i] for i in sorted(chosen)])


def emotion_judges(fold: Fold, options: argparse.Namespace, training: Clips) -> dict[str, Judge]:
    """The judges of emotion, who learn from some clips."""
    return build_judges(
        options.judges,
        training.lesson(training.emotions),
        fold.feature_extractor,
        fold.folder / "judges",
        options.work / "features",
        options.judge_seeds,
        options.encoder,
    )


class Panel:
    """The judges of a fold: what they hear in waveforms.

    Args:
        judges: Judges of emotion.
    """

    def __init__(self, judges: Mapping[str, Judge]) -> None:
        self.judges = judges

    @classmethod
    def of(cls, fold: Fold, options: argparse.Namespace) -> "Panel":
        """Train the judges, or load those that were trained before."""
        return cls(emotion_judges(fold, options, load_clips(fold, fold.corpora.fold.train)))

    def hear(
        self, clips: Clips, waves: Sequence[np.ndarray], aimed: Sequence[str]
    ) -> dict[str, list[Any]]:
        """What each judge says of each waveform, and how sure the target is to it, 0 to 1.

        The second stands under the judge's name with " on target".
        """
        heard = {
            name: judge.predict_proba(waves, clips.corpora) for name, judge in self.judges.items()
        }
        said: dict[str, list[Any]] = dict(votes(heard))
        targets = [EMOTIONS.index(name) for name in aimed]
        for name, rows in heard.items():
            on_target = rows[np.arange(len(rows)), targets]
            said[f"{name} on target"] = np.round(on_target, 4).tolist()
        return said


def halves(clips: Clips, seed: int) -> tuple[Any, Any]:
    """Indices of what a probe of speakers learns, and of what it is asked about."""
    return split_half(clips.speakers, clips.sentences, clips.emotions, seed)


def wrong_emotions(emotions: Iterable[str], seed: int) -> list[str]:
    """For each emotion another one, drawn at random."""
    generator = np.random.default_rng(seed)
    return [
        str(generator.choice([other for other in EMOTIONS if other != emotion]))
        for emotion in emotions
    ]
