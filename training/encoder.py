"""What of a pretrained encoder trains: nothing, last layers, everything, or matrices beside it."""

import importlib.util
import re
from typing import Any

from torch import nn

FROZEN, ALL, LORA = "frozen", "all", "lora"
# Rank of LoRA's matrices, and what they are multiplied by.
LORA_RANK, LORA_ALPHA = 8, 16
# How the encoders call the projections of queries and values.
LORA_TARGETS = r".*\.(q_proj|v_proj|linear_q|linear_v)"


def check_train_encoder(choice: str, encoder: str | None) -> None:
    """Refuse a choice that would fail only when its stage begins.

    Raises:
        ValueError: An unknown choice, or one for a classifier without an encoder.
        ModuleNotFoundError: LoRA without the package.
    """
    if choice not in (FROZEN, ALL, LORA) and _last(choice) is None:
        raise ValueError(
            f"Bad train_encoder '{choice}', expected 'frozen', 'last_1', 'last_2', ..., 'all' or "
            "'lora'"
        )
    if choice != FROZEN and encoder is None:
        raise ValueError(f"Got train_encoder '{choice}' without encoder_name_or_path")
    if choice == LORA and importlib.util.find_spec("peft") is None:
        raise ModuleNotFoundError("LoRA needs 'peft': pip install speech-emotion-diffusion[lora]")


def check_depth(choice: str, layers: int) -> None:
    """Refuse to train more layers than are heard.

    Raises:
        ValueError: More layers than there are.
    """
    last = _last(choice)
    if last is not None and last > layers:
        raise ValueError(f"Bad train_encoder '{choice}', expected at most 'last_{layers}'")


def thaw_encoder(model: Any, choice: str) -> None:
    """Let the encoder of an EmotionTransformer train.

    Raises:
        ValueError: More layers than there are.
    """
    if choice == LORA:
        _add_lora(model)
    else:
        model.train_encoder(None if choice == ALL else _last(choice))


def freeze_encoder(model: Any) -> None:
    """Keep what the encoder has learned; LoRA's matrices become part of its weights."""
    _merge_lora(model.encoder)
    model.encoder.requires_grad_(False)
    model.encoder_is_trained = False


def _last(choice: str) -> int | None:
    match = re.fullmatch(r"last_([1-9]\d*)", choice)
    return int(match[1]) if match else None


def _add_lora(model: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # an extra

    model.encoder.requires_grad_(False)
    settings = LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=LORA_TARGETS)
    inject_adapter_in_model(settings, model.encoder)
    model.encoder_is_trained = True


def _merge_lora(module: nn.Module) -> None:
    child: Any
    for name, child in module.named_children():
        if hasattr(child, "base_layer") and hasattr(child, "merge"):
            child.merge()
            setattr(module, name, child.base_layer)
        else:
            _merge_lora(child)
