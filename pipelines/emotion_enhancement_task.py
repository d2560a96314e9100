"""`pipeline("emotion-enhancement")`: the enhancer as a transformers pipeline.

This file is copied to the Hub with the models, hence it imports nothing of this project.
"""

from typing import Any

import torch
from diffusers import DiffusionPipeline
from transformers import Pipeline, PretrainedConfig, PreTrainedModel

# What `save_pretrained` of the diffusion pipeline writes as `config.json` beside its own index.
CONFIG = {
    "model_type": "emotion-enhancer",
    "architectures": ["EmotionEnhancerModel"],
    "auto_map": {
        "AutoConfig": "emotion_enhancement_task.EmotionEnhancerConfig",
        "AutoModel": "emotion_enhancement_task.EmotionEnhancerModel",
    },
    "custom_pipelines": {
        "emotion-enhancement": {
            "impl": "emotion_enhancement_task.EmotionEnhancementTask",
            "pt": ["AutoModel"],
            "type": "audio",
        }
    },
}


class EmotionEnhancerConfig(PretrainedConfig):
    """Names the model; its settings are those of the diffusion pipeline's components."""

    model_type = "emotion-enhancer"


class EmotionEnhancerModel(PreTrainedModel):
    """A diffusion pipeline in the place where transformers expects a model."""

    config_class = EmotionEnhancerConfig
    main_input_name = "audio"

    def __init__(self, config: EmotionEnhancerConfig, enhancer: DiffusionPipeline) -> None:
        super().__init__(config)
        self.enhancer = enhancer
        # Says where the model is, and of what type.
        self.unet = enhancer.unet

    @classmethod
    def from_pretrained(cls, folder: str, *args: Any, **kwargs: Any) -> "EmotionEnhancerModel":
        """Load the diffusion pipeline of a folder or Hub id; other arguments are not used."""
        enhancer = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        enhancer.set_progress_bar_config(disable=True)
        return cls(EmotionEnhancerConfig(), enhancer)

    def to(self, *args: Any, **kwargs: Any) -> "EmotionEnhancerModel":
        """Move all components."""
        self.enhancer.to(*args, **kwargs)
        return self

    def forward(self, audio: Any, **kwargs: Any) -> Any:
        """Run the diffusion pipeline."""
        return self.enhancer(audio, **kwargs)


class EmotionEnhancementTask(Pipeline):
    """Enhance recordings: `pipeline("emotion-enhancement", model)(audio, emotion="anger")`.

    Takes what the diffusion pipeline takes, and its arguments, at construction or call. A recording
    gives `{"audio": (samples,), "sampling_rate": int, "emotion": str}`.
    """

    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_tokenizer = False

    def _sanitize_parameters(
        self, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, kwargs, {}

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        """Recordings are read by the diffusion pipeline."""
        return {"audio": inputs}

    def _forward(self, model_inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            output = self.model(model_inputs["audio"], **kwargs)
        return {
            "audio": output.audios[0],
            "sampling_rate": output.sampling_rate,
            "emotion": output.emotions[0],
        }

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """The waveform, its rate in Hz and the emotion aimed at."""
        return dict(model_outputs)
