import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from toy_components import RATE
from toy_enhancer import get_dummy_components
from transformers import pipeline

from pipelines import EmotionEnhancementPipeline

STRANGER = """
import json, sys, importlib.util
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
assert importlib.util.find_spec("pipelines") is None
from transformers import pipeline
enhancer = pipeline("emotion-enhancement", sys.argv[1], trust_remote_code=True, device="cpu")
output = enhancer(sys.argv[2], emotion="anger", num_inference_steps=2)
print(json.dumps([output["emotion"], output["sampling_rate"], len(output["audio"])]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "enhancer"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def enhancer(folder):
    return pipeline("emotion-enhancement", str(folder), trust_remote_code=True, device="cpu")


def test_takes_the_arguments_of_the_diffusion_pipeline(enhancer, wave):
    kept = enhancer(wave, strength=0.0, vocoder="source_filter", emotion="fear")
    np.testing.assert_allclose(kept["audio"], wave, atol=1e-3)
    changed = enhancer(wave, strength=0.8, vocoder="source_filter", num_inference_steps=3)
    assert np.abs(changed["audio"] - wave).max() > 1e-2
    assert changed["sampling_rate"] == RATE


def test_many_recordings_give_one_result_each(enhancer, wave, tmp_path):
    soundfile.write(tmp_path / "clip.wav", wave, RATE)
    given = [str(tmp_path / "clip.wav"), {"array": wave[: RATE // 2], "sampling_rate": RATE}]
    outputs = enhancer(given, emotion="sadness", num_inference_steps=2)
    assert [len(output["audio"]) for output in outputs] == [RATE, RATE // 2]
    assert {output["emotion"] for output in outputs} == {"sadness"}


def test_unknown_emotions_are_refused(enhancer, wave):
    with pytest.raises(ValueError, match=r"Bad emotion 'joy', expected one of \['neutral'"):
        enhancer(wave, emotion="joy")


def test_a_stranger_needs_nothing_of_this_project(folder, wave, tmp_path):
    soundfile.write(tmp_path / "clip.wav", wave, RATE)
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(folder), str(tmp_path / "clip.wav")],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == f'["anger", {RATE}, {RATE}]'
