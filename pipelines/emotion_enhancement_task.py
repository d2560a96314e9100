"""`pipeline("emotion-enhancement")`: the enhancer as a transformers pipeline.

This file is copied to the Hub with the models, with its sibling `audio_inputs.py`; it imports
nothing else of this project.
"""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Pipeline, PretrainedConfig, PreTrainedModel

from .audio_inputs import Entry, as_entries, naming

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# What transformers' loaders hand on for themselves.
TRANSFORMERS_OPTIONS = (
    *("config", "adapter_kwargs", "code_revision", "_from_auto", "_from_pipeline", "_commit_hash"),
)
LOADING_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies")


class EmotionEnhancerConfig(PretrainedConfig):
    """Names the model; its settings are those of the diffusion pipeline's components."""

    model_type = "emotion-enhancer"


class EmotionEnhancerModel(PreTrainedModel):
    """A diffusion pipeline in the place where transformers expects a model."""

    config_class = EmotionEnhancerConfig
    main_input_name = "audio"

    def __init__(self, config: EmotionEnhancerConfig, enhancer: "DiffusionPipeline") -> None:
        super().__init__(config)
        self.enhancer = enhancer
        # Says where the model is, and of what type.
        self.denoiser = enhancer.denoiser

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *args: Any, **kwargs: Any
    ) -> "EmotionEnhancerModel":
        """Load the diffusion pipeline of a folder or Hub id.

        Arguments are those of `DiffusionPipeline.from_pretrained`: code of the folder is run only
        with `trust_remote_code=True`.
        """
        from diffusers import DiffusionPipeline  # here, so that classifying does not wait for it

        options = {name: kwargs[name] for name in kwargs if name not in TRANSFORMERS_OPTIONS}
        dtype = options.pop("dtype", options.pop("torch_dtype", None))
        if isinstance(dtype, torch.dtype):
            options["torch_dtype"] = dtype
        enhancer = DiffusionPipeline.from_pretrained(folder, **options)
        enhancer.set_progress_bar_config(disable=True)
        return cls(EmotionEnhancerConfig(), enhancer)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save the diffusion pipeline, whose folder is also that of this model."""
        self.enhancer.save_pretrained(save_directory, **kwargs)

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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {name: kwargs[name] for name in kwargs if name not in LOADING_ARGUMENTS}
        super().__init__(*args, **kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Enhance one recording, or a list, dataset or generator of recordings, one at a time.

        Raises:
            ValueError: As the diffusion pipeline, or another `batch_size` than 1. In a list it
                names the place of the recording.
            TypeError: An input of another type, or an unknown argument.
            OSError: A file that is not there, or an address that does not answer.
        """
        if kwargs.get("batch_size", 1) not in (None, 1):
            raise ValueError(
                f"Bad batch_size {kwargs['batch_size']!r}, expected 1: recordings are enhanced one "
                "at a time here, and together by the diffusion pipeline"
            )
        return super().__call__(as_entries(inputs, kwargs.get("sampling_rate")), **kwargs)

    def _sanitize_parameters(
        self, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = list(inspect.signature(type(self.model.enhancer).__call__).parameters)[2:]
        if unknown := sorted(set(kwargs) - set(known)):
            raise TypeError(f"Bad arguments {unknown}, expected some of {sorted(known)}")
        return {}, kwargs, {}

    def preprocess(self, inputs: Entry) -> dict[str, Any]:
        """Recordings are read by the diffusion pipeline."""
        return {"entry": inputs}

    def _forward(self, model_inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        entry = model_inputs["entry"]
        with torch.no_grad(), naming(entry):
            output = self.model(entry.recording, **kwargs)
        return {
            "audio": output.audios[0],
            "sampling_rate": output.sampling_rate,
            "emotion": output.emotions[0],
        }

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """The waveform, its rate in Hz and the emotion aimed at."""
        return dict(model_outputs)


def config_content(module: str) -> dict[str, Any]:
    """What `config.json` beside the diffusion pipeline's own index says, for transformers.

    Args:
        module: Where the classes of this file are, beside it.
    """
    return {
        "model_type": EmotionEnhancerConfig.model_type,
        "architectures": [EmotionEnhancerModel.__name__],
        "auto_map": {
            "AutoConfig": f"{module}.{EmotionEnhancerConfig.__name__}",
            "AutoModel": f"{module}.{EmotionEnhancerModel.__name__}",
        },
        "custom_pipelines": {
            "emotion-enhancement": {
                "impl": f"{module}.{EmotionEnhancementTask.__name__}",
                "pt": ["AutoModel"],
                "type": "audio",
            }
        },
    }
