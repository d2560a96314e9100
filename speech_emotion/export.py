"""`speech-emotion export`."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .messages import refusing
from .models import load_classifier


def export(
    output: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False)],
    half: Annotated[
        bool, typer.Option("--half", help="Weights in half precision: half the size.")
    ] = False,
    overwrite: options.Overwrite = False,
    corpus: options.Corpus = None,
    model: options.Model = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Write a classifier, from samples to probabilities, as one ONNX file.

    \b
    Examples:
      speech-emotion export classifier.onnx --half
      speech-emotion export mine.onnx --model outputs/transformer_0/model

    It runs with onnxruntime and NumPy alone; README.md shows how. It takes about half a minute, and
    what it gives is compared with the classifier before it is kept.
    """
    with refusing():
        if output.exists() and not overwrite:
            raise ValueError(f"'{output}' exists, expected a new one or --overwrite")
        if output.suffix != ".onnx":
            raise ValueError(f"Bad output '{output}', expected a name that ends in .onnx")
    classifier = load_classifier(model, revision, trust_remote_code, "cpu")
    from pipelines.export_onnx import export_onnx

    try:
        with refusing():
            export_onnx(classifier, output, corpus, half=half)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(str(error)) from error
    print(output)
