"""What the page does with recordings: recognise, enhance, convert, calibrate. No layout here."""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from evaluation.demo import RATE, attention, log_mel, melody
from evaluation.enhancement_plots import plot_enhancement, plot_pitch
from evaluation.plots import plot_attention
from modeling import EmotionResNetForAudioClassification, EmotionTransformerForAudioClassification
from pipelines import load_enhancer
from pipelines.audio_inputs import read_recording
from pipelines.loading import load_classifier
from pipelines.speech_presence import LEAST_SPEECH, speech_score
from pretrained import CLASSIFIER, ENHANCER

CLASSIFIER_VARIABLE = "SPEECH_EMOTION_CLASSIFIER"
ENHANCER_VARIABLE = "SPEECH_EMOTION_ENHANCER"
SECONDS = (0.25, 60.0)
# Of a minute of stereo at 192 kHz: small files can hold far more than that.
MOST_SAMPLES = int(SECONDS[1] * 192_000 * 2)
# Peaks below are of a microphone that was off, -80 dB of full scale.
SILENT_PEAK = 1e-4
MOST_CALIBRATION_FILES = 20
# Calibrations that are held at once; the oldest gives way.
MOST_VOICES = 100
# Models whose attention has a map for each emotion.
WITH_EMOTION_HEADS = (EmotionResNetForAudioClassification, EmotionTransformerForAudioClassification)
PCM_FULL_SCALE = 2**15 - 1


@dataclass
class Models:
    """The classifier and the enhancer, each loaded when it is first needed.

    Args:
        classifier_name: Folder or Hub id.
        enhancer_name: Folder or Hub id.
        lock: Held by whoever uses them: calibrations change the classifier.
        voices: Names of calibrations that are held, the oldest first.
    """

    classifier_name: str | Path = CLASSIFIER
    enhancer_name: str | Path = ENHANCER
    lock: Any = field(default_factory=threading.RLock, repr=False)
    voices: list[str] = field(default_factory=list)

    @classmethod
    def of_environment(cls) -> "Models":
        """Those that two variables of the environment name, or else those in the box."""
        return cls(
            os.environ.get(CLASSIFIER_VARIABLE) or CLASSIFIER,
            os.environ.get(ENHANCER_VARIABLE) or ENHANCER,
        )

    @cached_property
    def classifier(self) -> Any:
        """Its pipeline."""
        return _load(load_classifier, self.classifier_name, "classifier", CLASSIFIER_VARIABLE)

    @cached_property
    def enhancer(self) -> Any:
        """Its pipeline."""
        pipe = _load(load_enhancer, self.enhancer_name, "enhancer", ENHANCER_VARIABLE)
        pipe.set_progress_bar_config(disable=True)
        pipe.listener = self.classifier
        return pipe


@dataclass(frozen=True)
class Upload:
    """A recording that was accepted.

    Args:
        name: Of the file.
        recording: As pipelines take it.
        waveform: `(samples,)` float32, full scale 1, at 22,025 Hz.
        warnings: What to say of it, a sentence each.
    """

    name: str
    recording: dict[str, Any]
    waveform: np.ndarray
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """What is heard in a recording.

    Args:
        probabilities: By emotion, 0 to 1.
        attention: Where the head of each emotion listens; None for models without such heads.
        pitch: F0 over the spectrogram.
        warnings: What to say of it, a sentence each.
    """

    probabilities: dict[str, float]
    attention: Image.Image | None
    pitch: Image.Image
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Enhancement:
    """A recording before and after.

    Args:
        emotion: What was aimed at.
        method: How it was changed: `"shift"`, `"diffusion"` or `"both"`.
        how: That, and how far, in words.
        sampling_rate: Of `samples` in Hz.
        samples: `(samples,)` int16.
        before: Probabilities by emotion, 0 to 1, of the recording.
        after: The same of what was made of it.
        pitch: F0 over the spectrograms of both.
        change: The spectrograms, and their difference.
        warnings: What to say of it, a sentence each.
    """

    emotion: str
    method: str
    how: str
    sampling_rate: int
    samples: np.ndarray
    before: dict[str, float]
    after: dict[str, float]
    pitch: Image.Image
    change: Image.Image
    warnings: tuple[str, ...]


def accept(file: str | Path | None) -> Upload:
    """Read an uploaded file, or say in one sentence why not.

    Raises:
        ValueError: No file, nothing that can be decoded, silence, or a recording that is shorter
            than 0.25 s or longer than 60 s.
    """
    if file is None:
        raise ValueError("There is no recording yet: record one, upload one or take an example.")
    name, data = Path(file).name, Path(file).read_bytes()
    _check_length(name, data)
    recording = {"bytes": data, "path": name}
    waveform = read_recording(recording, RATE).numpy()
    if np.abs(waveform).max() < SILENT_PEAK:
        raise ValueError(f"'{name}' is silent, expected somebody who speaks.")
    return Upload(name, recording, waveform, _doubts(name, waveform))


def recognise(models: Models, file: str | Path | None, voice: str | None = None) -> Recognition:
    """Name the emotion in a recording.

    Args:
        models: Whose classifier is asked.
        file: The recording, wav, flac, ogg or mp3.
        voice: What `calibrate` returned, if the person was calibrated.

    Raises:
        ValueError: A recording that is not accepted (see `accept`), a voice that is held no longer,
            or a model that cannot be loaded.
    """
    upload = accept(file)
    with models.lock:
        classifier = models.classifier
        _check_voice(models, voice)
        probabilities = _hear(classifier, upload.recording, voice)
        longest = getattr(classifier.feature_extractor, "max_seconds", np.inf)
        maps = None
        if isinstance(classifier.model, WITH_EMOTION_HEADS):
            maps = attention(upload.waveform, classifier, voice)
    warnings = list(upload.warnings)
    if len(upload.waveform) / RATE > longest + 1:
        warnings.append(f"The classifier hears the first {longest:g} seconds.")
    looks = None
    if maps is not None:
        looks = _picture(plot_attention, log_mel(upload.waveform), maps, list(_labels(classifier)))
    pitch = _picture(plot_pitch, {"recording": [("pitch", *melody(upload.waveform))]})
    return Recognition(probabilities, looks, pitch, tuple(warnings))


def enhance(
    models: Models,
    file: str | Path | None,
    emotion: str | None = None,
    voice: str | None = None,
    **settings: Any,
) -> Enhancement:
    """Make the emotion of a recording clearer, or another one.

    Args:
        models: The enhancer, and the classifier, which hears both versions.
        file: The recording, wav, flac, ogg or mp3.
        emotion: What to convert to; when not given, what the classifier hears is made clearer.
        voice: What `calibrate` returned, if the person was calibrated.
        settings: Of the enhancer (`ENHANCEMENT_SETTINGS`).

    Raises:
        ValueError: As for `recognise`, or a setting out of range.
    """
    upload = accept(file)
    with models.lock:
        enhancer, classifier = models.enhancer, models.classifier
        _check_voice(models, voice)
        before = _hear(classifier, upload.recording, voice)
        heard: str | None = max(before, key=lambda label: before[label])
        if heard not in enhancer.emotions:
            heard = None
        made = enhancer(
            upload.recording, emotion=emotion or heard, source_emotion=heard, **settings
        )
        sound = {"array": made.audios[0], "sampling_rate": made.sampling_rate}
        after = _hear(classifier, sound, voice)
    target = made.emotions[0]
    result = read_recording(sound, RATE).numpy()
    melodies = [("before", *melody(upload.waveform)), ("after", *melody(result))]
    change = {target: (log_mel(upload.waveform), log_mel(result))}
    return Enhancement(
        emotion=target,
        method=made.methods[0],
        how=made.describe(),
        sampling_rate=made.sampling_rate,
        samples=_as_pcm(made.audios[0]),
        before=before,
        after=after,
        pitch=_picture(plot_pitch, {target: melodies}),
        change=_picture(plot_enhancement, change),
        warnings=upload.warnings,
    )


def calibrate(models: Models, files: Sequence[str | Path] | None) -> str:
    """Let the classifier get to know a voice from unlabelled recordings.

    Statistics of the recordings are kept in memory, not the recordings; `forget` drops them.

    Args:
        models: Whose classifier it is.
        files: Recordings of one person in any emotions, at most 20.

    Returns:
        A name for `recognise` and `enhance`.

    Raises:
        ValueError: No files or too many, one that is not accepted (see `accept`) or holds hardly
            any speech, or a classifier that cannot be calibrated.
    """
    files = files or []
    if not 1 <= len(files) <= MOST_CALIBRATION_FILES:
        raise ValueError(
            f"Got {len(files)} recordings to calibrate with, expected 1 to "
            f"{MOST_CALIBRATION_FILES}, best ten in different emotions."
        )
    uploads = [accept(file) for file in files]
    if doubts := [doubt for upload in uploads for doubt in upload.warnings]:
        raise ValueError(doubts[0])
    voice = f"voice-{uuid.uuid4().hex}"
    with models.lock:
        models.classifier.calibrate([upload.recording for upload in uploads], name=voice)
        models.voices.append(voice)
        for oldest in models.voices[:-MOST_VOICES]:
            forget(models, oldest)
    return voice


def forget(models: Models, voice: str | None) -> None:
    """Drop what `calibrate` learnt; nothing happens where it was dropped before."""
    with models.lock:
        if voice in models.voices:
            models.voices.remove(voice)
            models.classifier.forget(voice)


def _load(loader: Callable[[Any], Any], name: str | Path, kind: str, variable: str) -> Any:
    if isinstance(name, Path) and not name.is_dir():
        raise ValueError(f"There is no {kind} in the box, expected one that {variable} names.")
    try:
        return loader(name)
    except (OSError, ValueError) as error:
        # Of no use to a visitor, and it may name folders.
        logging.getLogger(__name__).exception("Cannot load the %s '%s'", kind, name)
        raise ValueError(f"The {kind} cannot be loaded; the log of this page says why.") from error


def _check_length(name: str, data: bytes) -> None:
    """Refuse what is no recording or too long, before it is decoded."""
    try:
        information = soundfile.info(BytesIO(data))
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"'{name}' cannot be read as a recording, expected wav, flac, ogg or mp3."
        ) from error
    seconds = information.frames / information.samplerate
    shortest, longest = SECONDS
    if not shortest <= seconds <= longest:
        raise ValueError(
            f"'{name}' lasts {seconds:.4g} seconds, expected {shortest:g} to {longest:g}."
        )
    if information.frames * information.channels > MOST_SAMPLES:
        raise ValueError(
            f"'{name}' has {information.channels} channels at {information.samplerate} Hz, "
            "expected at most two at 192000 Hz."
        )


def _doubts(name: str, waveform: np.ndarray) -> tuple[str, ...]:
    if speech_score(waveform, RATE) >= LEAST_SPEECH:
        return ()
    return (f"There is hardly any speech in '{name}': emotions that are named mean nothing.",)


def _check_voice(models: Models, voice: str | None) -> None:
    if voice is not None and voice not in models.voices:
        raise ValueError("The calibration has been forgotten, please calibrate again.")


def _hear(classifier: Any, recording: Any, voice: str | None) -> dict[str, float]:
    chosen = {} if voice is None else {"corpus": voice}
    return {guess["label"]: guess["score"] for guess in classifier(recording, **chosen)}


def _labels(classifier: Any) -> list[str]:
    config = classifier.model.config
    return [config.id2label[i] for i in range(config.num_labels)]


def _picture(plot: Callable[..., Path], *data: Any) -> Image.Image:
    """What a plot, which writes a file, would show."""
    with TemporaryDirectory() as folder:
        path = plot(*data, Path(folder) / "picture.png")
        with Image.open(path) as picture:
            return picture.convert("RGB")


def _as_pcm(samples: np.ndarray) -> np.ndarray:
    """Samples as int16: Gradio would bring floats to another level, and level carries arousal."""
    return np.round(np.clip(samples, -1, 1) * PCM_FULL_SCALE).astype(np.int16)
