"""Arguments that several commands have."""

from pathlib import Path
from typing import Annotated, Optional

import typer

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help='Recordings: files, folders (with what lies below them), patterns such as "*.wav", '
        "addresses, or - for standard input.",
        show_default=False,
    ),
]
# `Optional` and not `| None`, which typer does not read in Python 3.10.
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Folder or Hub id of a model; that of this package when not given."),
]
Revision = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Branch, tag or commit of the model on the Hub."),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust_remote_code",
        help="Run the code that was saved with the model. Read it first, and name its --revision.",
    ),
]
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="cpu, cuda, cuda:1, mps; a GPU when not given and there is one."),
]
Calibrate = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        metavar="DIR",
        help="Unlabelled recordings of the same voice, or of the same room; ten do most.",
    ),
]
Corpus = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="A corpus of the model's training whose statistics to use; `info` names them."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on standard output, nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


def check_format(json: bool, csv: bool) -> None:
    """Refuse two formats at once.

    Raises:
        typer.BadParameter: Both were asked for.
    """
    if json and csv:
        raise typer.BadParameter("Got --json and --csv, expected one of them")
