"""What a stranger does with a saved model, who has transformers but not this project.

Run as `python -I fresh_process.py <model folder> <recordings> <address of the recordings>` in a
folder with `wave.npy`; writes `report.json` there.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline


def forget_editable_installations():
    """`make` installs the project so; it is found through a finder of its own."""
    finders = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
    sys.meta_path[:] = finders


def main():
    forget_editable_installations()
    model_folder, recordings, address = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    wave = np.load("wave.npy")

    extractor = AutoFeatureExtractor.from_pretrained(model_folder, trust_remote_code=True)
    features = extractor(wave, return_tensors="pt")
    model = AutoModelForAudioClassification.from_pretrained(model_folder, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**features).logits

    classifier = pipeline("audio-classification", model_folder, trust_remote_code=True)
    encoded = (recordings / "clip.wav").read_bytes()
    inputs = {path.suffix[1:]: str(path) for path in recordings.glob("clip.*")}
    inputs |= {
        "pathlib": recordings / "clip.wav",
        "bytes": encoded,
        "url": f"{address}/clip.wav",
        "row": {"audio": {"bytes": encoded, "path": None}, "emotion": 3},
        "array": wave,
    }
    report = {
        "importable": [
            name for name in ("modeling", "pipelines") if importlib.util.find_spec(name) is not None
        ],
        "ffmpeg": shutil.which("ffmpeg"),
        "extractor": type(extractor).__name__,
        "features": features["input_features"][0, :87].tolist(),
        "model": type(model).__name__,
        "logits": logits.tolist(),
        "pipeline": type(classifier).__name__,
        "outputs": {name: classifier(given) for name, given in inputs.items()},
    }
    Path("report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
