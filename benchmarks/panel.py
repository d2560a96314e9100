"""The recordings of a fold, and the judges that hear them."""

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import DiffusionPipeline
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS
from evaluation.judges import (
    SENTENCE_JUDGE,
    SPEAKER_JUDGE,
    JudgeConfig,
    MelJudge,
    split_half,
)
from pipelines import EmotionEnhancementPipeline
from training.config import DiffusionConfig, from_dict
from training.data import Corpora, load_corpora
from training.state import write_json

SVM = "opensmile-svm"
# The first is left out where openSMILE is not installed.
EMOTION_JUDGES = (SVM, "emotion-tdnn")
# Beside the weights of a judge: what it learned, and how.
LESSON = "learned.json"


@dataclass(frozen=True)
class Clips:
    """Recordings to be judged, and what is true of them.

    Args:
        rows: Their places in the dataset of the fold.
        waves: Mono `(samples,)`, float32, -1 to 1, at the enhancer's rate; empty where only the
            rest is asked for.
        corpora: Name of the corpus.
        emotions: Names of `EMOTIONS`.
        speakers: Unique over corpora, as sentences are.
        sentences: What is said.
    """

    rows: list[int]
    waves: list[np.ndarray]
    corpora: list[str]
    emotions: list[str]
    speakers: list[str]
    sentences: list[str]

    def take(self, indices: Sequence[int]) -> "Clips":
        """Some of them."""
        columns = (self.rows, self.waves, self.corpora, self.emotions, self.speakers)
        parts = ([column[i] for i in indices] for column in (*columns, self.sentences))
        return Clips(*parts)  # type: ignore[arg-type]


@dataclass
class Fold:
    """One trained enhancer and its people.

    Args:
        name: Of the run's folder.
        config: Settings that it was trained with.
        corpora: All recordings, and who trains, validates and tests.
        pipe: The enhancer.
        folder: Where what is measured of it is kept.
    """

    name: str
    config: DiffusionConfig
    corpora: Corpora
    pipe: EmotionEnhancementPipeline
    folder: Path


def runs_parser(module: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """The command line that benchmarks of trained enhancers have in common."""
    parser = argparse.ArgumentParser(
        f"python -m {module}", description=(description or "").split("\n")[0]
    )
    parser.add_argument("--runs", nargs="+", required=True, help="folders of train_diffusion.py")
    parser.add_argument("--work", type=Path, default=Path("outputs/enhancement"))
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--seed", type=int, default=0)
    return parser


def load_fold(run: str, work: Path) -> Fold:
    """An enhancer with the corpora that it was trained and is tested on."""
    settings = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
    config = from_dict(DiffusionConfig, settings)
    saved = DiffusionPipeline.from_pretrained(f"{run}/model", trust_remote_code=True)
    # The networks of the run, in the pipeline of this checkout.
    pipe = EmotionEnhancementPipeline(**saved.components)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.channels_last)
    folder = work / Path(run).name
    folder.mkdir(parents=True, exist_ok=True)
    return Fold(Path(run).name, config, load_corpora(config), pipe, folder)


def load_clips(fold: Fold, rows: Sequence[int]) -> Clips:
    """Recordings of the six emotions among some rows, at the enhancer's rate."""
    clips, dataset = describe_rows(fold, rows), fold.corpora.dataset
    waves = [fold.pipe.read(dataset[row]["audio"])[0].numpy() for row in clips.rows]
    return replace(clips, waves=waves)


def describe_rows(fold: Fold, rows: Sequence[int]) -> Clips:
    """What is true of the recordings of the six emotions among some rows, without their sound."""
    dataset, targets = fold.corpora.dataset, fold.corpora.targets
    rows = [row for row in rows if targets[row] < len(EMOTIONS)]
    columns = dataset.select(rows).select_columns(["corpus", "speaker", "sentence"])[:]
    corpora = columns["corpus"]
    return Clips(
        rows=rows,
        waves=[],
        corpora=corpora,
        emotions=[EMOTIONS[targets[row]] for row in rows],
        speakers=[f"{c} {s}" for c, s in zip(corpora, columns["speaker"], strict=True)],
        sentences=[f"{c} {s}" for c, s in zip(corpora, columns["sentence"], strict=True)],
    )


class Panel:
    """The judges of a fold: what they hear in waveforms."""

    def __init__(self, fold: Fold, judges: dict[str, MelJudge], svms: dict[str, Any]) -> None:
        self.fold = fold
        self.judges = judges
        self.svms = svms

    @classmethod
    def of(cls, fold: Fold, seed: int) -> "Panel":
        """Train the judges, or load those that were trained before."""
        known = fold.corpora.fold
        training = load_clips(fold, known.train)
        everybody = load_clips(fold, [*known.train, *known.validation, *known.test])
        first, _ = halves(everybody, seed)
        learners = everybody.take(first)
        judges = {
            "emotion-tdnn": (training, training.emotions, JudgeConfig()),
            "sentence-tdnn": (training, training.sentences, SENTENCE_JUDGE),
            "speaker-tdnn": (learners, learners.speakers, SPEAKER_JUDGE),
        }
        trained = {name: train_judge(fold, name, *job, seed) for name, job in judges.items()}
        return cls(fold, trained, fit_svms(fold, training))

    def hear(self, clips: Clips, waves: Sequence[np.ndarray], cache: Path) -> dict[str, list[str]]:
        """What each judge says of each waveform."""
        mels = log_mels(self.fold, waves)
        heard = {
            name: judge.predict(mels, clips.corpora).tolist() for name, judge in self.judges.items()
        }
        if self.svms:
            features = opensmile_features(waves, self.rate, cache)
            heard[SVM] = [
                str(self.svms[corpus].predict(row[None])[0])
                for corpus, row in zip(clips.corpora, features, strict=True)
            ]
        return heard

    @property
    def rate(self) -> int:
        """Rate of the waveforms in Hz."""
        return self.fold.pipe.feature_extractor.sampling_rate


def train_judge(
    fold: Fold, name: str, clips: Clips, labels: Sequence[str], config: JudgeConfig, seed: int
) -> MelJudge:
    """A judge, or the one that learned the same before: recordings, labels, settings and seed."""
    folder = fold.folder / "judges" / name
    files = fold.corpora.dataset.select(clips.rows)["file"]
    learned = {
        "seed": seed,
        "sampling_rate": fold.pipe.feature_extractor.sampling_rate,
        "config": asdict(config),
        "recordings": list(zip(clips.corpora, files, labels, strict=True)),
    }
    # As JSON gives it back: lists for tuples.
    learned = json.loads(json.dumps(learned))
    lesson = folder / LESSON
    if not lesson.exists() or json.loads(lesson.read_text(encoding="utf-8")) != learned:
        lesson.unlink(missing_ok=True)
        mels = log_mels(fold, clips.waves)
        MelJudge.fit(mels, labels, seed=seed, groups=clips.corpora, config=config).save(folder)
        write_json(lesson, learned)
    return MelJudge.load(folder)


def halves(clips: Clips, seed: int) -> tuple[Any, Any]:
    """Indices of what the judge of speakers learns, and of what it is asked about."""
    return split_half(clips.speakers, clips.sentences, clips.emotions, seed)


def log_mels(fold: Fold, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-mels `(frames, n_mels)`, not normalised."""
    extractor = fold.pipe.feature_extractor
    mels = []
    for wave in waves:
        features = extractor(wave, padding=False, truncation=False)["input_features"][0]
        mels.append(extractor.denormalize(torch.from_numpy(features)).numpy())
    return mels


def fit_svms(fold: Fold, training: Clips) -> dict[str, Any]:
    """The baseline's SVM for each corpus, on waveforms at the enhancer's rate."""
    if importlib.util.find_spec("opensmile") is None:
        print("openSMILE is not installed: one judge fewer ([baselines])", file=sys.stderr)
        return {}
    from .opensmile_svm import opensmile_svm

    rate = fold.pipe.feature_extractor.sampling_rate
    features = opensmile_features(training.waves, rate, fold.folder / "training.npy")
    svms = {}
    for corpus in dict.fromkeys(training.corpora):
        own = [i for i, name in enumerate(training.corpora) if name == corpus]
        labels = [training.emotions[i] for i in own]
        svms[corpus] = opensmile_svm().build().fit(features[own], labels)
    return svms


def opensmile_features(waves: Sequence[np.ndarray], rate: int, cache: Path) -> np.ndarray:
    """ComParE 2016 functionals `(clips, 6373)`, kept in a file for the same sounds.

    Raises:
        ValueError: A waveform that is too short for the features.
    """
    from .opensmile_svm import opensmile_svm

    baseline = opensmile_svm()
    digest = hashlib.sha256(f"{baseline.version} {rate}".encode())
    for wave in waves:
        digest.update(hashlib.sha256(wave.tobytes()).digest())
    cache = cache.with_name(f"{cache.stem}-{digest.hexdigest()[:16]}.npy")
    if cache.exists():
        return np.load(cache)
    features = np.empty((len(waves), *baseline.shape[1:]), np.float32)
    for i, wave in enumerate(tqdm(waves, desc=baseline.title, mininterval=5)):
        features[i] = baseline.compute(wave, rate)[0]
        if not np.isfinite(features[i]).all():
            raise ValueError(
                f"openSMILE has no features for waveform {i} of {len(wave) / rate:.3f} s, expected "
                "a longer one"
            )
    temporary = cache.with_suffix(".tmp.npy")
    np.save(temporary, features)
    temporary.replace(cache)
    return features
