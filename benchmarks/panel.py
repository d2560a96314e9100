"""The recordings of a fold, and the judges that hear them."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

SVM = "opensmile-svm"
# The first is left out where openSMILE is not installed.
EMOTION_JUDGES = (SVM, "emotion-tdnn")


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
        jobs = {
            "emotion-tdnn": (training, training.emotions, JudgeConfig()),
            "sentence-tdnn": (training, training.sentences, SENTENCE_JUDGE),
            "speaker-tdnn": (everybody.take(first), None, SPEAKER_JUDGE),
        }
        judges = {}
        for name, (clips, labels, config) in jobs.items():
            folder = fold.folder / "judges" / name
            if not (folder / "judge.json").exists():
                labels = clips.speakers if labels is None else labels
                mels = log_mels(fold, clips.waves)
                MelJudge.fit(mels, labels, seed=seed, groups=clips.corpora, config=config).save(
                    folder
                )
            judges[name] = MelJudge.load(folder)
        return cls(fold, judges, fit_svms(fold, training))

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
    from .opensmile_svm import build_svm

    rate = fold.pipe.feature_extractor.sampling_rate
    features = opensmile_features(training.waves, rate, fold.folder / "training.npy")
    svms = {}
    for corpus in dict.fromkeys(training.corpora):
        own = [i for i, name in enumerate(training.corpora) if name == corpus]
        labels = [training.emotions[i] for i in own]
        svms[corpus] = build_svm().fit(features[own], labels)
    return svms


def opensmile_features(waves: Sequence[np.ndarray], rate: int, cache: Path) -> np.ndarray:
    """ComParE 2016 functionals `(clips, 6373)`, kept in a file."""
    import opensmile

    from .opensmile_svm import FULL_SCALE

    if cache.exists():
        return np.load(cache)
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    heard = (
        smile.process_signal(np.clip(wave, -1, FULL_SCALE), rate).to_numpy()[0]
        for wave in tqdm(waves, desc="ComParE 2016", mininterval=5)
    )
    features = np.nan_to_num(np.stack(list(heard)).astype(np.float32))
    temporary = cache.with_suffix(".tmp.npy")
    np.save(temporary, features)
    temporary.replace(cache)
    return features
