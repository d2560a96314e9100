"""The card of an enhancer: written after training, and again when judges have heard it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets_scripts import EVERYBODY
from evaluation import enhancer_card, read_records
from evaluation.results import Record
from evaluation.tables import CLASS_SHIFT

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
        records: What judges heard of this very model, if they did. Where nobody was left to test
            it with, the card shows the shift's.
    """
    card = enhancer_card(
        model_name=config.hub_model_id or model.parent.name,
        corpora=list(config.corpora),
        history=history,
        config_summary=config_summary(config),
        records=records or shift_records(config),
        of_recipe=config.protocol == EVERYBODY,
    )
    card.save(model / "README.md")


def shift_records(config: DiffusionConfig) -> list[Record]:
    """Records of the shift where it was fitted without those it was tested on, if asked for.

    It is fitted for each corpus by itself: what others the model was trained on does not matter.

    Raises:
        FileNotFoundError: The folder of records is not there.
        ValueError: It holds something else.
    """
    if config.protocol != EVERYBODY or config.card_records is None:
        return []
    records = read_records(config.card_records)
    # Those beside an enhancer are of its folds, where other corpora trained as well.
    return [
        r
        for r in records
        if r["system"] == CLASS_SHIFT and "beside" not in r and r["corpus"] in config.corpora
    ]


def config_summary(config: DiffusionConfig) -> dict[str, Any]:
    """What a reader of the card wants to know of the settings; no paths."""
    return {
        "protocol": config.protocol,
        "fold": config.fold,
        "seed": config.seed,
        "epochs": ", ".join(f"{name} {getattr(config, name).epochs}" for name in STAGES),
        "batch size": config.batch_size * config.gradient_accumulation_steps,
    }
