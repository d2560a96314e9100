"""What baselines share: corpora, features kept in a cache, folds, conditions and records.

A baseline extracts features without learning anything, and fits a scikit-learn classifier on them
for each fold. It trains on the training *and* validation rows of a fold: all that are not tested,
the reading most favourable to a baseline. Protocols within a corpus train on that corpus alone; in
`cross_corpus` the statistics are those of the source too, but for the mean if it is calibrated.

Training is always on recordings as they are. What is tested may be changed (`--conditions`, see
`benchmarks.conditions`), or calibrated: `calibrated_<by>_<n>` takes from the features of each test
recording the mean over `n` unlabelled ones of the same speaker (`by` "speaker"), or of all that the
fold tests of the corpus ("room"); "speaker_neutral" and "room_neutral" draw neutral ones only.
Training rows are centred alike, on the mean over all of their speaker or corpus (neutral ones for
the latter two). The recordings are drawn among those tested, five times; scores are those of all
five draws together, and no predictions are kept.
Where a fold tests one speaker, as in EmoDB, the room is that speaker.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets

from datasets_scripts import (
    EMOTIONS,
    PROTOCOLS,
    Fold,
    decode_audio,
    load_corpus,
    protocol_folds,
)
from evaluation import Record, make_record, provenance, recognition_metrics, write_records
from evaluation.conditions import AS_RECORDED, Calibration, parse_condition
from evaluation.predictions import FOLDER, Prediction, write_predictions
from evaluation.tables import remarks

from .command_line import add_corpora
from .conditions import SOUND_CONDITIONS, recording_seed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CALIBRATION_DRAWS = 5
NEUTRAL = EMOTIONS.index("neutral")


@contextmanager
def needs_baselines() -> Iterator[None]:
    """Around imports of the extra: what is missing is named together with the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The baseline needs '{error.name}': pip install speech-emotion-diffusion[baselines]"
        ) from error


@dataclass(frozen=True)
class Baseline:
    """A front end that learns nothing, and the classifier behind it.

    Args:
        system: Name in the records.
        module: Program, e.g. `"benchmarks.opensmile_svm"`.
        title: What is computed, for people.
        version: What identifies the features: the program or network that computes them.
        shape: `(layers, size)` of the features of a recording.
        compute: A mono wave `(samples,)`, float32, and its rate in Hz give `shape`; not finite
            where the recording is too short.
        build: The classifier, not fitted: `fit(features, labels)`, `predict(features)`, and
            `predict_proba` if it has probabilities.
        candidates: Sets of layers; where there are several, validation rows choose, once a corpus.
        emotions: Those that it can name; it is tested on their recordings only, and its metrics say
            `"classes"` and `"coverage"`, the share of the recordings that are of these.
        notes: What else its metrics say, given the corpus tested.
    """

    system: str
    module: str
    title: str
    version: str
    shape: tuple[int, int]
    compute: Callable[[np.ndarray, int], np.ndarray]
    build: Callable[[], "Pipeline"]
    candidates: tuple[tuple[int, ...], ...] = ((0,),)
    emotions: tuple[str, ...] = EMOTIONS
    notes: Callable[[str], Mapping[str, Any]] = lambda corpus: {}

    @property
    def file_name(self) -> str:
        """The system's name where no slash may stand."""
        return self.system.replace("/", "--")


@dataclass(frozen=True)
class Table:
    """The recordings of one corpus, or of several, as a baseline sees them.

    Args:
        dataset: Their rows.
        sounds: Features `(rows, layers, size)` by condition of the sound; `"as_recorded"` is there.
    """

    dataset: Dataset
    sounds: Mapping[str, np.ndarray]

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """What is true of the rows: `"corpus"`, `"file"`, `"emotion"`, `"speaker"`, `"voice"`.

        Two corpora may name different people alike: a voice is a speaker of one corpus.
        """
        names = ["corpus", "file", "emotion", "speaker"]
        table = self.dataset.select_columns(names).with_format(None)[:]
        columns = {name: np.asarray(values) for name, values in table.items()}
        pairs = zip(table["corpus"], table["speaker"], strict=True)
        return columns | {"voice": np.array([f"{corpus} {speaker}" for corpus, speaker in pairs])}


# --- Command line --------------------------------------------------------------------------------


def baseline_parser(
    module: str, description: str | None, output: str, corpus_required: bool = True
) -> argparse.ArgumentParser:
    """The command line that baselines have in common; `parse_options` reads it."""
    parser = argparse.ArgumentParser(
        f"python -m {module}", description=(description or "").split("\n")[0]
    )
    add_corpora(parser, corpus_required)
    parser.add_argument(
        "--protocols", nargs="+", default=["speaker_independent"], choices=PROTOCOLS
    )
    parser.add_argument(
        "--conditions",
        nargs="+",
        default=[AS_RECORDED],
        type=_condition,
        metavar="CONDITION",
        help=f"any of {list(SOUND_CONDITIONS)}, calibrated_speaker_10, calibrated_room_20, ...",
    )
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--cache", type=Path, help="folder of extracted features")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")
    return parser


def parse_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Read the command line, and exit with a message where it asks for what cannot be."""
    options = parser.parse_args(arguments)
    if "cross_corpus" in options.protocols and len(options.corpus) < 2:
        parser.error(f"cross_corpus needs two corpora, got {options.corpus}")
    return options


def _condition(text: str) -> str:
    if text not in SOUND_CONDITIONS and not _is_calibration(text):
        raise argparse.ArgumentTypeError(
            f"Bad condition '{text}', expected one of {list(SOUND_CONDITIONS)} or "
            "'calibrated_<room|speaker|room_neutral|speaker_neutral>_<number>'"
        )
    return text


def _is_calibration(text: str) -> bool:
    try:
        return parse_condition(text) is not None
    except ValueError:
        return False


def run_baseline(baseline: Baseline, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Extract the features of all corpora, then run the protocols and write what came out.

    Args:
        baseline: The front end and its classifier.
        options: What `parse_options` returned.
        arguments: The command line itself, for the records.
    """
    sounds = [name for name in SOUND_CONDITIONS if name in (AS_RECORDED, *options.conditions)]
    tables = []
    for name, folder in options.corpus:
        corpus = load_corpus(name, "six_emotions", folder)
        extract = partial(extract_features, baseline, corpus, options.cache, seed=options.seed)
        tables.append(Table(corpus, {sound: extract(condition=sound) for sound in sounds}))
    for protocol in options.protocols:
        for table in [join_tables(tables)] if protocol == "cross_corpus" else tables:
            for records, rows in run_protocol(baseline, table, protocol, options, arguments):
                write_results(options.output, records, rows)


def write_results(output: Path, records: Sequence[Record], rows: Sequence[Prediction]) -> None:
    """Write records, and beside them the predictions that they name; print one line a record."""
    for file in {record["predictions"] for record in records} - {None}:
        write_predictions(output.parent / str(file), rows)
    write_records(output, records)
    print("\n".join(map(describe, records)), flush=True)


def describe(record: Record) -> str:
    """A record in one line, in percent."""
    rates = ", ".join(f"{name} {100 * record['metrics'][name]:.1f}" for name in ("WA", "UA"))
    condition = "" if record["condition"] == AS_RECORDED else f", {record['condition']}"
    data = "" if record["data"] == "original" else f", {record['data']}"
    where = f"{record['corpus']}, {record['protocol']}{data}{condition}"
    return f"{where}: {rates} ({record['folds']} folds){remarks(record['metrics'])}"


# --- Features ------------------------------------------------------------------------------------


def join_tables(tables: Sequence[Table]) -> Table:
    """The rows of several corpora, one after the other."""
    sounds = {
        name: np.concatenate([table.sounds[name] for table in tables]) for name in tables[0].sounds
    }
    return Table(concatenate_datasets([table.dataset for table in tables]), sounds)


def extract_features(
    baseline: Baseline,
    dataset: Dataset,
    cache_dir: str | Path | None = None,
    condition: str = AS_RECORDED,
    seed: int = 0,
) -> np.ndarray:
    """Features of every recording, computed once for the same sounds.

    Args:
        baseline: The front end.
        dataset: Rows with `audio` (encoded, of any sampling rates and channels), `corpus`, `file`.
        cache_dir: Folder that keeps the features under a key made of the recordings themselves; a
            folder in the cache of `datasets` by default.
        condition: What the recordings go through before, one of `SOUND_CONDITIONS`.
        seed: Of what is random about that.

    Returns:
        float32 features `(rows, layers, size)`, not standardised.

    Raises:
        ValueError: A recording that cannot be decoded or is too short for the features.
    """
    folder = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "baselines")
    folder.mkdir(parents=True, exist_ok=True)
    rows = dataset.select_columns(["audio", "corpus", "file"])
    key = _digest(rows, f"{baseline.system} {baseline.version} {condition} {seed}")
    mapped = rows.map(
        partial(_compute_row, baseline, condition, seed),
        remove_columns=rows.column_names,
        features=Features(
            {"features": List(Value("float32"), length=int(np.prod(baseline.shape)))}
        ),
        cache_file_name=str(folder / f"{baseline.file_name}-{condition}-{key}.arrow"),
        load_from_cache_file=True,
        new_fingerprint=key,
        desc=f"Computing {baseline.title}, {condition}",
    )
    return mapped.with_format("numpy")[:]["features"].reshape(-1, *baseline.shape)


def _digest(rows: Dataset, start: str) -> str:
    """Key of the recordings in their order, and of what hears them in which condition."""
    digest = hashlib.sha256(start.encode())
    for row in rows:
        audio = row["audio"]
        data = audio["bytes"] or Path(audio["path"]).read_bytes()
        digest.update(f"{row['corpus']} {row['file']}".encode())
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _compute_row(
    baseline: Baseline, condition: str, seed: int, row: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    samples, rate = decode_audio(row["audio"])
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    recording = recording_seed(row["corpus"], row["file"], seed)
    features = baseline.compute(SOUND_CONDITIONS[condition](mono, rate, recording), rate)
    if not np.isfinite(features).all():
        raise ValueError(
            f"{baseline.title} has no features for '{row['audio']['path']}' of "
            f"{len(mono) / rate:.3f} s, expected a longer recording"
        )
    return {"features": features.astype(np.float32).ravel()}


# --- Training and testing ------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """What a classifier said of rows, which may come several times.

    Args:
        rows: `(heard,)`, indices into the table.
        predicted: `(heard,)`, class ids.
        probabilities: `(heard, classes)`, or None.
    """

    rows: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None

    @classmethod
    def join(cls, parts: Sequence["Heard"]) -> "Heard":
        """One after the other."""
        probabilities = [part.probabilities for part in parts if part.probabilities is not None]
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate(probabilities) if probabilities else None,
        )

    def scores(self, table: Table) -> dict[str, Any]:
        """All recognition metrics."""
        return recognition_metrics(
            self.predicted,
            table.columns["emotion"][self.rows],
            self.probabilities,
            table.columns["voice"][self.rows].tolist(),
        )


def run_protocol(
    baseline: Baseline,
    table: Table,
    protocol: str,
    options: argparse.Namespace,
    arguments: Sequence[str] = (),
) -> Iterator[tuple[list[Record], list[Prediction]]]:
    """Train and test on every fold of a protocol, in every condition.

    Args:
        baseline: The front end and its classifier.
        table: One corpus, or several for `cross_corpus`.
        protocol: One of `PROTOCOLS`.
        options: `conditions`, `folds` (indices, or None for all) and `seed`.
        arguments: Command line of the program, for the records.

    Yields:
        For each corpus tested, a record per condition (scores of the predictions of all its folds
        together, and of each fold) and the predictions. Their seconds count training and testing in
        all conditions, not the extraction of features.

    Raises:
        ValueError: The protocol does not fit the dataset, or there is nothing to calibrate by.
    """
    folds = protocol_folds(table.dataset, protocol, options.seed)
    for corpus in dict.fromkeys(fold.corpus for fold in folds):
        own = [fold for fold in folds if fold.corpus == corpus]
        own = [fold for fold in own if not options.folds or fold.index in options.folds]
        if own:
            yield _test_corpus(baseline, table, own, options, arguments)


def _test_corpus(
    baseline: Baseline,
    table: Table,
    folds: Sequence[Fold],
    options: argparse.Namespace,
    arguments: Sequence[str],
) -> tuple[list[Record], list[Prediction]]:
    started = time.monotonic()
    tested = [known_part(baseline, table, fold) for fold in folds]
    layers = choose_layers(baseline, table, tested)
    by_fold = [
        hear_fold(baseline, table, fold, layers, options.conditions, options.seed)
        for fold in tested
    ]
    command = ["-m", baseline.module, *arguments]
    made_by = provenance(options.seed, time.monotonic() - started, command)
    corpus, protocol = folds[0].corpus, folds[0].protocol
    kept = f"{FOLDER}/{baseline.file_name}_{protocol}_{corpus}.csv"
    notes = describe_test(baseline, folds, tested)
    if len(baseline.candidates) > 1:
        notes["layers"] = [layer + 1 for layer in layers]
    records = [
        make_record(
            task="recognition",
            corpus=corpus,
            protocol=protocol,
            system=baseline.system,
            condition=condition,
            predictions=None if parse_condition(condition) else kept,
            provenance=made_by,
            **score_folds(table, tested, [heard[condition] for heard in by_fold], notes),
        )
        for condition in options.conditions
    ]
    return records, list(list_predictions(table, tested, by_fold))


def known_part(baseline: Baseline, table: Table, fold: Fold) -> Fold:
    """A fold that tests only recordings of emotions that the system can name.

    Raises:
        ValueError: It would test none.
    """
    known = {EMOTIONS.index(name) for name in baseline.emotions}
    test = tuple(row for row in fold.test if table.columns["emotion"][row] in known)
    if not test:
        raise ValueError(
            f"Bad fold '{fold.name}' of {fold.corpus} for '{baseline.system}', expected recordings "
            f"of {list(baseline.emotions)}"
        )
    return replace(fold, test=test)


def describe_test(
    baseline: Baseline, folds: Sequence[Fold], tested: Sequence[Fold]
) -> dict[str, Any]:
    """What the metrics say besides scores: of which emotions, how much of the corpus, notes."""
    notes = dict(baseline.notes(folds[0].corpus))
    if baseline.emotions != EMOTIONS:
        rows, all_rows = (sum(len(fold.test) for fold in part) for part in (tested, folds))
        notes |= {"classes": list(baseline.emotions), "coverage": rows / all_rows}
    return notes


def score_folds(
    table: Table,
    folds: Sequence[Fold],
    by_fold: Sequence[Sequence[Heard]],
    notes: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of a record: metrics of all folds and draws together, and of each fold."""
    everything = Heard.join([heard for draws in by_fold for heard in draws])
    return {
        "metrics": everything.scores(table) | dict(notes),
        "folds": len(folds),
        "per_fold": [
            _fold_scores(fold, draws, table) for fold, draws in zip(folds, by_fold, strict=True)
        ],
    }


def _fold_scores(fold: Fold, draws: Sequence[Heard], table: Table) -> dict[str, Any]:
    scores = Heard.join(draws).scores(table)
    return {"name": fold.name, "n": len(fold.test), "WA": scores["WA"], "UA": scores["UA"]}


def list_predictions(
    table: Table, folds: Sequence[Fold], by_fold: Sequence[Mapping[str, Sequence[Heard]]]
) -> Iterator[Prediction]:
    """All but those of calibrations: of several draws no one stands for all."""
    columns = {name: values.tolist() for name, values in table.columns.items()}
    for fold, conditions in zip(folds, by_fold, strict=True):
        kept = ((name, draws[0]) for name, draws in conditions.items() if not parse_condition(name))
        for condition, heard in kept:
            for i, row in enumerate(heard.rows.tolist()):
                true, predicted = columns["emotion"][row], int(heard.predicted[i])
                said = None if heard.probabilities is None else heard.probabilities[i]
                yield Prediction(
                    corpus=columns["corpus"][row],
                    file=columns["file"][row],
                    speaker=columns["speaker"][row],
                    fold=fold.index,
                    emotion=EMOTIONS[true],
                    prediction=EMOTIONS[predicted],
                    probability_of_emotion=None if said is None else float(said[true]),
                    probability_of_prediction=None if said is None else float(said[predicted]),
                    condition=condition,
                )


def choose_layers(baseline: Baseline, table: Table, folds: Sequence[Fold]) -> tuple[int, ...]:
    """The candidate of the best UA of validation rows, in the mean over folds, as recorded.

    Who validates one fold is tested in another; no fold is chosen for by the rows it tests, but all
    of a corpus together choose once among few candidates.
    """
    if len(baseline.candidates) == 1:
        return baseline.candidates[0]
    features, labels = table.sounds[AS_RECORDED], table.columns["emotion"]

    def validate(layers: tuple[int, ...]) -> float:
        scores = []
        for fold in folds:
            train, validation = list(fold.train), list(fold.validation)
            fitted = baseline.build().fit(select_layers(features[train], layers), labels[train])
            heard = listen(fitted, select_layers(features[validation], layers), validation)
            scores.append(recognition_metrics(heard.predicted, labels[validation])["UA"])
        return float(np.mean(scores))

    return max(baseline.candidates, key=validate)


def select_layers(features: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """Some layers of `(rows, layers, size)` side by side, `(rows, selected * size)`."""
    return features[:, list(layers)].reshape(len(features), -1)


def listen(fitted: "Pipeline", features: np.ndarray, rows: Sequence[int]) -> Heard:
    """What a fitted classifier says of the features of rows."""
    if not hasattr(fitted, "predict_proba"):
        return Heard(np.asarray(rows), fitted.predict(features), None)
    probabilities = np.zeros((len(features), len(EMOTIONS)))
    probabilities[:, fitted.classes_] = fitted.predict_proba(features)
    return Heard(np.asarray(rows), probabilities.argmax(axis=1), probabilities)


def hear_fold(
    baseline: Baseline,
    table: Table,
    fold: Fold,
    layers: Sequence[int],
    conditions: Sequence[str],
    seed: int = 0,
) -> dict[str, list[Heard]]:
    """Train on all rows of a fold that are not tested, test the others in every condition.

    Args:
        baseline: The front end and its classifier.
        table: The recordings.
        fold: Who trains, validates (and trains) and is tested.
        layers: Those that are heard.
        conditions: Names of `SOUND_CONDITIONS`, or calibrations.
        seed: Of the draws of a calibration.

    Returns:
        What was said of the test rows, in order: once, or in each draw of a calibration.
    """
    plain = fit_fold(baseline, table, fold, layers)
    heard: dict[str, list[Heard]] = {}
    calibrated: dict[str, Any] = {}
    for condition in conditions:
        calibration = parse_condition(condition)
        if calibration is None:
            features = select_layers(table.sounds[condition][list(fold.test)], layers)
            heard[condition] = [listen(plain, features, fold.test)]
            continue
        if calibration.by not in calibrated:
            calibrated[calibration.by] = fit_fold(baseline, table, fold, layers, calibration.by)
        features = select_layers(table.sounds[AS_RECORDED], layers)
        heard[condition] = [
            listen(
                calibrated[calibration.by],
                calibrate(features, table, fold, calibration, draw),
                fold.test,
            )
            for draw in np.random.default_rng(seed).spawn(CALIBRATION_DRAWS)
        ]
    return heard


def fit_fold(
    baseline: Baseline, table: Table, fold: Fold, layers: Sequence[int], by: str | None = None
) -> "Pipeline":
    """The classifier, trained on all rows of a fold not tested; centred where calibrated."""
    known = [*fold.train, *fold.validation]
    features = select_layers(table.sounds[AS_RECORDED][known], layers)
    if by is not None:
        features = centre(features, table, known, by)
    return baseline.build().fit(features, table.columns["emotion"][known])


def centre(features: np.ndarray, table: Table, rows: Sequence[int], by: str) -> np.ndarray:
    """Training features `(rows, size)` less the mean over all of their speaker or corpus.

    Raises:
        ValueError: There are no neutral recordings to take the mean of.
    """
    centred = features.copy()
    for members, samples in _groups(table, rows, by):
        centred[members] -= features[samples].mean(axis=0)
    return centred


def calibrate(
    features: np.ndarray,
    table: Table,
    fold: Fold,
    calibration: Calibration,
    generator: np.random.Generator,
) -> np.ndarray:
    """Features `(test rows, size)` less the mean over a few recordings of the same room or voice.

    Where there are fewer than asked for, all of them are taken.

    Args:
        features: Of all rows of the table, `(rows, size)`.
        table: The recordings.
        fold: Its test rows are calibrated, by each other.
        calibration: By whose recordings, and how many.
        generator: Draws them.

    Raises:
        ValueError: There are no neutral recordings to take the mean of.
    """
    centred = features[list(fold.test)].copy()
    tested = centred.copy()
    for members, samples in _groups(table, fold.test, calibration.by):
        drawn = generator.permutation(samples)[: calibration.number]
        centred[members] -= tested[drawn].mean(axis=0)
    return centred


def _groups(table: Table, rows: Sequence[int], by: str) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Places within `rows` of each speaker or corpus, and of those that its mean is taken of."""
    index = np.asarray(rows)
    keys = table.columns["voice" if by.startswith("speaker") else "corpus"][index]
    neutral = table.columns["emotion"][index] == NEUTRAL
    for key in np.unique(keys):
        members = np.flatnonzero(keys == key)
        samples = members[neutral[members]] if by.endswith("_neutral") else members
        if not len(samples):
            raise ValueError(f"Bad calibration by {by}, expected neutral recordings of '{key}'")
        yield members, samples
