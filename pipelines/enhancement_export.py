"""Saving the enhancer with all the code that loading it takes.

This file is copied to the Hub with the models, with its siblings; it imports nothing else of this
project.
"""

import json
from pathlib import Path
from typing import Any

from .emotion_enhancement_task import config_content
from .exported_code import LIBRARIES, export_code, export_component


def save_with_code(pipe: Any, folder: Path) -> None:
    """Write the code of a pipeline and its parts into the folder where it has been saved."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    module = export_code(type(pipe), folder)
    index["_class_name"] = [module, type(pipe).__name__]
    held = {name: part for name, part in pipe.components.items() if part is not None}
    for name, component in held.items():
        if type(component).__module__.split(".")[0] not in LIBRARIES:
            index[name] = [export_component(component, folder / name), type(component).__name__]
    for name, content in (("model_index", index), ("config", config_content(module))):
        text = json.dumps(content, indent=2) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
