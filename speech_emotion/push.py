"""`speech-emotion push`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .folders import DATASET, ENHANCER, SPACE, kind_of, read_json
from .messages import refusing, say

REPO_TYPES = {DATASET: "dataset", SPACE: "space"}
CARD = "README.md"


def push(
    folder: Annotated[
        Path,
        typer.Argument(help="A saved classifier, enhancer, dataset or Space.", show_default=False),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="On the Hub.", show_default=False)
    ],
    private: Annotated[
        bool, typer.Option("--private", help="For you alone, where it is made anew.")
    ] = False,
) -> None:
    """Send a classifier, an enhancer, a dataset or a Space to the Hub.

    \b
    Examples:
      hf auth login
      speech-emotion push outputs/transformer_0/model you/emotion-classifier
      speech-emotion push enhanced/ you/enhanced-emodb --private

    The folder is sent as it is, with its card and code (to an enhancer that leans on this package
    its code is added); an interrupted push is simply repeated.
    Look at the licence in its README.md first: weights follow the data that trained them. A folder
    of recordings becomes a dataset by `python -m datasets_scripts.export`.
    """
    folder = folder.expanduser()
    with refusing():
        kind = kind_of(folder)
        from datasets_scripts.hub import check_name, check_token, push_folder

        check_name(repository, "repository")
        check_token("push")
        if not (folder / CARD).exists():
            raise ValueError(f"Bad folder '{folder}' without a card, expected a {CARD} in it")
    try:
        with complete(folder, kind) as sent:
            address = push_folder(sent, repository, REPO_TYPES.get(kind, "model"), private)
    except (OSError, ValueError) as error:
        say(f"Failed: {folder}: {' '.join(str(error).split())}")
        raise typer.Exit(1) from error
    print(address)


@contextmanager
def complete(folder: Path, kind: str) -> Iterator[Path]:
    """The folder, or a copy with code of an enhancer that leans on this package.

    Raises:
        ValueError: An enhancer with classes that this package does not have.
    """
    if kind != ENHANCER or brings_code(folder):
        yield folder
        return
    from .models import load_enhancer

    with tempfile.TemporaryDirectory() as place:
        load_enhancer(str(folder), None, False, "cpu").save_pretrained(place)
        shutil.copyfile(folder / CARD, Path(place) / CARD)
        yield Path(place)


def brings_code(folder: Path) -> bool:
    """Whether the code of an enhancer is there, as saving it writes it."""
    from pipelines.exported_code import DIGEST

    index = read_json(folder / "model_index.json")
    (module, *_) = index.get("_class_name") or [""]
    return DIGEST.search(module) is not None and (folder / f"{module}.py").exists()
