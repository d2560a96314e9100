"""Models of a folder or the Hub, with the classes of this package or with their own."""

import importlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

import modeling

from .audio_classification import EmotionClassificationPipeline
from .exported_code import LIBRARIES


def load_classifier(
    name: str | Path, revision: str | None = None, device: torch.device | None = None
) -> EmotionClassificationPipeline:
    """Load a classifier; no code of a model is run.

    Args:
        name: Folder or Hub id of a classifier of this package or of transformers.
        revision: Branch, tag or commit on the Hub.
        device: Where it computes; as transformers chooses when not given.

    Raises:
        ValueError: A model with classes that neither has, or one that is no classifier of sound.
        OSError: No such folder or model, or one whose weights are not in safetensors.
    """
    name = _expanded(name)
    # Said, since transformers would otherwise ask on the terminal.
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(name, **options)
    if type(config) not in AutoModelForAudioClassification._model_mapping:
        raise ValueError(
            f"Bad model '{name}' of type '{config.model_type}', expected an audio classifier"
        )
    model = AutoModelForAudioClassification.from_pretrained(
        name, config=config, use_safetensors=True, **options
    )
    extractor = AutoFeatureExtractor.from_pretrained(name, **options)
    return EmotionClassificationPipeline(model=model, feature_extractor=extractor, device=device)


def load_enhancer(
    name: str | Path, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """Load an enhancer; unless that is allowed, no code of a model is run.

    Args:
        name: Folder or Hub id.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run the code that was saved with the model. Without it the weights are
            loaded into the classes of this package, and of diffusers and transformers.

    Raises:
        ValueError: A folder of something else, or a model with classes that this package does not
            have, without `trust_remote_code`.
        OSError: No such folder or model, or one that is no enhancer.
    """
    # Here, so that whoever loads a classifier does not wait for diffusers.
    from diffusers import DiffusionPipeline

    from .emotion_enhancement import EmotionEnhancementPipeline

    name = _expanded(name)
    index_name = DiffusionPipeline.config_name
    if Path(name).is_dir() and not Path(name, index_name).exists():
        raise ValueError(
            f"Bad model '{name}' without a {index_name}, expected an enhancer, as "
            "`save_pretrained` or train_diffusion.py leaves it"
        )
    # Of the two, this says clearly that there is no such model, or that it is another's.
    index = DiffusionPipeline.load_config(name, revision=revision)
    kind = index["_class_name"]
    kind = kind if isinstance(kind, str) else kind[-1]
    if kind != EmotionEnhancementPipeline.__name__:
        raise ValueError(f"Bad model '{name}', a {kind}, expected an enhancer")
    if trust_remote_code:
        return DiffusionPipeline.from_pretrained(name, revision=revision, trust_remote_code=True)
    entries = {
        key: entry
        for key, entry in index.items()
        if not key.startswith("_") and entry[0] is not None
    }
    kinds = {key: _known_class(entry[0], entry[1], str(name)) for key, entry in entries.items()}
    parts = {key: _load(kind, name, key, revision) for key, kind in kinds.items()}
    return EmotionEnhancementPipeline(**parts)


def _expanded(name: str | Path) -> str:
    """A folder with its `~` expanded, as text; a Hub id as it is."""
    path = Path(name).expanduser()
    return str(path) if isinstance(name, Path) or path.is_dir() else name


def _known_class(library: str, name: str, model: str) -> type:
    source = importlib.import_module(library) if library in LIBRARIES else modeling
    if not isinstance(kind := getattr(source, name, None), type):
        raise ValueError(
            f"Bad model '{model}' with code of its own ('{library}.{name}'), expected classes of "
            "this package, or trust_remote_code for a model whose code you have read"
        )
    return kind


def _load(kind: Any, name: str | Path, component: str, revision: str | None) -> Any:
    options: dict[str, Any] = {"subfolder": component, "revision": revision}
    if issubclass(kind, torch.nn.Module):
        options["use_safetensors"] = True
    loaded = kind.from_pretrained(name, **options)
    return loaded.eval() if isinstance(loaded, torch.nn.Module) else loaded
