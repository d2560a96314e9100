import itertools
import os
import warnings
from collections import Counter

import numpy as np
import pytest
import soundfile
from corpus_helpers import published_stems, write_recording
from datasets import load_dataset

from datasets_scripts import EMOTIONS, decode_audio, load_corpus
from datasets_scripts.recordings import CorpusError, CorpusWarning

RATINGS = "Nr.\tSatz\terkannt\tnatuerlich\n1\xa0\xa0\t03a01Fa.wav\t{}\xa0\xa0\t70,00\xa0\n"

pytestmark = pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")


def emotion_counts(dataset):
    return Counter(dataset.features["emotion"].int2str(dataset["emotion"][:]))


def truncate(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ("six_emotions", [79, 71, 62, 127, 69, 46]),
        ("all", [79, 71, 62, 127, 69, 46, 81]),
    ],
)
def test_emodb_has_the_published_recordings(emodb_folder, cache, config, counts):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        dataset = load_corpus("emodb", config, emodb_folder, cache_dir=cache)
    names = [*EMOTIONS, "boredom"][: len(counts)]
    assert dataset.features["emotion"].names == names
    assert emotion_counts(dataset) == dict(zip(names, counts, strict=True))


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ("six_emotions", [96, 192, 192, 192, 192, 192]),
        ("all", [96, 192, 192, 192, 192, 192, 192, 192]),
    ],
)
def test_ravdess_has_the_published_recordings(ravdess_folder, cache, config, counts):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        dataset = load_corpus("ravdess", config, ravdess_folder, cache_dir=cache)
    names = [*EMOTIONS, "calm", "surprise"][: len(counts)]
    assert dataset.features["emotion"].names == names
    assert emotion_counts(dataset) == dict(zip(names, counts, strict=True))
    assert len(set(dataset["speaker"])) == 24


def test_rows_of_emodb(small_emodb, cache):
    row = load_corpus("emodb", data_dir=small_emodb, cache_dir=cache)[0]
    audio = row.pop("audio")
    assert audio["bytes"] == (small_emodb / "03a01Fa.wav").read_bytes()
    assert row == {
        "emotion": EMOTIONS.index("happiness"),
        "speaker": "03",
        "gender": "male",
        "age": 31,
        "sentence": "a01",
        "transcript": "Der Lappen liegt auf dem Eisschrank.",
        "intensity": None,
        "repetition": "a",
        "corpus": "emodb",
        "file": "03a01Fa.wav",
        "group": "03a01Fa",
        "agreement": None,
    }


@pytest.mark.filterwarnings("ignore:ravdess .* has:UserWarning")
def test_rows_of_ravdess(tmp_path, cache):
    write_recording(tmp_path / "data" / "Actor_12" / "03-01-06-02-02-01-12.flac")
    row = load_corpus("ravdess", data_dir=tmp_path / "data", cache_dir=cache)[0]
    expected = {
        "emotion": EMOTIONS.index("fear"),
        "speaker": "12",
        "gender": "female",
        "age": None,
        "sentence": "02",
        "transcript": "Dogs are sitting by the door",
        "intensity": "strong",
        "repetition": "01",
        "file": "Actor_12/03-01-06-02-02-01-12.flac",
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset_knows_the_corpora_in_an_empty_folder(
    small_emodb, tmp_path, monkeypatch, cache, streaming
):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    dataset = load_dataset(
        "emodb", "all", data_dir=str(small_emodb), split="train", streaming=streaming,
        cache_dir=cache,
    )  # fmt: skip
    assert [row["file"] for row in dataset] == ["03a01Fa.wav", "03a01Nc.wav", "03a04Lc.wav"]
    toys = load_dataset(
        "toy_emotions", speakers=1, repetitions=1, split="train", streaming=streaming,
        cache_dir=cache,
    )  # fmt: skip
    assert len(list(toys)) == 12


def test_files_of_the_current_folder_are_not_loaded(small_emodb, tmp_path, monkeypatch, cache):
    write_recording(tmp_path / "here" / "16b10Wb.wav")
    monkeypatch.chdir(tmp_path / "here")
    dataset = load_dataset("emodb", data_dir=str(small_emodb), split="train", cache_dir=cache)
    assert set(dataset["speaker"]) == {"03"}


def test_streaming_gives_the_same_rows(small_emodb, cache):
    prepared = load_corpus("emodb", "all", small_emodb, cache_dir=cache)
    streamed = load_corpus("emodb", "all", small_emodb, cache_dir=cache, streaming=True)
    assert list(streamed) == list(prepared)
    assert streamed.features == prepared.features


def test_missing_recordings_are_named(ravdess_folder, tmp_path, cache):
    missing = "03-01-04-01-01-01-09"
    for stem in published_stems("ravdess"):
        if stem != missing:
            path = tmp_path / "data" / f"{stem}.wav"
            path.parent.mkdir(exist_ok=True)
            os.link(ravdess_folder / f"Actor_{stem[-2:]}" / path.name, path)
    with pytest.warns(CorpusWarning, match=rf"1055 of the 1056 .* 09: 1\. Missing: {missing}"):
        load_corpus("ravdess", data_dir=tmp_path / "data", cache_dir=cache)
    with pytest.warns(CorpusWarning, match="1055 of the 1056"):  # from the cache, too
        load_corpus("ravdess", data_dir=tmp_path / "data", cache_dir=cache)
    with pytest.warns(CorpusWarning, match="1055 of the 1056"):
        load_corpus("ravdess", data_dir=tmp_path / "data", cache_dir=cache, streaming=True)


def test_nested_copy_is_used_once(ravdess_folder, tmp_path, cache):
    for place in ("", "audio_speech_actors_01-24"):
        for path in ravdess_folder.rglob("*.wav"):
            link = tmp_path / "kaggle" / place / path.relative_to(ravdess_folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    with pytest.warns(CorpusWarning, match="1440 recordings occur more than once") as caught:
        dataset = load_corpus("ravdess", data_dir=tmp_path / "kaggle", cache_dir=cache)
    assert len(caught) == 1
    assert len(dataset) == 1056
    assert not any("audio_speech" in file for file in dataset["file"])


def test_wav_beside_flac_is_one_recording(small_emodb, cache):
    write_recording(small_emodb / "flac" / "03a01Fa.flac")
    with pytest.warns(CorpusWarning, match="03a01Fa"):
        dataset = load_corpus("emodb", data_dir=small_emodb, cache_dir=cache)
    assert dataset["file"][:] == ["03a01Fa.wav", "03a01Nc.wav"]


@pytest.mark.filterwarnings("ignore:ravdess .* has:UserWarning")
def test_identical_recordings_share_a_group(ravdess_folder, cache):
    dataset = load_corpus("ravdess", data_dir=ravdess_folder, cache_dir=cache)
    groups = dict(zip(dataset["file"], dataset["group"], strict=True))
    first, second = (f"Actor_07/03-01-03-01-02-0{n}-07.wav" for n in (1, 2))
    assert groups[first] == groups[second]
    assert len(set(groups.values())) == 1055


@pytest.mark.filterwarnings("ignore:ravdess .* has:UserWarning")
def test_song_and_sound_of_videos_are_left_out(tmp_path, cache):
    stems = ("03-01-06-01-02-01-12", "01-01-06-01-02-01-12", "03-02-06-01-02-01-12")
    for stem in stems:
        write_recording(tmp_path / "data" / f"{stem}.wav")
    with pytest.warns(CorpusWarning, match="Left out 2 files"):
        dataset = load_corpus("ravdess", data_dir=tmp_path / "data", cache_dir=cache)
    assert dataset["file"][:] == [f"{stems[0]}.wav"]


BROKEN = {
    "malformed name": ("99a01Fa.wav", lambda path: None),
    "empty file": ("08a01Fd.wav", lambda path: path.write_bytes(b"")),
    "no samples": ("08a01Fd.wav", lambda path: soundfile.write(path, np.zeros(0), 16_000)),
    "not sound": ("08a01Fd.wav", lambda path: path.write_text("sound?")),
    "truncated wav": ("08a01Fd.wav", truncate),
    "truncated flac": ("08a01Fd.flac", truncate),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("streaming", [False, True])
def test_broken_file_is_skipped_or_refused_with_its_path(small_emodb, cache, broken, streaming):
    name, spoil = BROKEN[broken]
    spoil(write_recording(small_emodb / "deep" / name))
    options = {"data_dir": small_emodb, "cache_dir": cache, "streaming": streaming}
    with pytest.warns(CorpusWarning, match=rf"Skipped 1 files:\n.*deep/{name}"):
        rows = list(load_corpus("emodb", **options))
    assert [row["file"] for row in rows] == ["03a01Fa.wav", "03a01Nc.wav"]
    with pytest.raises(CorpusError, match=rf"deep/{name}"):
        list(load_corpus("emodb", **options, on_error="raise"))


def claim(path, size):
    """Write a size into the header of a WAV file that its data chunk does not have."""
    data = bytearray(path.read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)


INTACT = [0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF - 44, 642, 643]  # of 640 bytes


@pytest.mark.parametrize("size", INTACT)
def test_intact_wav_that_claims_to_be_longer_is_whole(small_emodb, cache, size):
    claim(small_emodb / "03a01Fa.wav", size)
    rows = load_corpus("emodb", data_dir=small_emodb, cache_dir=cache, on_error="raise")
    assert len(decode_audio(rows[0]["audio"])[0]) == 320


@pytest.mark.parametrize("missing", [0.02, 0.9])
def test_wav_that_ends_clearly_before_a_plausible_length_is_truncated(small_emodb, cache, missing):
    truncate(write_recording(small_emodb / "08a01Fd.wav", seconds=1.0), 1 - missing)
    with pytest.raises(CorpusError, match="Truncated file .*08a01Fd"):
        load_corpus("emodb", data_dir=small_emodb, cache_dir=cache, on_error="raise")


def test_flac_that_does_not_say_its_length_is_named(small_emodb, cache):
    path = write_recording(small_emodb / "08a01Fd.flac")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the number of samples is the 36 bits that end here
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"08a01Fd\.flac': its header does not give its length"):
        load_corpus("emodb", data_dir=small_emodb, cache_dir=cache, on_error="raise")


def test_dangling_link_is_skipped_with_its_path(small_emodb, cache):
    (small_emodb / "16b10Wb.wav").symlink_to(small_emodb / "nowhere.wav")
    with pytest.warns(CorpusWarning, match=r"Skipped 1 files:\n.*16b10Wb\.wav.*link to nothing"):
        assert len(load_corpus("emodb", data_dir=small_emodb, cache_dir=cache)) == 2
    with pytest.raises(CorpusError, match="16b10Wb"):
        load_corpus("emodb", data_dir=small_emodb, cache_dir=cache, on_error="raise")


def test_linked_folders_are_followed_once(small_emodb, tmp_path, cache):
    data = tmp_path / "data"
    data.mkdir()
    (data / "there").symlink_to(small_emodb)
    (small_emodb / "loop").symlink_to(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*more than once")
        dataset = load_corpus("emodb", data_dir=data, cache_dir=cache)
    assert dataset["file"][:] == ["there/03a01Fa.wav", "there/03a01Nc.wav"]


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_folder_of_another_corpus_is_named_once(ravdess_folder, cache, on_error):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CorpusWarning)
        with pytest.raises(CorpusError) as error:
            load_corpus("emodb", data_dir=ravdess_folder, cache_dir=cache, on_error=on_error)
    message = str(error.value)
    assert "expected names such as '03a01Fa', found 1440 files with other names" in message
    assert "'Actor_01/03-01-01-01-01-01-01.wav', which is a name of ravdess" in message


OWN_NAMES = {
    "ravdess": "Actor_01/03-01-01-01-01-01-01.wav",
    "savee": "DC/a01.wav",
    "tess": "OAF_Fear/OAF_back_fear.wav",
}


@pytest.mark.parametrize(
    ("corpus", "given_as"),
    [*itertools.permutations(OWN_NAMES, 2), *itertools.product(OWN_NAMES, ["emodb", "crema_d"])],
)
def test_hint_at_another_corpus_has_the_files_own_name(tmp_path, cache, corpus, given_as):
    for file in ("A_stray_file.wav", OWN_NAMES[corpus]):
        write_recording(tmp_path / "data" / file)
    message = (
        f"2 files with other names, such as '{OWN_NAMES[corpus]}', which is a name of {corpus}$"
    )
    with pytest.raises(CorpusError, match=message):
        load_corpus(given_as, data_dir=tmp_path / "data", cache_dir=cache)


def test_folder_of_other_emotions_alone_says_where_they_are(tmp_path, cache):
    write_recording(tmp_path / "data" / "03a04Lc.wav")
    with pytest.raises(CorpusError, match="found boredom 1, which only the configuration 'all'"):
        load_corpus("emodb", data_dir=tmp_path / "data", cache_dir=cache)


def test_folder_of_broken_files_alone_says_why(tmp_path, cache):
    for stem in ("03a01Fa", "03a01Nc"):
        write_recording(tmp_path / "data" / f"{stem}.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"None of the 2 recordings .*03a01Fa\.wav': the file is"):
        load_corpus("emodb", data_dir=tmp_path / "data", cache_dir=cache)


PLACEHOLDERS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "a Git LFS pointer",
    b"/annex/objects/SHA256E-s1--0.wav\n": "a git-annex pointer",
    b"<!DOCTYPE html>\n<html><body>Log in</body></html>": "a web page",
    b"": "the file is empty",
}


@pytest.mark.parametrize("content", PLACEHOLDERS)
@pytest.mark.parametrize("from_file", [False, True])
def test_what_stands_in_place_of_a_recording_is_named(tmp_path, content, from_file):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.wav': .*{PLACEHOLDERS[content]}"):
        decode_audio({"bytes": None if from_file else content, "path": str(path)})


def test_all_rates_and_channels_load(tmp_path, cache):
    write_recording(tmp_path / "data" / "03a01Fa.wav", rate=8_000, subtype="FLOAT")
    write_recording(tmp_path / "data" / "03a01Nc.flac", rate=44_100, channels=2)
    dataset = load_corpus("emodb", data_dir=tmp_path / "data", cache_dir=cache)
    mono, stereo = (decode_audio(row["audio"]) for row in dataset)
    assert (mono[0].shape, mono[1]) == ((160,), 8_000)
    assert (stereo[0].shape, stereo[1]) == ((882, 2), 44_100)
    assert stereo[0].dtype == np.float32


@pytest.mark.parametrize("place", ["recordings", ".", "meta"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_ratings_of_listeners_are_found(small_emodb, tmp_path, cache, place, encoding):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / "erkennung.txt").write_text(RATINGS.format("95,00"), encoding=encoding)
    dataset = load_corpus("emodb", data_dir=small_emodb, cache_dir=cache)
    assert dataset["agreement"][:] == [pytest.approx(0.95), None]


def test_changed_files_are_noticed(small_emodb, cache):
    def load():
        return load_corpus("emodb", data_dir=small_emodb, cache_dir=cache)

    assert len(load()) == 2
    added = write_recording(small_emodb / "08a01Na.wav")
    assert len(load()) == 3
    (small_emodb / "erkennung.txt").write_text(RATINGS.format("45,00"), encoding="latin-1")
    assert load()[0]["agreement"] == pytest.approx(0.45)
    write_recording(added, stem="another sound")
    assert decode_audio(load()[2]["audio"])[0] == pytest.approx(soundfile.read(added)[0])
    added.unlink()
    assert len(load()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "iemocap"},
            r"Bad corpus 'iemocap', expected one of \['emodb'.*builder=\"folder\", which reads any",
        ),
        ({"name": "emodb", "config": "five"}, "'five' not found. Available: .*six_emotions"),
        ({"name": "emodb", "on_error": "ignore"}, "Bad on_error 'ignore', expected one of"),
        ({"name": "emodb", "data_dir": "no/such/folder"}, "Bad data_dir 'no/such/folder'"),
        ({"name": "emodb", "speakers": 4}, "Bad option 'speakers' of emodb, expected one of"),
        ({"name": "toy_emotions", "speakers": 0}, "Bad speakers 0, expected 1 to 98"),
        ({"name": "toy_emotions", "data_dir": "."}, "Bad data_dir for toy_emotions"),
    ],
)
def test_bad_arguments_are_named(arguments, message, cache):
    with pytest.raises(ValueError, match=message):
        load_corpus(**arguments, cache_dir=cache)


def test_folder_without_recordings_is_refused(tmp_path, cache):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"No .flac or .wav file below .*empty"):
        load_corpus("emodb", data_dir=tmp_path / "empty", cache_dir=cache)


def test_decode_audio_names_the_path():
    with pytest.raises(ValueError, match=r"Cannot decode audio 'a/b\.wav'"):
        decode_audio({"bytes": b"RIFF", "path": "a/b.wav"})


def test_decoded_silence_of_no_length_names_the_path(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    with pytest.raises(ValueError, match=r"No samples in audio '.*none\.wav'"):
        decode_audio({"bytes": None, "path": str(tmp_path / "none.wav")})


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a sound", "it is not a sound file that libsndfile knows"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "Error in WAV file. No 'data' chunk marker"),
    ],
)
def test_what_cannot_be_decoded_says_why(tmp_path, content, reason, from_file):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^Cannot decode audio '{path}': {reason}$"):
        decode_audio({"bytes": None if from_file else content, "path": str(path)})


def test_recording_that_is_not_there_is_no_matter_of_decoding(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.wav': it cannot be read: No such file"):
        decode_audio({"bytes": None, "path": str(tmp_path / "nowhere.wav")})
