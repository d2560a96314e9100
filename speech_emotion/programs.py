"""`speech-emotion dataset` and `train`: the programs of those names, with all their arguments."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer

from .messages import refusing, say
from .models import default_model


class Trained(str, Enum):
    """What can be trained."""

    classifier = "classifier"
    enhancer = "enhancer"


def dataset(context: typer.Context) -> None:
    """Enhance, convert or multiply a whole corpus.

    \b
    Examples:
      speech-emotion dataset --corpus emodb=path/to/emodb --output_dir enhanced
      speech-emotion dataset --dataset recordings/ --emotion anger --output_dir angry
      speech-emotion dataset -- --help        all arguments, those of enhance_dataset.py

    The result is a dataset that `load_dataset` reads. Interrupted, it goes on where it was when it
    is repeated. Several processes share the work of
    `accelerate launch enhance_dataset.py`, which takes the same arguments and a --model.
    """
    arguments = list(context.args)
    asks = "--help" in arguments or "-h" in arguments
    if not asks and not any(a == "--model" or a.startswith("--model=") for a in arguments):
        own = {"--model": default_model("ENHANCER"), "--listener": default_model("CLASSIFIER")}
        # Of what is given twice the last counts.
        arguments = [*(word for pair in own.items() for word in pair), *arguments]
    import enhance_dataset

    run_program("enhance_dataset.py", enhance_dataset.main, arguments)


def train(
    context: typer.Context,
    what: Annotated[Trained, typer.Argument(help="What to train.", show_default=False)],
) -> None:
    """Train a classifier or an enhancer.

    \b
    Examples:
      speech-emotion train classifier --config configs/transformer.yaml \\
          corpora.emodb=path/to/emodb fold=0 output_dir=outputs/transformer_0
      speech-emotion train enhancer --config configs/diffusion.yaml \\
          corpora.emodb=path/to/emodb classifier=outputs/fold_0/model output_dir=outputs/enhancer_0
      speech-emotion train classifier --resume output_dir=outputs/transformer_0 ...
      speech-emotion train classifier -- --help        all arguments, those of train_classifier.py

    Settings are key=value, or files (--config). For several GPUs: `accelerate launch
    train_classifier.py`, or train_diffusion.py, with the same arguments.
    """
    if what is Trained.classifier:
        import train_classifier

        run_program("train_classifier.py", train_classifier.main, context.args)
    else:
        import train_diffusion

        run_program("train_diffusion.py", train_diffusion.main, context.args)


def run_program(name: str, main: Callable[[Sequence[str]], Any], arguments: Sequence[str]) -> None:
    """Run a program of this project as if it had been started itself.

    Its usage, and the command that it writes beside its results, are those of the program.

    Raises:
        typer.BadParameter: It refused its arguments.
        typer.Exit: A recording failed.
    """
    from datasets_scripts.recordings import RecordingError

    try:
        with _named(name, arguments), refusing():
            main(list(arguments))
    except RecordingError as error:
        say(f"Failed: {error}")
        raise typer.Exit(1) from error


@contextmanager
def _named(name: str, arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        yield
    finally:
        sys.argv = before
