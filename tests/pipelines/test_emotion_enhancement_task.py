import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from toy_components import RATE
from toy_enhancer import get_dummy_components
from transformers import pipeline

from pipelines import EmotionEnhancementPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "enhancer"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def enhancer(folder):
    return pipeline("emotion-enhancement", str(folder), trust_remote_code=True, device="cpu")


def test_takes_the_arguments_of_the_diffusion_pipeline(enhancer, wave):
    settings = {"method": "diffusion", "vocoder": "source_filter"}
    kept = enhancer(wave, strength=0.0, emotion="fear", **settings)
    np.testing.assert_array_equal(kept["audio"], wave)
    changed = enhancer(wave, strength=0.8, num_inference_steps=3, **settings)
    assert np.abs(changed["audio"] - wave).max() > 1e-2
    assert changed["sampling_rate"] == RATE


def test_many_recordings_give_one_result_each(enhancer, wave, tmp_path):
    soundfile.write(tmp_path / "clip.wav", wave, RATE)
    given = [str(tmp_path / "clip.wav"), {"array": wave[: RATE // 2], "sampling_rate": RATE}]
    settings = {"num_inference_steps": 2, "vocoder": "source_filter"}
    outputs = enhancer(given, emotion="sadness", **settings)
    assert [len(output["audio"]) for output in outputs] == [RATE, RATE // 2]
    assert {output["emotion"] for output in outputs} == {"sadness"}


def test_unknown_emotions_are_refused(enhancer, wave):
    with pytest.raises(ValueError, match=r"Bad emotion 'joy', expected one of \['neutral'"):
        enhancer(wave, emotion="joy")


@pytest.mark.parametrize("trust", [None, False])
def test_code_is_not_run_without_consent(folder, tmp_path, trust):
    """Also where the folder does not say that it has code for this task."""
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("emotion-enhancement", str(folder), trust_remote_code=trust)
    sly = shutil.copytree(folder, tmp_path / "sly")
    config = json.loads((sly / "config.json").read_text())
    for name in ("custom_pipelines", "auto_map"):
        del config[name]
    (sly / "config.json").write_text(json.dumps(config))
    for code in sly.glob("*.py"):
        code.write_text("raise SystemExit('the code was run')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("emotion-enhancement", str(sly), trust_remote_code=trust)


def test_loading_arguments_reach_the_diffusion_pipeline(folder, wave):
    half = pipeline(
        "emotion-enhancement", str(folder), trust_remote_code=True, dtype=torch.bfloat16
    )
    assert half.model.enhancer.denoiser.dtype == torch.bfloat16
    output = half(wave, emotion="anger", num_inference_steps=2, method="diffusion")
    assert np.isfinite(output["audio"]).all()


def test_what_it_saves_loads_again(enhancer, wave, tmp_path):
    enhancer.save_pretrained(tmp_path / "copy")
    settings = {"emotion": "anger", "num_inference_steps": 3, "method": "diffusion"}
    again = pipeline("emotion-enhancement", str(tmp_path / "copy"), trust_remote_code=True)
    given, expected = (
        p(wave, generator=torch.Generator().manual_seed(0), **settings) for p in (again, enhancer)
    )
    np.testing.assert_allclose(given["audio"], expected["audio"], atol=1e-3)


def test_forms_of_recordings(enhancer, wave):
    settings = {"emotion": "fear", "strength": 0.0, "method": "diffusion"}
    expected = enhancer(wave, **settings)["audio"]
    for given in ((RATE, wave), (wave, RATE), wave.tolist()):
        np.testing.assert_allclose(enhancer(given, **settings)["audio"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"emotoin": "joy"}, TypeError, r"Bad arguments \['emotoin'\], expected some of \["),
        ({"batch_size": 4}, ValueError, "Bad batch_size 4, expected 1"),
        ({"strength": 2}, ValueError, "Bad strength 2, expected 0 to 1"),
    ],
)
def test_arguments(enhancer, wave, arguments, error, message):
    with pytest.raises(error, match=message):
        enhancer(wave, **arguments)


def test_a_bad_recording_of_a_list_is_named(enhancer, wave, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Recording 1: .*gone\.wav"):
        enhancer([wave, tmp_path / "gone.wav"], emotion="anger")
