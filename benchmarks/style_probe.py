"""What a linear probe reads in the style tokens: the emotion should be faint, the voice plain.

    python -m benchmarks.style_probe --runs outputs/enhancer_0 outputs/enhancer_1 \\
        --output results/style_probe.json

The denoiser is told the emotion by its embedding; were it also written in the style, the embedding
would have nothing left to say. A logistic regression learns to name the emotion from the tokens of
training speakers and is tested on people whom nobody ever heard; another learns to name the speaker
from one half of everybody's recordings, and is asked about the other half. Beside the tokens stand
the mean and deviation of every mel band, which anybody gets who listens to the whole utterance, and
the recogniser's embedding, which is made of emotion.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets_scripts import EMOTIONS
from evaluation import Record, make_record, provenance, recognition_metrics, write_records

from .panel import Clips, EnhancerFold, describe_rows, halves, load_fold, runs_parser

TOKENS, BANDS, VECTOR = "style-tokens", "band-statistics", "emotion-embedding"
# Inverse strength of the L2 penalty; the validation speakers choose.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Probe every run and write the records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    started = time.monotonic()
    tables = [probe_fold(load_fold(run, options.work), options.seed) for run in options.runs]
    seconds = time.monotonic() - started
    command = ["-m", "benchmarks.style_probe", *arguments]
    write_records(options.output, records(tables, provenance(options.seed, seconds, command)))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = runs_parser("benchmarks.style_probe", __doc__, "results/style_probe.json")
    return parser.parse_args(arguments)


def probe_fold(fold: EnhancerFold, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """For each representation, what its probes say of the test speakers' recordings."""
    known = fold.corpora.fold
    clips = describe_rows(fold, [*known.train, *known.validation, *known.test])
    views = represent(fold, clips)
    return {name: probe(view, clips, known.splits, seed) for name, view in views.items()}


@torch.no_grad()
def represent(fold: EnhancerFold, clips: Clips) -> dict[str, np.ndarray]:
    """Each recording as a vector, in three ways: `{name: (recordings, size)}`."""
    columns: dict[str, list[np.ndarray]] = {TOKENS: [], BANDS: [], VECTOR: []}
    for features in heard_features(fold, clips):
        columns[BANDS].append(torch.cat([features.mean(1), features.std(1)], 1)[0].numpy())
        columns[TOKENS].append(fold.pipe.denoiser.style_encoder(features)[0].flatten().numpy())
        columns[VECTOR].append(fold.pipe.classifier(features).embeddings[0].numpy())
    return {name: np.stack(rows) for name, rows in columns.items()}


def heard_features(fold: EnhancerFold, clips: Clips) -> Iterator[torch.Tensor]:
    """Z-scored log-mels `(1, frames, n_mels)`, as the pipeline makes them."""
    extractor = fold.pipe.feature_extractor
    for row, corpus in zip(clips.rows, clips.corpora, strict=True):
        wave = fold.pipe.read(fold.corpora.dataset[row]["audio"])[0].numpy()
        yield extractor(wave, padding=False, corpus=corpus, return_tensors="pt")["input_features"]


def probe(
    view: np.ndarray, clips: Clips, splits: Mapping[str, Sequence[int]], seed: int
) -> dict[str, np.ndarray]:
    """Emotions and speakers as read from the vectors `(recordings, size)` of the test speakers."""
    place = {row: i for i, row in enumerate(clips.rows)}
    train, validation, test = (
        [place[row] for row in splits[name] if row in place]
        for name in ("train", "validation", "test")
    )
    emotions, speakers = np.asarray(clips.emotions), np.asarray(clips.speakers)
    emotion_probe = best_probe(view, emotions, train, validation)
    learnt, asked = halves(clips, seed)
    # Nobody new is asked about, so the weakest penalty will do.
    speaker_probe = new_probe(PENALTIES[-1]).fit(view[learnt], speakers[learnt])
    return {
        "corpus": np.asarray(clips.corpora)[test],
        "speaker": speakers[test],
        "emotion": emotions[test],
        "emotion_read": emotion_probe.predict(view[test]),
        "speaker_read": speaker_probe.predict(view[test]),
        "asked_speaker": np.isin(test, asked),
    }


def best_probe(
    view: np.ndarray, labels: np.ndarray, train: Sequence[int], validation: Sequence[int]
) -> Pipeline:
    """The probe that does best on the validation speakers."""
    probes = [new_probe(penalty).fit(view[train], labels[train]) for penalty in PENALTIES]
    return max(probes, key=lambda fitted: fitted.score(view[validation], labels[validation]))


def new_probe(penalty: float) -> Pipeline:
    """A linear probe of standardised vectors."""
    regression = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
    return make_pipeline(StandardScaler(), regression)


def records(tables: Sequence[Mapping[str, Mapping[str, np.ndarray]]], made_by: Any) -> list[Record]:
    """One record a corpus and representation, over all folds."""
    found = []
    for name in (TOKENS, BANDS, VECTOR):
        table = {
            column: np.concatenate([fold[name][column] for fold in tables])
            for column in tables[0][name]
        }
        for corpus in dict.fromkeys(table["corpus"].tolist()):
            own = {column: values[table["corpus"] == corpus] for column, values in table.items()}
            found.append(
                make_record(
                    task="style",
                    corpus=corpus,
                    protocol="speaker_independent",
                    system=name,
                    judge="logistic-regression",
                    metrics=scores(own),
                    folds=len(tables),
                    provenance=made_by,
                )
            )
    return found


def scores(table: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How much of emotion and voice is read."""
    read, true = (
        [EMOTIONS.index(name) for name in table[column]] for column in ("emotion_read", "emotion")
    )
    named = (table["speaker_read"] == table["speaker"])[table["asked_speaker"]]
    metrics = recognition_metrics(read, true, speakers=table["speaker"].tolist())
    return {**metrics, "speaker_WA": float(named.mean())}


if __name__ == "__main__":
    main()
