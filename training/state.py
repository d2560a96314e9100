"""What a run must remember to go on as if it had never been interrupted."""

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

CHECKPOINTS = "checkpoints"


@dataclass
class Progress:
    """Where a run stands.

    Args:
        stage: Index of the current stage.
        step: Batches that the current stage has consumed.
        total_step: Batches that all stages have consumed.
        best: Best validation score of the stage.
        stale: Evaluations since it was reached.
        checkpointed: `total_step` of the latest checkpoint.
        losses: Losses of the batches since the latest evaluation.
        history: One entry per evaluation.
    """

    stage: int = 0
    step: int = 0
    total_step: int = 0
    best: float = -math.inf
    stale: int = 0
    checkpointed: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def next_stage(self) -> None:
        """Enter the next stage."""
        self.stage, self.step = self.stage + 1, 0
        self.best, self.stale = -math.inf, 0

    def record(self, score: float, entry: Mapping[str, Any]) -> bool:
        """Note an evaluation; true when it is the best of its stage."""
        self.history.append(dict(entry))
        improved = score > self.best
        if improved:
            self.best, self.stale = score, 0
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
    """Exponential moving average of a network's parameters and buffers, replaced at every stage.

    Buffers too: averaged weights under the latest weights' statistics of batch normalisation would
    be a network that nobody trained. A holder that is registered for checkpointing once, since
    accelerate forgets nothing.
    """

    def __init__(self) -> None:
        self.model: AveragedModel | None = None

    def start(self, model: nn.Module, decay: float) -> None:
        """Begin a new average of a network; `decay` is reached step by step."""

        def average(averaged: torch.Tensor, present: torch.Tensor, count: Any) -> torch.Tensor:
            if not averaged.is_floating_point():
                return present
            # The warm-up of `diffusers.training_utils.EMAModel`: the first weights are forgotten.
            reached = min(decay, (1 + int(count)) / (10 + int(count)))
            return torch.lerp(present, averaged, reached)

        self.model = AveragedModel(model, avg_fn=average, use_buffers=True)

    def update(self, model: nn.Module) -> None:
        """Take in the network after a step."""
        self._started().update_parameters(model)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the values of network and average; once more gives each its own back."""
        averaged = self._started().module
        for present, other in zip(_tensors(model), _tensors(averaged), strict=True):
            kept = present.clone()
            present.copy_(other)
            other.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """For `Accelerator.register_for_checkpointing`."""
        return self._started().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the averages of a checkpoint."""
        self._started().load_state_dict(state)

    def _started(self) -> AveragedModel:
        if self.model is None:
            raise RuntimeError("The average was not started, expected start() first")
        return self.model


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, each once, whatever a network shares."""
    return itertools.chain(model.parameters(), model.buffers())


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
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text under a temporary name and move it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def cosine_schedule(progress: float, warmup: float) -> float:
    """Factor of the learning rate at a share 0 to 1 of a stage: linear rise, then half a cosine."""
    if progress < warmup:
        return (progress + 0.01 * warmup) / (1.01 * warmup)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def halve_weights(folder: Path) -> None:
    """Keep the weights of a saved model, or of all parts of a pipeline, in half precision.

    For half the size. They load, and are computed with, in single precision, which CPUs do faster:
    the configurations beside them go on to say float32.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        state = load_file(file)
        halved = {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
        save_file(halved, file, metadata={"format": "pt"})
