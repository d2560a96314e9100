"""A corpus of one's own, in the forms that people have one."""

import csv
import json
import os
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from corpus_helpers import write_recording
from datasets import concatenate_datasets, load_dataset

from datasets_scripts import EMOTIONS, PROTOCOLS, load_corpus, protocol_folds
from datasets_scripts.recordings import CorpusError, CorpusWarning
from training.config import ClassifierConfig
from training.data import load_corpora

HEADER = ("clip", "mood", "who", "line", "years")
LABELS = ("Angry", "JOY", "sad", "neutral", "fearful", "disgusted")


def studio_rows(speakers=6, sentences=4):
    """A row a recording, as somebody's spreadsheet has them."""
    return [
        (
            f"audio/{speaker:02d}_{label}_{line}.wav",
            label,
            f"{speaker:02d}",
            f"s{line}",
            20 + speaker,
        )
        for speaker in range(speakers)
        for label in LABELS
        for line in range(sentences)
    ]


def write_csv(path, rows, header=HEADER, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def write_table(folder, kind, rows, header=HEADER):
    records = [dict(zip(header, row, strict=True)) for row in rows]
    path = folder / f"metadata{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        write_csv(path, rows, header, "\t" if kind == ".tsv" else ",")


@pytest.fixture
def studio(tmp_path):
    """A folder of recordings with a table whose columns have names of their own."""
    folder = tmp_path / "studio"
    for file, *_ in studio_rows():
        write_recording(folder / file)
    write_table(folder, ".csv", studio_rows())
    return folder


COLUMNS = {
    "file_column": "clip", "emotion_column": "mood", "speaker_column": "who",
    "sentence_column": "line", "age_column": "years",
}  # fmt: skip


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_table_gives_the_columns(studio, cache, kind, streaming):
    (studio / "metadata.csv").unlink()
    write_table(studio, kind, studio_rows())
    options = {"data_dir": str(studio), "cache_dir": cache, "streaming": streaming}
    rows = list(load_dataset("folder", split="train", **options, **COLUMNS))
    assert len(rows) == 144
    first = {name: value for name, value in rows[0].items() if value is not None}
    assert first.pop("audio")["bytes"] == (studio / "audio" / "00_Angry_0.wav").read_bytes()
    file = "audio/00_Angry_0.wav"
    assert first == {
        "emotion": EMOTIONS.index("anger"), "speaker": "00", "age": 20, "sentence": "s0",
        "corpus": "folder", "file": file, "group": file,
    }  # fmt: skip
    assert {row["emotion"] for row in rows} == set(range(6))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_runs_take_folders_with_every_protocol(studio, tmp_path, protocol):
    """As `train_classifier.py corpora.studio='{builder: folder, ...}'` has it."""
    options = {"data_dir": str(studio), "cache_dir": str(tmp_path / "cache"), **COLUMNS}
    corpora = {"studio": options | {"builder": "folder"}, "folder": options}
    if protocol != "cross_corpus":
        corpora.pop("folder")
    loaded = load_corpora(ClassifierConfig(corpora=corpora, protocol=protocol))
    assert set(loaded.dataset["corpus"]) == set(corpora)
    assert loaded.labels == list(EMOTIONS)
    assert all(loaded.fold.splits.values())


def test_usual_names_bare_files_and_spreadsheets_need_no_options(tmp_path, cache):
    for place in ("a/one.wav", "b/two.flac"):
        write_recording(tmp_path / "data" / place)
    rows = [("one", "happy", "Jörg", "m", "0,5"), ("two.flac", "fear", "Zoë", "W", "1")]
    header = ("Filename", "Label", "Speaker", "Sex", "agreement")
    write_csv(tmp_path / "data" / "metadata.csv", rows, header, ";", "cp1252")
    loaded = load_corpus("folder", data_dir=tmp_path / "data", cache_dir=cache)
    wanted = ("file", "speaker", "gender", "agreement")
    assert [tuple(row[name] for name in wanted) for row in loaded] == [
        ("a/one.wav", "Jörg", "male", 0.5),
        ("b/two.flac", "Zoë", "female", 1.0),
    ]


def test_sub_folders_are_emotions_and_names_give_speakers(tmp_path, cache):
    for speaker in ("anna", "ben"):
        for emotion in ("angry", "Pleasant surprise"):
            write_recording(tmp_path / "data" / speaker / emotion / "1.wav", f"{speaker}{emotion}")
    options = {"data_dir": tmp_path / "data", "cache_dir": cache}
    options |= {"file_pattern": "^(?P<speaker>[^/]+)/"}
    everything = load_corpus("folder", "all", **options)
    assert everything.features["emotion"].names == [*EMOTIONS, "surprise"]
    assert sorted(zip(everything["speaker"], everything["emotion"], strict=True)) == [
        ("anna", 3), ("anna", 6), ("ben", 3), ("ben", 6),
    ]  # fmt: skip
    assert len(set(everything["group"])) == 4  # one name, four recordings
    assert load_corpus("folder", **options)["speaker"][:] == ["anna", "ben"]


def test_every_form_that_soundfile_decodes_is_found(tmp_path, cache):
    (tmp_path / "happy").mkdir()
    sound, rate = soundfile.read(write_recording(tmp_path / "noise" / "x.wav", seconds=0.2))
    for name in ("a.mp3", "b.ogg", "c.flac", "d.wav"):
        soundfile.write(tmp_path / "happy" / name, sound, rate)
    loaded = load_corpus("folder", data_dir=tmp_path / "happy" / "..", cache_dir=cache,
                         emotion_names={"noise": None})  # fmt: skip
    assert [file.rpartition("/")[2] for file in loaded["file"]] == [
        "a.mp3",
        "b.ogg",
        "c.flac",
        "d.wav",
    ]


def test_labels_are_mapped_and_unknown_ones_listed_at_once(studio, cache):
    rows = [(file, label.replace("Angry", "wut").replace("JOY", "xxx"), *rest)
            for file, label, *rest in studio_rows()]  # fmt: skip
    write_table(studio, ".csv", rows)
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    with pytest.raises(CorpusError, match=r"Unknown emotions 'wut' \(24\), 'xxx' \(24\): expected"):
        load_corpus("folder", **options)
    mapped = load_corpus("folder", **options, emotion_names={"WUT": "angry", "xxx": None})
    assert len(mapped) == 120
    assert mapped["emotion"].count(EMOTIONS.index("anger")) == 24
    with pytest.raises(ValueError, match=r"Bad emotion 'angr' of the label 'wut' in emotion_names"):
        load_corpus("folder", **options, emotion_names={"wut": "angr"})


def test_without_speakers_and_sentences_only_random_folds(studio, cache):
    rows = [row[:2] for row in studio_rows()]
    write_table(studio, ".csv", rows, ("file", "emotion"))
    alone = load_corpus("folder", data_dir=studio, cache_dir=cache)
    assert len(protocol_folds(alone, "paper")) == 5
    with pytest.raises(
        ValueError, match="speaker_independent, rows without speaker in folder: 144"
    ):
        protocol_folds(alone, "speaker_independent")
    with pytest.raises(
        ValueError, match="sentence_independent, rows without sentence in folder: 144"
    ):
        protocol_folds(alone, "sentence_independent")
    toys = load_corpus("toy_emotions", cache_dir=cache, speakers=4, repetitions=1)
    # It can be tested by what another corpus trained, though not train.
    (fold,) = protocol_folds(concatenate_datasets([alone, toys]), "cross_corpus")
    assert (fold.name, len(fold.test)) == ("toy_emotions_to_folder", 144)


def test_folder_without_labels_loads_for_use_and_not_for_training(tmp_path, cache):
    for name in ("take1", "take2"):
        write_recording(tmp_path / "voice" / "day one" / f"{name}.wav")
    options = {"data_dir": tmp_path / "voice", "cache_dir": cache}
    with pytest.warns(CorpusWarning, match="No emotions in .*loaded without labels"):
        loaded = load_corpus("folder", **options)
    assert loaded["emotion"][:] == [None, None]
    with pytest.raises(ValueError, match="paper, rows without emotion in folder: 2"):
        protocol_folds(loaded, "paper")
    with pytest.raises(CorpusError, match="No emotions in .*emotion_column"):
        load_corpus("folder", "all", **options)


def test_files_that_are_not_there_are_named(studio, cache):
    (studio / "audio" / "00_Angry_0.wav").unlink()
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    with pytest.warns(
        CorpusWarning, match=r"Skipped 1 files:\n.*studio/audio/00_Angry_0\.wav': No"
    ):
        assert len(load_corpus("folder", **options)) == 143
    with pytest.raises(CorpusError, match="00_Angry_0"):
        load_corpus("folder", **options, on_error="raise")


def test_what_the_table_does_not_list_is_left_out_with_a_warning(studio, cache):
    write_recording(studio / "audio" / "outtake.wav")
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    with pytest.warns(
        CorpusWarning, match=r"Left out 1 files that .* does not list: .*outtake\.wav"
    ):
        assert len(load_corpus("folder", **options)) == 144


def test_recording_without_a_label_among_labelled_ones_is_reported(studio, cache):
    file, _, *rest = studio_rows()[0]
    write_table(studio, ".csv", [(file, "", *rest), *studio_rows()[1:]])
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    with pytest.warns(CorpusWarning, match="No emotion of '.*00_Angry_0.wav'"):
        assert len(load_corpus("folder", **options)) == 143


def test_changed_table_is_noticed(studio, cache):
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    assert len(load_corpus("folder", **options)) == 144
    write_table(studio, ".csv", studio_rows()[:-1])
    with pytest.warns(CorpusWarning, match="Left out 1"):
        assert len(load_corpus("folder", **options)) == 143


def test_two_folders_have_names_of_their_own(studio, cache):
    options = {"data_dir": studio, "cache_dir": cache, "builder": "folder", **COLUMNS}
    names = {load_corpus(name, **options)["corpus"][0] for name in ("studio", "kitchen")}
    assert names == {"studio", "kitchen"}
    with pytest.raises(ValueError, match="Bad name 'emodb' of a folder"):
        load_corpus("emodb", **options)
    with pytest.raises(ValueError, match="Bad builder 'emodb', expected 'folder'"):
        load_corpus("studio", **options | {"builder": "emodb"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emotion_column": "feeling"}, r"Bad emotion_column 'feeling', expected one of \['clip'"),
        ({"speaker_colum": "who"}, "Bad option 'speaker_colum' of folder, expected one of"),
        ({"file_column": None}, r"No file_column for .*expected one of \['clip'"),
        ({"metadata": "labels.csv"}, r"Bad metadata '.*studio/labels\.csv'"),
        ({"emotion_names": ["anger"]}, "Bad emotion_names .*expected emotions by label"),
        (
            {"file_pattern": "(?P<voice>.)"},
            r"named groups \['voice'\], expected some of \['emotion'",
        ),
        ({"file_pattern": "("}, r"Bad file_pattern '\(': missing \)"),
        ({"age_column": "mood"}, "Bad age_column 'mood', expected a column of numbers"),
        ({"corpus_name": ""}, "Bad corpus_name '', expected a name"),
        ({"data_dir": None}, "No data_dir for folder"),
    ],
)
def test_bad_options_are_named(studio, cache, options, message):
    arguments = {"data_dir": studio, "cache_dir": cache, **COLUMNS} | options
    with pytest.raises(ValueError, match=message):
        load_corpus("folder", **arguments)


def test_bad_tables_are_named(studio, cache):
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS}
    write_table(studio, ".csv", [*studio_rows(), studio_rows()[0]])
    with pytest.raises(CorpusError, match=r"Files in several rows of .*: audio/00_Angry_0\.wav"):
        load_corpus("folder", **options)
    write_table(studio, ".jsonl", studio_rows())
    with pytest.raises(CorpusError, match=r"Several tables \['metadata.csv', 'metadata.jsonl'\]"):
        load_corpus("folder", **options)
    (studio / "metadata.csv").unlink()
    (studio / "metadata.jsonl").write_text("not json\n")
    with pytest.raises(CorpusError, match=r"Cannot read the table .*metadata\.jsonl"):
        load_corpus("folder", **options)
    os.unlink(studio / "metadata.jsonl")
    with pytest.raises(ValueError, match="Bad file_column for .*no metadata table: expected none"):
        load_corpus("folder", **options)


def recorded(folder, names=("0.wav", "1.wav")):
    for name in names:
        write_recording(folder / name)
    return folder


SPREADSHEETS = {
    "blank rows": b"File,Emotion,Speaker\n\n0.wav,angry,01\n , ,\n1.wav,sad,02\n,,\n,,\n",
    "blank first rows": b"\r\n,,\r\nfile,emotion,speaker\r\n0.wav,angry,01\r\n1.wav,sad,02",
    "empty columns": b"file,emotion,speaker,,\n0.wav,angry,01,,\n1.wav,sad,02,,\n",
    "short rows": b"file,speaker,emotion,age\n0.wav,01,angry\n1.wav,02,sad\n",
    "sep=;": b"sep=;\r\nfile;emotion;speaker\r\n0.wav;angry;01\r\n1.wav;sad;02\r\n",
    "sep=# after a blank line": b'\n"SEP=#"\nfile#emotion#speaker\n0.wav#angry#01\n1.wav#sad#02',
    "names": b"FILE NAME,Emotion_Label,Speaker ID\n0.wav,angry,01\n1.wav,sad,02\n",
    "other names": b"FilePath,emotion label,ActorID\n0.wav,angry,01\n1.wav,sad,02\n",
    "UTF-16 LE": "file\temotion\tspeaker\n0.wav\tangry\t01\n1.wav\tsad\t02\n".encode("utf-16"),
    "UTF-16 BE": b"\xfe\xff" + "file,emotion,spk\n0.wav,angry,01\n1.wav,sad,02".encode("utf-16-be"),
}


@pytest.mark.parametrize("form", SPREADSHEETS)
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, cache, form):
    folder = recorded(tmp_path / "f")
    (folder / "metadata.csv").write_bytes(SPREADSHEETS[form])
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        loaded = load_corpus("folder", data_dir=folder, cache_dir=cache)
    assert loaded["file"][:] == ["0.wav", "1.wav"]
    assert loaded["emotion"][:] == [EMOTIONS.index("anger"), EMOTIONS.index("sadness")]
    assert loaded["speaker"][:] == ["01", "02"]


def test_blank_rows_of_other_tables_are_skipped(tmp_path, cache):
    folder = recorded(tmp_path / "f")
    rows = [("0.wav", "sad"), (None, None), ("1.wav", "sad")]
    for kind in (".jsonl", ".parquet"):
        write_table(folder, kind, rows, ("file", "emotion"))
        assert len(load_corpus("folder", data_dir=folder, cache_dir=cache)) == 2
        (folder / f"metadata{kind}").unlink()


def test_table_that_is_no_text_is_refused(tmp_path, cache):
    folder = recorded(tmp_path / "f")
    (folder / "metadata.csv").write_bytes("file,emotion\n0.wav,sad\n".encode("utf-16-le"))
    with pytest.raises(CorpusError, match="Cannot read the table .*expected text, in UTF-8 or"):
        load_corpus("folder", data_dir=folder, cache_dir=cache)


@pytest.mark.parametrize("cell", ["n/a", "nan", "inf", "20-30"])
def test_cells_that_should_be_numbers_are_left_out_with_their_row(tmp_path, cache, cell):
    folder = recorded(tmp_path / "f")
    rows = [(), ("0.wav", "sad", cell, "0,5"), ("1.wav", "sad", "31", cell)]
    write_csv(folder / "metadata.csv", rows, ("file", "emotion", "Age", "agreement"), ";")
    with pytest.warns(CorpusWarning) as caught:
        loaded = load_corpus("folder", data_dir=folder, cache_dir=cache, on_error="raise")
    assert loaded["age"][:] == [None, 31]
    assert loaded["agreement"][:] == [0.5, None]
    first, second = (str(warning.message) for warning in caught)
    assert f"column 'Age' in '{folder}/metadata.csv', expected numbers, found '{cell}' in" in first
    assert first.endswith(" in row 3")
    assert second.endswith(f"'{cell}' in row 4")


def test_ages_in_names_that_are_no_numbers_are_left_out(tmp_path, cache):
    folder = recorded(tmp_path / "f", ("sad/30.wav", "sad/old.wav"))
    options = {"data_dir": folder, "file_pattern": r"(?P<age>\w+)\.wav$", "cache_dir": cache}
    with pytest.warns(CorpusWarning, match=r"expected numbers, found age 'old' in '.*old\.wav'"):
        assert load_corpus("folder", **options)["age"][:] == [30, None]


def test_options_name_columns_in_any_spelling(tmp_path, cache):
    folder = recorded(tmp_path / "f")
    rows = [("0.wav", "sad", "x"), ("1.wav", "sad", "y")]
    write_csv(folder / "metadata.csv", rows, ("file", "emotion", "Who Speaks"))
    options = {"data_dir": folder, "cache_dir": cache, "speaker_column": "who_speaks"}
    assert load_corpus("folder", **options)["speaker"][:] == ["x", "y"]


def test_columns_that_may_hold_the_speakers_are_listed(studio, cache):
    options = {"data_dir": studio, "cache_dir": cache, **COLUMNS, "speaker_column": None}
    with pytest.warns(
        CorpusWarning, match=r"No speaker in .*expected speaker_column to name one of \['who'\]"
    ):
        loaded = load_corpus("folder", **options)
    with pytest.raises(ValueError, match="rows without speaker .*speaker_column names the table's"):
        protocol_folds(loaded, "speaker_independent")


@pytest.mark.parametrize("spelling", ["./0.wav", "../f/0.wav", "{folder}/0.wav", "0", ".\\0.wav"])
def test_one_file_in_two_spellings_is_a_duplicate(tmp_path, cache, spelling):
    folder = recorded(tmp_path / "f")
    rows = [(spelling.format(folder=folder), "sad"), ("1.wav", "sad")]
    write_csv(folder / "metadata.csv", rows, ("file", "emotion"))
    options = {"data_dir": folder, "cache_dir": cache}
    assert load_corpus("folder", **options)["file"][:] == ["0.wav", "1.wav"]
    write_csv(folder / "metadata.csv", [("0.wav", "sad"), *rows], ("file", "emotion"))
    with pytest.raises(CorpusError, match="Files in several rows of"):
        load_corpus("folder", **options)


def test_complete_folder_warns_of_nothing(studio, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        load_corpus("folder", "all", studio, cache_dir=cache, **COLUMNS)
