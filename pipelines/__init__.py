"""Pipelines. Importing this registers ours as transformers' `"audio-classification"`."""

from transformers import AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .audio_classification import EmotionClassificationPipeline
from .emotion_enhancement import EmotionEnhancementOutput, EmotionEnhancementPipeline

# It takes the place of the stock pipeline, without a warning about that.
PIPELINE_REGISTRY.supported_tasks.pop("audio-classification", None)
PIPELINE_REGISTRY.register_pipeline(
    "audio-classification",
    pipeline_class=EmotionClassificationPipeline,
    pt_model=AutoModelForAudioClassification,
    type="audio",
)

__all__ = [
    "EmotionClassificationPipeline",
    "EmotionEnhancementOutput",
    "EmotionEnhancementPipeline",
]
