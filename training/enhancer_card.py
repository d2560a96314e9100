"""The card of an enhancer: written after training, and again when judges have heard it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import enhancer_card

from .config import DiffusionConfig

STAGES = ("autoencoder", "denoiser")


def write_enhancer_card(
    model: Path,
    config: DiffusionConfig,
    history: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write `README.md` into the folder that goes to the Hub.

    Args:
        model: That folder, within the folder of the run.
        config: Settings of the run.
        history: Its evaluations.
        records: What judges heard of this very model, if they did.
    """
    card = enhancer_card(
        model_name=config.hub_model_id or model.parent.name,
        corpora=list(config.corpora),
        history=history,
        config_summary=config_summary(config),
        records=records,
    )
    card.save(model / "README.md")


def config_summary(config: DiffusionConfig) -> dict[str, Any]:
    """What a reader of the card wants to know of the settings; no paths."""
    return {
        "protocol": config.protocol,
        "fold": config.fold,
        "seed": config.seed,
        "epochs": ", ".join(f"{name} {getattr(config, name).epochs}" for name in STAGES),
        "batch size": config.batch_size * config.gradient_accumulation_steps,
    }
