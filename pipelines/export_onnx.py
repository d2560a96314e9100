"""A classifier as one ONNX file, for programs that have neither PyTorch nor transformers.

    speech-emotion export classifier.onnx --model outputs/transformer_0/model

The file takes `waveforms` `(batch, samples)` float32 in -1 to 1, at the rate that its metadata say,
and `lengths` `(batch,)` int64; it gives `probabilities` `(batch, labels)`, those of the pipeline.
"""

import importlib.util
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard
from transformers.utils import cached_file

from modeling.waveform_classifier import WaveformClassifier

INPUTS, OUTPUT = ("waveforms", "lengths"), "probabilities"
UNKNOWN_ROOMS = "unknown rooms"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# How far probabilities may lie from the pipeline's, by whether weights are stored in half
# precision.
TOLERANCE = {False: 1e-4, True: 1e-2}
# Smaller ones are not worth a conversion.
HALVED_SIZE = 4096
# Example and check: long enough for some frames of every network.
EXAMPLE_SECONDS = (1.3, 0.7)


def export_program(classifier: Any, corpus: str | None = None) -> torch.export.ExportedProgram:
    """The classifier with its front end as a graph of PyTorch, for any batch and length.

    Args:
        classifier: A pipeline, of `transformers.pipeline` or `EmotionClassificationPipeline`.
        corpus: Whose statistics it is to normalise with; those of unknown rooms when not given.

    Returns:
        A program whose `module()` takes and gives what [`WaveformClassifier`] does.

    Raises:
        ValueError: An unknown corpus, or a classifier whose front end cannot stand in a graph.
    """
    extractor = classifier.feature_extractor
    module = WaveformClassifier(classifier.model, extractor, corpus).eval()
    example = tuple(map(torch.from_numpy, _batch(_examples(extractor.sampling_rate))))
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free})
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=shapes)


def export_onnx(
    classifier: Any, path: str | Path, corpus: str | None = None, *, half: bool = False
) -> Path:
    """Write the classifier with its front end as an ONNX file, and compare it with the pipeline.

    Its metadata say `labels` (JSON, in the order of the probabilities), `sampling_rate` (Hz),
    `max_seconds` (what is longer is cut), `model`, `model_type`, `license` and `statistics`.

    Args:
        classifier: A pipeline, of `transformers.pipeline` or `EmotionClassificationPipeline`.
        path: File to write; one that is there is replaced.
        corpus: Whose statistics it is to normalise with: a corpus of the training, or a name of
            `calibrate`; those of unknown rooms when not given, as of the pipeline.
        half: Store weights in half precision: half the size, computed with in single precision.

    Returns:
        The file.

    Raises:
        ValueError: An unknown corpus, or a classifier whose front end cannot stand in a graph.
        ModuleNotFoundError: A package of the extra `onnx` is missing.
        RuntimeError: The file does not say what the pipeline says; nothing is written.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"Exporting needs {missing}: pip install speech-emotion-diffusion[onnx]"
        )
    from onnx.helper import set_model_props

    path = Path(path).expanduser()
    program = _translate(export_program(classifier, corpus))
    if half:
        _halve_weights(program)
    set_model_props(program, _metadata(classifier, corpus))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = Path(folder, path.name)
        written.write_bytes(program.SerializeToString())
        _compare(written, classifier, corpus, TOLERANCE[half])
        os.replace(written, path)
    return path


def _examples(rate: int) -> list[np.ndarray]:
    """Noise that comes and goes, of two lengths: `(samples,)` float32."""
    generator = np.random.default_rng(0)
    times = [np.arange(round(seconds * rate)) / rate for seconds in EXAMPLE_SECONDS]
    return [
        (0.1 * np.sin(9 * t) * generator.standard_normal(len(t))).astype(np.float32) for t in times
    ]


def _batch(waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms `(batch, samples)`, padded with zeros, and lengths."""
    batch = np.zeros((len(waves), max(map(len, waves))), dtype=np.float32)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
    return batch, np.array([len(wave) for wave in waves])


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter speaks of packages and deprecations that are none of a user's business."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _translate(program: torch.export.ExportedProgram) -> Any:
    """The program as an ONNX model."""
    with _quiet():
        translated = torch.onnx.export(
            program,
            (),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert translated is not None
    return translated.model_proto


def _halve_weights(program: Any) -> None:
    """Store the network's weights in half precision; a runtime widens them once, when it loads.

    The front end keeps single precision: its logarithms tell small numbers apart.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in program.graph.initializer:
        size = int(np.prod(weight.dims))
        is_float = weight.data_type == TensorProto.FLOAT
        if not is_float or size < HALVED_SIZE or weight.name.startswith("front_end."):
            continue
        name, halved = weight.name, f"{weight.name}.half"
        values = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(values, halved))
        casts.append(helper.make_node("Cast", [halved], [name], to=TensorProto.FLOAT))
    # Nodes are in the order in which they can be computed.
    nodes = [*casts, *program.graph.node]
    del program.graph.node[:]
    program.graph.node.extend(nodes)


def _metadata(classifier: Any, corpus: str | None) -> dict[str, str]:
    config, extractor = classifier.model.config, classifier.feature_extractor
    name, license_id = _origin(str(config.name_or_path))
    return {
        "labels": json.dumps([config.id2label[i] for i in range(config.num_labels)]),
        "sampling_rate": str(extractor.sampling_rate),
        "max_seconds": str(extractor.max_seconds),
        "model": name or config.model_type,
        "model_type": config.model_type,
        "license": license_id or "unknown",
        "statistics": corpus or UNKNOWN_ROOMS,
    }


def _origin(name_or_path: str) -> tuple[str | None, str | None]:
    """Name and licence of a model, as its card has them, as far as it has a card."""
    if not name_or_path:
        return None, None
    # The folder of somebody's machine means nothing to others.
    name = Path(name_or_path).name if Path(name_or_path).is_dir() else name_or_path
    card = cached_file(
        name_or_path,
        "README.md",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if card is None:
        return name, None
    data = ModelCard.load(card).data
    return data.get("model_name") or name, data.get("license")


def _compare(path: Path, classifier: Any, corpus: str | None, tolerance: float) -> None:
    """Raise RuntimeError unless the file says of a batch what the pipeline says of each clip."""
    import onnxruntime

    waves = _examples(classifier.feature_extractor.sampling_rate)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, dict(zip(INPUTS, _batch(waves), strict=True)))[0]
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    options = {} if corpus is None else {"corpus": corpus}
    for wave, probabilities in zip(waves, found, strict=True):
        guesses = classifier(wave, function_to_apply="softmax", top_k=None, **options)
        expected = {guess["label"]: guess["score"] for guess in guesses}
        difference = max(
            abs(expected[label] - float(score))
            for label, score in zip(labels, probabilities, strict=True)
        )
        if not difference <= tolerance:
            raise RuntimeError(
                f"The ONNX file differs from the pipeline by {difference:.2g} in a probability, "
                f"expected at most {tolerance:g}"
            )
