"""Settings of the enhancer as options of a command, with the defaults of the pipeline itself."""

import argparse
import inspect
from collections.abc import Collection

from .emotion_enhancement import EmotionEnhancementPipeline

ENHANCEMENT_SETTINGS = (
    "method",
    "strength",
    "guidance_scale",
    "intensity",
    "num_inference_steps",
    "num_noises",
    "vocoder",
)


def add_enhancement_arguments(
    parser: argparse.ArgumentParser, without: Collection[str] = ()
) -> None:
    """Give a command an option for each of `ENHANCEMENT_SETTINGS`, but some."""
    parameters = inspect.signature(EmotionEnhancementPipeline.__call__).parameters
    for name in ENHANCEMENT_SETTINGS:
        if name in without:
            continue
        default = parameters[name].default
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{default} when not given"
        )
