"""What the command lines of benchmarks have in common."""

import argparse

from datasets_scripts import CORPORA


def add_corpora(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--corpus NAME[=FOLDER]`, repeatable, read as `(name, folder or None)`."""
    parser.add_argument(
        "--corpus",
        action="append",
        required=required,
        default=None if required else [],
        type=parse_corpus,
        metavar="NAME[=FOLDER]",
        help=f"one of {list(CORPORA)}; downloaded, or synthesised, without a folder (repeatable)",
    )


def parse_corpus(text: str) -> tuple[str, str | None]:
    """A corpus and its folder.

    Raises:
        argparse.ArgumentTypeError: An unknown corpus.
    """
    name, _, folder = text.partition("=")
    if name not in CORPORA:
        raise argparse.ArgumentTypeError(f"Bad corpus '{name}', expected one of {list(CORPORA)}")
    return name, folder or None
