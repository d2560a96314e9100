import dataclasses
import time

import numpy as np
import pytest
from corpus_helpers import labels_of
from datasets import ClassLabel, Dataset, concatenate_datasets

from datasets_scripts import EMOTIONS, PROTOCOLS, check_leaks, load_corpus, protocol_folds

IN_CORPUS = ("speaker_independent", "paper", "sentence_independent")
ALL_TABLES = [
    *((corpus, protocol) for corpus in ("emodb", "ravdess") for protocol in IN_CORPUS),
    *(("both", protocol) for protocol in PROTOCOLS),
]


def values(dataset, column, rows):
    of_row = dataset[column][:]
    return {of_row[row] for row in rows}


def rows_of(dataset, **wanted):
    columns = {name: dataset[name][:] for name in wanted}
    return tuple(
        row for row in range(len(dataset)) if all(columns[n][row] == v for n, v in wanted.items())
    )


@pytest.mark.parametrize(("corpus", "protocol"), ALL_TABLES)
def test_folds_of_real_corpora_are_clean_and_complete(labels, corpus, protocol):
    dataset = labels[corpus]
    folds = protocol_folds(dataset, protocol)
    for fold in folds:
        check_leaks(dataset, fold)
        assert all(fold.splits.values())
        assert set().union(*fold.splits.values()) == set(range(len(dataset)))
    tested = [row for fold in folds for row in fold.test]
    assert sorted(tested) == list(range(len(dataset)))


@pytest.mark.parametrize(("corpus", "protocol"), ALL_TABLES)
def test_no_group_or_speaker_crosses_a_fold(labels, corpus, protocol):
    """The same as `check_leaks`, spelled out row by row and without its code."""
    dataset = labels[corpus]
    speakers = list(zip(dataset["corpus"], dataset["speaker"], strict=True))
    groups = dataset["group"][:]
    for fold in protocol_folds(dataset, protocol):
        kept_apart = [groups]
        kept_apart += [speakers] if protocol in ("speaker_independent", "cross_corpus") else []
        for column in kept_apart:
            train, validation, test = (
                {column[row] for row in rows} for rows in (fold.train, fold.validation, fold.test)
            )
            assert not train & validation
            assert not train & test
            assert not validation & test


@pytest.mark.parametrize("corpus", ["emodb", "both"])
def test_everybody_trains_where_nobody_is_tested(labels, corpus):
    (fold,) = protocol_folds(labels[corpus], "everybody")
    assert fold.train == tuple(range(len(labels[corpus])))
    assert fold.validation == fold.test == ()


def test_emodb_leaves_one_speaker_out(labels):
    folds = protocol_folds(labels["emodb"], "speaker_independent")
    order = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
    tested = [values(labels["emodb"], "speaker", fold.test) for fold in folds]
    validated = [values(labels["emodb"], "speaker", fold.validation) for fold in folds]
    assert tested == [{speaker} for speaker in order]
    assert validated == [{speaker} for speaker in [*order[1:], "03"]]
    assert [fold.index for fold in folds] == list(range(10))


def test_ravdess_tests_two_men_and_two_women(labels):
    dataset = labels["ravdess"]
    folds = protocol_folds(dataset, "speaker_independent")
    assert len(folds) == 6
    for index, fold in enumerate(folds):
        first = 4 * index + 1
        assert values(dataset, "speaker", fold.test) == {f"{first + i:02d}" for i in range(4)}
        following = first + 4 if index < 5 else 1
        validated = {f"{following:02d}", f"{following + 1:02d}"}
        assert values(dataset, "speaker", fold.validation) == validated
        assert values(dataset, "gender", fold.validation) == {"male", "female"}


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_paper_folds_are_stratified_80_20(labels, corpus):
    dataset = labels[corpus]
    emotions = np.array(dataset["emotion"][:])
    for fold in protocol_folds(dataset, "paper"):
        for rows, share in ((fold.test, 0.2), (fold.validation, 0.08), (fold.train, 0.72)):
            assert len(rows) == pytest.approx(share * len(dataset), abs=4)
            counts = np.bincount(emotions[list(rows)], minlength=6)
            assert counts == pytest.approx(share * np.bincount(emotions), abs=3.5)


def test_paper_folds_depend_on_the_seed_alone(labels):
    once, again, other = (protocol_folds(labels["ravdess"], "paper", seed) for seed in (0, 0, 1))
    assert once == again
    assert once[0].test != other[0].test


def test_cross_corpus_tests_all_of_the_other_corpus(labels):
    dataset = labels["both"]
    there, back = protocol_folds(dataset, "cross_corpus")
    assert (there.name, there.corpus) == ("emodb_to_ravdess", "ravdess")
    assert (back.name, back.corpus) == ("ravdess_to_emodb", "emodb")
    assert there.test == rows_of(dataset, corpus="ravdess")
    assert back.test == rows_of(dataset, corpus="emodb")
    assert there.validation == rows_of(dataset, corpus="emodb", speaker="08")
    assert values(dataset, "speaker", back.validation) == {"05", "06"}


def test_sentences_are_unseen(labels):
    emodb = protocol_folds(labels["emodb"], "sentence_independent")
    assert [values(labels["emodb"], "sentence", fold.test) for fold in emodb] == [
        {"a01", "a02"}, {"a04", "a05"}, {"a07", "b01"}, {"b02", "b03"}, {"b09", "b10"},
    ]  # fmt: skip
    for fold in emodb:
        apart = [values(labels["emodb"], "sentence", rows) for rows in fold.splits.values()]
        assert sum(map(len, apart)) == 10
    ravdess = protocol_folds(labels["ravdess"], "sentence_independent")
    assert [values(labels["ravdess"], "sentence", fold.test) for fold in ravdess] == [
        {"01"}, {"02"},
    ]  # fmt: skip


def test_concatenated_corpora_train_together_and_stay_apart_by_name(labels):
    dataset = labels["both"]
    folds = protocol_folds(dataset, "speaker_independent")
    assert [fold.corpus for fold in folds] == ["emodb"] * 10 + ["ravdess"] * 6
    emodb_03 = folds[0]
    assert emodb_03.test == rows_of(dataset, corpus="emodb", speaker="03")
    assert set(rows_of(dataset, corpus="ravdess", speaker="03")) <= set(emodb_03.train)


def inject(fold, **splits):
    return dataclasses.replace(fold, **{name: tuple(rows) for name, rows in splits.items()})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_row_in_two_splits_is_caught(labels, protocol):
    fold = protocol_folds(labels["both"], protocol)[0]
    for leak in (
        inject(fold, train=(*fold.train, fold.test[0])),
        inject(fold, train=(*fold.train, fold.validation[-1])),
        inject(fold, validation=(*fold.validation, fold.test[-1])),
    ):
        with pytest.raises(ValueError, match="share rows"):
            check_leaks(labels["both"], leak)


@pytest.mark.parametrize("protocol", ["speaker_independent", "cross_corpus"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_moved_row_leaks_its_speaker(labels, protocol, split):
    fold = protocol_folds(labels["both"], protocol)[0]
    moved = {"test": fold.test[1:], split: (*fold.splits[split], fold.test[0])}
    with pytest.raises(ValueError, match=f"{split} and test share speaker"):
        check_leaks(labels["both"], inject(fold, **moved))


def test_validation_speaker_in_training_is_caught(labels):
    fold = protocol_folds(labels["emodb"], "speaker_independent")[4]
    leak = inject(fold, train=(*fold.train, fold.validation[0]), validation=fold.validation[1:])
    with pytest.raises(ValueError, match=r"train and validation share speaker \[\('emodb', '12'"):
        check_leaks(labels["emodb"], leak)


def test_test_corpus_in_training_is_caught(labels):
    dataset = labels["both"]
    fold = protocol_folds(dataset, "cross_corpus")[0]
    actor = rows_of(dataset, corpus="ravdess", speaker="24")
    leak = inject(fold, train=fold.train + actor, test=sorted(set(fold.test) - set(actor)))
    with pytest.raises(ValueError, match="share corpus"):
        check_leaks(dataset, leak)


def test_moved_row_leaks_its_sentence(labels):
    fold = protocol_folds(labels["ravdess"], "sentence_independent")[0]
    leak = inject(fold, train=(*fold.train, fold.test[0]), test=fold.test[1:])
    with pytest.raises(ValueError, match="share sentence"):
        check_leaks(labels["ravdess"], leak)


@pytest.mark.parametrize("protocol", IN_CORPUS)
def test_identical_recordings_on_two_sides_are_caught(labels, protocol):
    """Somebody's recording got a second label row in which the same samples occur."""
    dataset = labels["ravdess"]
    fold = protocol_folds(dataset, protocol)[0]
    groups = dataset["group"][:]
    groups[fold.train[0]] = groups[fold.test[0]]
    doubled = dataset.remove_columns("group").add_column("group", groups)
    with pytest.raises(ValueError, match="train and test share group"):
        check_leaks(doubled, fold)


def test_random_folds_keep_identical_recordings_together():
    dataset = labels_of("emodb")
    groups = [f"take {row // 3}" for row in range(len(dataset))]
    dataset = dataset.remove_columns("group").add_column("group", groups)
    for seed in range(5):
        for fold in protocol_folds(dataset, "paper", seed):
            check_leaks(dataset, fold)


def people(num_speakers, corpus="interviews"):
    rows = [(f"p{n}", f"q{n % 2}", emotion) for n in range(num_speakers) for emotion in range(6)]
    speakers, sentences, emotions = zip(*rows, strict=True)
    columns = {"corpus": [corpus] * len(rows), "speaker": speakers, "sentence": sentences}
    columns |= {"emotion": emotions, "group": [f"{corpus}{row}" for row in range(len(rows))]}
    return Dataset.from_dict(columns).cast_column("emotion", ClassLabel(names=list(EMOTIONS)))


def test_unknown_corpus_gets_folds_of_its_speakers():
    dataset = people(12)
    folds = protocol_folds(dataset, "speaker_independent")
    assert [len(values(dataset, "speaker", fold.test)) for fold in folds] == [3, 3, 3, 3]
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(dataset)))


def test_part_of_a_corpus_keeps_the_table(labels):
    some = labels["ravdess"].filter(lambda speaker: int(speaker) <= 12, input_columns="speaker")
    folds = protocol_folds(some, "speaker_independent")
    assert [fold.name for fold in folds] == [
        "speakers_01_02_03_04", "speakers_05_06_07_08", "speakers_09_10_11_12",
    ]  # fmt: skip


@pytest.mark.parametrize("speakers", [6, 8, 10])
def test_toy_corpus_is_tested_in_pairs_of_a_man_and_a_woman(tmp_path, speakers):
    toys = load_corpus("toy_emotions", cache_dir=str(tmp_path), speakers=speakers, repetitions=1)
    folds = protocol_folds(toys, "speaker_independent")
    assert len(folds) == speakers // 2
    for fold in folds:
        for rows in (fold.test, fold.validation):
            assert len(values(toys, "speaker", rows)) == 2
            assert values(toys, "gender", rows) == {"male", "female"}


@pytest.mark.parametrize(
    ("dataset", "protocol", "message"),
    [
        (people(6), "random", "Bad protocol 'random', expected one of"),
        (people(2), "speaker_independent", "Too few speakers in interviews"),
        (people(6), "cross_corpus", r"\['interviews'\], expected at least two corpora"),
        (people(1), "sentence_independent", "Too few sentences in interviews"),
        (people(6).remove_columns("group"), "paper", r"without the columns \['group'\]"),
    ],
)
def test_impossible_protocols_are_refused(dataset, protocol, message):
    with pytest.raises(ValueError, match=message):
        protocol_folds(dataset, protocol)


def test_speakers_of_one_name_in_two_corpora_are_two():
    dataset = concatenate_datasets([people(5, "one"), people(5, "two")])
    for fold in protocol_folds(dataset, "speaker_independent"):
        assert len(fold.test) == 6


def test_sound_is_never_decoded(emodb_folder, cache):
    dataset = load_corpus("emodb", data_dir=emodb_folder, cache_dir=cache)
    broken = dataset.remove_columns("audio").add_column("audio", ["no sound"] * len(dataset))
    start = time.process_time()
    for protocol in IN_CORPUS:
        assert protocol_folds(broken, protocol) == protocol_folds(dataset, protocol)
    assert time.process_time() - start < 2
