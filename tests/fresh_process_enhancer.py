"""What a stranger does with a saved enhancer, who has its libraries but not this project.

Run as `python -I fresh_process_enhancer.py <pipeline folder>` in a folder with `wave.npy` and
`clip.wav`; writes `first.npy`, `second.npy` (of the pipeline saved again into `again`) and
`report.json` there.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from transformers import pipeline


def forget_editable_installations():
    """`make` installs the project so; it is found through a finder of its own."""
    finders = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
    sys.meta_path[:] = finders


def enhance(folder, wave):
    """The pipeline of a folder, and what it makes of a recording."""
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    generator = torch.Generator().manual_seed(7)
    settings = {"num_inference_steps": 4, "generator": generator, "method": "diffusion"}
    return pipe, pipe(wave, emotion="anger", **settings).audios[0]


def hear(folder, file):
    """Emotion, rate and samples of what the task of transformers makes of a file."""
    enhancer = pipeline("emotion-enhancement", folder, trust_remote_code=True, device="cpu")
    # Which keeps the tempo.
    settings = {"method": "diffusion", "vocoder": "source_filter", "num_inference_steps": 2}
    output = enhancer(file, emotion="anger", **settings)
    return [output["emotion"], output["sampling_rate"], len(output["audio"])]


def main():
    forget_editable_installations()
    wave = np.load("wave.npy")
    names = ("modeling", "pipelines", "training")
    importable = [name for name in names if importlib.util.find_spec(name) is not None]
    task = hear(sys.argv[1], "clip.wav")
    pipe, first = enhance(sys.argv[1], wave)
    pipe.save_pretrained("again")
    again, second = enhance("again", wave)
    np.save("first.npy", first)
    np.save("second.npy", second)
    report = {
        "importable": importable,
        "task": task,
        "pipelines": [type(pipe).__name__, type(again).__name__],
        "scheduler": type(again.scheduler).__name__,
    }
    Path("report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
