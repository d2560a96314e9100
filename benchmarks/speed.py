"""Size and latency of a classifier: the pipeline of PyTorch beside its ONNX files, on one thread.

    python -m benchmarks.speed --model outputs/transformer_0/model --corpus emodb=path/to/emodb

Every recording is classified by each in turn, several times over. What counts is the processor's
time, which on one thread is the latency of a machine that has nothing else to do; a recording's is
the shortest of its rounds. The ratio is what can be compared between machines.

With `--enhancer` the time of a conversion is measured instead, by each method, in seconds for each
second of the recording.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from datasets_scripts import load_corpus
from evaluation import Record, make_record, provenance, write_records
from evaluation.tables import ENHANCER
from pipelines import EmotionClassificationPipeline, load_enhancer
from pipelines.audio_inputs import read_recording
from pipelines.export_onnx import export_onnx

from .command_line import add_corpora

ENHANCER_CALLS: dict[str, dict[str, Any]] = {
    "both, reranked": {"method": "both", "rerank": True},
    "both": {"method": "both", "rerank": False},
    "diffusion": {"method": "diffusion", "rerank": False},
    "shift, reranked": {"method": "shift", "rerank": True},
    "shift": {"method": "shift", "rerank": False},
}
PIPELINE, ONNX, ONNX_HALF = "pipeline", "onnx", "onnx_half"
# From samples `(samples,)` at the model's rate to probabilities in the order of its labels.
Classify = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, classify, compare and write a record for each corpus; or time an enhancer."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    classifier = EmotionClassificationPipeline(
        model=AutoModelForAudioClassification.from_pretrained(options.model),
        feature_extractor=AutoFeatureExtractor.from_pretrained(options.model),
    )
    command = ["-m", "benchmarks.speed", *arguments]
    if options.enhancer:
        for corpus, data_dir in options.corpus:
            waves = recordings(corpus, data_dir, options.limit, classifier)
            write_records(options.output, [enhancer(classifier, waves, corpus, options, command)])
        return
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: export_onnx(classifier, Path(folder, f"{name}.onnx"), half=name == ONNX_HALF)
            for name in (ONNX, ONNX_HALF)
        }
        for corpus, data_dir in options.corpus:
            waves = recordings(corpus, data_dir, options.limit, classifier)
            record = measure(classifier, files, waves, corpus, options, command)
            write_records(options.output, [record])


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="folder or Hub id of a classifier")
    parser.add_argument(
        "--enhancer",
        help="folder or Hub id of an enhancer, which is measured instead, with the classifier as "
        "its listener",
    )
    add_corpora(parser)
    parser.add_argument("--limit", type=int, default=24, help="recordings, evenly over the corpus")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("results/speed.json"))
    return parser.parse_args(arguments)


def recordings(corpus: str, data_dir: str | None, limit: int, classifier: Any) -> list[np.ndarray]:
    """Recordings of a corpus, `(samples,)` at the classifier's rate."""
    rows = load_corpus(corpus, data_dir=data_dir)
    chosen = np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)
    rate = classifier.feature_extractor.sampling_rate
    return [read_recording(rows[int(i)], rate).numpy() for i in chosen]


def measure(
    classifier: Any,
    files: dict[str, Path],
    waves: Sequence[np.ndarray],
    corpus: str,
    options: argparse.Namespace,
    command: Sequence[str],
) -> Record:
    """The record of one corpus."""
    started = time.monotonic()
    systems = {PIPELINE: as_pipeline(classifier)} | {n: as_session(f) for n, f in files.items()}
    times, said = compare(systems, waves, options.rounds)
    metrics = {"sound_seconds": np.mean([len(w) for w in waves]) / _rate(classifier)}
    metrics[f"{PIPELINE}_MB"] = _size(classifier.model)
    for name in systems:
        metrics[f"{name}_ms"] = 1000 * times[name].mean()
    for name, file in files.items():
        metrics[f"{name}_MB"] = file.stat().st_size / 1e6
        metrics[f"{name}_speed_up"] = np.median(times[PIPELINE] / times[name])
        metrics[f"{name}_largest_difference"] = np.abs(said[name] - said[PIPELINE]).max()
    trained_on = getattr(classifier.model.config, "trained_on", None) or {}
    return make_record(
        task="speed",
        corpus=corpus,
        protocol=trained_on.get("protocol", "unknown"),
        system=classifier.model.config.model_type,
        metrics={name: round(float(value), 7) for name, value in metrics.items()}
        | {"recordings": len(waves), "threads": 1},
        provenance=provenance(trained_on.get("seed", 0), time.monotonic() - started, command),
    )


def enhancer(
    classifier: Any,
    waves: Sequence[np.ndarray],
    corpus: str,
    options: argparse.Namespace,
    command: Sequence[str],
) -> Record:
    """The record of an enhancer: what a conversion takes, once for each recording."""
    started = time.monotonic()
    pipe = load_enhancer(options.enhancer)
    pipe.set_progress_bar_config(disable=True)
    pipe.listener, rate = classifier, _rate(classifier)
    first, second = pipe.emotions[:2]
    metrics: dict[str, Any] = {"recordings": len(waves), "threads": 1}
    for name, call in ENHANCER_CALLS.items():
        spent = []
        # The first one is not counted: it allocates.
        for wave in [waves[0], *waves]:
            start = time.process_time()
            pipe(wave, rate, emotion=first, source_emotion=second, **call)
            spent.append((time.process_time() - start) / (len(wave) / rate))
        metrics[f"{name}_seconds_a_second"] = round(float(np.mean(spent[1:])), 4)
    return make_record(
        task="speed",
        corpus=corpus,
        protocol="unknown",
        system=ENHANCER,
        metrics=metrics,
        provenance=provenance(0, time.monotonic() - started, command),
    )


def compare(
    systems: dict[str, Classify], waves: Sequence[np.ndarray], rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seconds `(recordings,)` and probabilities `(recordings, labels)` of each system."""
    times = {name: np.full((rounds, len(waves)), np.inf) for name in systems}
    said: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    # Once before the clock runs: first calls allocate.
    for name, classify in systems.items():
        said[name] = [classify(wave) for wave in waves]
    for turn in range(rounds):
        for i, wave in enumerate(waves):
            for name, classify in systems.items():
                start = time.process_time()
                classify(wave)
                times[name][turn, i] = time.process_time() - start
    shortest = {name: values.min(axis=0) for name, values in times.items()}
    return shortest, {name: np.array(values) for name, values in said.items()}


def as_pipeline(classifier: Any) -> Classify:
    """The pipeline, whose guesses are put in the order of the labels."""
    labels = classifier.model.config.id2label.values()

    def classify(wave: np.ndarray) -> np.ndarray:
        scores = {guess["label"]: guess["score"] for guess in classifier(wave)}
        return np.array([scores[label] for label in labels])

    return classify


def as_session(file: Path) -> Classify:
    """An ONNX file in onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def classify(wave: np.ndarray) -> np.ndarray:
        inputs = {"waveforms": wave[None], "lengths": np.array([len(wave)])}
        return session.run(None, inputs)[0][0]

    return classify


def _rate(classifier: Any) -> int:
    return classifier.feature_extractor.sampling_rate


def _size(model: torch.nn.Module) -> float:
    """Megabytes of the weights as they are computed with."""
    return sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6


if __name__ == "__main__":
    main()
