"""Finding recordings in a folder, and checking that each is whole.

Nothing here is a builder: `datasets` replaces `Path` and `open` in the modules of builders.
"""

import hashlib
import os
import struct
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import soundfile
from datasets.exceptions import DatasetGenerationError

from .schema import decode_audio

EXTENSIONS = (".flac", ".wav")
# Sizes that a program writes when it does not know the length of what it streams.
UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
SHOWN = 8


class CorpusWarning(UserWarning):
    """A corpus is not what was published: something is missing, doubled or broken."""


# `datasets` passes its own errors through and wraps every other one out of sight.
class CorpusError(DatasetGenerationError, ValueError):
    """A recording or a data folder that cannot be used."""


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


def walk_recordings(folder: Path) -> list[Path]:
    """All `.wav` and `.flac` files below `folder`, sorted; hidden ones are left out."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in EXTENSIONS]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def find_recordings(folder: Path) -> list[Path]:
    """One path per stem, in the order of the stems, however the folder nests them.

    Of several files with one stem (copies, or `.wav` beside `.flac`) the outermost is taken, with
    a [`CorpusWarning`].

    Raises:
        CorpusError: There is no recording at all.
    """
    paths = defaultdict(list)
    for path in walk_recordings(folder):
        paths[path.stem].append(path)
    if not paths:
        raise CorpusError(f"No {' or '.join(EXTENSIONS)} file below '{folder}'")
    doubled = sorted(stem for stem, copies in paths.items() if len(copies) > 1)
    if doubled:
        warn(
            f"{len(doubled)} recordings occur more than once below '{folder}', each is used once: "
            f"{shorten(doubled)}"
        )
    return [paths[stem][0] for stem in sorted(paths)]


def fingerprint(paths: Iterable[Path]) -> str:
    """Digest of names, sizes and times of files, so that a cache notices a changed folder."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def read_recording(path: str) -> tuple[bytes, str]:
    """Bytes of a recording that is readable, not empty and whole, and a digest of its samples.

    Raises:
        CorpusError: It is not; the message names the path and the reason.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CorpusError(f"Cannot read '{path}': {error.strerror}") from error
    return data, _digest(data, path)


def _digest(data: bytes, path: str) -> str:
    if not data:
        raise CorpusError(f"Empty file '{path}'")
    try:
        samples, _ = decode_audio({"bytes": data, "path": path})
    except ValueError as error:
        raise CorpusError(str(error)) from error
    if len(samples) == 0:
        raise CorpusError(f"No samples in '{path}'")
    if len(samples) < soundfile.info(BytesIO(data)).frames or _is_truncated_wav(data):
        raise CorpusError(f"Truncated file '{path}', it ends after {len(samples)} samples")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _is_truncated_wav(data: bytes) -> bool:
    """Whether the file ends before its `data` chunk does, which libsndfile accepts silently."""
    return any(
        name == b"data" and size not in UNKNOWN_SIZES and start + size > len(data)
        for name, start, size in _riff_chunks(data)
    )


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and declared size of each chunk of a RIFF file; none of any other file."""
    position = 12 if data[:4] == b"RIFF" else len(data)
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, position + 8, size
        position += 8 + size + size % 2
