"""Test the classic baseline, openSMILE features and an SVM, on the folds of the network.

    python -m benchmarks.opensmile_svm --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --protocols speaker_independent paper cross_corpus --output results/opensmile_svm.json

Features are the 6373 functionals of ComParE 2016 (Schuller et al. 2016), computed by openSMILE
(Eyben et al. 2010) from the mono recording at its own rate. They are standardised with the
statistics of the training rows, for an SVM with an RBF kernel, C = 5 and balanced class weights.

The SVM has nothing to choose by validation, so it trains on the training *and* validation rows of
a fold: all that are not tested, the reading most favourable to the baseline. Protocols within a
corpus train on that corpus alone. In `cross_corpus` the statistics are those of the source too: the
target lies so far from them that the SVM names hardly more than one emotion. It is at chance there.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets

from datasets_scripts import CORPORA, PROTOCOLS, Fold, decode_audio, load_corpus, protocol_folds
from evaluation import Record, make_record, provenance, recognition_metrics, write_records

try:
    import opensmile
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"The baseline needs '{error.name}': pip install speech-emotion-diffusion[baselines]"
    ) from error

SYSTEM = "opensmile-compare2016-svm"
NUM_FEATURES = 6373
# openSMILE casts to 16 bit without a limit: full scale itself would wrap around.
FULL_SCALE = 1 - 2**-15


def main(arguments: Sequence[str] | None = None) -> None:
    """Extract the features of all corpora, then run the protocols and write their records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    corpora = [load_corpus(name, "six_emotions", folder) for name, folder in options.corpus]
    tables = [(corpus, extract_features(corpus, options.cache)) for corpus in corpora]
    for protocol in options.protocols:
        for dataset, features in [_join(tables)] if protocol == "cross_corpus" else tables:
            records = run_protocol(
                dataset, features, protocol, options.seed, arguments, options.folds
            )
            write_records(options.output, records)
            for record in records:
                print(describe(record), flush=True)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.opensmile_svm", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--corpus",
        action="append",
        required=True,
        type=_corpus,
        metavar="NAME[=FOLDER]",
        help=f"one of {list(CORPORA)}; downloaded without a folder (repeatable)",
    )
    parser.add_argument(
        "--protocols", nargs="+", default=["speaker_independent"], choices=PROTOCOLS
    )
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--output", type=Path, default=Path("results/opensmile_svm.json"))
    parser.add_argument("--cache", type=Path, help="folder of extracted features")
    parser.add_argument("--seed", type=int, default=0, help="of the random protocols")
    options = parser.parse_args(arguments)
    if "cross_corpus" in options.protocols and len(options.corpus) < 2:
        parser.error(f"cross_corpus needs two corpora, got {options.corpus}")
    return options


def _corpus(text: str) -> tuple[str, str | None]:
    name, _, folder = text.partition("=")
    if name not in CORPORA:
        raise argparse.ArgumentTypeError(f"Bad corpus '{name}', expected one of {list(CORPORA)}")
    return name, folder or None


def _join(tables: Sequence[tuple[Dataset, np.ndarray]]) -> tuple[Dataset, np.ndarray]:
    corpora, features = zip(*tables, strict=True)
    return concatenate_datasets(corpora), np.concatenate(features)


def extract_features(dataset: Dataset, cache_dir: str | Path | None = None) -> np.ndarray:
    """ComParE-2016 functionals of every recording, computed once for the same sounds.

    Args:
        dataset: Rows with an encoded `audio` column, of any sampling rates and channels.
        cache_dir: Folder that keeps the features under a key made of the recordings themselves; a
            folder in the cache of `datasets` by default.

    Returns:
        float32 features `(rows, 6373)`, not standardised.

    Raises:
        ValueError: A recording that cannot be decoded or is too short for the features.
    """
    folder = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "opensmile")
    folder.mkdir(parents=True, exist_ok=True)
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    audio = dataset.select_columns(["audio"])
    key = _digest(audio["audio"])
    mapped = audio.map(
        lambda recording: {"features": compute_functionals(smile, recording)},
        input_columns="audio",
        remove_columns="audio",
        features=Features({"features": List(Value("float32"), length=NUM_FEATURES)}),
        cache_file_name=str(folder / f"compare2016-{key}.arrow"),
        load_from_cache_file=True,
        new_fingerprint=key,
        desc="Computing ComParE 2016",
    )
    return mapped.with_format("numpy")[:]["features"]


def _digest(recordings: Iterable[dict[str, Any]]) -> str:
    """Key of the recordings in their order, and of the program that is to hear them."""
    digest = hashlib.sha256(f"opensmile {opensmile.__version__}".encode())
    for audio in recordings:
        data = audio["bytes"] or Path(audio["path"]).read_bytes()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def compute_functionals(smile: opensmile.Smile, audio: dict[str, Any]) -> np.ndarray:
    """Functionals `(6373,)` of one recording, `{"bytes", "path"}`, mixed down to mono.

    Raises:
        ValueError: It cannot be decoded, or is too short.
    """
    samples, rate = decode_audio(audio)
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    functionals = smile.process_signal(np.clip(mono, -1, FULL_SCALE), rate).to_numpy()[0]
    if not np.isfinite(functionals).all():
        raise ValueError(
            f"openSMILE has no features for '{audio['path']}' of {len(mono) / rate:.3f} s, "
            "expected a longer recording"
        )
    return functionals


def build_svm() -> Pipeline:
    """The classifier of the baseline, not fitted: `fit(features, labels)`, `predict(features)`.

    It gives no probabilities: those of an SVM come from a second, cross-validated fit whose
    largest one may contradict the prediction.
    """
    return make_pipeline(StandardScaler(), SVC(C=5, kernel="rbf", class_weight="balanced"))


def run_protocol(
    dataset: Dataset,
    features: np.ndarray,
    protocol: str,
    seed: int = 0,
    arguments: Sequence[str] = (),
    only: Sequence[int] | None = None,
) -> list[Record]:
    """Train and test the baseline on every fold of a protocol.

    Args:
        dataset: Rows of one corpus, or of several for `cross_corpus`.
        features: What [`extract_features`] returns for it, `(rows, 6373)`.
        protocol: One of `PROTOCOLS`.
        seed: Seed of what the protocol draws at random; the baseline draws nothing.
        arguments: Command line of this script, for the record.
        only: Indices of the folds to run; all when not given.

    Returns:
        One record per corpus tested: scores of the predictions of all its folds together, and of
        each fold. The seconds count training and testing, not the extraction of features.

    Raises:
        ValueError: The protocol is unknown or does not fit the dataset.
    """
    folds = [
        fold for fold in protocol_folds(dataset, protocol, seed) if not only or fold.index in only
    ]
    corpora = dict.fromkeys(fold.corpus for fold in folds)
    command = ["-m", "benchmarks.opensmile_svm", *arguments]
    return [
        _test_corpus(dataset, features, [f for f in folds if f.corpus == corpus], seed, command)
        for corpus in corpora
    ]


def _test_corpus(
    dataset: Dataset,
    features: np.ndarray,
    folds: Sequence[Fold],
    seed: int,
    command: Sequence[str],
) -> Record:
    started = time.monotonic()
    labels, speakers = np.asarray(dataset["emotion"]), np.asarray(dataset["speaker"])
    predictions = [predict_fold(fold, features, labels) for fold in folds]
    tested = np.concatenate([fold.test for fold in folds])
    metrics = recognition_metrics(
        np.concatenate(predictions), labels[tested], speakers=speakers[tested].tolist()
    )
    per_fold = [
        _fold_scores(fold, predicted, labels)
        for fold, predicted in zip(folds, predictions, strict=True)
    ]
    return make_record(
        task="recognition",
        corpus=folds[0].corpus,
        protocol=folds[0].protocol,
        system=SYSTEM,
        metrics=metrics,
        folds=len(folds),
        per_fold=per_fold,
        provenance=provenance(seed, time.monotonic() - started, command),
    )


def predict_fold(fold: Fold, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Train on all rows of a fold that are not tested; class ids of the test rows, in order."""
    known = [*fold.train, *fold.validation]
    svm = build_svm().fit(features[known], labels[known])
    return svm.predict(features[list(fold.test)])


def _fold_scores(fold: Fold, predicted: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    scores = recognition_metrics(predicted, labels[list(fold.test)])
    return {"name": fold.name, "n": len(fold.test), "WA": scores["WA"], "UA": scores["UA"]}


def describe(record: Record) -> str:
    """A record in one line, in percent."""
    rates = ", ".join(f"{name} {100 * record['metrics'][name]:.1f}" for name in ("WA", "UA"))
    return f"{record['corpus']}, {record['protocol']}: {rates} ({record['folds']} folds)"


if __name__ == "__main__":
    main()
