"""Models of a folder, of the Hub, or of this package."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .messages import quieten_libraries, refusing


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries in an eighth less time.

    What they make at import stays, so that looking through it for garbage finds none.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def default_model(kind: str) -> str:
    """Folder of the model that comes with this package.

    Args:
        kind: `"CLASSIFIER"` or `"ENHANCER"`.

    Raises:
        typer.BadParameter: This installation carries none.
    """
    folder = own_model(kind)
    if folder is None:
        raise typer.BadParameter(
            f"This installation carries no {kind.lower()}, expected --model with a folder or Hub id"
        )
    return str(folder)


def own_model(kind: str) -> Path | None:
    """As `default_model`, but `None` where there is none."""
    try:
        import pretrained  # here, since an installation may leave the weights out
    except ImportError:
        return None
    folder: Path = getattr(pretrained, kind)
    return folder if folder.is_dir() else None


def chosen_model(model: str | None, kind: str) -> str:
    """What `--model` names, `~` expanded, or else the model that comes with this package.

    Raises:
        typer.BadParameter: A folder that is not there, or no model at all.
    """
    if model is None:
        return default_model(kind)
    expanded = Path(model).expanduser()
    if expanded.is_dir():
        return str(expanded)
    # A Hub id has at most one slash: what cannot be one is not asked for over the network.
    if expanded.exists() or model.startswith((".", "~", "/")) or model.count("/") > 1:
        raise typer.BadParameter(f"Bad --model '{model}', expected a folder of a model or a Hub id")
    return model


def load_classifier(
    model: str | None, revision: str | None, trust_remote_code: bool, device: str | None
) -> Any:
    """A classifier in its pipeline.

    Weights are loaded into the classes of this package, or of transformers; code that lies beside
    them runs only where that is allowed.

    Raises:
        typer.BadParameter: No such model, another kind of model, one that needs its own code, or no
            such device.
    """
    name = chosen_model(model, "CLASSIFIER")
    with importing():
        import transformers

        from pipelines.loading import load_classifier as load

    quieten_libraries()
    with refusing():
        place = find_device(device)
        if trust_remote_code:
            return transformers.pipeline(
                "audio-classification",
                name,
                revision=revision,
                trust_remote_code=True,
                device=place,
            )
        return load(name, revision, place)


def load_enhancer(
    model: str | None,
    revision: str | None,
    trust_remote_code: bool,
    device: str | None,
    listener: str | None = None,
) -> Any:
    """An enhancer with a classifier that listens, if one is named, or comes with it; errors as of
    `load_classifier`.
    """
    name = chosen_model(model, "ENHANCER")
    with importing():
        from diffusers.utils import logging as diffusers_logging

        from pipelines import load_enhancer as load

    quieten_libraries()
    diffusers_logging.disable_progress_bar()
    with refusing():
        pipe = load(name, revision, trust_remote_code)
        pipe.to(find_device(device))
    pipe.set_progress_bar_config(disable=True)
    own = own_model("ENHANCER")
    # Of the package's own two the classifier hears strangers far better than the enhancer.
    if listener or (own is not None and Path(name).resolve() == own.resolve()):
        pipe.listener = load_classifier(listener, None, False, device)
    return pipe


def find_device(name: str | None) -> Any:
    """A device by its name; a GPU when not given and there is one.

    Raises:
        ValueError: No such device, or none that works here.
    """
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Bad device '{name}', expected one that is here, as 'cpu'") from error
