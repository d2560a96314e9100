"""What the README says of the Hub, as printed, against the Hub on 127.0.0.1."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADED = """
guesses = classifier("speech.wav")
enhanced = enhancer("speech.wav", emotion="anger")
print(len(guesses), len(enhanced.audios[0]) > 0, sorted(fold))
"""


def snippet(name):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"<!-- snippet: {name} -->\n```\w+\n(.*?)```", page, re.DOTALL)
    return code


def run(folder, *command, **environment):
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_what_is_in_the_box_goes_there_and_comes_back(hub, recordings_of_emodb, tmp_path):
    hub.store.tokens["hf_you"] = ("you", True)
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    shutil.copytree(recordings_of_emodb, tmp_path / "path" / "to" / "emodb")
    shutil.copy(ROOT / "pretrained" / "recordings" / "09a04Wa.flac", tmp_path / "speech.wav")
    known = {n: os.environ[n] for n in ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "OMP_NUM_THREADS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"HF_TOKEN": "hf_you", "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "mine")}
    addresses = run(tmp_path, "bash", "-euc", snippet("push"), PATH=path, **known, **own)
    assert "you/emotion-enhancer/commit/" in addresses
    # A stranger without the project, a token or anything in the cache.
    code = snippet("pull") + LOADED
    stranger = {"HF_HOME": str(tmp_path / "theirs"), "PATH": "", **known}
    printed = run(tmp_path, sys.executable, "-I", "-c", code, **stranger)
    assert printed.splitlines()[-1] == "6 True ['test', 'train', 'validation']"
