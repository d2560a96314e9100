"""Settings of the enhancer as options of a command, with the defaults of the pipeline itself."""

import argparse
import inspect
from collections.abc import Collection
from typing import Any

from .emotion_enhancement import EmotionEnhancementPipeline

ENHANCEMENT_SETTINGS = (
    "method",
    "strength",
    "guidance_scale",
    "intensity",
    "num_inference_steps",
    "num_noises",
    "vocoder",
    "rerank",
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
        kind: dict[str, Any] = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(f"--{name}", default=default, help=f"{default} when not given", **kind)
