"""Independent classifiers that say which emotion a waveform holds; all learn from real speech.

* `opensmile-svm`: the functionals of ComParE 2016 and an SVM for each corpus;
* `whisper-regression`: a logistic regression for each corpus on the frozen layers of Whisper, which
  a filter hardly fools and which hears prosody;
* `emotion-tdnn`: the mean of time-delay networks on mels, one a seed.

The first two are the baselines of recognition with all their settings. Nobody knows the enhancer.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS
from modeling import EmotionFeatureExtractor
from training.state import write_json

from .mel_judge import JudgeConfig, MelJudge

SVM, REGRESSION, TDNN = "opensmile-svm", "whisper-regression", "emotion-tdnn"
EMOTION_JUDGES = (SVM, REGRESSION, TDNN)
# Beside the weights of a judge: what it learned, and how.
LESSON = "learned.json"


@dataclass(frozen=True)
class Lesson:
    """What a judge learns, one entry per recording.

    Args:
        waves: Mono `(samples,)` float32.
        corpora: Name of the corpus.
        labels: What it is to be called.
        names: What tells the recording from others.
    """

    waves: Sequence[np.ndarray]
    corpora: Sequence[str]
    labels: Sequence[str]
    names: Sequence[str]


class Judge(Protocol):
    """Names the emotion of waveforms."""

    def predict_proba(self, waves: Sequence[np.ndarray], corpora: Sequence[str]) -> np.ndarray:
        """Probabilities `(waves, emotions)` in the order of `EMOTIONS`; rows sum to 1."""
        ...


# --- Baselines -----------------------------------------------------------------------------------


class BaselineJudge:
    """A baseline of recognition as a judge, fitted for each corpus.

    Where the baseline has no probabilities (an SVM), all of them is on what it names.

    Args:
        baseline: `benchmarks.baseline.Baseline`.
        lesson: Real speech of training speakers.
        rate: Of all waveforms, in Hz.
        cache: Folder of the features of what was learned.
    """

    def __init__(self, baseline: Any, lesson: Lesson, rate: int, cache: Path) -> None:
        self.baseline, self.rate = baseline, rate
        self.layers = max(baseline.candidates, key=len)
        features = self._features(lesson.waves, cache)
        labels = np.asarray([EMOTIONS.index(label) for label in lesson.labels])
        corpora = np.asarray(lesson.corpora)
        self.fitted = {
            str(corpus): baseline.build().fit(
                features[corpora == corpus], labels[corpora == corpus]
            )
            for corpus in np.unique(corpora)
        }

    def predict_proba(self, waves: Sequence[np.ndarray], corpora: Sequence[str]) -> np.ndarray:
        """Probabilities `(waves, emotions)`.

        Raises:
            ValueError: A waveform that is too short for the features.
        """
        features = self._features(waves)
        rows = zip(features, corpora, strict=True)
        return np.stack([self._probabilities(self.fitted[corpus], row) for row, corpus in rows])

    def _probabilities(self, fitted: Any, row: np.ndarray) -> np.ndarray:
        probabilities = np.zeros(len(EMOTIONS))
        if hasattr(fitted, "predict_proba"):
            probabilities[fitted.classes_] = fitted.predict_proba(row[None])[0]
        else:
            probabilities[fitted.predict(row[None])] = 1
        return probabilities

    def _features(self, waves: Sequence[np.ndarray], cache: Path | None = None) -> np.ndarray:
        all_layers = wave_features(self.baseline, waves, self.rate, cache)
        return all_layers[:, list(self.layers)].reshape(len(waves), -1)


def wave_features(
    baseline: Any, waves: Sequence[np.ndarray], rate: int, cache: Path | None = None
) -> np.ndarray:
    """What a baseline hears in waveforms, float32 `(waves, layers, size)`.

    Args:
        baseline: `benchmarks.baseline.Baseline`.
        waves: Mono `(samples,)` float32.
        rate: In Hz.
        cache: Folder that keeps the features of each sound.

    Raises:
        ValueError: A waveform that is too short for the features.
    """
    features = np.empty((len(waves), *baseline.shape), np.float32)
    for i, wave in enumerate(tqdm(waves, desc=baseline.title, mininterval=5)):
        features[i] = _features_of(baseline, wave, rate, cache)
        if not np.isfinite(features[i]).all():
            raise ValueError(
                f"{baseline.title} has no features for waveform {i} of {len(wave) / rate:.3f} s, "
                "expected a longer one"
            )
    return features


def _features_of(baseline: Any, wave: np.ndarray, rate: int, cache: Path | None) -> np.ndarray:
    if cache is None:
        return baseline.compute(wave, rate)
    digest = hashlib.sha256(f"{baseline.system} {baseline.version} {rate} ".encode())
    digest.update(wave.tobytes())
    file = cache / f"{baseline.system}-{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp.npy")
        np.save(temporary, baseline.compute(wave, rate))
        temporary.replace(file)
    return np.load(file)


# --- Time-delay networks -------------------------------------------------------------------------


class TimeDelayJudge:
    """Time-delay networks of several seeds, whose probabilities are averaged.

    Args:
        lesson: Real speech of training speakers.
        extractor: Makes the log-mels.
        folder: Where the networks are kept, and loaded from if they learned the same before.
        seeds: One network each.
        config: Size and training.
    """

    def __init__(
        self,
        lesson: Lesson,
        extractor: EmotionFeatureExtractor,
        folder: Path,
        seeds: Sequence[int] = (0, 1, 2),
        config: JudgeConfig | None = None,
    ) -> None:
        self.extractor = extractor
        config = config or JudgeConfig()
        self.members = [
            train_mel_judge(lesson, extractor, folder / f"seed_{seed}", config, seed)
            for seed in seeds
        ]

    def predict_proba(self, waves: Sequence[np.ndarray], corpora: Sequence[str]) -> np.ndarray:
        """Probabilities `(waves, emotions)`."""
        mels = log_mels(self.extractor, waves)
        mean = np.mean([judge.predict_proba(mels, corpora) for judge in self.members], axis=0)
        probabilities = np.zeros((len(waves), len(EMOTIONS)))
        probabilities[:, [EMOTIONS.index(str(name)) for name in self.members[0].classes]] = mean
        return probabilities


def train_mel_judge(
    lesson: Lesson, extractor: EmotionFeatureExtractor, folder: Path, config: JudgeConfig, seed: int
) -> MelJudge:
    """A judge, or the one that learned the same before: recordings, labels, settings and seed."""
    learned = {
        "seed": seed,
        "sampling_rate": extractor.sampling_rate,
        "config": asdict(config),
        "recordings": list(zip(lesson.corpora, lesson.names, lesson.labels, strict=True)),
    }
    # As JSON gives it back: lists for tuples.
    learned = json.loads(json.dumps(learned))
    file = folder / LESSON
    if not file.exists() or json.loads(file.read_text(encoding="utf-8")) != learned:
        file.unlink(missing_ok=True)
        mels = log_mels(extractor, lesson.waves)
        judge = MelJudge.fit(mels, lesson.labels, seed=seed, groups=lesson.corpora, config=config)
        judge.save(folder)
        write_json(file, learned)
    return MelJudge.load(folder)


def log_mels(extractor: EmotionFeatureExtractor, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-mels `(frames, n_mels)`, not normalised."""
    mels = []
    for wave in waves:
        features = extractor(wave, padding=False, truncation=False)["input_features"][0]
        mels.append(extractor.denormalize(torch.from_numpy(features)).numpy())
    return mels


# --- All of them ---------------------------------------------------------------------------------


def build_judges(
    names: Sequence[str],
    lesson: Lesson,
    extractor: EmotionFeatureExtractor,
    folder: Path,
    cache: Path,
    seeds: Sequence[int],
    encoder: str,
) -> dict[str, Judge]:
    """The judges of emotion that can be had here; one that cannot is said.

    Args:
        names: Some of `EMOTION_JUDGES`.
        lesson: Real speech of training speakers.
        extractor: Makes log-mels; its rate is that of the waveforms.
        folder: Where networks are kept.
        cache: Where features of real speech are kept.
        seeds: Of the time-delay networks.
        encoder: Hub id or folder of Whisper.

    Raises:
        ValueError: An unknown name, or nobody is left.
    """
    if unknown := sorted(set(names) - set(EMOTION_JUDGES)):
        raise ValueError(f"Bad judges {unknown}, expected some of {list(EMOTION_JUDGES)}")
    judges: dict[str, Judge] = {}
    for name in names:
        if name == TDNN:
            judges[name] = TimeDelayJudge(lesson, extractor, folder / TDNN, seeds)
        elif (baseline := _baseline(name, encoder)) is not None:
            judges[name] = BaselineJudge(baseline, lesson, extractor.sampling_rate, cache)
    if not judges:
        raise ValueError(f"None of the judges {list(names)} can be had, expected at least one")
    return judges


def _baseline(name: str, encoder: str) -> Any:
    """A baseline; None, and why, where its package or its weights are missing."""
    if name == SVM:
        if importlib.util.find_spec("opensmile") is None:
            print("openSMILE is not installed: one judge fewer ([baselines])", file=sys.stderr)
            return None
        from .opensmile_svm import opensmile_svm

        return opensmile_svm()
    from .whisper_logistic_regression import whisper_logistic_regression

    try:
        return whisper_logistic_regression(encoder)
    except OSError as error:
        print(f"No '{encoder}' here: one judge fewer ({error})", file=sys.stderr)
        return None


def votes(probabilities: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """What each judge says of each waveform."""
    return {
        name: [EMOTIONS[i] for i in rows.argmax(axis=1)] for name, rows in probabilities.items()
    }
