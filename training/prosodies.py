"""Pitch, energy and tempo of every recording of a corpus, computed once and cached on disk."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, Features, Value
from datasets.fingerprint import Hasher

from modeling import EmotionFeatureExtractor, Prosody, extract_prosody

from .hidden_states import decode_mono

# Of `Prosody`, one value a frame.
TYPES = dict.fromkeys((field.name for field in fields(Prosody)), "float32") | {"voiced": "bool"}


def load_prosodies(
    dataset: Dataset, rows: Sequence[int], extractor: EmotionFeatureExtractor
) -> dict[int, Prosody]:
    """Prosody of some rows, on the frames of the mel front end.

    All rows are computed, so that one cache serves all folds.

    Args:
        dataset: Rows with an encoded `audio` column.
        rows: Which of them to return.
        extractor: Knows the rate and the frames.
    """
    rate, hop = extractor.sampling_rate, extractor.hop_length
    columns = dataset.select_columns(["audio"])
    computed = columns.map(
        _extract,
        input_columns="audio",
        remove_columns="audio",
        fn_kwargs={"rate": rate, "hop": hop},
        features=Features({n: datasets.Sequence(Value(t)) for n, t in TYPES.items()}),
        new_fingerprint=Hasher.hash((columns._fingerprint, "prosody", rate, hop)),
        desc="Computing pitch and tempo",
    ).with_format("numpy")
    return {row: Prosody(**computed[row]) for row in rows}


def _extract(audio: dict[str, Any], rate: int, hop: int) -> dict[str, np.ndarray]:
    return vars(extract_prosody(decode_mono(audio, rate), rate, hop))
