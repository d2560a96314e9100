"""What a folder is: a classifier, an enhancer, a dataset, a Space."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLASSIFIER, ENHANCER, DATASET, SPACE = "classifier", "enhancer", "dataset", "Space"
# Of a safetensors file: the length of its header, in bytes, as an unsigned 64-bit integer.
HEADER_LENGTH = 8


def kind_of(folder: Path) -> str:
    """What a folder holds, from its files alone.

    Raises:
        ValueError: No folder, or nothing of ours in it.
    """
    if not folder.is_dir():
        raise ValueError(f"Bad folder '{folder}', expected one that is there")
    if (folder / "model_index.json").exists():
        return ENHANCER
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or [""]
    if architectures[0].endswith("ForAudioClassification") or "id2label" in config:
        return CLASSIFIER
    if any(folder.rglob("[!.]*.parquet")):
        return DATASET
    if "sdk" in read_card(folder):
        return SPACE
    raise ValueError(
        f"Bad folder '{folder}', expected a saved classifier (config.json), an enhancer "
        "(model_index.json), a dataset (*.parquet; a corpus becomes one by "
        "`python -m datasets_scripts.export`) or a Space (README.md with an sdk)"
    )


def describe(folder: Path) -> dict[str, Any]:
    """What a folder of a model or dataset says of itself; values are JSON-ready.

    Raises:
        ValueError: As of `kind_of`, or a file that is no JSON.
    """
    kind = kind_of(folder)
    card = read_card(folder)
    description: dict[str, Any] = {"kind": kind}
    config = read_json(folder / "config.json")
    if kind == CLASSIFIER:
        description |= _describe_classifier(folder, config)
    elif kind == ENHANCER:
        index = read_json(folder / "model_index.json")
        description["parts"] = {
            name: part[1]
            for name, part in index.items()
            if not name.startswith("_") and isinstance(part, list) and part[0] is not None
        }
        description |= _describe_classifier(
            folder / "classifier", read_json(folder / "classifier" / "config.json")
        )
        description.pop("type", None)
    for name in ("license", "base_model", "datasets", "language"):
        if card.get(name):
            description[name] = card[name]
    description["parameters"] = sum(map(count_parameters, folder.rglob("*.safetensors")))
    files = [path for path in folder.rglob("*") if path.is_file()]
    description["bytes"] = sum(path.stat().st_size for path in files)
    description["own_code"] = sorted(path.name for path in files if path.suffix == ".py")
    return {name: value for name, value in description.items() if value not in (0, [], None)}


def _describe_classifier(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    extractor = read_json(folder / "preprocessor_config.json")
    # Statistics of an encoder's frames lie in the model, those of mels in the front end.
    statistics = config.get("calibrations") or extractor.get("corpus_statistics") or []
    labels = config.get("id2label") or {}
    return {
        "type": config.get("model_type"),
        "emotions": [labels[key] for key in sorted(labels, key=int)],
        "trained_on": config.get("trained_on"),
        "statistics_of": sorted(statistics),
        "sampling_rate": extractor.get("sampling_rate"),
        "max_seconds": extractor.get("max_seconds"),
    }


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file, empty where there is none.

    Raises:
        ValueError: It is no JSON object.
    """
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"Bad file '{file}', expected a JSON object")
    return content


def read_card(folder: Path) -> dict[str, Any]:
    """The metadata of the card of a folder, empty where there is none."""
    from huggingface_hub import metadata_load

    file = folder / "README.md"
    return (metadata_load(file) or {}) if file.exists() else {}


def count_parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header: nothing is loaded.

    Raises:
        ValueError: No safetensors file.
    """
    with file.open("rb") as opened:
        start = opened.read(HEADER_LENGTH)
        if len(start) < HEADER_LENGTH:
            raise ValueError(f"Bad file '{file}', expected safetensors")
        (length,) = struct.unpack("<Q", start)
        if length > file.stat().st_size:
            raise ValueError(f"Bad file '{file}', expected safetensors")
        header = json.loads(opened.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return sum(_product(shape) for shape in shapes)


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
