"""Pipelines, registered with transformers on import."""

from transformers import AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .audio_classification import EmotionClassificationPipeline

PIPELINE_REGISTRY.register_pipeline(
    "audio-classification",
    pipeline_class=EmotionClassificationPipeline,
    pt_model=AutoModelForAudioClassification,
    type="audio",
)

__all__ = ["EmotionClassificationPipeline"]
