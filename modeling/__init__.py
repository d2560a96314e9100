"""Models and features, registered with transformers' auto classes on import."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from .configuration_emotion_resnet import EmotionResNetConfig
from .feature_extraction_emotion import EmotionFeatureExtractor
from .modeling_emotion_resnet import (
    EmotionResNetForAudioClassification,
    EmotionResNetOutput,
)

AutoConfig.register(EmotionResNetConfig.model_type, EmotionResNetConfig, exist_ok=True)
AutoFeatureExtractor.register(EmotionResNetConfig, EmotionFeatureExtractor, exist_ok=True)
AutoModelForAudioClassification.register(
    EmotionResNetConfig, EmotionResNetForAudioClassification, exist_ok=True
)

__all__ = [
    "EmotionFeatureExtractor",
    "EmotionResNetConfig",
    "EmotionResNetForAudioClassification",
    "EmotionResNetOutput",
]
