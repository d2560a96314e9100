"""`speech-emotion info`."""

import importlib.metadata
import json as json_format
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from . import options
from .folders import describe
from .messages import refusing
from .models import own_model
from .tables import print_table

PACKAGES = (
    *("speech-emotion-diffusion", "torch", "torchaudio", "transformers", "diffusers"),
    *("accelerate", "datasets", "huggingface_hub", "soundfile"),
)
# What says what a model is; weights are not downloaded for it.
SMALL_FILES = ["*.json", "README.md"]


def info(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="[FOLDER|ID]",
            help="A folder of a model or dataset, or a model on the Hub.",
            show_default=False,
        ),
    ] = None,
    revision: options.Revision = None,
    json: options.Json = False,
) -> None:
    """Say what is installed, or what a model is.

    \b
    Examples:
      speech-emotion info
      speech-emotion info outputs/transformer_0/model
      speech-emotion info you/your-model --revision v1 --json

    Of a model it says what it was trained on, its licence, emotions and sizes, and which code lies
    beside its weights. Nothing of it is run, and its weights are not loaded.
    """
    content = describe_installation() if model is None else describe_model(model, revision)
    if json:
        print(json_format.dumps(content, indent=1, ensure_ascii=False))
    else:
        print_table(["", ""], [[name, shown(value)] for name, value in content.items()])


def describe_installation() -> dict[str, Any]:
    """Versions, the device that commands run on, and the models that come with the package."""
    content: dict[str, Any] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            content[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            content[package] = "not installed"
    content["device"] = describe_device()
    for kind in ("classifier", "enhancer"):
        content[kind] = str(own_model(kind.upper()) or "none in this installation")
    return content


def describe_device() -> str:
    """The device that commands choose by themselves."""
    import torch  # here: versions do not wait for it

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({torch.get_num_threads()} threads)"


def describe_model(model: str, revision: str | None) -> dict[str, Any]:
    """What a folder, or a repository on the Hub, says of itself.

    Raises:
        typer.BadParameter: No such model, or none of ours.
    """
    folder = Path(model).expanduser()
    with refusing():
        if folder.exists():
            return describe(folder)
        from huggingface_hub import HfApi, snapshot_download

        fetched = snapshot_download(model, revision=revision, allow_patterns=SMALL_FILES)
        description = describe(Path(fetched))
        listed = HfApi().model_info(model, revision=revision, files_metadata=True)
        files = listed.siblings or []
        description["bytes"] = sum(file.size or 0 for file in files)
        description["own_code"] = sorted(f.rfilename for f in files if f.rfilename.endswith(".py"))
        description["revision"] = listed.sha
        return description


def shown(value: Any) -> str:
    """A value on one line, for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return str(value)
