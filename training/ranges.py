"""What numbers of a run's settings may be, checked before anything is computed."""

import dataclasses
import math
from typing import Any, Final, TypeAlias

from .config import (
    AugmentationConfig,
    ClassifierConfig,
    DegradationConfig,
    DiffusionConfig,
    DiffusionStageConfig,
    RunConfig,
    ScheduleConfig,
    StageConfig,
    StatisticsConfig,
)

Range: TypeAlias = tuple[float, float]

ANY: Final = (-math.inf, math.inf)
ZERO_OR_MORE: Final = (0, math.inf)
ONE_OR_MORE: Final = (1, math.inf)
# Zero itself would be no learning rate, no length.
POSITIVE: Final = (1e-12, math.inf)
SHARE: Final = (0, 1)
BELOW_ONE: Final = (0, 1 - 1e-9)

# Both ends are allowed; a pair of numbers rises, and lies within.
RANGES: Final[dict[type, dict[str, Range]]] = {
    AugmentationConfig: {
        **dict.fromkeys(("tempo", "pitch", "level", "filter", "masks", "time_mask"), ZERO_OR_MORE),
        **dict.fromkeys(("warp_probability", "noise_probability", "frequency_mask"), SHARE),
        "noise_snr": ANY,
    },
    DegradationConfig: {
        **dict.fromkeys(("level", "equaliser"), ZERO_OR_MORE),
        **dict.fromkeys(("noise_probability", "reverb_probability"), SHARE),
        **dict.fromkeys(("band_probability", "codec_probability"), SHARE),
        "noise_snr": ANY,
        "reverb_seconds": (0.01, 10),
    },
    StatisticsConfig: {
        **dict.fromkeys(("corpus", "unknown", "speaker", "room"), ZERO_OR_MORE),
        "recordings": ONE_OR_MORE,
    },
    ScheduleConfig: {"epochs": ONE_OR_MORE, "learning_rate": POSITIVE, "warmup": SHARE},
    StageConfig: {
        "mixup_alpha": POSITIVE,
        "mixup_probability": SHARE,
        "label_smoothing": BELOW_ONE,
    },
    DiffusionStageConfig: {"crop_seconds": POSITIVE},
    RunConfig: {
        **dict.fromkeys(("batch_size", "gradient_accumulation_steps"), ONE_OR_MORE),
        **dict.fromkeys(("evaluations_per_stage", "checkpoint_every"), ONE_OR_MORE),
        "checkpoint_limit": ONE_OR_MORE,
        **dict.fromkeys(("fold", "seed", "num_workers", "weight_decay"), ZERO_OR_MORE),
        "balance": SHARE,
        "max_grad_norm": POSITIVE,
        "ema_decay": BELOW_ONE,
    },
    ClassifierConfig: {
        **dict.fromkeys(("copies", "early_stopping_patience"), ZERO_OR_MORE),
        "crop_seconds": POSITIVE,
    },
    DiffusionConfig: {
        **dict.fromkeys(("kl_weight", "delta_weight", "prosody_weight"), ZERO_OR_MORE),
        **dict.fromkeys(("emotion_dropout", "source_emotion_dropout", "corpus_dropout"), SHARE),
        **dict.fromkeys(("clarity_dropout", "source_dropout", "identity_probability"), SHARE),
        **dict.fromkeys(("own_emotion_probability", "style_self_probability"), SHARE),
    },
}


def check_ranges(config: Any, path: str = "") -> None:
    """Refuse a number that a setting cannot have, here or in what is nested.

    Args:
        config: A dataclass of settings.
        path: Where it stands, for messages.

    Raises:
        ValueError: Names the setting, its value and what was expected.
    """
    for kind in type(config).__mro__:
        for name, allowed in RANGES.get(kind, {}).items():
            _check(getattr(config, name), allowed, f"{path}{name}")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        parts = enumerate(value) if isinstance(value, list) else [("", value)]
        for index, part in parts:
            if dataclasses.is_dataclass(part):
                check_ranges(part, f"{path}{field.name}.{index}".rstrip(".") + ".")
    if isinstance(config, StatisticsConfig) and not (
        config.corpus + config.unknown + config.speaker + config.room
    ):
        raise ValueError(f"Bad {path.rstrip('.')} of zeros, expected at least one share above 0")


def _check(value: Any, allowed: Range, path: str) -> None:
    low, high = allowed
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    # Written so that NaN is refused.
    if all(low <= number <= high for number in numbers) and numbers == sorted(numbers):
        return
    rising = " that rise" if len(numbers) > 1 else ""
    raise ValueError(f"Bad {path} {value}, expected {_words(allowed)}{rising}")


def _words(allowed: Range) -> str:
    if allowed == ANY:
        return "numbers"
    if allowed == POSITIVE:
        return "more than 0"
    low, high = allowed
    if allowed == BELOW_ONE:
        return "0 or more and less than 1"
    return f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
