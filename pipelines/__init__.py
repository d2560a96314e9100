"""Pipelines. Importing this registers the enhancer as transformers' `"emotion-enhancement"`.

The stock pipelines stay as they are: a saved classifier names its own in its configuration. What
needs diffusers is imported on first use: whoever classifies does not wait for it.
"""

from importlib import import_module
from typing import Any

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .audio_classification import EmotionClassificationPipeline
from .emotion_enhancement_task import (
    EmotionEnhancementTask,
    EmotionEnhancerConfig,
    EmotionEnhancerModel,
)
from .speech_presence import speech_score

_MODULE_OF = {
    "ENHANCEMENT_SETTINGS": "settings",
    "EmotionEnhancementOutput": "emotion_enhancement",
    "EmotionEnhancementPipeline": "emotion_enhancement",
    "add_enhancement_arguments": "settings",
    "load_classifier": "loading",
    "load_enhancer": "loading",
}

AutoConfig.register(EmotionEnhancerConfig.model_type, EmotionEnhancerConfig, exist_ok=True)
AutoModel.register(EmotionEnhancerConfig, EmotionEnhancerModel, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "emotion-enhancement", pipeline_class=EmotionEnhancementTask, pt_model=AutoModel, type="audio"
)

__all__ = [
    "ENHANCEMENT_SETTINGS",
    "EmotionClassificationPipeline",
    "EmotionEnhancementOutput",
    "EmotionEnhancementPipeline",
    "EmotionEnhancementTask",
    "add_enhancement_arguments",
    "load_classifier",
    "load_enhancer",
    "speech_score",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
