"""Models and features, registered with transformers' auto classes on import."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from .configuration_emotion_resnet import EmotionResNetConfig
from .configuration_emotion_transformer import EmotionTransformerConfig
from .feature_extraction_emotion import EmotionFeatureExtractor
from .feature_extraction_emotion_transformer import EmotionTransformerFeatureExtractor
from .modeling_emotion_encoder import EmotionEncoder
from .modeling_emotion_resnet import (
    EmotionResNetForAudioClassification,
    EmotionResNetOutput,
)
from .modeling_emotion_shift import EmotionShift
from .modeling_emotion_transformer import (
    EmotionTransformerForAudioClassification,
    EmotionTransformerOutput,
)
from .modeling_mel_vocoder import MelVocoder, load_hifigan
from .modeling_style_encoder import StyleEncoder
from .prosody import Prosody, extract_prosody

for config, feature_extractor, model in (
    (EmotionResNetConfig, EmotionFeatureExtractor, EmotionResNetForAudioClassification),
    (
        EmotionTransformerConfig,
        EmotionTransformerFeatureExtractor,
        EmotionTransformerForAudioClassification,
    ),
):
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoFeatureExtractor.register(config, feature_extractor, exist_ok=True)
    AutoModelForAudioClassification.register(config, model, exist_ok=True)

__all__ = [
    "EmotionEncoder",
    "EmotionFeatureExtractor",
    "EmotionResNetConfig",
    "EmotionResNetForAudioClassification",
    "EmotionResNetOutput",
    "EmotionShift",
    "EmotionTransformerConfig",
    "EmotionTransformerFeatureExtractor",
    "EmotionTransformerForAudioClassification",
    "EmotionTransformerOutput",
    "MelVocoder",
    "Prosody",
    "StyleEncoder",
    "extract_prosody",
    "load_hifigan",
]
