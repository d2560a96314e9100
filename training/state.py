"""What a run must remember to go on as if it had never been interrupted."""

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

CHECKPOINTS = "checkpoints"


@dataclass
class Progress:
    """Where a run stands.

    Args:
        stage: Index of the current stage.
        step: Batches that the current stage has consumed.
        total_step: Batches that all stages have consumed.
        best: Best validation score of the stage.
        best_step: `step` at which it was reached.
        stale: Evaluations since then.
        checkpointed: `total_step` of the latest checkpoint.
        losses: Losses of the batches since the latest evaluation.
        history: One entry per evaluation.
    """

    stage: int = 0
    step: int = 0
    total_step: int = 0
    best: float = -math.inf
    best_step: int = 0
    stale: int = 0
    checkpointed: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def next_stage(self) -> None:
        """Enter the next stage."""
        self.stage, self.step = self.stage + 1, 0
        self.best, self.best_step, self.stale = -math.inf, 0, 0

    def record(self, score: float, entry: Mapping[str, Any]) -> bool:
        """Note an evaluation; true when it is the best of its stage."""
        self.history.append(dict(entry))
        improved = score > self.best
        if improved:
            self.best, self.best_step, self.stale = score, self.step, 0
        else:
            self.stale += 1
        return improved

    def state_dict(self) -> dict[str, Any]:
        """For `Accelerator.register_for_checkpointing`."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)


class Average:
    """Exponential moving average of parameters, replaced at every stage.

    A holder that is registered for checkpointing once, since accelerate forgets nothing.
    """

    def __init__(self) -> None:
        self.model: EMAModel | None = None

    def start(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        """Begin a new average at the present parameters."""
        self.model = EMAModel(parameters, decay=decay)

    def update(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Take in the parameters after a step."""
        self._started().step(parameters)

    def swap_in(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the averages into the model, and keep its own parameters for `swap_out`."""
        parameters = list(parameters)
        self._started().store(parameters)
        self._started().copy_to(parameters)

    def swap_out(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give the model its own parameters back."""
        self._started().restore(parameters)

    def state_dict(self) -> dict[str, Any]:
        """For `Accelerator.register_for_checkpointing`."""
        return self._started().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the averages of a checkpoint."""
        device = self._started().shadow_params[0].device
        self._started().load_state_dict(state)
        # accelerate reads what it does not know to the CPU.
        self._started().to(device)

    def _started(self) -> EMAModel:
        if self.model is None:
            raise RuntimeError("The average was not started, expected start() first")
        return self.model


def save_checkpoint(accelerator: Accelerator, run_dir: Path, name: str, limit: int) -> None:
    """Save the state of all processes under a temporary name, move it, drop the oldest ones.

    Every process must call this.
    """
    folder = run_dir / CHECKPOINTS
    temporary = folder / f".{name}.tmp"
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        replace_folder(temporary, folder / name)
        for old in complete_checkpoints(run_dir)[:-limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a finished folder to its place; the one before is removed only afterwards."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoints that were saved to the end, oldest first."""
    return sorted((run_dir / CHECKPOINTS).glob("[!.]*"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name and move it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def cosine_schedule(progress: float, warmup: float) -> float:
    """Factor of the learning rate at a share 0 to 1 of a stage: linear rise, then half a cosine."""
    if progress < warmup:
        return (progress + 0.01 * warmup) / (1.01 * warmup)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
