"""The loop that both training scripts run: stages, steps, evaluations and checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .config import RunConfig, ScheduleConfig
from .data import Batch
from .run import (
    finite_mean_loss,
    parameter_groups,
    progress_bar,
    remaining_batches,
    seed_step,
    stage_of,
)
from .state import (
    Average,
    Progress,
    complete_checkpoints,
    cosine_schedule,
    save_checkpoint,
    write_json,
)

SHOWN = {"validation_loss": "validation", "validation_UA": "UA"}


@dataclass(kw_only=True)
class Run(ABC):
    """Everything that is alive during training, and what a kind of training does its own way.

    Args:
        config: Settings of the run.
        accelerator: Places models and batches.
        progress: Where the run stands.
        average: Moving average of the network of the current stage.
        model: The network of the current stage, as the accelerator prepared it.
        optimizer: Of that network.
        loader: Batches of the current stage.
    """

    config: RunConfig
    accelerator: Accelerator
    progress: Progress = field(default_factory=Progress)
    average: Average = field(default_factory=Average)
    model: Any = None
    optimizer: Any = None
    loader: Any = None

    def __post_init__(self) -> None:
        self.accelerator.register_for_checkpointing(self.progress, self.average)

    @property
    @abstractmethod
    def stages(self) -> Sequence[tuple[str, ScheduleConfig]]:
        """Name and settings of every stage."""

    @abstractmethod
    def build_stage(self) -> tuple[nn.Module, DataLoader[Any]]:
        """The network and the batches of the current stage."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss of a batch; may take it apart."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores of the present weights, `validation_loss` among them; empty without anybody."""

    @abstractmethod
    def finish_stage(self) -> None:
        """Take over what the stage has learned; every process calls this."""

    @abstractmethod
    def after_evaluation(self, improved: bool) -> None:
        """Save or show what is of interest while the averaged weights are in the model."""

    @property
    def stopped_early(self) -> bool:
        """Whether the stage is to end before its time."""
        return False

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.config.output_dir)

    @property
    def stage_name(self) -> str:
        """Name of the current stage."""
        return self.stages[self.progress.stage][0]

    @property
    def stage(self) -> ScheduleConfig:
        """Settings of the current stage."""
        return self.stages[self.progress.stage][1]

    @property
    def stage_steps(self) -> int:
        """Batches of the current stage."""
        return len(self.loader) * self.stage.epochs

    @property
    def bare_model(self) -> Any:
        """The network without its wrappers."""
        return self.accelerator.unwrap_model(self.model)


def train(run: Run, resume: bool = False) -> None:
    """Run all stages, or the rest of them, and write the history."""
    latest = complete_checkpoints(run.folder)[-1] if resume else None
    if latest is not None:
        run.progress.stage = stage_of(latest)
    while run.progress.stage < len(run.stages):
        start_stage(run)
        if latest is not None:
            run.accelerator.load_state(str(latest))
            latest = None
        train_stage(run)
        run.accelerator.wait_for_everyone()
        run.finish_stage()
        run.progress.next_stage()
    if run.accelerator.is_main_process:
        write_json(run.folder / "history.json", run.progress.history)


def start_stage(run: Run) -> None:
    """Prepare the network and batches of the current stage, a new optimizer and a new average."""
    run.accelerator.free_memory()
    model, loader = run.build_stage()
    optimizer = torch.optim.AdamW(
        parameter_groups(model.parameters(), run.config.weight_decay),
        lr=run.stage.learning_rate,
        # One pass over all weights: tensor by tensor it takes long where networks are small.
        fused=True,
    )
    run.model, run.optimizer, run.loader = run.accelerator.prepare(model, optimizer, loader)
    run.average.start(run.bare_model, run.config.ema_decay)


def train_stage(run: Run) -> None:
    """Train the current stage from wherever it stands, until its end or an early stop."""
    run.model.train()
    steps, losses = run.stage_steps, run.progress.losses
    interval = max(1, steps // run.config.evaluations_per_stage)
    with progress_bar(run.accelerator, steps, run.progress.step, run.stage_name) as bar:
        while run.progress.step < steps and not run.stopped_early:
            for batch in remaining_batches(run.accelerator, run.loader, run.progress.step):
                losses.append(train_step(run, batch))
                bar.update()
                if run.progress.step % interval == 0 or run.progress.step == steps:
                    evaluate_and_record(run, float(np.mean(losses)), bar)
                    losses.clear()
                if checkpoint_is_due(run):
                    checkpoint(run)
                if run.stopped_early:
                    break


def train_step(run: Run, batch: Batch) -> float:
    """One batch: loss, gradients and, at the end of an accumulation, an update.

    Raises:
        FloatingPointError: A loss that is not finite; says where, and keeps the checkpoints.
    """
    progress, accelerator = run.progress, run.accelerator
    seed_step(run.config.seed, progress.total_step, accelerator.process_index)
    set_learning_rate(run)
    with accelerator.accumulate(run.model):
        loss = run.loss(batch)
        where = f"step {progress.step} of stage '{run.stage_name}'"
        mean_loss = finite_mean_loss(accelerator, loss, where)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(run.model.parameters(), run.config.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad()
    if accelerator.sync_gradients:
        run.average.update(run.bare_model)
    progress.step, progress.total_step = progress.step + 1, progress.total_step + 1
    return mean_loss


def set_learning_rate(run: Run) -> None:
    """The schedule is a function of the step alone: nothing to save or to restore."""
    share = run.progress.step / run.stage_steps
    for group in run.optimizer.param_groups:
        group["lr"] = run.stage.learning_rate * cosine_schedule(share, run.stage.warmup)


def evaluate_and_record(run: Run, train_loss: float, bar: tqdm) -> None:
    """Score the averaged weights on the validation speakers; the lowest loss is the best.

    The loss, not UA: over a hundred recordings or so the best of several UAs is mostly luck.
    """
    run.average.swap(run.bare_model)
    scores = run.validate()
    entry = {
        "stage": run.stage_name,
        "step": run.progress.total_step,
        "epoch": run.progress.step / len(run.loader),
        "train_loss": train_loss,
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        **scores,
    }
    # Without anybody to choose by, the latest weights are the best.
    score = -scores["validation_loss"] if "validation_loss" in scores else run.progress.step
    run.after_evaluation(improved=run.progress.record(score, entry))
    run.average.swap(run.bare_model)
    shown = {short: f"{scores[name]:.3f}" for name, short in SHOWN.items() if name in scores}
    bar.set_postfix(loss=f"{train_loss:.3f}", **shown)
    numbers = {name: value for name, value in entry.items() if name != "stage"}
    run.accelerator.log(numbers, step=run.progress.total_step)


def checkpoint_is_due(run: Run) -> bool:
    """Whether to save now: never within an accumulation, whose gradients are not saved."""
    since = run.progress.total_step - run.progress.checkpointed
    return run.accelerator.sync_gradients and since >= run.config.checkpoint_every


def checkpoint(run: Run) -> None:
    """Save everything that the run needs to continue from here."""
    run.progress.checkpointed = run.progress.total_step
    name = f"step-{run.progress.total_step:08d}-stage-{run.progress.stage}"
    save_checkpoint(run.accelerator, run.folder, name, run.config.checkpoint_limit)
