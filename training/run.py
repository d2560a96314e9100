"""What the training scripts do alike: folders, accelerators, schedules, the Hub."""

import argparse
import dataclasses
import importlib.util
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator, PartialState
from accelerate.logging import get_logger
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    ProjectConfiguration,
)
from tqdm.auto import tqdm

from datasets_scripts.hub import check_name, check_token, claim_repository

from .config import RunConfig
from .ranges import check_ranges
from .state import complete_checkpoints

logger = get_logger(__name__)

TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio"}
# What may change when a run goes on; all else decides who trained it, or how.
FREE_SETTINGS = (
    "output_dir",
    "tracker",
    "hub_model_id",
    "push_to_hub",
    "num_workers",
    "checkpoint_every",
    "checkpoint_limit",
)
STEPS_OF_A_SEED = 1_000_003


def add_run_arguments(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Settings files, overrides, what to do with an existing folder, and the Hub.

    Returns:
        The group of what to do with an existing folder, for more.
    """
    parser.add_argument(
        "--config", action="append", default=[], help="settings; later files win (repeatable)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="single settings")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an interrupted run")
    existing.add_argument("--overwrite", action="store_true", help="discard an earlier run")
    parser.add_argument("--push_to_hub", action="store_true", default=None)
    parser.add_argument("--hub_model_id", help="user/name of the repository on the Hub")
    parser.set_defaults(evaluate_only=False)
    return existing


def hub_options(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that have a flag of their own, where it was given."""
    flags = {"push_to_hub": options.push_to_hub, "hub_model_id": options.hub_model_id}
    return {name: value for name, value in flags.items() if value is not None}


def check_run_settings(config: RunConfig) -> None:
    """Refuse settings of any run that would fail later.

    Raises:
        ValueError: An unknown or absent tracker, no corpora, a number out of range, an id that the
            Hub would not take, or a push without an id or a token.
    """
    if config.tracker is not None:
        if config.tracker not in TRACKERS:
            raise ValueError(f"Bad tracker '{config.tracker}', expected one of {list(TRACKERS)}")
        if importlib.util.find_spec(TRACKERS[config.tracker]) is None:
            raise ValueError(f"Tracker '{config.tracker}' is not installed, expected the package")
    if not config.corpora:
        raise ValueError("Got no corpora, expected at least one")
    check_ranges(config)
    _check_hub_settings(config)


def _check_hub_settings(config: RunConfig) -> None:
    if config.hub_model_id is not None:
        check_name(config.hub_model_id, "hub_model_id")
    elif config.push_to_hub:
        raise ValueError("Got push_to_hub without hub_model_id, expected user/name")
    if config.push_to_hub:
        check_token("push_to_hub")


def has_fast_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, which is emulated, ten times slower, without.

    Asked of torch by names that not all of its versions know.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def usable_precision(wanted: str) -> str:
    """`mixed_precision` as it is wanted, or "no" where that is bf16 on a CPU that emulates it."""
    if wanted != "bf16" or PartialState().device.type != "cpu" or has_fast_bfloat16():
        return wanted
    logger.warning("This CPU has no instructions for bfloat16: training in float32, faster here")
    return "no"


def build_accelerator(config: RunConfig, find_unused_parameters: bool = False) -> Accelerator:
    """An accelerator whose `batch_size` is that of all processes together."""
    unused = DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)
    return Accelerator(
        kwargs_handlers=[unused],
        mixed_precision=usable_precision(config.mixed_precision),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        log_with=config.tracker,
        project_config=ProjectConfiguration(project_dir=config.output_dir),
        step_scheduler_with_optimizer=False,
    )


def check_folder(config: RunConfig, options: argparse.Namespace, model: str) -> None:
    """See whether the output folder fits what was asked; changes nothing.

    Args:
        config: Settings of the run.
        options: The command line.
        model: File of a finished model, below the output folder.

    Raises:
        FileExistsError: The folder holds a run that was not to be continued or replaced.
        FileNotFoundError: There is nothing to continue or to evaluate.
        ValueError: The run there was made with other settings, so that other people may have
            trained it.
    """
    folder = Path(config.output_dir)
    exists = (folder / "config.yaml").exists()
    if options.evaluate_only and not (folder / model).exists():
        raise FileNotFoundError(
            f"No model in '{(folder / model).parent}' to evaluate, expected a trained one"
        )
    if options.resume and not complete_checkpoints(folder):
        raise FileNotFoundError(f"No checkpoint in '{folder}' to resume from")
    if exists and not (options.resume or options.overwrite or options.evaluate_only):
        raise FileExistsError(
            f"'{folder}' holds a run, expected --resume, --overwrite or another output_dir"
        )
    if options.resume or options.evaluate_only:
        free = (*FREE_SETTINGS, "batch_size") if options.evaluate_only else FREE_SETTINGS
        check_same_settings(config, folder / "config.yaml", free)


def check_same_settings(config: RunConfig, saved: Path, free: Sequence[str]) -> None:
    """Refuse to go on with a run under other settings than its own.

    Raises:
        ValueError: Settings differ, other than where to write and what to show; names them.
    """
    before, now = yaml.safe_load(saved.read_text()), as_plain(config)
    changed = sorted(k for k in now if k not in free and before.get(k) != now[k])
    if changed:
        raise ValueError(
            f"Settings {changed} differ from those of the run in '{saved.parent}', expected "
            f"{ {k: before.get(k) for k in changed} }"
        )


def claim_folder(
    config: RunConfig, accelerator: Accelerator, overwrite: bool, project: str
) -> None:
    """Make the output folder, now that everything else is known to be in order.

    So is the repository on the Hub, if it is to be pushed to: better refused now than trained for.

    Raises:
        OSError: The Hub cannot be reached, or the token may not write there.
    """
    folder = Path(config.output_dir)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if config.push_to_hub and config.hub_model_id is not None:
            claim_repository(config.hub_model_id)
        if overwrite and (folder / "config.yaml").exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_dump(as_plain(config), sort_keys=False)
        (folder / "config.yaml").write_text(settings)
    accelerator.wait_for_everyone()
    if config.tracker is not None:
        accelerator.init_trackers(project)


def parameter_groups(
    parameters: Iterable[torch.nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels; none for biases and normalisation."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout draws from a generator that depends on nothing but seed, step and rank."""
    torch.manual_seed((seed * STEPS_OF_A_SEED + step) * 1024 + rank)


def remaining_batches(accelerator: Accelerator, loader: Any, step: int) -> Any:
    """The batches of the epoch of `step` that were not consumed yet."""
    epoch, done = divmod(step, len(loader))
    loader.set_epoch(epoch)
    return accelerator.skip_first_batches(loader, done) if done else loader


def finite_mean_loss(accelerator: Accelerator, loss: torch.Tensor, where: str) -> float:
    """The mean over processes, so that all of them stop if one has to.

    Raises:
        FloatingPointError: A loss that is not finite.
    """
    mean = accelerator.reduce(loss.detach(), reduction="mean").item()
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"Loss is {mean} at {where}, expected a finite one; checkpoints are kept"
        )
    return mean


def stage_of(checkpoint: Path) -> int:
    """The stage that a checkpoint was saved in."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def progress_bar(accelerator: Accelerator, total: int, initial: int, name: str) -> tqdm:
    """A bar on the main process."""
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        disable=not accelerator.is_main_process,
        mininterval=1.0,
        file=sys.stderr,
    )


def as_plain(config: RunConfig) -> dict[str, Any]:
    """Settings as YAML writes them: tuples are lists there."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(config))
