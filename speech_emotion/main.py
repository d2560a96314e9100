"""The commands of `speech-emotion`.

Nothing that takes time is imported before a command runs: `--help` does not wait for torch.
"""

import io
import sys

import typer

from .classify import classify
from .enhance import convert, enhance
from .evaluate import evaluate
from .export import export
from .info import info
from .programs import dataset, train
from .push import push

PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}

app = typer.Typer(
    name="speech-emotion",
    help="""Recognise the emotion in recorded speech, make it clearer, or change it.

\b
Start with:
  speech-emotion classify speech.wav
  speech-emotion enhance speech.wav -o clearer.wav
  speech-emotion convert speech.wav --emotion anger -o angry.wav
  speech-emotion COMMAND --help

\b
Recordings are files (wav, flac, ogg, mp3, ...), folders, patterns or, as "-", standard input.
Exit status: 0 all went well, 1 some recording failed (it is named), 2 the command was wrong.
""",
    # Plain help: half as long to wait for, and the same in a pager, a pipe and a terminal.
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# Names of files that are no text in the terminal's encoding come out as they went in.
if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
    sys.stdout.reconfigure(errors="surrogateescape")

for function in (classify, enhance, convert, evaluate, export, push, info):
    app.command()(function)
for program in (dataset, train):
    app.command(context_settings=PASSED_ON)(program)
