"""Noise under the published names, and the published labels without any sound."""

import hashlib

import numpy as np
import soundfile
from datasets import ClassLabel, Dataset

from datasets_scripts import CORPORA, EMOTIONS

SECONDS = 0.02


def write_recording(path, stem=None, rate=16_000, channels=1, subtype="PCM_16", seconds=SECONDS):
    """A short noise that depends on the stem alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.sha256((stem or path.stem).encode()).hexdigest()[:8], 16)
    mono = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))
    samples = np.repeat(mono[:, None], channels, axis=1) if channels > 1 else mono
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def published_stems(corpus):
    return CORPORA[corpus].published_stems()


def labels_of(corpus):
    """The columns of the published six-emotion recordings of a corpus, without audio."""
    builder = CORPORA[corpus](config_name="six_emotions")
    rows = [
        columns | {"corpus": corpus, "group": stem}
        for stem, columns in sorted(builder.published_columns().items())
    ]
    for row in rows:
        if row["group"] == "03-01-03-01-02-02-07":
            row["group"] = "03-01-03-01-02-01-07"
    names = ("corpus", "speaker", "gender", "sentence", "emotion", "group")
    columns = {name: [row[name] for row in rows] for name in names}
    return Dataset.from_dict(columns).cast_column("emotion", ClassLabel(names=list(EMOTIONS)))
