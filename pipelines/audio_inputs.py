"""Recordings as people have them: paths, addresses, bytes, arrays, dataset rows.

This file is copied to the Hub beside the pipelines, hence it imports nothing of this project.
"""

from collections.abc import Mapping
from io import BytesIO
from math import gcd
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
PCM_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}


def read_audio(inputs: Any, default_rate: int) -> tuple[torch.Tensor, int]:
    """Samples of any input, with or without a channel axis, and their rate in Hz.

    Args:
        inputs: A path, URL, bytes, array, tensor, `{"array", "sampling_rate"}`, torchcodec decoder,
            `{"bytes", "path"}`, or a dataset row with any of these under `audio`.
        default_rate: Rate of an array that comes without one.

    Raises:
        ValueError: Nothing that can be decoded, or an array without its rate.
        TypeError: An input of another type.
        OSError: A file that is not there, or an address that does not answer.
    """
    if isinstance(inputs, Mapping):
        return _read_mapping(inputs, default_rate)
    if isinstance(inputs, (str, Path)):
        return _decode(_fetch(str(inputs)), str(inputs))
    if isinstance(inputs, (bytes, bytearray)):
        return _decode(bytes(inputs), f"{len(inputs)} bytes")
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return _as_tensor(inputs), default_rate
    if hasattr(inputs, "get_all_samples"):
        samples = inputs.get_all_samples()
        return samples.data, samples.sample_rate
    raise TypeError(
        f"Bad input of type {type(inputs).__name__}, expected a path, URL, bytes, array, "
        "{'array', 'sampling_rate'} or a dataset row"
    )


def _read_mapping(inputs: Mapping[str, Any], default_rate: int) -> tuple[torch.Tensor, int]:
    for key in ("array", "raw"):
        if inputs.get(key) is not None:
            if inputs.get("sampling_rate") is None:
                raise ValueError(f"Got '{key}' without 'sampling_rate', expected both")
            return _as_tensor(inputs[key]), int(inputs["sampling_rate"])
    if inputs.get("bytes") is not None:
        return _decode(inputs["bytes"], str(inputs.get("path") or "bytes"))
    for key in ("path", "audio"):
        if inputs.get(key) is not None:
            return read_audio(inputs[key], default_rate)
    raise ValueError(
        f"Bad keys {sorted(inputs)}, expected 'audio', 'array' or 'raw' with 'sampling_rate', "
        "'bytes' or 'path'"
    )


def _as_tensor(samples: Any) -> torch.Tensor:
    # A copy: torch takes neither the negative strides of `samples[::-1]` nor read-only arrays.
    return samples if isinstance(samples, torch.Tensor) else torch.tensor(np.array(samples))


def _fetch(address: str) -> bytes:
    if address.startswith(("http://", "https://")):
        response = requests.get(address, timeout=DOWNLOAD_TIMEOUT)
        response.raise_for_status()
        return response.content
    return Path(address).read_bytes()


def _decode(data: bytes, name: str) -> tuple[torch.Tensor, int]:
    try:
        wave, rate = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"Cannot decode '{name}' ({error}), expected wav, flac, ogg or mp3"
        ) from error
    return torch.from_numpy(wave.T), rate


def resample(wave: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """Samples `(samples,)` at another rate in Hz.

    Raises:
        ValueError: A rate that is not positive.
    """
    if rate <= 0:
        raise ValueError(f"Bad sampling_rate {rate}, expected a positive one in Hz")
    if rate * new_rate // gcd(rate, new_rate) ** 2 > MAX_RESAMPLING_KERNEL:
        return torch.from_numpy(soxr.resample(wave.numpy(), rate, new_rate))
    return torchaudio.functional.resample(wave, rate, new_rate)


def to_mono(wave: torch.Tensor) -> torch.Tensor:
    """Samples `(samples,)` in -1 to 1; the shorter of two axes is that of channels.

    Raises:
        ValueError: Samples of a type or shape that sound does not have.
    """
    full_scale = 1.0 if wave.is_floating_point() else PCM_FULL_SCALE.get(wave.dtype)
    if full_scale is None:
        raise ValueError(f"Bad type {wave.dtype}, expected floating point, int16 or int32")
    wave = wave.detach().to("cpu", torch.float32) / full_scale
    if wave.ndim == 2:
        return wave.mean(dim=int(wave.shape[0] > wave.shape[1]))
    if wave.ndim != 1:
        raise ValueError(
            f"Bad shape {tuple(wave.shape)}, expected (samples,) or (channels, samples)"
        )
    return wave
