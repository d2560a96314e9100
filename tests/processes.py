"""Programs in processes of their own, which do not import everything anew.

A server imports the project and its libraries once; every program then runs in a fork of it, as
`python PROGRAM` and `python -m MODULE` run them. What libraries read from the environment when they
are imported, such as `HF_HOME`, is that of the tests: a program that needs another value of it has
to be launched with `subprocess`.
"""

import multiprocessing
import os
import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["train_classifier", "train_diffusion", "benchmarks.recognition", "evaluation.report"]
)


def start(log, *command, folder=ROOT, **environment):
    """Start a program in a folder; it prints into the file `log`."""
    command = tuple(str(part) for part in command)
    variables = dict(os.environ) | environment
    process = SERVER.Process(target=_run, args=(str(log), command, str(folder), variables))
    process.start()
    return process


def start_two(log, *command):
    """Start a program in two processes that train together, as `torchrun` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(log, *command, **world, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]


def finish(log, *processes, seconds=600):
    """Wait for programs; returns what they printed, and their exit status, the worst of them."""
    try:
        for process in processes:
            process.join(seconds)
    finally:
        for process in processes:
            process.kill()
            process.join()
    printed = log.read_text() if log.exists() else ""
    return printed, next((p.exitcode for p in processes if p.exitcode), 0)


def run(log, *command, **options):
    """Start a program and wait for it."""
    return finish(log, start(log, *command, **options))


def _run(log, command, folder, variables):
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")
