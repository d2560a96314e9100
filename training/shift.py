"""The mean effects of emotions on a voice, fitted on training speakers.

`class_shift` separates the effect of an emotion from who speaks and what is said, by a ridge
regression with all three as factors (as a linear mixed model would, Bates et al. 2015, with the
penalty in the place of the random effects' variance). `band_filter` is the plain difference between
the mean spectrum of an emotion and that of everybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder

from modeling import EmotionShift, Prosody
from modeling.modeling_emotion_shift import EFFECTS, active_frames

# Of the ridge regression: small against the recordings of an emotion or speaker.
PENALTY = 1.0
# Deviation of log F0 that counts as none: half a semitone.
SMALLEST_RANGE = 0.03
FEWEST_VOICED_FRAMES = 5
BAND_FILTERS = ("all_frames", "active_frames", "towards_mean")


@dataclass(frozen=True)
class Voices:
    """What a shift is fitted on, one entry per recording.

    Args:
        log_mels: Natural logarithms of mel magnitudes `(frames, n_mels)`, not normalised.
        prosodies: Pitch on the same frames.
        emotions: Names.
        speakers: Unique over corpora, as sentences are.
        sentences: What is said.
        corpora: Names.
    """

    log_mels: Sequence[torch.Tensor]
    prosodies: Sequence[Prosody]
    emotions: Sequence[str]
    speakers: Sequence[str]
    sentences: Sequence[str]
    corpora: Sequence[str]


def load_voices(
    dataset: Dataset,
    rows: Sequence[int],
    log_mels: Sequence[np.ndarray] | Mapping[int, np.ndarray],
    prosodies: Mapping[int, Prosody],
) -> Voices:
    """Recordings of a corpus, or of several.

    Args:
        dataset: Rows with `corpus`, `emotion`, `speaker` and `sentence`.
        rows: Which of them.
        log_mels: Log-mels `(frames, n_mels)` of all rows, or by row.
        prosodies: Of these rows at least.
    """
    chosen = dataset.select(rows)
    names, table = chosen.features["emotion"].names, chosen.remove_columns("audio")[:]
    corpora = table["corpus"]
    return Voices(
        [torch.from_numpy(log_mels[row]) for row in rows],
        [prosodies[row] for row in rows],
        [names[i] for i in table["emotion"]],
        [f"{c} {s}" for c, s in zip(corpora, table["speaker"], strict=True)],
        [f"{c} {s}" for c, s in zip(corpora, table["sentence"], strict=True)],
        corpora,
    )


def fit_class_shift(voices: Voices, emotions: Sequence[str], **settings: Any) -> EmotionShift:
    """Effects on bands, pitch, range and duration of each emotion, for each corpus.

    Args:
        voices: Recordings of training speakers.
        emotions: Names, in the order of the classifier's labels.
        settings: Further settings of `EmotionShift`.

    Raises:
        ValueError: A corpus without recordings of an emotion.
    """
    shift, statistics = _new_shift(voices, emotions, **settings), _statistics(voices)
    for place, corpus in enumerate(shift.config.corpora):
        rows = _rows_of(voices, corpus, emotions)
        factors = [
            [x[i] for x in (voices.emotions, voices.speakers, voices.sentences)] for i in rows
        ]
        for name in EFFECTS:
            values = statistics[name][rows]
            getattr(shift, name)[place] = _effects(values, factors, emotions)
    return shift


def fit_band_filter(
    voices: Voices, emotions: Sequence[str], kind: str = "all_frames", **settings: Any
) -> EmotionShift:
    """The same bands for everybody: the mean of an emotion less that of all recordings.

    Args:
        voices: Recordings of training speakers.
        emotions: Names, in the order of the classifier's labels.
        kind: Means over `"all_frames"` or `"active_frames"`; or `"towards_mean"`, which moves the
            mean of a recording's active frames towards that of the emotion.
        settings: Further settings of `EmotionShift`.

    Raises:
        ValueError: Another kind, or a corpus without recordings of an emotion.
    """
    if kind not in BAND_FILTERS:
        raise ValueError(f"Bad kind {kind!r}, expected one of {list(BAND_FILTERS)}")
    towards = kind == "towards_mean"
    shift = _new_shift(voices, emotions, towards_mean=towards, **settings)
    name = "all_bands" if kind == "all_frames" else "bands"
    bands = _statistics(voices)[name]
    for place, corpus in enumerate(shift.config.corpora):
        rows = _rows_of(voices, corpus, emotions)
        labels = np.asarray(voices.emotions)[rows]
        means = np.stack([bands[rows][labels == emotion].mean(axis=0) for emotion in emotions])
        offset = 0.0 if towards else bands[rows].mean(axis=0)
        shift.bands[place] = torch.from_numpy(means - offset)
    return shift


def _new_shift(voices: Voices, emotions: Sequence[str], **settings: Any) -> EmotionShift:
    corpora = list(dict.fromkeys(voices.corpora))
    return EmotionShift(list(emotions), corpora, voices.log_mels[0].shape[1], **settings)


def _rows_of(voices: Voices, corpus: str, emotions: Sequence[str]) -> np.ndarray:
    own = np.asarray(voices.corpora) == corpus
    labels = np.asarray(voices.emotions)
    if missing := sorted(set(emotions) - set(labels[own])):
        raise ValueError(f"No recordings of {missing} in '{corpus}', expected some of each emotion")
    return np.flatnonzero(own & np.isin(labels, emotions))


def _statistics(voices: Voices) -> dict[str, np.ndarray]:
    """Of each recording; NaN where it has no pitch."""
    rows = [_describe(m, p) for m, p in zip(voices.log_mels, voices.prosodies, strict=True)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _describe(log_mel: torch.Tensor, prosody: Prosody) -> dict[str, Any]:
    active = active_frames(log_mel)
    spoken = np.flatnonzero(active.numpy())
    log_f0 = prosody.log_f0[prosody.voiced]
    pitched = len(log_f0) >= FEWEST_VOICED_FRAMES
    return {
        "all_bands": log_mel.mean(dim=0).numpy(),
        "bands": log_mel[active].mean(dim=0).numpy(),
        "pitch": log_f0.mean() if pitched else np.nan,
        "pitch_range": np.log(max(log_f0.std(), SMALLEST_RANGE)) if pitched else np.nan,
        # From the first to the last sound: silence around it says nothing about the tempo.
        "duration": np.log(spoken[-1] - spoken[0] + 1),
    }


def _effects(
    values: np.ndarray, factors: Sequence[Sequence[str]], emotions: Sequence[str]
) -> torch.Tensor:
    """Effects `(emotions, ...)`, with mean 0, of values `(recordings, ...)`."""
    known = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if known.sum() < 2:
        # Nobody has a pitch, as in noise: there is none to move.
        return torch.zeros(len(emotions), *values.shape[1:])
    encoder = OneHotEncoder(sparse_output=False).fit(factors)
    design = encoder.transform(np.asarray(factors, dtype=object)[known])
    fitted = Ridge(alpha=PENALTY).fit(design, values[known])
    # Named columns come in the order of the encoder, whose first factor is the emotion.
    order = [list(encoder.categories_[0]).index(emotion) for emotion in emotions]
    effects = fitted.coef_.T[order]
    return torch.from_numpy(effects - effects.mean(axis=0)).float()
