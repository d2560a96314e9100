"""Models and features, registered with transformers' auto classes on import."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from .configuration_emotion_resnet import EmotionResNetConfig
from .feature_extraction_emotion import EmotionFeatureExtractor
from .modeling_emotion_encoder import EmotionEncoder
from .modeling_emotion_resnet import (
    EmotionResNetForAudioClassification,
    EmotionResNetOutput,
)
from .modeling_mel_vocoder import MelVocoder, load_hifigan
from .modeling_style_encoder import StyleEncoder

AutoConfig.register(EmotionResNetConfig.model_type, EmotionResNetConfig, exist_ok=True)
AutoFeatureExtractor.register(EmotionResNetConfig, EmotionFeatureExtractor, exist_ok=True)
AutoModelForAudioClassification.register(
    EmotionResNetConfig, EmotionResNetForAudioClassification, exist_ok=True
)

__all__ = [
    "EmotionEncoder",
    "EmotionFeatureExtractor",
    "EmotionResNetConfig",
    "EmotionResNetForAudioClassification",
    "EmotionResNetOutput",
    "MelVocoder",
    "StyleEncoder",
    "load_hifigan",
]
