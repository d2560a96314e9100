"""What the enhancer refuses before it computes anything.

This file is copied to the Hub beside the pipeline, hence it imports nothing of this project.
"""

import inspect
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

CHOICES = {
    "output_type": ("wav", "mel"),
    "method": ("auto", "both", "diffusion", "shift"),
    "vocoder": ("psola", "source_filter", "griffin_lim", "hifigan"),
}
NUMBERS = {"strength": (0, 1), "guidance_scale": (0, None), "intensity": (0, None)}
COUNTS = ("num_inference_steps", "num_noises")
SWITCHES = ("rerank",)
# `step` of a scheduler that denoises from one timestep to the next.
STEP = ["model_output", "timestep", "sample"]


def check_settings(scheduler: Any, **settings: Any) -> None:
    """Refuse arguments of a call that are of another type or out of range.

    Args:
        scheduler: The pipeline's.
        settings: Arguments of the call by name, those that this file knows or others.

    Raises:
        ValueError: A number, count, switch, choice, generator, callback or vocoder model that
            cannot be, or a scheduler that cannot step so.
    """
    for name, value in settings.items():
        if name in NUMBERS:
            _check_number(name, value, *NUMBERS[name])
        elif name in COUNTS and not is_count(value):
            raise ValueError(f"Bad {name} {value!r}, expected a whole number, 1 or more")
        elif name in SWITCHES and not isinstance(value, bool):
            raise ValueError(f"Bad {name} {value!r}, expected True or False")
        elif name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"Bad {name} {value!r}, expected one of {list(CHOICES[name])}")
    callback = settings.get("callback_on_step_end")
    if callback is not None and not callable(callback):
        raise ValueError(f"Bad callback_on_step_end {callback!r}, expected a function or None")
    _check_hifigan(settings.get("vocoder"), settings.get("hifigan"))
    _check_scheduler(scheduler, settings["num_inference_steps"])


def is_default(value: Any, default: Any) -> bool:
    """Whether a setting is as it is when nobody says anything."""
    # A reference may be an array, which is no truth value when compared.
    return value is default or (isinstance(value, (Real, str)) and value == default)


def is_count(value: Any) -> bool:
    """Whether something can be a number of things: whole, and 1 or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def one_each(given: Any, count: int, name: str) -> list[str | None]:
    """Names, one per recording, from one for all or from a sequence of them.

    Raises:
        ValueError: Another number of them, or something that is no name.
    """
    if given is None or isinstance(given, str):
        return [given] * count
    if isinstance(given, np.ndarray):
        given = given.tolist()
    entries = list(given) if isinstance(given, Sequence) else [given]
    wrong = [entry for entry in entries if not (entry is None or isinstance(entry, str))]
    if wrong:
        raise ValueError(f"Bad {name} {wrong}, expected names or None")
    if len(entries) != count:
        raise ValueError(f"Got {len(entries)} {name}, expected {one_or(count)}")
    return entries


def generators_each(given: Any, count: int) -> list[torch.Generator | None]:
    """A source of noise for each recording, from one for all or from a list.

    Raises:
        ValueError: Another number of them, or something that is no generator.
    """
    entries = list(given) if isinstance(given, (list, tuple)) else [given] * count
    wrong = sorted({type(x).__name__ for x in entries if not isinstance(x, _GENERATORS)})
    if wrong:
        raise ValueError(f"Bad generator of type {wrong}, expected torch.Generator, a list or None")
    if len(entries) != count:
        raise ValueError(f"Got {len(entries)} generators, expected {one_or(count)}")
    return entries


def one_or(count: int) -> str:
    """How many are expected where one may stand for all."""
    return "1" if count == 1 else f"1 or {count}"


_GENERATORS = (torch.Generator, type(None))


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_number(name: str, value: Any, low: float, high: float | None) -> None:
    inside = _is_real(value) and math.isfinite(value) and value >= low
    if not inside or (high is not None and value > high):
        expected = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"Bad {name} {value!r}, expected {expected}")


def _check_hifigan(vocoder: Any, hifigan: Any) -> None:
    if vocoder != "hifigan":
        return
    if hifigan is None:
        raise ValueError("Got vocoder 'hifigan' without hifigan, expected a model for it")
    if not isinstance(hifigan, torch.nn.Module):
        raise ValueError(f"Bad hifigan of type {type(hifigan).__name__}, expected a model")


def _check_scheduler(scheduler: Any, steps: int) -> None:
    """Noise is added at a timestep, and taken away from one timestep to the next."""
    kind = type(scheduler).__name__
    known = inspect.signature(type(scheduler).__init__).parameters
    timed = inspect.signature(getattr(scheduler, "set_timesteps", lambda: None)).parameters
    step = list(inspect.signature(getattr(scheduler, "step", lambda: None)).parameters)
    able = hasattr(scheduler, "add_noise") and hasattr(scheduler, "alphas_cumprod")
    able = able and "timesteps" in timed and "prediction_type" in known
    if not able or step[: len(STEP)] != STEP:
        raise ValueError(
            f"Bad scheduler '{kind}', expected one that adds noise, steps back from it, and can be "
            "told its timesteps, as ['DDPMScheduler', 'DPMSolverMultistepScheduler', "
            "'EulerDiscreteScheduler', ...] can"
        )
    longest = scheduler.config.num_train_timesteps
    if steps > longest:
        raise ValueError(f"Bad num_inference_steps {steps}, expected 1 to {longest}")
