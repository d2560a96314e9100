"""Finding recordings in a folder, and checking that each is whole.

Nothing here is a builder: `datasets` replaces `Path` and `open` in the modules of builders.
"""

import hashlib
import os
import struct
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import soundfile
from datasets.exceptions import DatasetGenerationError

from .schema import decode_audio

EXTENSIONS = (".flac", ".wav")
# What else soundfile decodes.
MORE_EXTENSIONS = (*EXTENSIONS, ".aif", ".aiff", ".au", ".mp3", ".oga", ".ogg", ".opus")
# Programs that stream sound claim as much as fits: three hours of 48 kHz is no recording's length.
UNKNOWN_SIZE = 1 << 30
# Recorders that miscount their last samples write claims a little too long.
TOLERATED_SHARE = 0.01
SHOWN = 8


class CorpusWarning(UserWarning):
    """A corpus is not what was published: something is missing, doubled or broken."""


# `datasets` passes its own errors through and wraps every other one out of sight.
class CorpusError(DatasetGenerationError, ValueError):
    """A recording or a data folder that cannot be used."""


class RecordingError(RuntimeError):
    """A recording that cannot be used, found while others were at work on."""


def warn(message: str) -> None:
    """Issue a [`CorpusWarning`]."""
    warnings.warn(message, CorpusWarning, stacklevel=2)


def shorten(names: Iterable[str]) -> str:
    """Names for a message, the first few of many."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def resolve_folder(data_dir: str) -> Path:
    """Absolute path of the data folder.

    Raises:
        CorpusError: It is no folder.
    """
    folder = Path(data_dir).expanduser().resolve()
    if not folder.is_dir():
        raise CorpusError(f"Bad data_dir '{data_dir}', expected a folder that holds recordings")
    return folder


def walk_recordings(folder: Path, extensions: tuple[str, ...] = EXTENSIONS) -> list[Path]:
    """All sound files below `folder`, the outermost first; hidden ones are left out.

    Links are followed, to each folder once, so that a loop of links ends; a link to nothing is
    listed, for it is a recording that cannot be read. A [`CorpusWarning`] names the folders that
    cannot be listed.
    """
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, onerror=_warn_of_folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        # A folder that is linked may also be there in its own name, which is then the one used.
        folders.sort(key=lambda name: os.path.islink(os.path.join(parent, name)))
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in extensions]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def _warn_of_folder(error: OSError) -> None:
    warn(f"Cannot list the folder '{error.filename}': {error.strerror}")


def find_recordings(folder: Path, name_of: Callable[[str], str]) -> dict[str, Path]:
    """Path of each recording by its name, in the order of the names, however they are nested.

    Of several files with one name (copies, or `.wav` beside `.flac`) the outermost is taken, with
    a [`CorpusWarning`].

    Args:
        folder: Where to look.
        name_of: Gives the name of a recording from its path in the folder.

    Raises:
        CorpusError: There is no recording at all.
    """
    paths = defaultdict(list)
    for path in walk_recordings(folder):
        paths[name_of(path.relative_to(folder).as_posix())].append(path)
    if not paths:
        raise CorpusError(f"No {' or '.join(EXTENSIONS)} file below '{folder}'")
    # The files' own names: those of a corpus may be made from several parts of the path.
    doubled = [
        copies[0].relative_to(folder).as_posix()
        for _, copies in sorted(paths.items())
        if len(copies) > 1
    ]
    if doubled:
        warn(
            f"{len(doubled)} recordings occur more than once below '{folder}', each is used once: "
            f"{shorten(doubled)}"
        )
    return {name: paths[name][0] for name in sorted(paths)}


def fingerprint(paths: Iterable[Path]) -> str:
    """Digest of names, sizes and times of files, so that a cache notices a changed folder."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            known = f"{status.st_size}|{status.st_mtime_ns}"
        except OSError as error:  # A link to nothing, and the like.
            known = str(error.errno)
        digest.update(f"{path}|{known}\n".encode())
    return digest.hexdigest()[:16]


def read_recording(path: str) -> tuple[bytes, str]:
    """Bytes of a recording that is readable, not empty and whole, and a digest of its samples.

    Raises:
        CorpusError: It is not; the message names the path and the reason.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        broken = " (a link to nothing)" if os.path.islink(path) else ""
        raise CorpusError(f"Cannot read '{path}': {error.strerror}{broken}") from error
    return data, _digest(data, path)


def contents_digest(folder: Path) -> str:
    """Digest (SHA-256) of what the recordings below a folder sound like, and of their names.

    It is that of the sorted lines `stem sha256`, the latter over the samples as 16-bit integers,
    little-endian: the same for any lossless form of the recordings, in any order and nesting.
    """
    lines = []
    for path in walk_recordings(folder):
        samples, _ = soundfile.read(path, dtype="int16")
        own = hashlib.sha256(samples.astype("<i2", copy=False).tobytes()).hexdigest()
        lines.append(f"{path.stem} {own}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _digest(data: bytes, path: str) -> str:
    try:
        samples, _ = decode_audio({"bytes": data, "path": path})
    except ValueError as error:
        raise CorpusError(str(error)) from error
    if _lacks_frames(data, len(samples)) or _is_truncated_wav(data):
        raise CorpusError(f"Truncated file '{path}', it ends after {len(samples)} samples")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _lacks_frames(data: bytes, frames: int) -> bool:
    """Whether fewer frames were decoded than the header counts; that of MP3 only estimates."""
    info = soundfile.info(BytesIO(data))
    return info.format != "MP3" and frames < info.frames


def _is_truncated_wav(data: bytes) -> bool:
    """Whether the file ends clearly before its `data` chunk does, which libsndfile accepts.

    Claims that no recording has, and claims that are longer by less than a hundredth, are those of
    intact files whose writer did not know better.
    """
    return any(
        name == b"data"
        and size < UNKNOWN_SIZE
        and start + size - len(data) > max(TOLERATED_SHARE * size, _frame_bytes(data))
        for name, start, size in _riff_chunks(data)
    )


def _frame_bytes(data: bytes) -> int:
    """Bytes of one sample of all channels, as the `fmt ` chunk says."""
    sizes = [
        struct.unpack_from("<H", data, start + 12)[0]
        for name, start, size in _riff_chunks(data)
        if name == b"fmt " and size >= 14 and start + 14 <= len(data)
    ]
    return sizes[0] if sizes else 0


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and declared size of each chunk of a RIFF file; none of any other file."""
    position = 12 if data[:4] == b"RIFF" else len(data)
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, position + 8, size
        position += 8 + size + size % 2
