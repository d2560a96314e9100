"""`pipeline("audio-classification")` that takes recordings as people have them.

This file is copied to the Hub with a model, hence it imports nothing of this project.
"""

from collections.abc import Iterable, Mapping
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
from transformers import AudioClassificationPipeline

DOWNLOAD_TIMEOUT = 60
# torchaudio's kernels have so many weights; rates that share no factor would fill memory.
MAX_RESAMPLING_KERNEL = 10_000_000
PCM_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}


class EmotionClassificationPipeline(AudioClassificationPipeline):
    """Audio classification of a path, bytes, URL, array or dataset row.

    Decodes wav, flac, ogg and mp3 with soundfile (no ffmpeg program), resamples, averages channels
    and pads a batch to its longest clip. Clips longer than the model's are cut.

    Any transformers audio classifier can be run with it. `corpus=` (at construction or call)
    selects the statistics of a corpus, where the feature extractor knows several.
    """

    def __init__(self, *args: Any, top_k: int | None = None, **kwargs: Any) -> None:
        # Without a value the parent would make it 5.
        super().__init__(*args, top_k=top_k, **kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify one recording, or a list, dataset or generator of recordings.

        Args:
            inputs: A path, a URL, the bytes of an audio file, an array or tensor of samples at the
                model's sampling rate (`(samples,)`, or with a channel axis), a mapping with
                `sampling_rate` and `array` or `raw`, a mapping with `bytes` or `path`, a torchcodec
                decoder, or a dataset row with any of these under `audio`.
            kwargs: `top_k` (all classes by default), `function_to_apply`, `corpus`, `batch_size`.

        Returns:
            For each recording a list of `{"label", "score"}`, the most probable first. Datasets and
            generators give an iterator of those.

        Raises:
            ValueError: Nothing that can be decoded, sound without samples or with NaN, or a corpus
                that the model does not know.
            TypeError: An input of another type.
            OSError: A file that is not there, or an address that does not answer.
        """
        if _is_collection(inputs):
            inputs = (item for item in inputs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, corpus: str | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if "top_k" not in kwargs:
            # A call that does not say how many keeps what the construction said.
            del postprocess["top_k"]
        return {} if corpus is None else {"corpus": corpus}, forward, postprocess

    def preprocess(self, inputs: Any, corpus: str | None = None) -> Any:
        """Decode one recording and extract its features."""
        wave, rate = _read(inputs, self.feature_extractor.sampling_rate)
        if wave.numel() == 0:
            raise ValueError("Got a recording without samples, expected at least one")
        if corpus is not None and not hasattr(self.feature_extractor, "corpus_statistics"):
            raise ValueError(f"Got corpus={corpus!r}, but this model knows no corpora")
        wave = _to_mono(wave)
        if not torch.isfinite(wave).all():
            raise ValueError("Got NaN or infinite samples, expected finite ones")
        wave = _resample(wave, rate, self.feature_extractor.sampling_rate)
        features = self.feature_extractor(
            wave.numpy(),
            sampling_rate=self.feature_extractor.sampling_rate,
            return_tensors="pt",
            **self._padding(),
            **({} if corpus is None else {"corpus": corpus}),
        )
        return features if self.dtype is None else features.to(dtype=self.dtype)

    def _padding(self) -> dict[str, Any]:
        """Our features are padded to the batch by transformers; others know what they need."""
        ours = type(self.feature_extractor).__name__ == "EmotionFeatureExtractor"
        return {"padding": "longest"} if ours else {}


def _is_collection(inputs: Any) -> bool:
    """Whether these are rows of a `datasets` dataset, or the like, and not one recording."""
    one = (str, bytes, bytearray, Mapping, np.ndarray, torch.Tensor)
    return isinstance(inputs, Iterable) and not isinstance(inputs, (list, *one))


def _read(inputs: Any, default_rate: int) -> tuple[torch.Tensor, int]:
    """Samples of any input, with or without a channel axis, and their rate in Hz."""
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
            return _read(inputs[key], default_rate)
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


def _resample(wave: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    if rate <= 0:
        raise ValueError(f"Bad sampling_rate {rate}, expected a positive one in Hz")
    if rate * new_rate // gcd(rate, new_rate) ** 2 > MAX_RESAMPLING_KERNEL:
        return torch.from_numpy(soxr.resample(wave.numpy(), rate, new_rate))
    return torchaudio.functional.resample(wave, rate, new_rate)


def _to_mono(wave: torch.Tensor) -> torch.Tensor:
    """Samples `(samples,)` in -1 to 1; the shorter of two axes is that of channels."""
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
