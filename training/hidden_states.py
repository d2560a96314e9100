"""What a frozen encoder hears in every recording of a corpus, computed once and kept on disk."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torchaudio
from datasets import Dataset
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from datasets_scripts import decode_audio
from modeling import EmotionTransformerFeatureExtractor, EmotionTransformerForAudioClassification

from .config import DegradationConfig
from .degradation import degrade

# Settings of a front end that say where its code is, and not what it computes.
UNHEARD = ("auto_map", "processor_class", "feature_extractor_type")
CACHE = "speech_emotion_hidden_states"


def encode_recordings(
    dataset: Dataset,
    model: EmotionTransformerForAudioClassification,
    feature_extractor: EmotionTransformerFeatureExtractor,
    degradation: DegradationConfig | None = None,
    copy: int = 0,
) -> list[np.ndarray]:
    """Frames `(frames, channels)` float16 of every recording, not normalised.

    Computed in single precision on the model's device, and kept as safetensors in the cache of
    `datasets` under a key made of recordings, encoder, front end and degradation.

    Args:
        dataset: Rows with an encoded `audio` column.
        model: Its encoder listens.
        feature_extractor: Its front end.
        degradation: How copies are degraded; the same row of the same copy always alike.
        copy: Number of the copy; 0 is the recording itself.
    """
    key = _key(dataset, model, feature_extractor, degradation if copy else None, copy)
    file = Path(datasets.config.HF_DATASETS_CACHE) / CACHE / f"{key}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            frames = _encode(dataset, model, feature_extractor, degradation, copy)
            lengths = np.array([len(recording) for recording in frames])
            temporary = file.with_name(f".{file.name}.tmp")
            save_file({"frames": np.concatenate(frames), "lengths": lengths}, temporary)
            os.replace(temporary, file)
    stored = load_file(file)
    return np.split(stored["frames"], np.cumsum(stored["lengths"])[:-1])


def decode_mono(audio: dict[str, Any], sampling_rate: int) -> np.ndarray:
    """Samples `(samples,)` of an encoded recording at a rate in Hz."""
    wave, rate = decode_audio(dict(audio))
    mono = wave.mean(axis=1) if wave.ndim == 2 else wave
    resampled = torchaudio.functional.resample(torch.from_numpy(mono), rate, sampling_rate)
    return resampled.numpy().astype(np.float32)


@torch.no_grad()
def _encode(
    dataset: Dataset,
    model: EmotionTransformerForAudioClassification,
    feature_extractor: EmotionTransformerFeatureExtractor,
    degradation: DegradationConfig | None,
    copy: int,
) -> list[np.ndarray]:
    rate, frames = feature_extractor.sampling_rate, []
    name = f"copy {copy}" if copy else "recordings"
    training = model.training
    model.eval()
    for row, audio in enumerate(tqdm(dataset["audio"], desc=f"Encoding {name}", mininterval=1.0)):
        wave = decode_mono(audio, rate)
        if copy and degradation is not None:
            wave = degrade(wave, rate, degradation, np.random.default_rng((copy, row)))
        features = feature_extractor(wave, return_tensors="pt")["input_features"]
        encoded, _ = model.encode(features.to(model.device))
        frames.append(encoded[0].cpu().numpy().astype(np.float16))
    model.train(training)
    return frames


def _key(
    dataset: Dataset,
    model: EmotionTransformerForAudioClassification,
    feature_extractor: EmotionTransformerFeatureExtractor,
    degradation: DegradationConfig | None,
    copy: int,
) -> str:
    digest = hashlib.sha256()
    for audio in dataset["audio"]:
        digest.update(hashlib.sha256(audio["bytes"] or Path(audio["path"]).read_bytes()).digest())
    for name, value in model.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    settings = {
        "features": {k: v for k, v in feature_extractor.to_dict().items() if k not in UNHEARD},
        "layers": model.config.layers,
        "frame_stride": model.config.frame_stride,
        "degradation": None if degradation is None else asdict(degradation),
        "copy": copy,
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:24]
