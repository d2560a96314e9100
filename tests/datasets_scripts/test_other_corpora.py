"""The corpora that are not downloaded, in their published layouts, with noise in the files."""

import os
import warnings
from collections import Counter

import pytest
from corpus_helpers import write_recording
from datasets import ClassLabel, Dataset, concatenate_datasets

from datasets_scripts import CORPORA, EMOTIONS, load_corpus, protocol_folds
from datasets_scripts.crema_d.crema_d import SENTENCES
from datasets_scripts.recordings import CorpusError, CorpusWarning
from datasets_scripts.tess.tess import TESS

INCOMPLETE = pytest.mark.filterwarnings("ignore:.* (has|published are) :UserWarning")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 73338\n".format("0" * 64)


def fill(folder, names):
    """Many recordings, which are links to one, for the names alone matter."""
    first = write_recording(folder.parent / "noise.wav")
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, path)
    return folder


def tess_names():
    """All of TESS, with the quirks of its names."""
    words = [f"{a}{b}{c}" for a in "bcdfgklmpt" for b in "aeiou" for c in "dknt"]
    folders = {"ps": "Pleasant_surprise", "fear": "Fear"}
    for speaker in ("OAF", "YAF"):
        for emotion in ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"):
            folder = folders.get(emotion, emotion) if speaker == "OAF" else emotion
            for word in words[:199]:
                yield f"{speaker}_{folder}/{speaker}_{word}_{emotion}.wav"
            odd = "OA" if (speaker, emotion) == ("OAF", "neutral") else speaker
            yield f"{speaker}_{folder}/{odd}_bite_{emotion}.wav"


def savee_names():
    takes = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    return [
        f"{speaker}/{code}{number:02d}.wav"
        for speaker in ("DC", "JE", "JK", "KL")
        for code, count in takes.items()
        for number in range(1, count + 1)
    ]


def crema_names():
    """As many as published: every actor has every cell, but for 20 recordings that were lost."""
    actors = range(1001, 1092)
    lost = {("NEU", "XX", actor) for actor in actors[:5]}
    lost |= {(code, "HI", a) for code in ("HAP", "SAD", "ANG", "FEA", "DIS") for a in actors[:3]}
    for actor in actors:
        for sentence in SENTENCES:
            for code in ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"):
                levels = ("LO", "MD", "HI") if sentence == "IEO" and code != "NEU" else ("XX",)
                for level in levels:
                    if sentence != "IEO" or (code, level, actor) not in lost:
                        yield f"AudioWAV/{actor}_{sentence}_{code}_{level}.wav"


def load_silently(name, config, folder, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        return load_corpus(name, config, folder, cache_dir=cache)


def emotion_counts(dataset):
    return Counter(dataset.features["emotion"].int2str(dataset["emotion"][:]))


@pytest.mark.parametrize(
    ("corpus", "names", "neutral", "others"),
    [("tess", tess_names, 400, 400), ("savee", savee_names, 120, 60)],
)
def test_complete_corpus_has_the_published_counts(tmp_path, cache, corpus, names, neutral, others):
    folder = fill(tmp_path / "data", names())
    dataset = load_silently(corpus, "all", folder, cache)
    expected = dict.fromkeys((*EMOTIONS, "surprise"), others) | {"neutral": neutral}
    assert emotion_counts(dataset) == expected


def test_whole_of_crema_d_is_complete(tmp_path, cache):
    folder = fill(tmp_path / "data", crema_names())
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        streamed = load_corpus("crema_d", data_dir=folder, cache_dir=cache, streaming=True)
        assert next(iter(streamed))["speaker"] == "1001"
    lost = folder / "AudioWAV" / "1091_TSI_SAD_XX.wav"
    lost.unlink()
    with pytest.warns(CorpusWarning, match="7441 recordings, published are 7442.*sadness: -1"):
        load_corpus("crema_d", data_dir=folder, cache_dir=cache, streaming=True)


def test_missing_recordings_are_counted_where_names_are_not_known(tmp_path, cache):
    folder = fill(tmp_path / "data", tess_names())
    (folder / "YAF_sad" / "YAF_bite_sad.wav").unlink()
    message = r"tess \(six_emotions\) has 2399 recordings, published are 2400\. .*sadness YAF: -1$"
    with pytest.warns(CorpusWarning, match=message):
        load_corpus("tess", data_dir=folder, cache_dir=cache)
    with pytest.warns(CorpusWarning, match=message):
        load_corpus("tess", data_dir=folder, cache_dir=cache, streaming=True)


@INCOMPLETE
def test_names_of_tess_are_read_in_any_case_and_nesting(tmp_path, cache):
    names = (
        "OAF_Fear/oaf_Back_FEAR.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "YAF_ps/YAF_bean_ps.wav",
    )
    fill(tmp_path / "data", [*names, f"copy/{names[0]}"])
    with pytest.warns(CorpusWarning, match="1 recordings occur more than once"):
        dataset = load_corpus("tess", "all", tmp_path / "data", cache_dir=cache)
    columns = ("emotion", "speaker", "age", "gender", "sentence", "transcript")
    labels = dataset.features["emotion"].names
    rows = [(labels[row["emotion"]], *(row[c] for c in columns[1:])) for row in dataset]
    assert rows == [
        ("fear", "OAF", 64, "female", "back", "Say the word back"),
        ("neutral", "OAF", 64, "female", "bite", "Say the word bite"),
        ("surprise", "YAF", 26, "female", "bean", "Say the word bean"),
    ]


@INCOMPLETE
def test_both_layouts_of_savee_are_the_same_corpus(tmp_path, cache):
    published = fill(tmp_path / "a" / "AudioData", ["DC/a01.wav", "KL/sa02.wav", "KL/su01.wav"])
    flat = fill(tmp_path / "b" / "data", ["DC_a01.wav", "KL_sa02.wav", "KL_su01.wav"])
    wanted = ("emotion", "speaker", "gender", "sentence", "repetition")
    one, other = (
        [{name: row[name] for name in wanted} for row in load_corpus("savee", "all", folder,
                                                                     cache_dir=cache)]
        for folder in (published, flat)
    )  # fmt: skip
    assert one == other
    assert [row["speaker"] for row in one] == ["DC", "KL", "KL"]
    assert [row["emotion"] for row in one] == [3, 2, 6]


def test_savee_has_no_sentences_to_hold_out(tmp_path, cache):
    dataset = load_silently("savee", "six_emotions", fill(tmp_path / "d", savee_names()), cache)
    with pytest.raises(ValueError, match=r"rows without sentence in savee: 420"):
        protocol_folds(dataset, "sentence_independent")


@pytest.fixture
def crema(tmp_path):
    """A part of the repository, with its tables."""
    root = tmp_path / "CREMA-D"
    for name in ("1001_DFA_ANG_XX", "1001_IEO_SAD_HI", "1040_ITH_SAD_X"):
        write_recording(root / "AudioWAV" / f"{name}.wav")
    (root / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
    )
    (root / "processedResults").mkdir()
    (root / "processedResults" / "tabulatedVotes.csv").write_text(
        '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
        '"100062",6,2,0,0,1,1,"1001_DFA_ANG_XX",10,0.6,"A"\n'
        '"200062",0,2,0,0,8,0,"1001_DFA_ANG_XX",10,0.8,"N"\n'
        '"103333",0,0,0,0,3,1,"1040_ITH_SAD_XX",4,0.75,"N"\n'
    )
    return root


@INCOMPLETE
@pytest.mark.parametrize("inside", ["", "AudioWAV"])
def test_rows_of_crema_d_with_its_tables(crema, cache, inside):
    rows = list(load_corpus("crema_d", data_dir=crema / inside, cache_dir=cache))
    wanted = ("emotion", "speaker", "age", "gender", "sentence", "intensity")
    assert [tuple(row[name] for name in wanted) for row in rows] == [
        (EMOTIONS.index("anger"), "1001", 51, "male", "DFA", "unspecified"),
        (EMOTIONS.index("sadness"), "1001", 51, "male", "IEO", "high"),
        (EMOTIONS.index("sadness"), "1040", None, None, "ITH", "unspecified"),
    ]
    # The share of those who only heard it and chose the intended emotion, not the majority's.
    assert [row["agreement"] for row in rows] == [pytest.approx(0.6), None, pytest.approx(0.25)]
    assert rows[0]["transcript"] == "Don't forget a jacket"


@INCOMPLETE
@pytest.mark.parametrize(
    ("table", "good", "row"),
    [("VideoDemographics.csv", "51", 2), ("processedResults/tabulatedVotes.csv", "6", 2)],
)
def test_cell_that_is_no_number_costs_no_corpus(crema, cache, table, good, row):
    path = crema / table
    path.write_text(path.read_text().replace(f",{good},", ",n/a,", 1))
    with pytest.warns(
        CorpusWarning, match=rf"{path.name}', expected numbers, .*'n/a' in row {row}$"
    ):
        rows = list(load_corpus("crema_d", data_dir=crema, cache_dir=cache, on_error="raise"))
    assert rows[0]["age" if good == "51" else "agreement"] is None
    assert rows[2]["agreement"] == pytest.approx(0.25)


@INCOMPLETE
def test_table_of_another_shape_is_named(crema, cache):
    (crema / "VideoDemographics.csv").write_text("Actor,Years\n1001,51\n")
    with pytest.raises(
        CorpusError, match=r"VideoDemographics\.csv' without the columns \['ActorID'"
    ):
        load_corpus("crema_d", data_dir=crema, cache_dir=cache)


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_git_lfs_pointers_are_told_apart(tmp_path, cache, on_error):
    for name in ("1001_DFA_ANG_XX", "1001_IEO_SAD_HI"):
        path = tmp_path / "AudioWAV" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_text(POINTER)
    with pytest.raises(
        CorpusError, match=r"1001_DFA_ANG_XX\.wav': it is a Git LFS pointer.*git lfs"
    ):
        load_corpus("crema_d", data_dir=tmp_path, cache_dir=cache, on_error=on_error)


@INCOMPLETE
def test_rows_of_nemo_with_its_table(tmp_path, cache):
    root = tmp_path / "nEMO"
    for name in ("EB0_anger_1", "EB0_surprised_12"):
        write_recording(root / "samples" / f"{name}.wav", rate=24_000)
    (root / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
        'EB0_anger_1.wav\tanger\tCzy "to" ważne?\tczy to ważne\tEB0\tfemale\t24\n',
        encoding="utf-8",
    )
    anger, surprise = load_corpus("nemo", "all", root / "samples", cache_dir=cache)
    assert (anger["speaker"], anger["gender"], anger["age"]) == ("EB0", "female", 24)
    assert (anger["sentence"], anger["transcript"]) == ("1", 'Czy "to" ważne?')
    assert (surprise["emotion"], surprise["gender"]) == (6, None)
    assert load_corpus("nemo", data_dir=root, cache_dir=cache)["emotion"][:] == [3]


@pytest.mark.parametrize("corpus", ["crema_d", "savee", "tess", "nemo"])
def test_corpus_without_an_archive_says_where_to_get_it(corpus, cache):
    with pytest.raises(CorpusError) as error:
        load_corpus(corpus, cache_dir=cache)
    message = str(error.value)
    assert CORPORA[corpus].HOMEPAGE in message
    assert f'load_corpus("{corpus}", data_dir="<folder>")' in message


def test_two_women_are_too_few_to_be_told_apart_but_enough_to_train_on(labels):
    columns = [TESS.parse_stem(TESS.name_of(name)) | {"group": name} for name in tess_names()]
    names = ("speaker", "sentence", "emotion", "group")
    rows = {name: [row[name] for row in columns if row["emotion"] in EMOTIONS] for name in names}
    tess = Dataset.from_dict(rows | {"corpus": ["tess"] * 2400})
    tess = tess.cast_column("emotion", ClassLabel(names=list(EMOTIONS)))
    with pytest.raises(ValueError, match="Too few speakers in tess"):
        protocol_folds(tess, "speaker_independent")
    words = protocol_folds(tess, "sentence_independent")
    assert [len(fold.test) for fold in words] == [480] * 5
    assert [len(fold.validation) for fold in words] == [240] * 5  # 20 words
    assert max(len(fold.name) for fold in words) <= 60
    everything = concatenate_datasets([tess, labels["both"].select_columns(tess.column_names)])
    folds = {fold.name: fold for fold in protocol_folds(everything, "cross_corpus")}
    assert list(folds) == [
        "emodb_to_ravdess", "emodb_to_tess", "ravdess_to_emodb", "ravdess_to_tess",
        "tess_to_emodb", "tess_to_ravdess",
    ]  # fmt: skip
    assert [fold.index for fold in folds.values()] == list(range(6))
    fold = folds["tess_to_emodb"]
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (1200, 1200, 454)
