"""The real command in real processes: what it imports, its streams and its exit status."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
# The command as `python -m` runs it, which says at its end what it has imported.
WATCHED = """
import atexit, json, runpy, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
runpy.run_module("speech_emotion", run_name="__main__")
"""
SLOW = {"torch", "numpy", "transformers", "diffusers", "datasets", "librosa", "huggingface_hub"}
NOT_FOR_CLASSIFYING = {
    *("diffusers", "datasets", "evaluate", "numba", "sklearn", "scipy.signal", "matplotlib"),
    *("pandas", "train_classifier", "modeling.prosody", "pipelines.emotion_enhancement"),
}


def run(*arguments, stdin=b"", folder=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        timeout=300,
    )


def imported(done):
    return set(json.loads(done.stderr.decode().splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("classify", "--help"), ("enhance", "--help")])
def test_help_waits_for_nothing(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert b"speech-emotion classify speech.wav" in done.stdout or b"Examples:" in done.stdout
    assert not imported(done) & {*SLOW, "rich"}


def test_a_name_that_is_no_text_comes_out_as_it_went_in(transformer, recordings, tmp_path):
    name = b"caf\xe9.wav"
    folder = os.fsencode(tmp_path)
    with open(os.path.join(folder, name), "wb") as file:
        file.write((recordings / "clip.wav").read_bytes())
    done = run(
        *("classify", tmp_path, recordings / "clip.flac", "--csv", "--model", transformer),
        PYTHONIOENCODING="utf-8:strict",
    )
    assert done.returncode == 0, done.stderr
    assert name in done.stdout.splitlines()[1]
    assert len(done.stdout.splitlines()) == 3


def test_classify_reads_standard_input_and_goes_on_after_a_failure(
    transformer, recordings, tmp_path
):
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    done = run(
        *("classify", "broken.wav", "-", recordings / "clip.flac", "--json"),
        *("--model", transformer),
        stdin=(recordings / "clip.wav").read_bytes(),
        folder=tmp_path,
    )
    assert done.returncode == 1
    verdicts = json.loads(done.stdout)
    assert [verdict["file"] for verdict in verdicts] == ["-", str(recordings / "clip.flac")]
    assert verdicts[0]["scores"] == pytest.approx(verdicts[1]["scores"], abs=1e-3)
    said = done.stderr.decode().splitlines()
    assert said[0].startswith("Failed: broken.wav: Cannot decode 'broken.wav'")
    assert len(said) == 2
    assert not imported(done) & NOT_FOR_CLASSIFYING


def test_convert_from_standard_input_to_standard_output(enhancer, recordings, tmp_path):
    done = run(
        *("convert", "-", "-o", "-", "--emotion", "anger", "--model", enhancer),
        stdin=(recordings / "clip.ogg").read_bytes(),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    wave, rate = soundfile.read(io.BytesIO(done.stdout))
    assert done.stdout[:4] == b"RIFF"
    assert rate == 22_025
    assert len(wave) / rate == pytest.approx(1, abs=0.3)
    assert list(tmp_path.iterdir()) == []
