"""Protocols: who, or what, is trained on, chosen by, and tested on.

A protocol is a table of folds over the columns of a dataset; no recording is decoded. On a dataset
of several corpora every fold tests one of them, and the other corpora join its training rows
(except in `cross_corpus`, which trains on one corpus and tests on another).
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from datasets import Dataset

PROTOCOLS: Final = ("speaker_independent", "paper", "cross_corpus", "sentence_independent")
# Of weights that are handed out: nobody is tested, so that it is none of those that results name.
EVERYBODY: Final = "everybody"

Blocks: TypeAlias = tuple[tuple[str, ...], ...]

# Test speakers of each fold. Four consecutive actors of RAVDESS are two men and two women.
SPEAKER_BLOCKS: Final[dict[str, Blocks]] = {
    "emodb": (
        ("03",), ("08",), ("09",), ("10",), ("11",), ("12",), ("13",), ("14",), ("15",), ("16",),
    ),
    "ravdess": (
        ("01", "02", "03", "04"),
        ("05", "06", "07", "08"),
        ("09", "10", "11", "12"),
        ("13", "14", "15", "16"),
        ("17", "18", "19", "20"),
        ("21", "22", "23", "24"),
    ),
    "toy_emotions": (("01", "02"), ("03", "04"), ("05", "06"), ("07", "08")),
}  # fmt: skip
# Test sentences of each fold.
SENTENCE_BLOCKS: Final[dict[str, Blocks]] = {
    "emodb": (("a01", "a02"), ("a04", "a05"), ("a07", "b01"), ("b02", "b03"), ("b09", "b10")),
    "ravdess": (("01",), ("02",)),
    "toy_emotions": (("s1",), ("s2",)),
}
# Speakers of a fold's successor that validate it, at least: a man and a woman where folds hold
# pairs. Of a corpus of many speakers or sentences a tenth validates.
VALIDATION_SPEAKERS: Final = 2
VALIDATION_SENTENCES: Final = 1
RANDOM_FOLDS: Final = 5
VALIDATION_SHARE: Final = 10
# Longer lists of what a fold tests are no name.
LONGEST_NAME: Final = 60
# Coprime to 10 and 50, the numbers of parts.
DEALING_STRIDE: Final = 7
COLUMNS: Final = ("corpus", "speaker", "sentence", "emotion", "group")


@dataclass(frozen=True)
class Fold:
    """Row indices of one fold of a protocol.

    Args:
        protocol: One of [`PROTOCOLS`], or [`EVERYBODY`].
        corpus: The corpus of the test rows.
        index: Number of the fold among those of its protocol and corpus, from 0.
        name: What is tested, e.g. `"speakers_01_02_03_04"` or `"emodb_to_ravdess"`; of many, how
            many and which fold of them, e.g. `"19_speakers_0"`.
        train: Rows to train on.
        validation: Rows to choose by, e.g. for early stopping.
        test: Rows to report.
    """

    protocol: str
    corpus: str
    index: int
    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """The rows by name of the split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def protocol_folds(dataset: Dataset, protocol: str, seed: int = 0) -> list[Fold]:
    """Folds of a protocol, checked with [`check_leaks`].

    * `speaker_independent`: EmoDB leaves one of 10 speakers out, validated on the next one; RAVDESS
      has 6 folds of 4 consecutive actors, validated on a man and a woman of the next fold. A corpus
      without a table has up to 5 folds of its speakers, validated on two of the next fold, or on as
      many as are a tenth of all.
    * `paper`: 5 complementary random 80/20 divisions, stratified by emotion; a tenth of the 80 %
      validates.
    * `cross_corpus`: train on one corpus, test on all of another, for every ordered pair; validated
      on speakers of the first. A corpus without speakers, or with one, is only tested.
    * `sentence_independent`: EmoDB has 5 folds of two sentences, RAVDESS 2 of one, other corpora up
      to 5; validated on another sentence (or a tenth of them) where there is one, else on a
      stratified tenth of the training rows.
    * `everybody`: one fold, all of whose rows train; nobody is left to validate or to test.

    Args:
        dataset: Rows of one corpus, or of several that were concatenated.
        protocol: One of [`PROTOCOLS`], or [`EVERYBODY`].
        seed: Seed of what a protocol draws at random.

    Raises:
        ValueError: An unknown protocol, rows without an emotion, too few speakers, sentences or
            corpora for it or rows that lack them, or a leak.
    """
    known = [*PROTOCOLS, EVERYBODY]
    if protocol not in known:
        raise ValueError(f"Bad protocol '{protocol}', expected one of {known}")
    columns = _columns(dataset)
    _require(columns, protocol, "emotion", columns["corpus"])
    folds = {
        "speaker_independent": _speaker_independent,
        "paper": _paper,
        "cross_corpus": _cross_corpus,
        "sentence_independent": _sentence_independent,
        EVERYBODY: _everybody,
    }[protocol](columns, seed)
    for fold in folds:
        _check(columns, fold)
    return folds


def check_leaks(dataset: Dataset, fold: Fold) -> None:
    """Refuse a fold in which anything crosses from one split to another that must not.

    Raises:
        ValueError: Splits share rows, identical recordings (`group`) or, as the protocol says,
            speakers, corpora or sentences. Validation may share sentences with training.
    """
    _check(_columns(dataset), fold)


class _Columns(dict[str, np.ndarray]):
    """The columns that protocols look at; speakers and sentences are those of one corpus."""

    def keys_of(self, column: str, rows: Sequence[int]) -> set[tuple[str, ...]]:
        """Distinct values in `rows`, with the corpus, since `01` is someone else in another."""
        index = np.asarray(rows, dtype=int)
        return set(zip(self["corpus"][index].tolist(), self[column][index].tolist(), strict=True))


def _columns(dataset: Dataset) -> _Columns:
    absent = [name for name in COLUMNS if name not in dataset.column_names]
    if absent:
        raise ValueError(f"Bad dataset without the columns {absent}, expected {list(COLUMNS)}")
    table = dataset.select_columns(list(COLUMNS)).with_format(None)[:]
    return _Columns({name: np.asarray(values) for name, values in table.items()})


def _check(columns: _Columns, fold: Fold) -> None:
    for (one, rows), (other, other_rows) in itertools.combinations(fold.splits.items(), 2):
        shared: dict[str, set[Any]] = {"rows": set(rows) & set(other_rows)}
        for column in _separated(fold.protocol, one, other):
            shared[column] = columns.keys_of(column, rows) & columns.keys_of(column, other_rows)
        for what, values in shared.items():
            if values:
                raise ValueError(
                    f"Leak in fold '{fold.name}' of {fold.protocol}: {one} and {other} share "
                    f"{what} {sorted(values)[:5]}"
                )


def _separated(protocol: str, one: str, other: str) -> list[str]:
    """Columns whose values two splits of a protocol must not share."""
    columns = ["group"]
    if protocol in ("speaker_independent", "cross_corpus"):
        columns.append("speaker")
    if protocol == "cross_corpus" and other == "test":
        columns.append("corpus")
    if protocol == "sentence_independent" and other == "test":
        columns.append("sentence")
    return columns


def _corpora(columns: _Columns) -> list[str]:
    return sorted(set(columns["corpus"].tolist()))


def _rows(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _fold(
    protocol: str, corpus: str, index: int, name: str, test: np.ndarray, validation: np.ndarray
) -> Fold:
    """A fold from masks of its test and validation rows; all other rows train."""
    train = ~(test | validation)
    return Fold(protocol, corpus, index, name, _rows(train), _rows(validation), _rows(test))


def _lacking(columns: _Columns, column: str, corpus: str) -> int:
    """How many rows of a corpus have nothing in a column."""
    values = columns[column][columns["corpus"] == corpus]
    return sum(value is None or value == "" or value != value for value in values.tolist())


def _require(columns: _Columns, protocol: str, column: str, corpora: Iterable[str]) -> None:
    """Refuse corpora with rows that lack what the protocol divides them by."""
    lacking = {corpus: _lacking(columns, column, corpus) for corpus in sorted(set(corpora))}
    counts = ", ".join(f"{corpus}: {count}" for corpus, count in lacking.items() if count)
    if counts:
        raise ValueError(
            f"Bad dataset for {protocol}, rows without {column} in {counts}; expected one in each "
            f"(in a folder of one's own, {column}_column names the table's column of them)"
        )


def _blocks(
    columns: _Columns, corpus: str, column: str, tables: dict[str, Blocks]
) -> list[list[str]]:
    """Test values of each fold: those of the table that the corpus holds, and all others."""
    present = sorted(set(columns[column][columns["corpus"] == corpus].tolist()))
    table = tables.get(corpus, ())
    blocks = [[value for value in block if value in present] for block in table]
    others = [value for value in present if value not in itertools.chain(*table)]
    size = -(-len(others) // RANDOM_FOLDS) if corpus not in tables else len(table[0])
    blocks += [others[start : start + size] for start in range(0, len(others), size or 1)]
    return [block for block in blocks if block]


def _speaker_independent(columns: _Columns, seed: int) -> list[Fold]:
    protocol = "speaker_independent"
    _require(columns, protocol, "speaker", columns["corpus"])
    folds = []
    for corpus in _corpora(columns):
        blocks = _speaker_blocks(columns, corpus)
        for index, block in enumerate(blocks):
            test = _is_in(columns, corpus, "speaker", block)
            speakers = _validation_values(blocks, index, VALIDATION_SPEAKERS)
            validation = _is_in(columns, corpus, "speaker", speakers)
            name = _name("speakers", block, index)
            folds.append(_fold(protocol, corpus, index, name, test, validation))
    return folds


def _speaker_blocks(columns: _Columns, corpus: str) -> list[list[str]]:
    blocks = _blocks(columns, corpus, "speaker", SPEAKER_BLOCKS)
    if len(blocks) < 3:
        raise ValueError(
            f"Too few speakers in {corpus}: {blocks}, expected at least 3 folds of them, to train, "
            "validate and test on different ones"
        )
    return blocks


def _validation_values(blocks: list[list[str]], index: int, least: int) -> list[str]:
    """The first values of the next fold: `least`, or a tenth of all where that is more."""
    count = max(least, sum(map(len, blocks)) // VALIDATION_SHARE)
    return blocks[(index + 1) % len(blocks)][:count]


def _name(what: str, block: list[str], index: int) -> str:
    """What a fold tests, in a name that fits into a table."""
    name = f"{what}_{'_'.join(block)}"
    return name if len(name) <= LONGEST_NAME else f"{len(block)}_{what}_{index}"


def _is_in(columns: _Columns, corpus: str, column: str, values: Iterable[str]) -> np.ndarray:
    return (columns["corpus"] == corpus) & np.isin(columns[column], list(values))


def _paper(columns: _Columns, seed: int) -> list[Fold]:
    folds = []
    for corpus in _corpora(columns):
        of_corpus = columns["corpus"] == corpus
        part = _deal(columns, of_corpus, RANDOM_FOLDS * VALIDATION_SHARE, seed)
        # A fifth of the parts is tested; a tenth of them validates, less those that are tested.
        for index in range(RANDOM_FOLDS):
            test = of_corpus & (part % RANDOM_FOLDS == index)
            validation = (part // RANDOM_FOLDS == index) & ~test
            folds.append(_fold("paper", corpus, index, f"random_{index}", test, validation))
    return folds


def _deal(columns: _Columns, mask: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Deal the rows of `mask` into `parts` equal parts, emotion by emotion; -1 elsewhere.

    Recordings of one group are dealt together.
    """
    generator = np.random.default_rng(seed)
    rows = np.flatnonzero(mask)
    groups, first, group_of_row = np.unique(
        columns["group"][rows], return_index=True, return_inverse=True
    )
    emotions = columns["emotion"][rows[first]]
    # One deck sorted by emotion, so that parts differ by one group at most over all emotions, and
    # dealt with a stride, so that an emotion of few recordings reaches distant parts alike.
    deck = np.lexsort((generator.permutation(len(groups)), emotions))
    part_of_group = np.empty(len(groups), dtype=int)
    part_of_group[deck] = np.arange(len(groups)) * DEALING_STRIDE % parts
    part = np.full(len(mask), -1)
    part[rows] = part_of_group[group_of_row]
    return part


def _cross_corpus(columns: _Columns, seed: int) -> list[Fold]:
    corpora = _corpora(columns)
    if len(corpora) < 2:
        raise ValueError(f"Bad dataset for cross_corpus: {corpora}, expected at least two corpora")
    validation_of = {corpus: _source_validation(columns, corpus) for corpus in corpora}
    pairs = [pair for pair in itertools.permutations(corpora, 2) if validation_of[pair[0]]]
    if not pairs:
        raise ValueError(
            f"Bad dataset for cross_corpus: no corpus of {corpora} has two speakers and names them "
            "in every row, expected one to train on"
        )
    folds = []
    for index, (source, target) in enumerate(pairs):
        validation = _is_in(columns, source, "speaker", validation_of[source])
        train = (columns["corpus"] == source) & ~validation
        test = columns["corpus"] == target
        rows = (_rows(train), _rows(validation), _rows(test))
        folds.append(Fold("cross_corpus", target, index, f"{source}_to_{target}", *rows))
    return folds


def _source_validation(columns: _Columns, corpus: str) -> list[str]:
    """Speakers of a corpus that validate what the others train; none if it cannot be trained on."""
    if _lacking(columns, "speaker", corpus):
        return []
    blocks = _blocks(columns, corpus, "speaker", SPEAKER_BLOCKS)
    speakers = _validation_values(blocks, 0, VALIDATION_SPEAKERS)
    # A single fold is its own successor: one of its speakers is left to validate.
    return speakers if len(blocks) > 1 else blocks[0][1:2]


def _everybody(columns: _Columns, seed: int) -> list[Fold]:
    everybody = tuple(range(len(columns["corpus"])))
    return [Fold(EVERYBODY, "+".join(_corpora(columns)), 0, EVERYBODY, everybody, (), ())]


def _sentence_independent(columns: _Columns, seed: int) -> list[Fold]:
    protocol = "sentence_independent"
    _require(columns, protocol, "sentence", columns["corpus"])
    folds = []
    for corpus in _corpora(columns):
        blocks = _blocks(columns, corpus, "sentence", SENTENCE_BLOCKS)
        if len(blocks) < 2:
            raise ValueError(f"Too few sentences in {corpus}: {blocks}, expected at least two")
        for index, block in enumerate(blocks):
            test = _is_in(columns, corpus, "sentence", block)
            validation = _sentence_validation(columns, corpus, blocks, index, seed)
            name = _name("sentences", block, index)
            folds.append(_fold(protocol, corpus, index, name, test, validation))
    return folds


def _sentence_validation(
    columns: _Columns, corpus: str, blocks: list[list[str]], index: int, seed: int
) -> np.ndarray:
    """The first sentences of the next fold; a tenth of the training rows if it has but one."""
    successor = blocks[(index + 1) % len(blocks)]
    if len(blocks) > 2 or len(successor) > 1:
        sentences = _validation_values(blocks, index, VALIDATION_SENTENCES)
        return _is_in(columns, corpus, "sentence", sentences)
    return (
        _deal(columns, _is_in(columns, corpus, "sentence", successor), VALIDATION_SHARE, seed) == 0
    )
