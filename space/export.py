"""The folder of a Space: code, weights and recordings in the box, requirements and card."""

import configparser
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from platform import python_version_tuple

from huggingface_hub import SpaceCard, SpaceCardData
from packaging.requirements import Requirement
from packaging.version import Version

from .actions import Models

ROOT = Path(__file__).resolve().parent.parent
# What the page imports, and what that imports.
CONTENT = (
    "app.py", "LICENSE", "setup.cfg",
    "datasets_scripts", "evaluation", "modeling", "pipelines", "pretrained", "space",
)  # fmt: skip
NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")


def export_space(folder: str | Path, models: Models) -> Path:
    """Write a folder that can be pushed as a Space: `hf upload you/name folder --repo-type space`.

    Args:
        folder: Where to write; a new one, or an empty one.
        models: What the card names. Folders of this machine stay here: a Space has the box, or
            models of the Hub.

    Raises:
        ValueError: A folder that holds something.
        OSError: It cannot be written.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"Bad folder '{folder}', expected a new or an empty one")
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in CONTENT:
        _copy(ROOT / name, temporary / name)
    (temporary / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    space_card(models).save(temporary / "README.md")
    os.replace(temporary, folder)
    return folder


def requirements() -> list[str]:
    """What the page needs, in the versions that are installed here.

    A Space installs its requirements before its other files are there, so it cannot be told to
    take them from `setup.cfg`.
    """
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = settings["options"]["install_requires"]
    needed += settings["options.extras_require"]["demo"]
    names = [Requirement(line).name for line in needed.split("\n") if line]
    # Without what is after "+", which no registry has.
    return [f"{name}=={Version(version(name)).public}" for name in names]


def space_card(models: Models) -> SpaceCard:
    """The card with what the Hub has to know to run it."""
    given = (models.classifier_name, models.enhancer_name)
    ids = [name for name in given if isinstance(name, str) and not Path(name).expanduser().is_dir()]
    metadata = SpaceCardData(
        title="Emotion in speech",
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=".".join(python_version_tuple()[:2]),
        app_file="app.py",
        license="apache-2.0",
        short_description="Recognise, enhance and convert acted emotion in speech",
        tags=["speech-emotion-recognition", "audio", "speech", "emotion", "diffusion"],
        models=ids or None,
    )
    where = "Classifier and enhancer are in the folder `pretrained`."
    if ids:
        where += f" This one is meant for {' and '.join(f'`{name}`' for name in ids)}."
    template = (ROOT / "space" / "card.md").read_text(encoding="utf-8")
    return SpaceCard(template.format(metadata=metadata.to_yaml(), models=where))


def _copy(source: Path, target: Path) -> None:
    """Files that are links become files: their targets are elsewhere in a Space."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=NOT_COPIED)
    else:
        shutil.copyfile(source, target)
