import json
import shutil

import numpy as np
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch
from datasets import Audio, load_dataset
from toy_enhancer import EMOTIONS, get_dummy_components

import enhance_dataset
from datasets_scripts import decode_audio, export_parquet, load_corpus
from datasets_scripts.recordings import RecordingError
from modeling import (
    EmotionFeatureExtractor,
    EmotionResNetConfig,
    EmotionResNetForAudioClassification,
)
from pipelines import EmotionClassificationPipeline, EmotionEnhancementPipeline


def toy_classifier(folder, emotions):
    """A saved classifier of this package with these labels."""
    config = EmotionResNetConfig(
        embedding_size=8,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        id2label=dict(enumerate(emotions)),
        label2id={name: i for i, name in enumerate(emotions)},
    )
    torch.manual_seed(1)
    model = EmotionResNetForAudioClassification(config).eval()
    extractor = EmotionFeatureExtractor()
    EmotionClassificationPipeline(model=model, feature_extractor=extractor).save_pretrained(folder)


DIFFUSION = ("--method", "diffusion", "--num_inference_steps", "2", "--strength", "0.5")
DIFFUSION += ("--vocoder", "source_filter", "--no-rerank")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhancer") / "model"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve recordings as a Parquet folder, as anybody's dataset."""
    folder = tmp_path_factory.mktemp("source") / "speech"
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1)
    return export_parquet(corpus, folder, protocols=())


@pytest.fixture
def enhance(model, source, tmp_path):
    def run(*arguments, output="enhanced", settings=DIFFUSION):
        folder = tmp_path / output
        given = ["--model", str(model), "--dataset", str(source), "--output_dir", str(folder)]
        # Of an option given twice the last one counts.
        enhance_dataset.main([*given, "--shard_size", "5", *settings, *arguments])
        return folder

    return run


def read(folder):
    # Folders of one name and form are one dataset to the cache.
    return load_dataset(str(folder), split="train", cache_dir=folder.with_name("cache"))


def test_a_corpus_is_moved_by_mean_effects(enhance, source):
    """Another tempo is another length, and what is drawn are both."""
    folder = enhance("--emotion", "anger", settings=("--method", "shift"))
    made, given = read(folder), read(source)
    assert made["file"] == given["file"]
    lengths = [
        len(samples) / rate
        for rows in (made, given)
        for samples, rate in (decode_audio(row["audio"]) for row in rows)
    ]
    assert sum(lengths[: len(made)]) < 0.95 * sum(lengths[len(made) :])
    assert {json.loads(row)["method"] for row in made["settings"]} == {"shift"}
    assert (folder / "sheet.png").stat().st_size > 10_000


def test_each_row_says_which_method_made_it(enhance, source):
    """By default that is the shift, and both where the emotion is another one."""
    clearer = read(enhance("--emotion", "guess", settings=()))
    assert {json.loads(row)["method"] for row in clearer["settings"]} == {"shift"}
    heard = {EMOTIONS[target] for target in clearer["target_emotion"]}
    other = next(emotion for emotion in EMOTIONS if emotion not in heard)
    converted = read(enhance("--emotion", other, settings=(), output="converted"))
    assert {json.loads(row)["method"] for row in converted["settings"]} == {"both"}
    # What was heard in it, for whoever wants to keep the surest alone.
    for row in map(json.loads, converted["settings"]):
        assert row["amount"] > 0
        assert 0 <= row["certainty"] <= 1
    diffused = read(enhance("--emotion", other, settings=("--method", "diffusion"), output="alone"))
    assert {json.loads(row)["method"] for row in diffused["settings"]} == {"diffusion"}


def test_every_recording_is_there_with_what_was_done_to_it(enhance, source):
    folder = enhance()
    made, given = read(folder), read(source)
    assert made["file"] == given["file"]
    assert made["emotion"] == given["emotion"] == made["target_emotion"]
    for before, after in zip(given, made, strict=True):
        old, old_rate = decode_audio(before["audio"])
        new, new_rate = decode_audio(after["audio"])
        assert len(new) / new_rate == pytest.approx(len(old) / old_rate, abs=1e-3)
        assert np.shape(after["mel"]) == (len(new) // 256 + 1, 80)
        assert json.loads(after["settings"])["strength"] == 0.5
    assert (folder / "sheet.png").stat().st_size > 10_000
    assert "synthetic speech" in (folder / "README.md").read_text()


def test_copies_differ_and_one_emotion_serves_for_all(enhance):
    made = read(enhance("--copies", "2", "--num_noises", "1", "--emotion", "anger"))
    assert set(made["target_emotion"]) == {EMOTIONS.index("anger")}
    assert made["file"][0::2] == made["file"][1::2]
    first, second = (decode_audio(row["audio"])[0] for row in made.select([0, 1]))
    assert np.abs(first - second).max() > 1e-3
    assert len(set(made["seed"])) == len(made)


def test_repeating_makes_only_what_is_missing(enhance):
    whole = read(enhance())
    folder = enhance(output="again")
    shards = sorted((folder / "data").glob("*.parquet"))
    kept = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    enhance(output="again")
    assert shards[0].stat().st_mtime_ns == kept
    assert [row["bytes"] for row in read(folder)["audio"]] == [
        row["bytes"] for row in whole["audio"]
    ]


def test_shards_of_other_settings_are_not_mixed(enhance):
    enhance()
    with pytest.raises(FileExistsError, match=r"made with other \['guidance_scale'\]"):
        enhance("--guidance_scale", "2.5")


@pytest.fixture
def recordings(tmp_path):
    """A folder of plain recordings, two spoken and one of hiss."""
    folder = tmp_path / "recordings"
    (folder / "inner").mkdir(parents=True)
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1)
    for i, name in enumerate(("a.wav", "inner/b.flac")):
        soundfile.write(folder / name, *decode_audio(corpus[i]["audio"]))
    hiss = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    soundfile.write(folder / "hiss.wav", hiss, 16_000)
    (folder / "notes.json").write_text('{"not": "a table of recordings"}')
    (folder / "._a.wav").write_bytes(b"what some systems keep of a.wav")
    return folder


def test_a_folder_of_recordings(enhance, recordings, capsys):
    arguments = ("--dataset", str(recordings), "--emotion", "guess", "--shard_size", "2")
    folder = enhance(*arguments)
    said = "1 of 3 recordings were left out, since their speech score is below 0.5: hiss.wav"
    assert said in capsys.readouterr().out
    assert said in (folder / "README.md").read_text()
    assert read(folder)["file"] == ["a.wav", "inner/b.flac"]
    whole = read(enhance(*arguments, "--min_speech", "0", output="whole"))
    assert whole["file"] == ["a.wav", "hiss.wav", "inner/b.flac"]


def test_a_folder_without_speech_or_recordings(enhance, tmp_path, recordings):
    hiss = tmp_path / "hiss"
    hiss.mkdir()
    with pytest.raises(
        ValueError, match=r"Bad dataset '.*hiss', expected recordings or a saved da"
    ):
        enhance("--dataset", str(hiss), "--emotion", "guess", output="first")
    (recordings / "hiss.wav").rename(hiss / "hiss.wav")
    with pytest.raises(ValueError, match="Got no recording with speech"):
        enhance("--dataset", str(hiss), "--emotion", "guess", output="second")


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (("--emotion", "joy"), ValueError, "Bad emotion 'joy'"),
        (("--model", "outputs/gone/model"), (OSError, ValueError), "outputs/gone/model"),
        (("--num_inference_steps", "2000"), ValueError, "Bad num_inference_steps 2000"),
        (("--strength", "1.5"), ValueError, "Bad strength 1.5, expected 0 to 1"),
        (("--vocoder", "robot"), ValueError, "Bad vocoder 'robot', expected one of"),
        (
            ("--dataset", "gone/"),
            ValueError,
            "Bad dataset 'gone/', expected a folder that is there",
        ),
        (
            ("--method", "shift"),
            ValueError,
            r"Got \[.*\] for method 'shift', which listens to none",
        ),
    ],
)
def test_a_mistaken_call_does_not_claim_the_folder(enhance, tmp_path, mistake, error, message):
    with pytest.raises(error, match=message):
        enhance(*mistake)
    assert not (tmp_path / "enhanced").exists()


def test_a_broken_recording_is_named_and_what_was_made_is_kept(enhance, recordings, tmp_path):
    broken = recordings / "inner" / "c.wav"
    broken.write_bytes(b"no sound")
    arguments = ("--dataset", str(recordings), "--emotion", "guess", "--shard_size", "1")
    message = rf"Cannot enhance row 3 \({broken}\): Cannot decode '{broken}'"
    with pytest.raises(RecordingError, match=message):
        enhance(*arguments)
    shards = sorted((tmp_path / "enhanced" / "data").glob("*.parquet"))
    before = [shard.stat().st_mtime_ns for shard in shards]
    shutil.copy(recordings / "a.wav", broken)
    assert read(enhance(*arguments))["file"] == ["a.wav", "inner/b.flac", "inner/c.wav"]
    assert [shard.stat().st_mtime_ns for shard in shards] == before
    broken.unlink()
    with pytest.raises(FileExistsError, match="was made of 4 recordings, got 3, expected the same"):
        enhance(*arguments)


def test_a_row_without_label_or_sound_is_named(enhance, source, tmp_path):
    rows = load_dataset(str(source), split="train").cast_column("audio", Audio(decode=False))
    labels = [-1, *rows["emotion"][1:]]
    sounds = [rows[0]["audio"], None, *rows["audio"][2:]]
    features = rows.features
    changed = rows.remove_columns(["emotion", "audio"]).add_column("emotion", labels)
    changed = changed.add_column("audio", sounds).cast(features)
    changed.select([0]).to_parquet(tmp_path / "unlabelled" / "train.parquet")
    changed.select([1]).to_parquet(tmp_path / "silent" / "train.parquet")
    for name, message in (("unlabelled", "Got no label, expected one"), ("silent", "NoneType")):
        with pytest.raises(RecordingError, match=rf"Cannot enhance row 0 .*: .*{message}"):
            enhance("--dataset", str(tmp_path / name), output=f"of_{name}")


def test_another_classifier_listens(enhance, tmp_path):
    """With labels of its own, which it shares with the enhancer."""
    listener = tmp_path / "listener"
    toy_classifier(listener, [name for name in EMOTIONS if name != "fear"])
    with pytest.raises(ValueError, match="Bad listener with labels"):
        enhance("--listener", str(listener), output="refused")
    toy_classifier(listener, EMOTIONS)
    alone, heard = (
        [json.loads(row)["certainty"] for row in read(enhance(*given, output=name))["settings"]]
        for name, given in (
            ("alone", ("--rerank",)),
            ("heard", ("--rerank", "--listener", str(listener))),
        )
    )
    assert alone != heard


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--copies", "0", "Bad copies 0, expected 1 or more"),
        ("--seed", "-1", "Bad seed -1, expected 0 or more"),
        ("--min_speech", "7", "Bad min_speech 7.0, expected 0 to 1"),
        ("--strength", "much", "invalid float value: 'much'"),
    ],
)
def test_bad_options(enhance, capsys, option, value, message):
    with pytest.raises(SystemExit):
        enhance(option, value)
    assert message in capsys.readouterr().err


def test_code_of_a_model_is_run_only_if_that_is_allowed(enhance, model, tmp_path):
    trap = shutil.copytree(model, tmp_path / "trap")
    for file in trap.glob("emotion_enhancement*.py"):
        file.write_text("raise RuntimeError('the code was run')")
    given = ("--model", str(trap), "--emotion", "anger")
    with pytest.raises(RuntimeError, match="the code was run"):
        enhance(*given, "--trust_remote_code", output="trusted")
    assert len(read(enhance(*given))) == 12


def test_refuses_an_unknown_emotion_and_a_foreign_folder(enhance, tmp_path):
    with pytest.raises(ValueError, match=r"Bad emotion 'joy', expected one of \['neutral'"):
        enhance("--emotion", "joy")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("important")
    with pytest.raises(FileExistsError, match="expected one that is empty or new"):
        enhance(output="taken")


def test_a_few_recordings_of_the_room_calibrate_all(enhance, recordings):
    settings = ("--dataset", str(recordings), "--emotion", "anger", "--min_speech", "0")
    plain = enhance(*settings)
    here = enhance(*settings, "--calibrate", str(recordings), output="calibrated")
    before, after = (
        parquet.read_table(next((folder / "data").glob("*.parquet")))["audio"].to_pylist()
        for folder in (plain, here)
    )
    assert any(a["bytes"] != b["bytes"] for a, b in zip(before, after, strict=True))
    with pytest.raises(ValueError, match="Bad calibrate 'nowhere', expected a folder"):
        enhance(*settings, "--calibrate", "nowhere", output="other")
