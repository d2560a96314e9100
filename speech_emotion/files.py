"""Recordings that were named on the command line, and files that are written."""

import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import typer

from .messages import Failures, say

STANDARD = "-"
ADDRESSES = ("http://", "https://")
# What soundfile writes, by the suffix of the file. MP3 knows no 22,025 Hz.
WRITTEN = (".wav", ".flac", ".ogg")
# Samples written at once: a minute and a half of Vorbis overflows the stack of libsndfile.
BLOCK = 65_536


@dataclass(frozen=True)
class Recording:
    """A recording as it was named.

    Args:
        name: As people and programs are told it.
        source: A path, an address, the content of standard input, or what else is a recording to
            the pipelines.
        place: Where it lies below the folder that was named; its file name otherwise.
    """

    name: str
    source: Any
    place: PurePosixPath


def find_recordings(names: Sequence[str], failures: Failures) -> list[Recording]:
    """Recordings of files, folders, patterns, addresses and standard input, each once, in order.

    A pattern is expanded here, too, so that a quoted one, or one in a shell that expands none, is
    the same. A file that is named is taken whatever its suffix; in folders and of patterns those
    with the suffix of a recording. What names nothing is a failure.
    """
    found: dict[str, Recording] = {}
    for name in names:
        some = list(_expand(name, failures))
        for recording in some:
            key = recording.source
            found.setdefault(os.path.realpath(key) if isinstance(key, Path) else name, recording)
    return list(found.values())


def _expand(name: str, failures: Failures) -> Iterator[Recording]:
    path = Path(os.path.expanduser(name))
    if name == STANDARD:
        yield Recording(name, sys.stdin.buffer.read(), PurePosixPath("stdin"))
    elif name.startswith(ADDRESSES):
        yield Recording(name, name, PurePosixPath(PurePosixPath(name).name or "download"))
    elif path.is_dir():
        yield from _expand_folder(path, name, failures)
    elif path.exists() or not glob.has_magic(name):
        # One that is not there is reported, in its turn, by whoever opens it.
        yield Recording(name, path, PurePosixPath(path.name))
    else:
        yield from _expand_pattern(name, failures)


def _expand_folder(folder: Path, name: str, failures: Failures) -> Iterator[Recording]:
    paths = list_folder(folder)
    if not paths:
        failures.add(name, "expected a folder with recordings, got none in it")
    for path in paths:
        yield Recording(str(path), path, PurePosixPath(path.relative_to(folder).as_posix()))


def _expand_pattern(pattern: str, failures: Failures) -> Iterator[Recording]:
    matches = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    extensions = _extensions()
    paths = [Path(match) for match in matches]
    kept = [path for path in paths if path.is_dir() or path.suffix.lower() in extensions]
    if not kept:
        failures.add(pattern, "expected a pattern that fits recordings, it fits none")
    for path in kept:
        if path.is_dir():
            # A pattern such as `**` names folders beside what they hold: empty ones are no failure.
            for inner in list_folder(path):
                place = PurePosixPath(inner.relative_to(path.parent).as_posix())
                yield Recording(str(inner), inner, place)
        else:
            yield Recording(str(path), path, PurePosixPath(path.name))


def list_folder(folder: Path) -> list[Path]:
    """All recordings below a folder, hidden ones left out."""
    from datasets_scripts.recordings import walk_recordings

    return walk_recordings(folder, _extensions())


def _extensions() -> tuple[str, ...]:
    from datasets_scripts.recordings import MORE_EXTENSIONS

    return MORE_EXTENSIONS


def read_folder(folder: Path, rate: int, failures: Failures) -> list[Any]:
    """All recordings below a folder as mono samples `(samples,)` float32 at a rate in Hz.

    Raises:
        typer.BadParameter: No folder, or none of its recordings can be read.
    """
    from pipelines.audio_inputs import read_recording

    if not folder.is_dir():
        given = "a file" if folder.exists() else "nothing there"
        raise typer.BadParameter(
            f"Bad --calibrate '{folder}', expected a folder of recordings, got {given}"
        )
    waves = []
    for path in list_folder(folder):
        with failures.noting(str(path)):
            waves.append(read_recording(path, rate).numpy())
    if not waves:
        raise typer.BadParameter(
            f"Bad --calibrate '{folder}', expected a folder with recordings, got none in it"
        )
    say(f"Calibrated with {len(waves)} recordings of {folder}")
    return waves


@contextmanager
def moved_into_place(path: Path) -> Iterator[Path]:
    """A temporary name beside a file, which is moved there when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_sound(path: Path | None, wave: Any, sampling_rate: int) -> None:
    """Write samples as 16-bit sound to a file, or as WAV to standard output (`None`)."""
    import soundfile

    content = io.BytesIO()
    kind = "WAV" if path is None else path.suffix[1:].upper()
    with soundfile.SoundFile(content, "w", sampling_rate, channels=1, format=kind) as file:
        for start in range(0, len(wave), BLOCK):
            file.write(wave[start : start + BLOCK])
    if path is None:
        sys.stdout.buffer.write(content.getvalue())
        sys.stdout.buffer.flush()
        return
    with moved_into_place(path) as temporary:
        temporary.write_bytes(content.getvalue())
