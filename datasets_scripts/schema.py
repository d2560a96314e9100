"""The row that every corpus yields, and how its recording is decoded."""

from io import BytesIO
from typing import Any, Final

import numpy as np
import soundfile
from datasets import Audio, ClassLabel, Features, Value

EMOTIONS: Final = ("neutral", "happiness", "sadness", "anger", "fear", "disgust")
# libsndfile's number of frames of a file that does not say it is the largest 64-bit integer.
_UNKNOWN_FRAMES: Final = 1 << 48
_LONGEST_MARK = 512
_PLACEHOLDERS = (
    (
        b"git-lfs.github.com/spec",
        "it is a Git LFS pointer, not the recording: `git lfs pull` in its repository fetches it",
    ),
    (
        b"/annex/objects/",
        "it is a git-annex pointer, not the recording: `git annex get` there fetches it",
    ),
    (b"<html", "it is a web page, not the recording: download the recording again"),
)


def corpus_features(emotions: tuple[str, ...] = EMOTIONS) -> Features:
    """Features of a row whose `emotion` is one of `emotions`.

    `audio` stays encoded (`{"bytes", "path"}`), so that reading a row needs no torchcodec: decode
    it with [`decode_audio`]. `group` is shared by recordings with identical samples; `agreement`
    is the share (0 to 1) of listeners who recognised the intended emotion. A column that is not
    known of a recording is `None`.
    """
    return Features(
        {
            "audio": Audio(decode=False),
            "emotion": ClassLabel(names=list(emotions)),
            "speaker": Value("string"),
            "gender": Value("string"),
            "age": Value("int32"),
            "sentence": Value("string"),
            "transcript": Value("string"),
            "intensity": Value("string"),
            "repetition": Value("string"),
            "corpus": Value("string"),
            "file": Value("string"),
            "group": Value("string"),
            "agreement": Value("float32"),
        }
    )


def decode_audio(audio: dict[str, Any]) -> tuple[np.ndarray, int]:
    """Decode the `audio` column of a row with soundfile.

    Args:
        audio: `{"bytes": bytes | None, "path": str | None}`; the path is read when there are no
            bytes.

    Returns:
        Samples in -1 to 1, float32, of shape `(samples,)` or `(samples, channels)`, at least one,
        and the sampling rate in Hz.

    Raises:
        ValueError: Nothing that soundfile can decode, or no samples; the message names the path.
    """
    data, path = audio.get("bytes"), audio.get("path")
    if data is None and path is None:
        raise ValueError("Bad audio without bytes and path, expected at least one of them")
    where = f"'{path}'" if path is not None else f"of {len(data or b'')} bytes"
    try:
        samples, rate = _read(path if data is None else BytesIO(data))
    except (soundfile.SoundFileError, OSError) as error:
        reason = _describe(error, data, path)
        raise ValueError(f"Cannot decode audio {where}: {reason}") from error
    if len(samples) == 0:
        raise ValueError(f"No samples in audio {where}")
    return samples, rate


def _describe(error: Exception, data: bytes | None, path: str | None) -> str:
    """Why a file cannot be decoded, in the words of libsndfile where it has some.

    The text of its errors begins with the object that was read, at its address in memory, and of
    some codes there is no more than "Error".
    """
    try:
        placeholder = describe_placeholder(_beginning(data, path))
    except OSError as unreadable:
        return f"it cannot be read: {unreadable.strerror}"
    said = str(getattr(error, "error_string", error)).strip(" .:")
    if said.casefold() in ("", "error", "format not recognised"):
        said = "it is not a sound file that libsndfile knows"
    return placeholder or said


def describe_placeholder(beginning: bytes) -> str | None:
    """What stands where a recording should be, from the first bytes of a file; `None` if unknown.

    Repositories keep large files apart and leave a pointer of some 130 bytes in their place, and
    servers answer with a page that asks to log in.
    """
    if not beginning:
        return "the file is empty"
    return next((text for mark, text in _PLACEHOLDERS if mark in beginning.lower()), None)


def _beginning(data: bytes | None, path: str | None) -> bytes:
    """The first bytes of a recording.

    Raises:
        OSError: It cannot be read.
    """
    if data is not None:
        return data[:_LONGEST_MARK]
    with open(str(path), "rb") as file:
        return file.read(_LONGEST_MARK)


def _read(source: str | BytesIO | None) -> tuple[np.ndarray, int]:
    """All samples of a file.

    Raises:
        OSError: The file does not say how many there are, which libsndfile cannot read to the end.
    """
    with soundfile.SoundFile(source) as file:
        if file.frames >= _UNKNOWN_FRAMES:
            raise OSError(
                "its header does not give its length, as in FLAC from a pipe: convert it anew, "
                "e.g. `ffmpeg -i in.flac out.flac`"
            )
        return file.read(dtype="float32"), file.samplerate
