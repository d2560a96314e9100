import json

import numpy as np
import pytest
from datasets import load_dataset
from toy_enhancer import EMOTIONS, get_dummy_components

import enhance_dataset
from datasets_scripts import decode_audio, export_parquet, load_corpus
from pipelines import EmotionEnhancementPipeline

QUICK = ("--num_inference_steps", "2", "--shard_size", "5", "--strength", "0.5")
QUICK += ("--vocoder", "source_filter", "--anchor", "source")


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
    def run(*arguments, output="enhanced"):
        folder = tmp_path / output
        given = ["--model", str(model), "--dataset", str(source), "--output_dir", str(folder)]
        enhance_dataset.main([*given, *QUICK, *arguments])
        return folder

    return run


def read(folder):
    # Folders of one name and form are one dataset to the cache.
    return load_dataset(str(folder), split="train", cache_dir=folder.with_name("cache"))


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


def test_refuses_an_unknown_emotion_and_a_foreign_folder(enhance, tmp_path):
    with pytest.raises(ValueError, match=r"Bad emotion 'joy', expected one of \['neutral'"):
        enhance("--emotion", "joy")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("important")
    with pytest.raises(FileExistsError, match="expected one that is empty or new"):
        enhance(output="taken")
