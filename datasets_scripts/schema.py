"""The row that every corpus yields, and how its recording is decoded."""

from io import BytesIO
from typing import Any, Final

import numpy as np
import soundfile
from datasets import Audio, ClassLabel, Features, Value

EMOTIONS: Final = ("neutral", "happiness", "sadness", "anger", "fear", "disgust")


def corpus_features(emotions: tuple[str, ...] = EMOTIONS) -> Features:
    """Features of a row whose `emotion` is one of `emotions`.

    `audio` stays encoded (`{"bytes", "path"}`), so that reading a row needs no torchcodec: decode
    it with [`decode_audio`]. `group` is shared by recordings with identical samples; `agreement`
    is the share (0 to 1) of listeners who recognised the intended emotion.
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
        Samples in -1 to 1, float32, of shape `(samples,)` or `(samples, channels)`, and the
        sampling rate in Hz.

    Raises:
        ValueError: Nothing that soundfile can decode; the message names the path.
    """
    data, path = audio.get("bytes"), audio.get("path")
    if data is None and path is None:
        raise ValueError("Bad audio without bytes and path, expected at least one of them")
    try:
        return soundfile.read(path if data is None else BytesIO(data), dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"Cannot decode audio '{path}': {error}") from error
