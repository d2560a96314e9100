"""How noise is injected and extracted: the way of a scheduler of diffusers, of any kind.

This file is copied to the Hub beside the pipeline, hence it imports nothing of this project.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Sampling:
    """How recordings are denoised.

    Args:
        strength: Share of the noise schedule that is injected, 0 to 1.
        guidance_scale: Weight of the emotion against "unsaid"; 1 is none.
        intensity: How far to go towards the emotion.
        num_inference_steps: Steps from the noise injected to none.
        num_noises: Noises whose changes are averaged.
        callback_on_step_end: As of the pipeline's call.
    """

    strength: float
    guidance_scale: float
    intensity: float
    num_inference_steps: int
    num_noises: int = 1
    callback_on_step_end: Callable[..., Any] | None = None


def set_timesteps(scheduler: Any, sampling: Sampling, device: Any) -> torch.Tensor:
    """Timesteps from the one whose noise is injected, which is `strength` of the last, downwards.

    There are fewer than asked for where the schedule has no more below.
    """
    first = sampling.strength * (scheduler.config.num_train_timesteps - 1)
    count = min(sampling.num_inference_steps, max(round(first), 1))
    wanted = torch.linspace(first, 0, count + 1)[:-1].round().long().tolist()
    scheduler.set_timesteps(timesteps=wanted, device=device)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler.timesteps


def step_options(scheduler: Any, seeds: Sequence[int]) -> dict[str, Any]:
    """A new generator for each example, for schedulers that draw noise in their steps.

    The noise depends neither on what else is in the batch nor on what was denoised before.
    """
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    return {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}


def denoise(
    pipe: Any,
    scheduler: Any,
    timesteps: torch.Tensor,
    noisy: torch.Tensor,
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    seeds: Sequence[int],
    callback: Callable[..., Any] | None,
) -> torch.Tensor:
    """Extract the noise of `noisy` step by step.

    Args:
        pipe: Shows its progress, and is given to the callback.
        scheduler: Whose `set_timesteps` has been called.
        timesteps: What it set.
        noisy: `(batch, ...)`.
        predict: The prediction of noisy input at a timestep.
        seeds: One for each example.
        callback: As of the pipeline's call, or None.
    """
    options = step_options(scheduler, seeds)
    for i, t in enumerate(pipe.progress_bar(timesteps)):
        prediction = predict(scheduler.scale_model_input(noisy, t), t)
        noisy = scheduler.step(prediction, t, noisy, **options).prev_sample
        if callback is not None:
            noisy = (callback(pipe, i, t, {"latents": noisy}) or {}).get("latents", noisy)
    return noisy
