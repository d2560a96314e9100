"""Two corpora of synthetic voices that baselines are run on."""

from io import BytesIO

import soundfile
from datasets import Audio, Dataset

from datasets_scripts import EMOTIONS
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE, make_voice, synthesize


def speak(voice, emotion, sentence="s1"):
    return synthesize(make_voice(voice, seed=0), emotion, sentence, repetition=1)


def dataset_of(*recordings):
    """A dataset of float recordings at the rate of the synthetic voices."""
    files = [BytesIO() for _ in recordings]
    for file, samples in zip(files, recordings, strict=True):
        soundfile.write(file, samples, SAMPLING_RATE, format="WAV", subtype="FLOAT")
    names = [f"{i}.wav" for i in range(len(files))]
    audio = [{"bytes": f.getvalue(), "path": n} for f, n in zip(files, names, strict=True)]
    columns = {"audio": audio, "file": names, "corpus": ["toy_emotions"] * len(files)}
    return Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))


def write_emodb(folder):
    """Four synthetic voices under the names of EmoDB."""
    for voice, speaker in enumerate(("03", "08", "10", "09"), start=1):
        for letter, emotion in zip("NFTWAE", EMOTIONS, strict=True):
            for sentence, code in (("s1", "a01"), ("s2", "a02")):
                path = folder / f"{speaker}{code}{letter}a.wav"
                soundfile.write(path, speak(voice, emotion, sentence), SAMPLING_RATE)


def write_ravdess(folder):
    """Three other synthetic voices, of three folds, under the names of RAVDESS."""
    for voice, actor in enumerate(("01", "06", "09"), start=5):
        for code, emotion in zip(("01", "03", "04", "05", "06", "07"), EMOTIONS, strict=True):
            path = folder / f"03-01-{code}-01-01-01-{actor}.wav"
            soundfile.write(path, speak(voice, emotion), SAMPLING_RATE)


def write_corpora(folder):
    """Both corpora, and what a command line calls them."""
    for name, write in (("emodb", write_emodb), ("ravdess", write_ravdess)):
        (folder / name).mkdir()
        write(folder / name)
    return [f"--corpus={name}={folder / name}" for name in ("emodb", "ravdess")]
