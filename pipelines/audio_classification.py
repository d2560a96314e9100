"""`pipeline("audio-classification")` that takes recordings as people have them.

This file is copied to the Hub with a model, hence it imports nothing of this project.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from huggingface_hub import get_session
from transformers import AudioClassificationPipeline

DOWNLOAD_TIMEOUT = 60


class EmotionClassificationPipeline(AudioClassificationPipeline):
    """Audio classification of a path, bytes, URL, array or dataset row.

    Decodes wav, flac, ogg and mp3 with soundfile (no ffmpeg program), resamples, averages channels
    and pads a batch to its longest clip. Clips longer than the model's are cut.

    Any transformers audio classifier can be run with it. `corpus=` (at construction or call)
    selects the statistics of a corpus, where the feature extractor knows several.
    """

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify one recording, or a list, dataset or generator of recordings.

        Args:
            inputs: A path, a URL, the bytes of an audio file, an array or tensor of samples at the
                model's sampling rate (`(samples,)`, or with a channel axis), a mapping with
                `sampling_rate` and `array` or `raw`, a mapping with `bytes` or `path`, a torchcodec
                decoder, or a dataset row with any of these under `audio`.
            kwargs: `top_k` (all classes by default), `function_to_apply`, `corpus`, `batch_size`.

        Returns:
            For each recording a list of `{"label", "score"}`, the most probable first.

        Raises:
            ValueError: Nothing that can be decoded, or sound without samples.
            TypeError: An input of another type.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, corpus: str | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _, forward, postprocess = super()._sanitize_parameters(top_k=top_k, **kwargs)
        return {} if corpus is None else {"corpus": corpus}, forward, postprocess

    def preprocess(self, inputs: Any, corpus: str | None = None) -> Any:
        """Decode one recording and extract its features."""
        wave, rate = _read(inputs, self.feature_extractor.sampling_rate)
        wave = _to_mono(wave)
        if wave.numel() == 0:
            raise ValueError("Got a recording without samples, expected at least one")
        wave = torchaudio.functional.resample(wave, rate, self.feature_extractor.sampling_rate)
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


def _read(inputs: Any, default_rate: int) -> tuple[torch.Tensor, int]:
    """Samples of any input, with or without a channel axis, and their rate in Hz."""
    if isinstance(inputs, Mapping):
        return _read_mapping(inputs, default_rate)
    if isinstance(inputs, (str, Path)):
        return _decode(_fetch(str(inputs)), str(inputs))
    if isinstance(inputs, (bytes, bytearray)):
        return _decode(bytes(inputs), f"{len(inputs)} bytes")
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return torch.as_tensor(inputs), default_rate
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
            return torch.as_tensor(np.asarray(inputs[key])), int(inputs["sampling_rate"])
    if inputs.get("bytes") is not None:
        return _decode(inputs["bytes"], str(inputs.get("path") or "bytes"))
    for key in ("path", "audio"):
        if inputs.get(key) is not None:
            return _read(inputs[key], default_rate)
    raise ValueError(
        f"Bad keys {sorted(inputs)}, expected 'audio', 'array' or 'raw' with 'sampling_rate', "
        "'bytes' or 'path'"
    )


def _fetch(address: str) -> bytes:
    if address.startswith(("http://", "https://")):
        response = get_session().get(address, timeout=DOWNLOAD_TIMEOUT, follow_redirects=True)
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


def _to_mono(wave: torch.Tensor) -> torch.Tensor:
    """Samples `(samples,)` in -1 to 1; the shorter of two axes is that of channels."""
    if not wave.is_floating_point():
        wave = wave / torch.iinfo(wave.dtype).max
    wave = wave.detach().to("cpu", torch.float32)
    if wave.ndim == 2:
        return wave.mean(dim=int(wave.shape[0] > wave.shape[1]))
    if wave.ndim != 1:
        raise ValueError(
            f"Bad shape {tuple(wave.shape)}, expected (samples,) or (channels, samples)"
        )
    return wave
