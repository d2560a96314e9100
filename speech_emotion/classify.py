"""`speech-emotion classify`."""

import csv as csv_format
import json as json_format
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from . import options
from .files import Recording, find_recordings, read_folder
from .messages import Failures, progress, say
from .models import load_classifier
from .tables import bar, print_table

# Name of the statistics of --calibrate.
CALIBRATED = "calibration"
# More of a probability is noise.
DIGITS = 4


@dataclass(frozen=True)
class Verdict:
    """What was heard in one recording.

    Args:
        file: Its name.
        scores: Probability of each emotion, in the model's order.
        speech_score: How sure it is that there is speech, 0 to 1.
    """

    file: str
    scores: dict[str, float]
    speech_score: float

    @property
    def emotion(self) -> str:
        """The most probable one."""
        return max(self.scores, key=self.scores.__getitem__)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        scores = {label: round(score, DIGITS) for label, score in self.scores.items()}
        return {
            "file": self.file,
            "emotion": self.emotion,
            "score": scores[self.emotion],
            "speech_score": round(self.speech_score, DIGITS),
            "scores": scores,
        }


def classify(
    files: options.Files,
    calibrate: options.Calibrate = None,
    corpus: options.Corpus = None,
    json: options.Json = False,
    csv: options.Csv = False,
    model: options.Model = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
) -> None:
    """Name the emotion in recordings.

    \b
    Examples:
      speech-emotion classify speech.wav
      speech-emotion classify recordings/ "more/*.flac" --csv > emotions.csv
      speech-emotion classify anna_*.wav --calibrate anna/
      ffmpeg -i film.mp4 -f wav - | speech-emotion classify - --json

    Scores are probabilities of the acted emotions that the model knows. The speech score says how
    sure it is that somebody speaks, 0 to 1: below 0.5 the emotion means nothing. Recordings of the
    same voice (--calibrate) help most where room or voice are unlike those of the training.
    """
    options.check_format(json, csv)
    if calibrate is not None and corpus is not None:
        raise typer.BadParameter("Got --calibrate and --corpus, expected one of them")
    failures = Failures()
    recordings = find_recordings(files, failures)
    if not recordings:
        failures.finish()
    classifier = load_classifier(model, revision, trust_remote_code, device)
    name = choose_statistics(classifier, calibrate, corpus, failures)
    verdicts = hear_all(classifier, recordings, name, failures)
    if csv:
        print_csv(verdicts, labels_of(classifier))
    elif json:
        print(json_format.dumps([v.as_dict() for v in verdicts], indent=1, ensure_ascii=False))
    else:
        print_verdicts(list(verdicts))
    failures.finish()


def choose_statistics(
    classifier: Any, calibrate: Path | None, corpus: str | None, failures: Failures
) -> str | None:
    """Name of the statistics to normalise with; those of a folder are computed first.

    Raises:
        typer.BadParameter: A model without statistics, a corpus that it does not know, or a folder
            without recordings.
    """
    known = getattr(classifier, "names", None)
    if corpus is not None and corpus not in (known or []):
        raise typer.BadParameter(f"Bad --corpus '{corpus}', expected one of {sorted(known or [])}")
    if calibrate is None:
        return corpus
    if not hasattr(classifier, "calibrate"):
        raise typer.BadParameter("This model holds no statistics, expected no --calibrate")
    rate = classifier.feature_extractor.sampling_rate
    waves = read_folder(calibrate, rate, failures)
    try:
        classifier.calibrate(waves, name=CALIBRATED, sampling_rate=rate)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return CALIBRATED


def hear_all(
    classifier: Any, recordings: Sequence[Recording], corpus: str | None, failures: Failures
) -> Iterable[Verdict]:
    """Classify recordings, one after the other; those that fail are named and left out."""
    for recording in progress(recordings, len(recordings), "Classifying"):
        with failures.noting(recording.name):
            yield hear(classifier, recording, corpus)


def hear(classifier: Any, recording: Recording, corpus: str | None) -> Verdict:
    """Classify one recording.

    Args:
        classifier: A pipeline.
        recording: Whose source may also be the `audio` column of a dataset's row.
        corpus: Name of the statistics to normalise with; those of unknown origin when not given.

    Raises:
        ValueError: It cannot be decoded; so `OSError`.
    """
    from pipelines import speech_score
    from pipelines.audio_inputs import read_recording

    extractor = classifier.feature_extractor
    rate = extractor.sampling_rate
    wave = read_recording(recording.source, rate).numpy()
    longest = getattr(extractor, "max_seconds", None)
    if longest is not None and len(wave) > longest * rate:
        say(f"{recording.name}: {len(wave) / rate:.0f} s long, the first {longest:g} s were heard")
    named = {} if corpus is None else {"corpus": corpus}
    guesses = classifier({"array": wave, "sampling_rate": rate}, top_k=None, **named)
    by_label = {guess["label"]: float(guess["score"]) for guess in guesses}
    scores = {label: by_label[label] for label in labels_of(classifier)}
    return Verdict(recording.name, scores, speech_score(wave, rate))


def labels_of(classifier: Any) -> list[str]:
    """Emotions of a classifier, in its order."""
    return [name for _, name in sorted(classifier.model.config.id2label.items())]


def print_csv(verdicts: Iterable[Verdict], labels: Sequence[str]) -> None:
    """A row for each recording, as soon as it was heard."""
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "emotion", "score", "speech_score", *labels])
    for verdict in verdicts:
        row = verdict.as_dict()
        scores = row.pop("scores")
        writer.writerow([*row.values(), *(scores[label] for label in labels)])
        sys.stdout.flush()


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """All emotions of one recording, the most probable one of several."""
    if len(verdicts) == 1:
        (verdict,) = verdicts
        ordered = sorted(verdict.scores.items(), key=lambda item: -item[1])
        rows = [[label, bar(score), f"{score:.2f}"] for label, score in ordered]
        print_table([verdict.file, "", "score"], rows)
    elif verdicts:
        rows = [
            [v.file, v.emotion, bar(v.scores[v.emotion]), f"{v.scores[v.emotion]:.2f}", next_of(v)]
            for v in verdicts
        ]
        print_table(["file", "emotion", "", "score", "next"], rows)
    from pipelines.speech_presence import LEAST_SPEECH

    for verdict in verdicts:
        if verdict.speech_score < LEAST_SPEECH:
            say(f"{verdict.file}: no speech heard (speech score {verdict.speech_score:.2f})")


def next_of(verdict: Verdict) -> str:
    """The second most probable emotion, with its probability."""
    ordered = sorted(verdict.scores, key=lambda label: -verdict.scores[label])
    return f"{ordered[1]} {verdict.scores[ordered[1]]:.2f}" if len(ordered) > 1 else ""
