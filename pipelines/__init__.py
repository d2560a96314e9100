"""Pipelines. Importing this registers the enhancer as transformers' `"emotion-enhancement"`.

The stock pipelines stay as they are: a saved classifier names its own in its configuration.
"""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .audio_classification import EmotionClassificationPipeline
from .emotion_enhancement import EmotionEnhancementOutput, EmotionEnhancementPipeline
from .emotion_enhancement_task import (
    EmotionEnhancementTask,
    EmotionEnhancerConfig,
    EmotionEnhancerModel,
)
from .loading import load_enhancer
from .settings import ENHANCEMENT_SETTINGS, add_enhancement_arguments
from .speech_presence import speech_score

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
    "load_enhancer",
    "speech_score",
]
