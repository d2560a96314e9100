"""Test a small baseline on a pretrained encoder, on the folds of the network.

    python -m benchmarks.whisper_logistic_regression --encoder openai/whisper-tiny.en \\
        --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --protocols speaker_independent paper cross_corpus --conditions as_recorded telephone \\
        calibrated_speaker_10 --output results/whisper_logistic_regression.json

Features are the mean and the standard deviation, over time, of what the frozen encoder of Whisper
(Radford et al. 2022) holds after each of its layers. It hears a recording, mono and at 16 kHz, for
as long as that lasts and not padded to 30 s (of longer ones, the first 30 s). Some of the layers,
chosen on validation rows once a corpus, are standardised with the statistics of the training rows,
for one logistic regression (C = 0.003, balanced class weights). Who trains and who is tested, and
in which conditions, is said in `benchmarks.baseline`.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch.nn.functional import gelu
from transformers import WhisperFeatureExtractor, WhisperModel

from pipelines.audio_inputs import resample

from .baseline import Baseline, baseline_parser, needs_baselines, parse_options, run_baseline

with needs_baselines():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

SYSTEM = "whisper-logistic-regression"
ENCODER = "openai/whisper-tiny.en"
# Layers, from 1: the middle of the encoder holds more of the emotion than its ends.
CANDIDATES = ((2,), (3,), (1, 2), (2, 3), (1, 2, 3))
# Analysis windows need half of themselves on either side.
SHORTEST = 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Extract the features of all corpora, then run the protocols and write their records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = baseline_parser(
        "benchmarks.whisper_logistic_regression",
        __doc__,
        "results/whisper_logistic_regression.json",
    )
    parser.add_argument("--encoder", default=ENCODER, help="Hub id or folder of a Whisper model")
    options = parse_options(parser, arguments)
    run_baseline(whisper_logistic_regression(options.encoder), options, arguments)


def whisper_logistic_regression(name: str = ENCODER) -> Baseline:
    """The frozen encoder in front of the regression.

    Args:
        name: Hub id or folder of a Whisper model with its feature extractor.

    Raises:
        OSError: There is no such model.
        ValueError: The encoder has fewer than two layers.
    """
    extractor = WhisperFeatureExtractor.from_pretrained(name)
    encoder = WhisperModel.from_pretrained(name, dtype=torch.float32).encoder.eval()
    depth = len(encoder.layers)
    candidates = tuple(c for c in CANDIDATES if max(c) <= depth)
    if not candidates:
        raise ValueError(f"Bad encoder '{name}' of {depth} layer, expected at least 2")
    used = max(itertools.chain(*candidates))
    return Baseline(
        system=SYSTEM,
        module="benchmarks.whisper_logistic_regression",
        title="Whisper's layers",
        version=weights_digest(encoder),
        shape=(used, 2 * encoder.config.d_model),
        compute=lambda wave, rate: pool_layers(extractor, encoder, wave, rate, used),
        build=build_regression,
        candidates=tuple(tuple(layer - 1 for layer in c) for c in candidates),
    )


def weights_digest(encoder: torch.nn.Module) -> str:
    """Of the weights themselves: a folder may hold others tomorrow."""
    digest = sha256()
    for weight in encoder.state_dict().values():
        digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def pool_layers(
    extractor: WhisperFeatureExtractor, encoder: Any, wave: np.ndarray, rate: int, layers: int
) -> np.ndarray:
    """Mean and deviation over time of the hidden states after each of the first layers.

    Args:
        extractor: Makes log-mels at its own rate.
        encoder: `WhisperEncoder`.
        wave: Mono `(samples,)`, float32.
        rate: In Hz.
        layers: How many.

    Returns:
        `(layers, 2 * size)`; NaN for a recording of less than two frames of 20 ms.
    """
    sound = resample(torch.from_numpy(wave), rate, extractor.sampling_rate).numpy()
    if len(sound) < SHORTEST:
        return np.full((layers, 2 * encoder.config.d_model), np.nan)
    states = hidden_states(extractor, encoder, sound)
    pooled = [
        torch.cat([hidden.mean(dim=1), hidden.std(dim=1)], dim=1)[0]
        for hidden in itertools.islice(states, layers)
    ]
    return torch.stack(pooled).cpu().numpy()


def hidden_states(
    extractor: WhisperFeatureExtractor, encoder: Any, sound: np.ndarray
) -> Iterator[torch.Tensor]:
    """What the encoder holds after each layer, `(1, frames, size)`; not padded to 30 s.

    Args:
        extractor: Makes log-mels.
        encoder: `WhisperEncoder`.
        sound: Mono `(samples,)`, float32, at the extractor's rate.
    """
    mels = extractor(
        sound, sampling_rate=extractor.sampling_rate, padding="longest", return_tensors="pt"
    ).input_features.to(encoder.device)
    # The encoder's own `forward` takes 30 s and nothing else.
    hidden = gelu(encoder.conv2(gelu(encoder.conv1(mels)))).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
        yield hidden


def build_regression(inverse_penalty: float = 0.003) -> Pipeline:
    """The classifier of the baseline, not fitted: `fit(features, labels)`, `predict_proba(...)`."""
    regression = LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), regression)


if __name__ == "__main__":
    main()
