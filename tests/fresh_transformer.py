"""What a stranger does with a saved EmotionTransformer, offline and without this project.

Run as `python -I fresh_transformer.py <model folder>` in a folder with `wave.npy`; prints JSON.
"""

import importlib.util
import json
import os
import sys

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
# `make` installs the project so; it is found through a finder of its own.
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]

from transformers import pipeline  # noqa: E402

classifier = pipeline("audio-classification", sys.argv[1], trust_remote_code=True)
wave = np.load("wave.npy")
guesses = classifier(wave)
classifier.calibrate([wave, wave[: len(wave) // 2]], name="desk")
names = [n for n in ("modeling", "pipelines") if importlib.util.find_spec(n) is not None]
calibrated = classifier(wave, corpus="desk")
print(json.dumps({"importable": names, "guesses": guesses, "calibrated": calibrated}))
