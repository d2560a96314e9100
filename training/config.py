"""Settings of a training run: one YAML base, deltas on top, `key=value` from the command line."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

Config = TypeVar("Config")


@dataclass
class AugmentationConfig:
    """How far recordings are changed in training; 0 switches a change off.

    Args:
        tempo: Largest natural logarithm of the change of tempo (0.2: 0.82 to 1.22 times).
        pitch: Largest natural logarithm of the change of pitch and formants.
        warp_probability: Share of recordings whose tempo and pitch are changed; interpolation blurs
            them a little, so some should stay sharp.
        level: Largest change of level, in dB.
        filter: Largest change of a band by a random smooth filter, in dB.
        noise_probability: Share of recordings that noise is mixed into.
        noise_snr: Range of the signal-to-noise ratio, in dB.
        masks: Number of SpecAugment masks along time, and as many along frequency.
        time_mask: Longest time mask, in seconds.
        frequency_mask: Widest frequency mask, as a share of the bands.
    """

    tempo: float = 0.0
    pitch: float = 0.0
    warp_probability: float = 1.0
    level: float = 0.0
    filter: float = 0.0
    noise_probability: float = 0.0
    noise_snr: tuple[float, float] = (10.0, 40.0)
    masks: int = 0
    time_mask: float = 0.25
    frequency_mask: float = 0.15


@dataclass
class DegradationConfig:
    """How far sound is degraded in training; 0 switches a change off.

    Args:
        level: Largest change of level, in dB.
        equaliser: Largest gain of a random smooth filter, in dB.
        noise_probability: Share of recordings that noise is mixed into, white to brown.
        noise_snr: Range of the signal-to-noise ratio, in dB.
        reverb_probability: Share of recordings that are put into a room.
        reverb_seconds: Range of the room's reverberation time, in seconds.
        band_probability: Share of recordings whose band is limited, to telephone's or wider.
        codec_probability: Share of recordings that are compressed as MP3, at 16 to 64 kbit/s.
    """

    level: float = 0.0
    equaliser: float = 0.0
    noise_probability: float = 0.0
    noise_snr: tuple[float, float] = (5.0, 30.0)
    reverb_probability: float = 0.0
    reverb_seconds: tuple[float, float] = (0.15, 0.6)
    band_probability: float = 0.0
    codec_probability: float = 0.0


@dataclass
class StatisticsConfig:
    """How often training normalises an example with which statistics; shares that need not add up.

    Args:
        corpus: Those of its corpus, as when the corpus is named.
        unknown: Those of all corpora together, as when nothing is known.
        speaker: Those of a few recordings of its speaker, as after calibration by voice.
        room: Those of a few recordings of its corpus, as after calibration by room.
        recordings: Range of how many recordings are a few.
    """

    corpus: float = 1.0
    unknown: float = 0.0
    speaker: float = 0.0
    room: float = 0.0
    recordings: tuple[int, int] = (5, 20)

    def draw(self, generator: Any) -> str:
        """`"corpus"`, `"unknown"`, `"speaker"` or `"room"`, from a NumPy generator."""
        kinds = ("corpus", "unknown", "speaker", "room")
        shares = [getattr(self, kind) for kind in kinds]
        return kinds[int(generator.choice(4, p=[share / sum(shares) for share in shares]))]


@dataclass
class ScheduleConfig:
    """How long and how fast a network is trained.

    Args:
        epochs: Passes over the training recordings.
        learning_rate: Peak of the learning rate.
        warmup: Share of the stage in which the learning rate rises; a cosine follows.
    """

    epochs: int = 1
    learning_rate: float = 1e-3
    warmup: float = 0.1


@dataclass
class StageConfig(ScheduleConfig):
    """One stage of training; later stages start from the best weights of the stage before.

    Args:
        name: Shown in the history and in plots.
        corpora: Corpora trained on; all of the run when empty.
        emotions: `"six_emotions"`, or `"all"` to also train on each corpus' other emotions.
        train_encoder: What of a pretrained encoder trains: `"frozen"` (nothing; what it hears is
            computed once), `"last_1"`, `"last_2"`, ... (its last layers), `"all"`, or `"lora"`
            (small matrices beside its attention, Hu et al. 2022).
        mixup_alpha: Parameter of mixup's Beta distribution (Zhang et al. 2018).
        mixup_probability: Share of recordings that are mixed with another one.
        label_smoothing: Share of the target given to all classes alike.
        augmentation: See [`AugmentationConfig`].
    """

    name: str = "train"
    corpora: list[str] = field(default_factory=list)
    emotions: str = "six_emotions"
    train_encoder: str = "frozen"
    mixup_alpha: float = 0.3
    mixup_probability: float = 0.0
    label_smoothing: float = 0.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass
class RunConfig:
    """What both training scripts can be told; the files in `configs/` explain each setting.

    What the base files have no use for:

    Args:
        half_precision: Save weights in half precision; they load in single precision.
        card_records: Folder of results whose records of this recipe, trained on the same corpora,
            the card shows when nobody is tested.
    """

    corpora: dict[str, Any]
    output_dir: str = "outputs/run"
    protocol: str = "speaker_independent"
    fold: int = 0
    seed: int = 0
    batch_size: int = 32
    gradient_accumulation_steps: int = 1
    balance: float = 0.0
    weight_decay: float = 0.02
    max_grad_norm: float = 2.0
    ema_decay: float = 0.995
    mixed_precision: str = "no"
    evaluations_per_stage: int = 10
    checkpoint_every: int = 500
    checkpoint_limit: int = 2
    num_workers: int = 0
    tracker: str | None = None
    half_precision: bool = False
    card_records: str | None = None
    hub_model_id: str | None = None
    push_to_hub: bool = False


@dataclass
class ClassifierConfig(RunConfig):
    """What `train_classifier.py` can be told; `configs/classifier.yaml` explains each setting."""

    output_dir: str = "outputs/classifier"
    train_on_validation: bool = False
    model_name_or_path: str | None = None
    encoder_name_or_path: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    feature_extractor: dict[str, Any] = field(default_factory=dict)
    stages: list[StageConfig] = field(default_factory=lambda: [StageConfig()])
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    copies: int = 0
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    crop_seconds: float = 2.5
    balance: float = 0.5
    early_stopping_patience: int = 0


@dataclass
class DiffusionStageConfig(ScheduleConfig):
    """How one of the enhancer's networks is trained.

    Args:
        crop_seconds: Longest stretch of a recording that is seen at once.
    """

    warmup: float = 0.05
    crop_seconds: float = 2.2


@dataclass
class DiffusionConfig(RunConfig):
    """What `train_diffusion.py` can be told; `configs/diffusion.yaml` explains each setting."""

    output_dir: str = "outputs/enhancer"
    classifier: str | None = None
    vae: dict[str, Any] = field(default_factory=dict)
    unet: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    style_encoder: dict[str, Any] = field(default_factory=dict)
    autoencoder: DiffusionStageConfig = field(default_factory=DiffusionStageConfig)
    denoiser: DiffusionStageConfig = field(default_factory=DiffusionStageConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    kl_weight: float = 1e-4
    delta_weight: float = 0.5
    prosody_weight: float = 1.0
    emotion_dropout: float = 0.15
    source_emotion_dropout: float = 0.15
    corpus_dropout: float = 0.2
    clarity_dropout: float = 0.2
    source_dropout: float = 0.1
    identity_probability: float = 0.1
    own_emotion_probability: float = 0.3
    style_self_probability: float = 0.1
    shift: dict[str, Any] | None = field(default_factory=dict)
    batch_size: int = 16
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998


def load_config(
    kind: type[Config], files: Sequence[str | Path], overrides: Sequence[str] = ()
) -> Config:
    """Read settings: later files and overrides win over earlier ones, key by key.

    Args:
        kind: The dataclass to build.
        files: YAML files, the base first.
        overrides: `key=value` with dots for nesting, values in YAML: `stages.0.epochs=3`.

    Raises:
        ValueError: An unreadable file, an unknown key or a value of the wrong type.
    """
    settings: dict[str, Any] = {}
    for file in files:
        settings = _merge(settings, _read_yaml(file))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"Bad override '{override}', expected key=value")
        settings = _set(settings, key.split("."), _parse(value, override), override)
    return from_dict(kind, settings)


def from_dict(kind: type[Config], settings: Mapping[str, Any], path: str = "") -> Config:
    """Build a dataclass from nested dictionaries, checking names and types.

    Raises:
        ValueError: An unknown or missing key, or a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(settings) - set(fields))
    if unknown:
        raise ValueError(f"Unknown setting {_dotted(path, unknown[0])}, expected {sorted(fields)}")
    hints = typing.get_type_hints(kind)
    values = {k: _convert(hints[k], v, _dotted(path, k)) for k, v in settings.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"Settings {path or 'of the run'} are incomplete: {error}") from error


def _read_yaml(file: str | Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"Cannot read the settings '{file}': {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"Bad settings '{file}', expected a mapping at the top")
    return settings


def _parse(value: str, override: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"Bad override '{override}', expected YAML after =: {error}") from error


def _merge(base: Mapping[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, except `corpora`, which a delta replaces; so is everything else."""
    merged = dict(base)
    for key, value in delta.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "corpora"
        merged[key] = _merge(base[key], value) if nested else value
    return merged


def _set(settings: Any, keys: list[str], value: Any, override: str) -> Any:
    """A copy of `settings` with the value under nested `keys` replaced."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(settings, list):
        if not key.isdigit() or int(key) >= len(settings):
            raise ValueError(f"Bad override '{override}', expected an index below {len(settings)}")
        index = int(key)
        changed = _set(settings[index], rest, value, override)
        return [*settings[:index], changed, *settings[index + 1 :]]
    if settings is not None and not isinstance(settings, dict):
        raise ValueError(f"Bad override '{override}', '{key}' lies below a plain value")
    settings = settings or {}
    return settings | {key: _set(settings.get(key), rest, value, override)}


def _convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type that a field asks for."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast(type, hint), value, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, path)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], v, f"{path}.{i}") for i, v in enumerate(value)]
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) == len(arguments):
        return tuple(_convert(a, v, path) for a, v in zip(arguments, value, strict=True))
    return _plain(hint, origin, value, path)


def _plain(hint: Any, origin: Any, value: Any, path: str) -> Any:
    expected = origin or hint
    if expected is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML reads `1e-3` as text.
        try:
            return float(value)
        except ValueError:
            pass
    if expected is str and value is False:
        # So it reads the `no` of mixed_precision.
        return "no"
    is_flag = isinstance(value, bool)
    if not isinstance(value, expected) or (is_flag and expected is not bool):
        name = getattr(expected, "__name__", str(expected))
        raise ValueError(f"Bad setting {path}={value!r}, expected {name}")
    return value


def _dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
