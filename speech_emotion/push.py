"""`speech-emotion push`."""

from pathlib import Path
from typing import Annotated

import typer

from .folders import DATASET, kind_of
from .messages import refusing, say


def push(
    folder: Annotated[
        Path, typer.Argument(help="A saved classifier, enhancer or dataset.", show_default=False)
    ],
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="On the Hub.", show_default=False)
    ],
    private: Annotated[
        bool, typer.Option("--private", help="For you alone, where it is made anew.")
    ] = False,
) -> None:
    """Send a classifier, an enhancer or a dataset to the Hub.

    \b
    Examples:
      hf auth login
      speech-emotion push outputs/transformer_0/model you/emotion-classifier
      speech-emotion push enhanced/ you/enhanced-emodb --private

    The folder is sent as it is, with its card and code; an interrupted push is simply repeated.
    Look at the licence in its README.md first: weights follow the data that trained them. A folder
    of recordings becomes a dataset by `python -m datasets_scripts.export`.
    """
    with refusing():
        kind = kind_of(folder.expanduser())
        from huggingface_hub import get_token
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(repository)
        if get_token() is None:
            raise ValueError("Got no token, expected one from `hf auth login` or in HF_TOKEN")
        if not (folder.expanduser() / "README.md").exists():
            raise ValueError(f"Bad folder '{folder}' without a card, expected a README.md in it")
    from training.run import push_folder

    repo_type = "dataset" if kind == DATASET else "model"
    try:
        address = push_folder(folder.expanduser(), repository, repo_type, private)
    except OSError as error:
        say(f"Failed: {folder}: {' '.join(str(error).split())}")
        raise typer.Exit(1) from error
    print(address)
