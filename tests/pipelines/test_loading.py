import json
import shutil

import pytest
import torch
from toy_enhancer import get_dummy_components

from pipelines import EmotionEnhancementPipeline, load_classifier, load_enhancer

TRAP = "raise SystemExit('the code was run')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "enhancer"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(folder)
    return folder


def test_code_of_the_folder_is_run_only_if_that_is_allowed(folder, tmp_path, wave):
    trap = shutil.copytree(folder, tmp_path / "trap")
    for file in trap.rglob("*.py"):
        file.write_text(TRAP)
    safe = load_enhancer(trap)
    assert type(safe) is EmotionEnhancementPipeline
    with pytest.raises(SystemExit, match="the code was run"):
        load_enhancer(trap, trust_remote_code=True)
    trusted = load_enhancer(folder, trust_remote_code=True)
    settings = {"emotion": "anger", "output_type": "mel"}
    given, expected = (
        pipe(wave, generator=torch.Generator().manual_seed(0), **settings).log_mels[0]
        for pipe in (safe, trusted)
    )
    torch.testing.assert_close(given, expected)


def test_foreign_classes_are_refused(folder, tmp_path):
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    index = json.loads((foreign / "model_index.json").read_text())
    index["vocoder"] = ["nicer", "NicerVocoder"]
    (foreign / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="'nicer.NicerVocoder'.*trust_remote_code"):
        load_enhancer(foreign)


@pytest.mark.parametrize("trusted", [True, False])
def test_another_pipeline_is_refused_before_anything_is_loaded(tmp_path, trusted):
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": True}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="a StableDiffusionPipeline, expected an enhancer"):
        load_enhancer(tmp_path, trust_remote_code=trusted)


def test_a_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert type(load_enhancer("~/enhancer")) is EmotionEnhancementPipeline
    with pytest.raises(ValueError, match="of type 'emotion-enhancer', expected an audio classif"):
        load_classifier("~/enhancer")


def test_no_folder(tmp_path):
    with pytest.raises(OSError, match="gone"):
        load_enhancer(tmp_path / "gone")


def test_neither_is_the_other(folder):
    with pytest.raises(ValueError, match=r"without a model_index.json, expected an enhancer, as"):
        load_enhancer(folder / "classifier")
    with pytest.raises(ValueError, match="of type 'emotion-enhancer', expected an audio classif"):
        load_classifier(folder)
