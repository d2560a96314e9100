"""Pipelines. Importing this registers ours as transformers' `"audio-classification"`, and the
enhancer as `"emotion-enhancement"`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .audio_classification import EmotionClassificationPipeline
from .emotion_enhancement import EmotionEnhancementOutput, EmotionEnhancementPipeline
from .emotion_enhancement_task import (
    EmotionEnhancementTask,
    EmotionEnhancerConfig,
    EmotionEnhancerModel,
)
from .settings import ENHANCEMENT_SETTINGS, add_enhancement_arguments

# It takes the place of the stock pipeline, without a warning about that.
PIPELINE_REGISTRY.supported_tasks.pop("audio-classification", None)
PIPELINE_REGISTRY.register_pipeline(
    "audio-classification",
    pipeline_class=EmotionClassificationPipeline,
    pt_model=AutoModelForAudioClassification,
    type="audio",
)

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
]
