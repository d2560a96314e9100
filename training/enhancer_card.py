"""The card of an enhancer: written after training, and again when judges have heard it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets_scripts import EVERYBODY
from evaluation import enhancer_card, read_records
from evaluation.results import REPORTED_CORPORA, Record
from evaluation.tables import of_enhancer

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
            it with, the card shows those of its recipe.
    """
    card = enhancer_card(
        model_name=config.hub_model_id or model.parent.name,
        corpora=list(config.corpora),
        history=history,
        config_summary=config_summary(config),
        records=records or recipe_records(config),
        of_recipe=config.protocol == EVERYBODY,
    )
    card.save(model / "README.md")


def recipe_records(config: DiffusionConfig) -> list[Record]:
    """Records of this recipe on people whom it had not heard, if they are asked for.

    Those of other corpora than the reported ones lie in a folder that is called by its corpora.

    Raises:
        FileNotFoundError: The folder of records is not there.
        ValueError: It holds something else.
    """
    if config.protocol != EVERYBODY or config.card_records is None:
        return []
    folder, records = Path(config.card_records), read_records(config.card_records)
    if set(config.corpora) != REPORTED_CORPORA:
        folder = folder / "_".join(sorted(config.corpora))
        records = read_records(folder) if folder.is_dir() else []
    return of_enhancer(records)


def config_summary(config: DiffusionConfig) -> dict[str, Any]:
    """What a reader of the card wants to know of the settings; no paths."""
    return {
        "protocol": config.protocol,
        "fold": config.fold,
        "seed": config.seed,
        "epochs": ", ".join(f"{name} {getattr(config, name).epochs}" for name in STAGES),
        "batch size": config.batch_size * config.gradient_accumulation_steps,
    }
