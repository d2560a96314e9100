"""`speech-emotion enhance` and `convert`."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from . import options
from .classify import CALIBRATED
from .files import STANDARD, WRITTEN, Recording, find_recordings, read_folder, write_sound
from .messages import Failures, progress, refusing, say
from .models import load_enhancer

# `Optional` and not `| None`, which typer does not read in Python 3.10.
Intensity = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        help="How far the shift goes: 0 is nowhere, 1 as far as was found in training, 2 twice as "
        "far, within an octave and half or twice the tempo; the diffusion goes from no emotion "
        "said (0) to the emotion (1), or beyond."
    ),
]
Strength = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        help="Share of noise that diffusion starts from: 0 leaves it out, 1 leaves it most "
        "freedom; not for --method shift."
    ),
]


class Method(str, Enum):
    """How a recording is changed."""

    auto = "auto"
    shift = "shift"
    diffusion = "diffusion"
    both = "both"


Methods = Annotated[
    Optional[Method],  # noqa: UP045
    typer.Option(
        help="Of pitch, tempo and spectrum. shift: by the emotion's mean effect; diffusion: by the "
        "model, for this recording; both: one on top of the other. auto (when not given): shift to "
        "make clearer, both to convert or where a setting of the diffusion is given."
    ),
]
Rerank = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--rerank/--no-rerank",
        help="Try half as far, as far, and one and a half times as far, and keep the first "
        "version in which the emotion is surely heard, or else the best; on when not given.",
        show_default=False,
    ),
]
Listener = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Folder or Hub id of a classifier that hears what is carried, and how clearly; with "
        "the enhancer of this package its classifier, with others their own small one, when not "
        "given.",
        show_default=False,
    ),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the enhancer (repeatable); a wrong name lists them.",
    ),
]
Output = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--output",
        "-o",
        help="A file (wav, flac, ogg), a folder for several recordings, or - for standard "
        "output; SPEECH_enhanced.wav or SPEECH_EMOTION.wav here when not given.",
    ),
]
# Of `--set`: what switches may be called, and what is expected of other words.
WORDS = {"true": True, "false": False, "yes": True, "no": False}
EXPECTED = {bool: "true or false", int: "a whole number", float: "a number"}
Seed = Annotated[int, typer.Option(min=0, help="Of the noise: the same seed, the same sound.")]


@dataclass(frozen=True)
class _Job:
    """A recording and where it goes; `None` is standard output."""

    recording: Recording
    output: Path | None


def enhance(
    files: options.Files,
    emotion: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the recording carries; what is heard in it when not given."),
    ] = None,
    method: Methods = None,
    intensity: Intensity = None,
    strength: Strength = None,
    rerank: Rerank = None,
    settings: Settings = None,
    output: Output = None,
    overwrite: options.Overwrite = False,
    calibrate: options.Calibrate = None,
    corpus: options.Corpus = None,
    seed: Seed = 0,
    model: options.Model = None,
    listener: Listener = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
) -> None:
    """Make the emotion of recordings clearer.

    \b
    Examples:
      speech-emotion enhance speech.wav -o clearer.wav
      speech-emotion enhance speech.wav --emotion anger --intensity 1.5
      speech-emotion enhance recordings/ -o enhanced/
      cat speech.wav | speech-emotion enhance - -o - | play -

    Prints the files that it wrote. What it makes is synthetic speech: say so wherever you use it,
    and use it on nobody who did not agree to it.
    """
    named = name_settings(method, intensity, strength, rerank, corpus)
    # What it carries is what is made clearer.
    chosen = choose_settings(settings, **named, source_emotion=emotion)
    load = partial(load_enhancer, model, revision, trust_remote_code, device, listener)
    transform(files, emotion, chosen, output, overwrite, calibrate, seed, load)


def convert(
    files: options.Files,
    emotion: Annotated[str, typer.Option(help="What is to be heard.", show_default=False)],
    source_emotion: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--source_emotion",
            help="What the recording carries; what is heard in it when not given.",
        ),
    ] = None,
    method: Methods = None,
    intensity: Intensity = None,
    strength: Strength = None,
    rerank: Rerank = None,
    settings: Settings = None,
    output: Output = None,
    overwrite: options.Overwrite = False,
    calibrate: options.Calibrate = None,
    corpus: options.Corpus = None,
    seed: Seed = 0,
    model: options.Model = None,
    listener: Listener = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
) -> None:
    """Give recordings another emotion.

    \b
    Examples:
      speech-emotion convert speech.wav --emotion anger -o angry.wav
      speech-emotion convert recordings/ --emotion sadness --no-rerank -o sad/
      speech-emotion convert speech.wav --emotion fear --source_emotion neutral --intensity 0.7

    Prints the files that it wrote. What it makes is synthetic speech: say so wherever you use it,
    and use it on nobody who did not agree to it.
    """
    named = name_settings(method, intensity, strength, rerank, corpus)
    chosen = choose_settings(settings, **named, source_emotion=source_emotion)
    load = partial(load_enhancer, model, revision, trust_remote_code, device, listener)
    transform(files, emotion, chosen, output, overwrite, calibrate, seed, load)


def transform(
    files: Sequence[str],
    emotion: str | None,
    settings: Mapping[str, Any],
    output: str | None,
    overwrite: bool,
    calibrate: Path | None,
    seed: int,
    load: Callable[[], Any],
) -> None:
    """Enhance or convert recordings, each into a file of its own.

    Args:
        files: As they were named.
        emotion: The target; what is heard in each when not given.
        settings: Of the enhancer.
        output: A file, a folder or standard output.
        overwrite: Replace files that are there.
        calibrate: Folder of recordings whose statistics are used.
        seed: Of the noise.
        load: Gives the enhancer, once it is known that something can be written.

    Raises:
        typer.BadParameter: A wrong command; nothing has been written then.
        typer.Exit: Some recording failed.
    """
    if calibrate is not None and "corpus" in settings:
        raise typer.BadParameter("Got --calibrate and --corpus, expected one of them")
    failures = Failures()
    jobs = plan(find_recordings(files, failures), output, emotion or "enhanced")
    read = {os.path.realpath(j.recording.source): j.recording.name for j in jobs if is_file(j)}
    jobs = [job for job in jobs if is_writable(job, read, overwrite, failures)]
    if not jobs:
        failures.finish()
    pipe = load()
    call = check_settings(pipe, settings)
    with refusing():
        # Once for all: what is wrong for one recording is wrong for the next.
        pipe.check(emotion=emotion, **call)
    if calibrate is not None:
        rate = pipe.feature_extractor.sampling_rate
        waves = read_folder(calibrate, rate, failures)
        with refusing():
            pipe.calibrate(waves, name=CALIBRATED, sampling_rate=rate)
            if pipe.listener is not None:
                pipe.listener.calibrate(waves, name=CALIBRATED, sampling_rate=rate)
        call["corpus"] = CALIBRATED
    for job in progress(jobs, len(jobs), "Enhancing"):
        with failures.noting(job.recording.name):
            make(pipe, job, emotion, seed, call)
    failures.finish()


def name_settings(
    method: Method | None,
    intensity: float | None,
    strength: float | None,
    rerank: bool | None,
    corpus: str | None,
) -> dict[str, Any]:
    """Settings that have options of their own, by name."""
    named = {"intensity": intensity, "strength": strength, "rerank": rerank, "corpus": corpus}
    return named if method is None else {"method": method.value, **named}


def choose_settings(given: Sequence[str] | None, **named: Any) -> dict[str, Any]:
    """Settings of options of their own, and those of `--set`, the latter as text.

    Raises:
        typer.BadParameter: Not `name=value`, or a name that was given before.
    """
    chosen = {name: value for name, value in named.items() if value is not None}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"Bad --set '{text}', expected NAME=VALUE")
        if name in chosen:
            raise typer.BadParameter(
                f"Got --set {name} beside an option that says it, or twice, expected it once"
            )
        chosen[name] = value
    return chosen


def check_settings(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the types of the enhancer's own defaults.

    Raises:
        typer.BadParameter: A name that it does not have, or a value of another type.
    """
    from pipelines import ENHANCEMENT_SETTINGS

    parameters = inspect.signature(type(pipe).__call__).parameters
    defaults = {n: parameters[n].default for n in ENHANCEMENT_SETTINGS if n in parameters}
    of_recording = {n: None for n in ("corpus", "source_emotion") if n in parameters}
    known = defaults | of_recording
    if unknown := sorted(set(given) - set(known)):
        shown = ", ".join(f"{name}={value}" for name, value in defaults.items())
        raise typer.BadParameter(f"Bad setting '{unknown[0]}', expected some of: {shown}")
    return {name: _as_type_of(known[name], name, value) for name, value in given.items()}


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    if not isinstance(value, str) or default is None or isinstance(default, str):
        return value
    kind = type(default)
    try:
        return WORDS[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError) as error:
        raise typer.BadParameter(f"Bad {name} '{value}', expected {EXPECTED[kind]}") from error


def plan(recordings: Sequence[Recording], output: str | None, suffix: str) -> list[_Job]:
    """Where each recording goes.

    Raises:
        typer.BadParameter: One file or standard output for several recordings, a file that cannot
            be written, or one name for two recordings.
    """
    from_standard_input = [r.name for r in recordings] == [STANDARD]
    if output == STANDARD or (output is None and from_standard_input):
        if len(recordings) > 1:
            raise typer.BadParameter(
                f"Got {len(recordings)} recordings for standard output, expected -o with a folder"
            )
        if sys.stdout.isatty():
            raise typer.BadParameter("Got a terminal to write sound to, expected -o with a file")
        return [_Job(recording, None) for recording in recordings]
    if output is None:
        outputs = [Path(f"{recording.place.stem}_{suffix}.wav") for recording in recordings]
    else:
        outputs = _named_outputs(recordings, output)
    taken: dict[Path, str] = {}
    for recording, path in zip(recordings, outputs, strict=True):
        if other := taken.get(path):
            raise typer.BadParameter(
                f"Got '{other}' and '{recording.name}', both for '{path}', expected other names"
            )
        taken[path] = recording.name
    return [_Job(r, path) for r, path in zip(recordings, outputs, strict=True)]


def _named_outputs(recordings: Sequence[Recording], output: str) -> list[Path]:
    """A file for one recording; in a folder the place that each had below its own."""
    path = Path(output).expanduser()
    nested = any(len(recording.place.parts) > 1 for recording in recordings)
    folder = path.is_dir() or output.endswith(("/", "\\")) or nested or len(recordings) != 1
    if folder and path.suffix.lower() in WRITTEN and not path.is_dir():
        raise typer.BadParameter(
            f"Bad --output '{output}' for {len(recordings)} recordings, expected a folder"
        )
    if folder or path.suffix == "":
        return [path / recording.place.with_suffix(".wav") for recording in recordings]
    if path.suffix.lower() not in WRITTEN:
        raise typer.BadParameter(f"Bad --output '{output}', expected one of {list(WRITTEN)}")
    return [path]


def is_file(job: _Job) -> bool:
    """Whether its recording is a file that is there."""
    source = job.recording.source
    return isinstance(source, Path) and source.exists()


def is_writable(job: _Job, read: Mapping[str, str], overwrite: bool, failures: Failures) -> bool:
    """Whether an output may be written; if not it is a failure.

    Args:
        job: The recording and its output.
        read: Names of all recordings of the command by their files.
        overwrite: Whether files that are there may be replaced.
        failures: Takes those that may not.
    """
    path = job.output
    if path is None or not path.exists():
        return True
    if (other := read.get(os.path.realpath(path))) is not None:
        failures.add(
            job.recording.name, f"expected another output than the recording '{other}', '{path}'"
        )
    elif not overwrite:
        failures.add(job.recording.name, f"'{path}' exists, expected a new one or --overwrite")
    else:
        return True
    return False


def _heard(made: Any) -> str:
    """How sure they who listened were of the emotion, if anybody was asked."""
    from pipelines.emotion_enhancement import SURE

    sure = made.certainties[0]
    if sure is None:
        return ""
    doubt = (
        "" if sure >= SURE else f", which is not sure (that is {100 * SURE:.0f} %): listen to it"
    )
    return f"; heard with {100 * sure:.0f} % in the mean of who listens{doubt}"


def make(pipe: Any, job: _Job, emotion: str | None, seed: int, call: Mapping[str, Any]) -> None:
    """Enhance one recording and write it.

    Raises:
        ValueError: It cannot be decoded, or a setting is out of range; so `OSError`.
    """
    import torch

    from pipelines.audio_inputs import read_recording
    from pipelines.speech_presence import LEAST_SPEECH, speech_score

    recording = job.recording
    rate = pipe.feature_extractor.sampling_rate
    speech = speech_score(read_recording(recording.source, rate).numpy(), rate)
    if speech < LEAST_SPEECH:
        say(f"{recording.name}: no speech heard (speech score {speech:.2f})")
    generator = torch.Generator().manual_seed(seed)
    made = pipe(recording.source, emotion=emotion, generator=generator, **call)
    write_sound(job.output, made.audios[0], made.sampling_rate)
    say(f"{recording.name}: towards {made.emotions[0]} by {made.describe()}{_heard(made)}")
    if job.output is not None:
        print(job.output, flush=True)
