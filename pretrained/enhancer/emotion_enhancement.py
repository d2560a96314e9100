"""What the index of this folder asks for, from this project; a push writes its code instead."""

from pipelines import EmotionEnhancementPipeline as EmotionEnhancementPipeline
from pipelines.emotion_enhancement_task import EmotionEnhancementTask as EmotionEnhancementTask
from pipelines.emotion_enhancement_task import EmotionEnhancerConfig as EmotionEnhancerConfig
from pipelines.emotion_enhancement_task import EmotionEnhancerModel as EmotionEnhancerModel
