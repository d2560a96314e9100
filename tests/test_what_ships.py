"""The defaults that ship are the settings that were measured, or chosen."""

import inspect
import json
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks import enhancement, enhancer_bench
from evaluation.tables import ENHANCER
from pipelines import ENHANCEMENT_SETTINGS, EmotionEnhancementPipeline

ROOT = Path(__file__).parents[1]


def test_the_diffusion_model_is_used_as_it_was_judged():
    records = json.loads((ROOT / "results" / "enhancement.json").read_text())
    command = records[0]["provenance"]["command"].split(" && ")[0]
    arguments = shlex.split(command)[3:]
    options = enhancement.parse_arguments(arguments)
    defaults = inspect.signature(EmotionEnhancementPipeline.__call__).parameters
    for name in set(ENHANCEMENT_SETTINGS) - {"method", "rerank"}:
        assert defaults[name].default == getattr(options, name), name
    assert enhancer_bench.CALLS[ENHANCER] == {
        "method": "both",
        "rerank": defaults["rerank"].default,
    }


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_recordings_are_moved_as_far_as_validation_speakers_chose(corpus):
    points = json.loads((ROOT / "results" / "curves" / f"class_shift_{corpus}.json").read_text())
    shipped = yaml.safe_load((ROOT / "configs" / "diffusion.yaml").read_text())["shift"]
    for use, name in (("enhanced", "own_factors"), ("converted", "other_factors")):
        (chosen,) = [
            p for p in points if p["chosen"] and (p["use"], p["system"]) == (use, "class-shift")
        ]
        assert shipped[name][corpus] == chosen["factors"]
