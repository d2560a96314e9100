"""Run a script that is killed, without warning, as soon as a folder has come to its place.

python killed_after.py FOLDER SCRIPT [ARGUMENT ...]
"""

import os
import runpy
import signal
import sys

folder, *arguments = sys.argv[1:]
moved = []


def kill_when_it_is_there(event, details):
    if moved and os.path.isdir(folder):
        # The kill is an event, too.
        moved.clear()
        os.kill(os.getpid(), signal.SIGKILL)
    # Said before it is done; whatever is done next is too late.
    if event == "os.rename" and os.fspath(details[1]) == folder:
        moved.append(folder)


sys.argv, sys.path[0] = arguments, os.getcwd()
sys.addaudithook(kill_when_it_is_there)
runpy.run_path(arguments[0], run_name="__main__")
