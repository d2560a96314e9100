"""`pipeline("audio-classification")` that takes recordings as people have them.

This file is copied to the Hub with a model, with its sibling `audio_inputs.py`; it imports nothing
else of this project.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AudioClassificationPipeline

from .audio_inputs import read_audio, resample, to_mono


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
        wave, rate = read_audio(inputs, self.feature_extractor.sampling_rate)
        if wave.numel() == 0:
            raise ValueError("Got a recording without samples, expected at least one")
        if corpus is not None and not hasattr(self.feature_extractor, "corpus_statistics"):
            raise ValueError(f"Got corpus={corpus!r}, but this model knows no corpora")
        wave = to_mono(wave)
        if not torch.isfinite(wave).all():
            raise ValueError("Got NaN or infinite samples, expected finite ones")
        wave = resample(wave, rate, self.feature_extractor.sampling_rate)
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
