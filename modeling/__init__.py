"""Models and features; the classifiers are registered with transformers' auto classes on import.

Parts of the enhancer are imported on first use: whoever classifies does not wait for diffusers.
"""

from importlib import import_module
from typing import Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from .configuration_emotion_resnet import EmotionResNetConfig
from .configuration_emotion_transformer import EmotionTransformerConfig
from .feature_extraction_emotion import EmotionFeatureExtractor
from .feature_extraction_emotion_transformer import EmotionTransformerFeatureExtractor
from .modeling_emotion_resnet import (
    EmotionResNetForAudioClassification,
    EmotionResNetOutput,
)
from .modeling_emotion_transformer import (
    EmotionTransformerForAudioClassification,
    EmotionTransformerOutput,
)

_MODULE_OF = {
    "EmotionDenoiser": "modeling_emotion_denoiser",
    "EmotionShift": "modeling_emotion_shift",
    "MelVocoder": "modeling_mel_vocoder",
    "Prosody": "prosody",
    "StyleEncoder": "modeling_style_encoder",
    "extract_prosody": "prosody",
    "load_hifigan": "modeling_mel_vocoder",
}

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
    "EmotionDenoiser",
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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
