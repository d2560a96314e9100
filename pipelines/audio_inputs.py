"""Recordings as people have them: paths, addresses, bytes, files, arrays, pairs, dataset rows.

This file is copied to the Hub beside the pipelines, hence it imports nothing of this project.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import gcd
from numbers import Number, Real
from pathlib import Path
from typing import Any

import numpy as np
import requests
import soundfile
import soxr
import torch
import torchaudio

DOWNLOAD_TIMEOUT = 60
# torchaudio's kernels have so many weights; rates that share no factor would fill memory.
MAX_RESAMPLING_KERNEL = 10_000_000
MAX_CHANNELS = 8
# Files of floats may exceed full scale a few times over; beyond this they are integers in disguise.
MAX_PEAK = 16.0
SAMPLING_RATE_RANGE = (1_000, 768_000)
PCM_FULL_SCALE = {
    torch.uint8: 2.0**7,
    torch.int8: 2.0**7,
    torch.int16: 2.0**15,
    torch.int32: 2.0**31,
}
# The middle of WAV files of 8 bits.
UINT8_ZERO = 128
INPUTS = (
    "a path, URL, bytes, binary file, array, (sampling_rate, array), {'array', 'sampling_rate'} "
    "or a dataset row"
)


@dataclass(frozen=True)
class Entry:
    """A recording as it was given, and its place in a list; `None` where it came alone."""

    recording: Any
    index: int | None = None


@dataclass(frozen=True)
class _Encoded:
    """A file, its address or its content."""

    name: str
    data: Path | bytes | str


@dataclass(frozen=True)
class _Decoded:
    """Samples and, where they are known, their rate in Hz and the axis of channels."""

    samples: Any
    rate: int | None = None
    channel_axis: int | None = None


class _Entries(torch.utils.data.Dataset):
    """Numbers the items of a dataset of torch, which several workers may read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Entry:
        return Entry(self.dataset[index], index)


def as_entries(inputs: Any, sampling_rate: Any = None) -> Any:
    """What is given to a pipeline, as numbered recordings that its base class takes.

    Args:
        inputs: One recording (see `read_recording`); or a list, tuple or array of them, all of
            which are checked here as far as that takes no decoding; or a dataset or iterable, which
            is not.
        sampling_rate: Rate in Hz of arrays that come without one.

    Returns:
        An `Entry` for one recording, a list of them for a list, a generator or a dataset of torch
        of them otherwise.

    Raises:
        ValueError: An empty list, or as `read_recording`.
        TypeError: As `read_recording`.
        OSError: As `read_recording`.
    """
    if is_one_recording(inputs):
        return Entry(inputs)
    if isinstance(inputs, (list, tuple, np.ndarray)):
        return list_recordings(inputs, sampling_rate)
    if isinstance(inputs, Iterable):
        return (Entry(recording, i) for i, recording in enumerate(inputs))
    if isinstance(inputs, torch.utils.data.Dataset):
        return _Entries(inputs)
    # Reading it says that it is nothing of what was expected.
    return Entry(inputs)


def list_recordings(inputs: Any, sampling_rate: Any = None) -> list[Entry]:
    """All of one recording or of several; arguments and errors as of `as_entries`."""
    if is_one_recording(inputs) or not isinstance(inputs, Iterable):
        return [Entry(inputs)]
    entries = [Entry(recording, i) for i, recording in enumerate(inputs)]
    if not entries:
        raise ValueError("Got no recordings, expected at least one")
    for entry in entries:
        with naming(entry):
            _probe(_find(entry.recording), sampling_rate)
    return entries


def read_recording(inputs: Any, rate: int, sampling_rate: Any = None) -> torch.Tensor:
    """Mono samples `(samples,)` float32 of any input, at `rate` in Hz.

    Args:
        inputs: A path (`~` is the home folder), a URL, the bytes of an audio file, a file opened in
            binary mode (read from its start), an array, tensor or list of samples, a pair
            `(sampling_rate, array)` or `(array, sampling_rate)`, a mapping with `sampling_rate` and
            `array` or `raw`, a mapping with `bytes` or `path`, a torchcodec decoder, a dataset row
            with any of these under `audio`, or an `Entry` of these. Samples are `(samples,)`, or
            have a second axis of at most 8 channels, which are averaged; they are floats in -1 to
            1, or PCM of type uint8, int8, int16 or int32.
        rate: Rate of the result; also of arrays that come without one.
        sampling_rate: Rate of an array that comes without one.

    Raises:
        ValueError: Nothing that can be decoded; no samples, NaN, integers in floats, more than 8
            channels; no rate or an impossible one, or one other than `sampling_rate`.
        TypeError: An input of another type.
        OSError: A file that is not there, or an address that does not answer.
    """
    entry = inputs if isinstance(inputs, Entry) else Entry(inputs)
    with naming(entry):
        found = _find(entry.recording)
        name = f"'{found.name}'" if isinstance(found, _Encoded) else "a recording"
        decoded = _decode(found) if isinstance(found, _Encoded) else found
        own = _agreed_rate(decoded.rate, sampling_rate)
        return resample(_to_mono(decoded, name), own or rate, rate)


@contextmanager
def naming(entry: Entry) -> Iterator[None]:
    """Errors that say the place in the list of the recording that they are about."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        if entry.index is None:
            raise
        kinds = (FileNotFoundError, OSError, TypeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"Recording {entry.index}: {error}") from error


def check_rate(sampling_rate: Any) -> int:
    """A sampling rate as a whole number of Hz.

    Raises:
        ValueError: Anything else, or one outside 1 to 768 kHz.
    """
    low, high = SAMPLING_RATE_RANGE
    rate = sampling_rate.item() if _is_scalar(sampling_rate) else sampling_rate
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not number or not low <= rate <= high or rate != int(rate):
        raise ValueError(
            f"Bad sampling_rate {sampling_rate!r}, expected a whole number of Hz, {low} to {high}"
        )
    return int(rate)


def resample(wave: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """Samples `(samples,)` at another rate in Hz.

    Raises:
        ValueError: A rate outside 1 to 768 kHz.
    """
    rate = check_rate(rate)
    if rate * new_rate // gcd(rate, new_rate) ** 2 > MAX_RESAMPLING_KERNEL:
        return torch.from_numpy(soxr.resample(wave.numpy(), rate, new_rate))
    # A caller's autocast is for networks: sound in half precision has lost what is soft.
    with torch.autocast(wave.device.type, enabled=False):
        return torchaudio.functional.resample(wave, rate, new_rate)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) or _is_scalar(value)


def _is_pair(inputs: Any) -> bool:
    """Whether this is a rate and an array, in either order."""
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        return False
    arrays = [isinstance(x, (np.ndarray, torch.Tensor, list)) and not _is_scalar(x) for x in inputs]
    return sum(arrays) == 1 and _is_number(inputs[arrays.index(False)])


def is_one_recording(inputs: Any) -> bool:
    """Whether this is one recording and not several."""
    if isinstance(inputs, np.ndarray):
        # An array of paths has another type than samples.
        return inputs.ndim == 0 or inputs.dtype.kind not in "OUS"
    if isinstance(inputs, (list, tuple)):
        return _is_pair(inputs) or (len(inputs) > 0 and _is_number(inputs[0]))
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Mapping, torch.Tensor)
    return isinstance(inputs, kinds) or _is_file(inputs) or _is_torchcodec(inputs)


def _is_file(inputs: Any) -> bool:
    return hasattr(inputs, "read")


def _is_torchcodec(inputs: Any) -> bool:
    return hasattr(inputs, "get_all_samples")


def _find(inputs: Any) -> _Encoded | _Decoded:
    """What an input holds, not decoded."""
    if isinstance(inputs, Mapping):
        return _find_in_mapping(inputs)
    if isinstance(inputs, (str, os.PathLike)):
        return _find_file(os.fspath(inputs))
    if isinstance(inputs, (bytes, bytearray, memoryview)):
        return _Encoded(f"{len(inputs)} bytes", bytes(inputs))
    if _is_pair(inputs):
        first, second = inputs
        samples, rate = (second, first) if _is_number(first) else (first, second)
        return _Decoded(samples, check_rate(rate))
    if _is_scalar(inputs) and isinstance(inputs.item(), (str, bytes, os.PathLike)):
        return _find(inputs.item())
    numbers = isinstance(inputs, (list, tuple)) and len(inputs) > 0 and _is_number(inputs[0])
    if numbers or isinstance(inputs, (np.ndarray, torch.Tensor)):
        return _Decoded(inputs)
    if _is_file(inputs):
        return _find_in_open_file(inputs)
    if _is_torchcodec(inputs):
        samples = inputs.get_all_samples()
        return _Decoded(samples.data, check_rate(samples.sample_rate), channel_axis=0)
    raise TypeError(f"Bad input of type {type(inputs).__name__}, expected {INPUTS}")


def _find_in_mapping(inputs: Mapping[str, Any]) -> _Encoded | _Decoded:
    for key in ("array", "raw"):
        if inputs.get(key) is not None:
            if inputs.get("sampling_rate") is None:
                raise ValueError(f"Got '{key}' without 'sampling_rate', expected both")
            return _Decoded(inputs[key], check_rate(inputs["sampling_rate"]))
    if inputs.get("bytes") is not None:
        found = _find(inputs["bytes"])
        name = inputs.get("path")
        return _Encoded(str(name), found.data) if name and isinstance(found, _Encoded) else found
    for key in ("path", "audio"):
        if inputs.get(key) is not None:
            return _find(inputs[key])
    raise ValueError(
        f"Bad keys {sorted(map(str, inputs))}, expected 'audio', 'array' or 'raw' with "
        "'sampling_rate', 'bytes' or 'path'"
    )


def _find_file(address: str | bytes) -> _Encoded:
    name = os.fsdecode(address)
    if name.startswith(("http://", "https://")):
        return _Encoded(name, name)
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        given = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"Bad path '{name}', expected an audio file, got {given}")
    return _Encoded(name, path)


def _find_in_open_file(file: Any) -> _Encoded:
    """The content from the start: whoever has just written it stands at the end."""
    seekable = hasattr(file, "seekable") and file.seekable()
    if seekable:
        file.seek(0)
    data = file.read()
    if seekable:
        file.seek(0)
    name = str(getattr(file, "name", None) or f"{len(data)} bytes")
    if not isinstance(data, bytes):
        raise TypeError(f"Bad file '{name}' of text, expected one opened in binary mode")
    return _Encoded(name, data)


def _probe(found: _Encoded | _Decoded, sampling_rate: Any) -> None:
    """Refuse what would be refused later, as far as that can be seen without decoding."""
    if isinstance(found, _Decoded):
        _agreed_rate(found.rate, sampling_rate)
        _to_mono(found, "a recording")
    elif not isinstance(found.data, str):
        with _naming_file(found.name):
            information = soundfile.info(_opened(found.data))
        _agreed_rate(information.samplerate, sampling_rate)


def _decode(found: _Encoded) -> _Decoded:
    data = found.data
    if isinstance(data, str):
        response = requests.get(data, timeout=DOWNLOAD_TIMEOUT)
        response.raise_for_status()
        data = response.content
    with _naming_file(found.name):
        wave, rate = soundfile.read(_opened(data), dtype="float32", always_2d=True)
    return _Decoded(wave, rate, channel_axis=1)


def _opened(data: Path | bytes) -> BytesIO | str | bytes:
    if isinstance(data, bytes):
        return BytesIO(data)
    # A name that is no text, which soundfile takes as bytes only; Windows has none.
    return str(data) if os.name == "nt" else os.fsencode(data)


@contextmanager
def _naming_file(name: str) -> Iterator[None]:
    try:
        yield
    except soundfile.SoundFileError as error:
        # Its own message has the memory address of the file object.
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise ValueError(
            f"Cannot decode '{name}' ({reason}), expected wav, flac, ogg or mp3"
        ) from error


def _agreed_rate(own: int | None, sampling_rate: Any) -> int | None:
    """The rate of a recording, or else the one that was named."""
    if sampling_rate is None:
        return own
    named = check_rate(sampling_rate)
    if own is not None and own != named:
        raise ValueError(f"Bad sampling_rate {named}, expected {own}, the recording's own, or None")
    return named


def _to_mono(decoded: _Decoded, name: str) -> torch.Tensor:
    """Samples `(samples,)` float32 in -1 to 1, or a little beyond."""
    wave = _as_floats(_as_tensor(decoded.samples, name), name)
    if wave.numel() == 0:
        raise ValueError(f"Got {name} without samples, expected at least one")
    axis = decoded.channel_axis
    if wave.ndim == 2 and axis is None:
        axis = int(wave.shape[0] > wave.shape[1])
    if wave.ndim not in (1, 2) or (wave.ndim == 2 and wave.shape[axis or 0] > MAX_CHANNELS):
        raise ValueError(
            f"Bad shape {tuple(wave.shape)} of {name}, expected (samples,) or at most "
            f"{MAX_CHANNELS} channels; give several recordings as a list"
        )
    if not torch.isfinite(wave).all():
        raise ValueError(f"Got {name} with NaN or infinite samples, expected finite ones")
    if (peak := wave.abs().max().item()) > MAX_PEAK:
        raise ValueError(
            f"Got {name} with a peak of {peak:.6g}, expected floats in -1 to 1; give PCM as "
            "integers (int16), or divide it by its full scale (32768)"
        )
    return wave if wave.ndim == 1 else wave.mean(dim=axis)


def _as_tensor(samples: Any, name: str) -> torch.Tensor:
    if isinstance(samples, torch.Tensor):
        return samples.detach().cpu()
    try:
        # A copy: torch takes neither the negative strides of `samples[::-1]` nor read-only arrays.
        array = np.array(samples)
    except ValueError as error:
        raise ValueError(f"Bad samples of {name}, expected numbers of one shape") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(_bad_type(array.dtype, name))
    kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(array.astype(kind)).reshape(array.shape))


def _as_floats(wave: torch.Tensor, name: str) -> torch.Tensor:
    """PCM scaled to -1 to 1; floats as they are."""
    if wave.is_floating_point():
        return wave.to(torch.float32)
    if wave.dtype not in PCM_FULL_SCALE:
        raise ValueError(_bad_type(wave.dtype, name))
    middle = UINT8_ZERO if wave.dtype == torch.uint8 else 0
    return (wave.to(torch.float32) - middle) / PCM_FULL_SCALE[wave.dtype]


def _bad_type(dtype: Any, name: str) -> str:
    known = ["floating point", *(str(kind).removeprefix("torch.") for kind in PCM_FULL_SCALE)]
    given = str(dtype).removeprefix("torch.")
    return f"Bad type '{given}' of {name}, expected one of {known}"
