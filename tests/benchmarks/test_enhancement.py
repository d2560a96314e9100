import json
from pathlib import Path

import pytest
import yaml
from toy_enhancer import get_dummy_components

from benchmarks import enhancement
from datasets_scripts import EMOTIONS
from evaluation import enhancement_table
from pipelines import EmotionEnhancementPipeline
from training.config import DiffusionConfig
from training.run import as_plain

TOY = {"toy_emotions": {"speakers": 8, "repetitions": 1}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What `train_diffusion.py` leaves, with networks of random weights."""
    folder = tmp_path_factory.mktemp("runs") / "fold_0"
    components = get_dummy_components()
    components["feature_extractor"].set_statistics(-5.0, 2.0, corpus="toy_emotions")
    EmotionEnhancementPipeline(**components).save_pretrained(folder / "model")
    config = as_plain(DiffusionConfig(corpora=TOY))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    """Arguments of a quick measurement, and its records."""
    work = tmp_path_factory.mktemp("work")
    arguments = ["--runs", str(run), "--work", str(work / "judged"), "--num_inference_steps", "2"]
    arguments += ["--vocoder", "source_filter"]
    arguments += ["--output", str(work / "enhancement.json"), "--plots", str(work / "plots")]
    enhancement.main(arguments)
    return arguments, json.loads((work / "enhancement.json").read_text())


def test_all_conditions_are_judged_and_shown(measured):
    records = measured[1]
    clarity = {(r["data"], r["judge"]) for r in records if r["task"] == "clarity"}
    assert clarity == {(c, j) for c in enhancement.CONDITIONS for j in enhancement.EMOTION_JUDGES}
    table = enhancement_table(records)
    assert table.count("\n") == 1 + len(enhancement.CONDITIONS)
    assert "told a wrong emotion" in table


def test_recordings_are_untouched_and_networks_of_noise_are_not(measured):
    """Judges know recordings that nobody touched; random networks harm whatever they touch."""
    by_data = {(r["data"], r["task"], r["judge"]): r["metrics"] for r in measured[1]}
    original = by_data["original", "preservation", None]
    assert original["mel_distance_db"] == 0
    assert by_data["original", "clarity", "opensmile-svm"]["WA"] > 0.5
    for data in ("enhanced", "wrong_emotion", "autoencoder_only"):
        changed = by_data[data, "preservation", None]
        assert changed["mel_distance_db"] > 0.1
    assert by_data["vocoder_only", "preservation", None]["mel_distance_db"] < 0.5


def test_judges_of_emotion_never_heard_the_speakers(run, tmp_path):
    """The speaker judge asks about recordings that it did not learn."""
    fold = enhancement.load_fold(str(run), tmp_path)
    known = fold.corpora.fold
    speakers = {
        split: set(enhancement.describe_rows(fold, rows).speakers)
        for split, rows in known.splits.items()
    }
    assert not speakers["test"] & (speakers["train"] | speakers["validation"])
    everybody = enhancement.describe_rows(fold, range(len(fold.corpora.dataset)))
    learnt, asked = enhancement.halves(everybody, seed=0)
    assert not set(learnt.tolist()) & set(asked.tolist())
    assert {everybody.speakers[i] for i in asked} == set(everybody.speakers)


def test_wrong_emotions_are_wrong(measured):
    arguments = measured[0]
    work = arguments[arguments.index("--work") + 1]
    clips = json.loads(Path(work, "fold_0", "wrong_emotion.json").read_text())["clips"]
    assert all(a != e for a, e in zip(clips["aimed"], clips["emotion"], strict=True))
    assert set(clips["aimed"]) == set(EMOTIONS)


def test_a_stopped_measurement_goes_on(measured):
    arguments, records = measured
    enhancement.main(arguments)
    again = json.loads(Path(arguments[arguments.index("--output") + 1]).read_text())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]


def test_measurements_of_other_settings_are_not_mixed(measured):
    with pytest.raises(ValueError, match=r"measured with other \['strength'\], expected a new"):
        enhancement.main([*measured[0], "--strength", "0.3"])
