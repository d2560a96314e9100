"""Mel-spectrograms of a dataset, on the fly or cached: the same numbers."""

from typing import Any

import numpy as np
import torch
from datasets import Array2D, Dataset, Features, Sequence, Value
from datasets.fingerprint import Hasher
from transformers import SequenceFeatureExtractor

from .schema import decode_audio

PADDINGS = (False, "max_length")


def mel_transform(
    dataset: Dataset, feature_extractor: SequenceFeatureExtractor, padding: bool | str = False
) -> Dataset:
    """Replace `audio` by what the extractor returns, whenever rows are read.

    Args:
        dataset: Rows with an encoded `audio` column, of any sampling rates and channels.
        feature_extractor: Called with one mono recording and its own `sampling_rate` at a time.
        padding: `False`, or `"max_length"`. Padding to the longest of a batch belongs to the
            collator: here it would depend on which rows are read together.

    Returns:
        The dataset with, for each row, the other columns and the extractor's outputs as numpy
        arrays, e.g. `input_features` `(frames, n_mels)` and `attention_mask` `(frames,)`.

    Raises:
        ValueError: Another `padding`; when rows are read, a recording that cannot be decoded or
            that the extractor refuses, with its path.
    """
    _check_padding(padding)

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        outputs = [_extract(audio, feature_extractor, padding) for audio in batch.pop("audio")]
        return batch | {name: [output[name] for output in outputs] for name in outputs[0]}

    return dataset.with_transform(transform)


def map_mel(
    dataset: Dataset,
    feature_extractor: SequenceFeatureExtractor,
    num_proc: int | None = None,
    padding: bool | str = False,
) -> Dataset:
    """As [`mel_transform`], computed once by `num_proc` processes and cached on disk.

    The key of the cache is the extractor's configuration, so that an extractor that is loaded anew
    finds what another one computed.
    """
    _check_padding(padding)
    outputs = _extract(dataset[0]["audio"], feature_extractor, padding)
    features = {name: column for name, column in dataset.features.items() if name != "audio"}
    features |= {name: _feature_of(array) for name, array in outputs.items()}
    key = (dataset._fingerprint, type(feature_extractor).__name__, feature_extractor.to_dict())
    mapped = dataset.map(
        _extract_in_worker,
        input_columns="audio",
        with_rank=True,
        remove_columns="audio",
        fn_kwargs={"feature_extractor": feature_extractor, "padding": padding},
        features=Features(features),
        num_proc=num_proc,
        new_fingerprint=Hasher.hash((*key, padding)),
        desc="Computing mel-spectrograms",
    )
    return mapped.with_format("numpy", columns=list(outputs), output_all_columns=True)


def _check_padding(padding: bool | str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"Bad padding {padding!r}, expected one of {list(PADDINGS)}")


def _extract(
    audio: dict[str, Any], feature_extractor: Any, padding: bool | str
) -> dict[str, np.ndarray]:
    samples, rate = decode_audio(audio)
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    try:
        outputs = feature_extractor(
            [mono], sampling_rate=rate, padding=padding, return_tensors="np"
        )
    except ValueError as error:
        raise ValueError(f"Cannot compute features of '{audio.get('path')}': {error}") from error
    return {name: values[0] for name, values in outputs.items()}


def _extract_in_worker(
    audio: dict[str, Any], rank: int | None, feature_extractor: Any, padding: bool | str
) -> dict[str, np.ndarray]:
    if rank is not None:
        # A forked process inherits the lock of torch's threads, not the threads: it would hang.
        torch.set_num_threads(1)
    return _extract(audio, feature_extractor, padding)


def _feature_of(array: np.ndarray) -> Any:
    """How an output of the extractor is stored: the number of frames may differ between rows."""
    dtype = str(array.dtype)
    if array.ndim == 2:
        return Array2D(shape=(None, array.shape[1]), dtype=dtype)
    return Sequence(Value(dtype))
