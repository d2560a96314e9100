"""What is said to people, on standard error, and what becomes of mistakes."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer

Item = TypeVar("Item")


class Failures:
    """Recordings that could not be used; each is named as it fails, and none stops the rest."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, name: str, reason: object) -> None:
        """Name one, and say why."""
        self.count += 1
        say(f"Failed: {name}: {' '.join(str(reason).split())}")

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note what a recording is refused for, or fails for, and go on."""
        try:
            yield
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            # The last is what libraries raise that run out of memory, or cannot write.
            self.add(name, error)

    def finish(self) -> None:
        """End the command with status 1 if there were any.

        Raises:
            typer.Exit: There were some.
        """
        if self.count:
            raise typer.Exit(1)


def say(message: str) -> None:
    """A line for people, on standard error."""
    typer.echo(message, err=True)


@contextmanager
def refusing() -> Iterator[None]:
    """Report what an argument is refused for as a wrong command, without a traceback.

    Raises:
        typer.BadParameter: With the message of a `ValueError`, `TypeError` or `OSError`.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise typer.BadParameter(" ".join(str(error).split())) from error


def quieten_libraries() -> None:
    """Loading bars and hints for programmers are not for whoever runs a command."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for library in ("transformers", "diffusers", "datasets"):
        logging.getLogger(library).setLevel(logging.ERROR)


def progress(items: Iterable[Item], count: int, what: str) -> Iterable[Item]:
    """Items, with a bar on standard error where that is a terminal and there are several."""
    if count < 2 or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, description=what, total=count, console=console, transient=True)
