"""Classify, enhance and convert recordings with the weights in the box, and show them on a page.

python -m evaluation.demo                      # the recordings in the box
python -m evaluation.demo my.wav other.wav     # and yours
"""

import argparse
import html
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from huggingface_hub import ModelCard
from transformers import pipeline
from transformers.utils.logging import disable_progress_bar

from datasets_scripts import EMOTIONS
from datasets_scripts.emodb.emodb import EmoDB
from modeling import EmotionFeatureExtractor
from modeling.prosody import extract_prosody
from pipelines import load_enhancer
from pipelines.audio_inputs import read_recording
from pipelines.speech_presence import LEAST_SPEECH
from pretrained import CLASSIFIER, ENHANCER, RECORDINGS

from .enhancement_plots import plot_pitch
from .plots import plot_attention, plot_mel_gallery
from .report import image, player, table, write_page

# Recordings that are enhanced and converted.
NUM_ENHANCED = 3
# What of the box is enhanced, where nobody gives recordings.
SHOWN_EMOTIONS = ("sadness", "happiness", "fear")
CONVERTED_TO, OR_ELSE = "sadness", "fear"
KNOWN_VOICES = (
    "The recordings in the box are of ten actors whose voices trained this classifier. What it"
    " says of them shows that it runs, not how well it does."
)


# Of the pictures, which show the first ten seconds; the networks have their own.
FRONT_END = EmotionFeatureExtractor()
RATE, HOP = FRONT_END.sampling_rate, FRONT_END.hop_length


@dataclass(frozen=True)
class Clip:
    """A recording that the demo shows.

    Args:
        file: Where it is.
        sound: A copy of it, relative to the page.
        waveform: `(samples,)` float32, full scale 1, at `RATE`.
        speaker: Who speaks, where that is known.
        emotion: What is acted, where that is known.
    """

    file: Path
    sound: str
    waveform: np.ndarray
    speaker: str = ""
    emotion: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; exit status 1 if a recording could not be read."""
    parser = argparse.ArgumentParser("python -m evaluation.demo", description=main.__doc__)
    parser.add_argument("recordings", nargs="*", type=Path, help="your own, of any format")
    parser.add_argument("--enhancer", type=Path, default=ENHANCER, help="folder of another one")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"))
    options = parser.parse_args(arguments)
    disable_progress_bar()
    own, errors = read_own(options.recordings, options.output_dir)
    for error in errors:
        print(error, file=sys.stderr)
    box = read_box(options.output_dir)
    if not own and not box:
        parser.error(f"no recordings in '{RECORDINGS}', expected yours: RECORDINGS=\"my.wav\"")
    page = write_demo(own, box, errors, options.enhancer, options.output_dir)
    print(f"Page with players and pictures: {page}")
    return 1 if errors else 0


def read_own(files: Sequence[Path], folder: Path) -> tuple[list[Clip], list[str]]:
    """Recordings that a user gave, and what is wrong with those that cannot be read."""
    clips, errors = [], []
    for number, file in enumerate(files):
        try:
            clips.append(read_clip(file, folder, f"own_{number}_"))
        except (ValueError, OSError) as error:
            errors.append(f"Left out '{file}': {error}")
    return clips, errors


def read_box(folder: Path) -> list[Clip]:
    """The recordings in the box, by emotion."""
    clips = []
    for file in sorted(RECORDINGS.glob("*.flac")):
        known = EmoDB.parse_stem(file.stem)
        speaker = f"{known['speaker']}, {known['gender']}"
        clips.append(read_clip(file, folder, "", speaker, known["emotion"]))
    return sorted(clips, key=lambda clip: EMOTIONS.index(str(clip.emotion)))


def read_clip(
    file: Path, folder: Path, prefix: str, speaker: str = "", emotion: str | None = None
) -> Clip:
    """Read a recording, and lay a copy of it beside the page.

    Raises:
        ValueError: Nothing that can be decoded.
        OSError: The file is not there.
    """
    waveform = read_recording(file, RATE).numpy()
    sound = Path("sounds") / f"{prefix}{file.name}"
    (folder / "sounds").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file.expanduser(), folder / sound)
    return Clip(file.expanduser(), sound.as_posix(), waveform, speaker, emotion)


def write_demo(
    own: Sequence[Clip], box: Sequence[Clip], errors: Sequence[str], enhancer: Path, folder: Path
) -> Path:
    """Write `index.html`, its sounds and its pictures.

    Args:
        own: Recordings of the user, which are enhanced rather than those in the box.
        box: Recordings of known people, in acted emotions.
        errors: What to say of recordings that could not be read.
        enhancer: Folder of the enhancer.
        folder: Where to write.
    """
    classifier = pipeline("audio-classification", str(CLASSIFIER), trust_remote_code=True)
    parts = ["<h1>What the weights in the box make of recordings</h1>"]
    parts += [f"<p>{html.escape(error)}</p>" for error in errors]
    if own:
        parts += ["<h2>Yours</h2>", verdicts(own, classifier)]
    if box:
        parts += ["<h2>In the box</h2>", f"<p>{KNOWN_VOICES} {unseen_scores()}</p>"]
        parts += [verdicts(box, classifier)]
    parts += pictures(own, box, classifier, folder)
    parts += enhancement(own or shown(box), classifier, enhancer, folder)
    return write_page(folder / "index.html", "Demo", parts)


def unseen_scores() -> str:
    """What the classifier's card says of people whom it had not heard."""
    results = ModelCard.load(CLASSIFIER / "README.md").data.eval_results
    scores = [
        f"{100 * result.metric_value:.0f} % of the recordings ({result.dataset_name})"
        for result in results
        if result.metric_type == "accuracy"
    ]
    return f"The same recipe, of people that it had not heard, names {', '.join(scores)} rightly."


def verdicts(clips: Sequence[Clip], classifier: Any) -> str:
    """What the classifier hears in each, as a table and on the console."""
    rows = []
    for clip in clips:
        heard, speech = hear(clip.waveform, classifier), speech_of(clip, classifier)
        print(f"{clip.file.name:16s} {heard:32s} {speech}")
        acted = clip.emotion or "?"
        rows.append([player(clip.sound), *map(html.escape, (clip.file.name, clip.speaker, acted))])
        rows[-1] += [heard, speech]
    return table(["", "recording", "speaker", "acted", "heard", "speech"], rows)


def hear(waveform: np.ndarray, classifier: Any) -> str:
    """The two likeliest emotions, in percent."""
    guesses = classifier(waveform, sampling_rate=RATE, top_k=2)
    return ", ".join(f"{g['label']} {100 * g['score']:.0f} %" for g in guesses)


def speech_of(clip: Clip, classifier: Any) -> str:
    """Whether there is speech at all, without which the emotions mean nothing."""
    score = classifier.speech_score(clip.waveform, sampling_rate=RATE)
    return "yes" if score >= LEAST_SPEECH else "hardly: the emotions mean nothing"


def pictures(own: Sequence[Clip], box: Sequence[Clip], classifier: Any, folder: Path) -> list[str]:
    """Spectrograms of each emotion in the box, and where each head listens."""
    mels = {clip.emotion: log_mel(clip.waveform) for clip in reversed(box)}
    parts = []
    if mels:
        by_emotion = {str(emotion): mels[emotion] for emotion in EMOTIONS if emotion in mels}
        plot_mel_gallery(by_emotion, folder / "mels.png", RATE, HOP)
        parts += ["<h2>How they look</h2>", image("mels.png")]
    clip = next(iter(own or shown(box)))
    plot_attention(
        log_mel(clip.waveform),
        attention(clip.waveform, classifier),
        EMOTIONS,
        folder / "attention.png",
        sampling_rate=RATE,
        hop_length=HOP,
    )
    name = html.escape(clip.file.name)
    return [*parts, f"<p>When the classifier listens, for each emotion, to {name}:</p>",
            image("attention.png")]  # fmt: skip


def attention(waveform: np.ndarray, classifier: Any, corpus: str | None = None) -> np.ndarray:
    """When the head of each emotion listens, over what a picture shows of a recording.

    Args:
        waveform: `(samples,)` at `RATE`.
        classifier: A pipeline with a model of this package.
        corpus: Whose statistics to normalise with; those of unknown origin when not given.

    Returns:
        `(emotions, bands, frames)`.
    """
    features = classifier.preprocess(excerpt(waveform), corpus, RATE)
    with torch.no_grad():
        output = classifier.model(**features.to(classifier.device), output_attentions=True)
    return output.attentions[0][0].cpu().numpy()


def excerpt(waveform: np.ndarray) -> np.ndarray:
    """What a picture shows of a recording."""
    return waveform[: FRONT_END.max_samples]


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Log-mels `(frames, n_mels)` of what a picture shows, in nepers."""
    return FRONT_END(excerpt(waveform), padding=True, return_tensors="np")["input_features"][0]


def shown(box: Sequence[Clip]) -> list[Clip]:
    """The recordings in the box that are enhanced: one of each emotion that is shown."""
    return [next(clip for clip in box if clip.emotion == emotion) for emotion in SHOWN_EMOTIONS]


def enhancement(clips: Sequence[Clip], classifier: Any, model: Path, folder: Path) -> list[str]:
    """Recordings before and after, and converted to another emotion."""
    enhancer = load_enhancer(model)
    enhancer.listener = classifier
    enhancer.set_progress_bar_config(disable=True)
    rows, drawn = [], {}
    for clip in clips[:NUM_ENHANCED]:
        target = CONVERTED_TO if clip.emotion != CONVERTED_TO else OR_ELSE
        versions = [
            ("recorded", clip.sound, clip.waveform),
            enhance(enhancer, clip, folder),
            enhance(enhancer, clip, folder, target),
        ]
        rows += [[player(sound), html.escape(clip.file.name), title, hear(waveform, classifier)]
                 for title, sound, waveform in versions]  # fmt: skip
        drawn[clip.file.stem] = [(title, *melody(waveform)) for title, _, waveform in versions]
    plot_pitch(drawn, folder / "enhanced.png")
    what = (
        "Heard by the classifier in the box, which learned from these recordings as they were: it "
        "is no independent judge."
    )
    return [
        "<h2>Enhanced, and converted</h2>",
        f"<p>{what}</p>",
        table(["", "recording", "version", "heard"], rows),
        image("enhanced.png"),
    ]


def enhance(
    enhancer: Any, clip: Clip, folder: Path, target: str | None = None
) -> tuple[str, str, np.ndarray]:
    """A title, the file relative to the page and the waveform of what was made of a recording.

    Args:
        enhancer: The pipeline, whose defaults are used.
        clip: The recording.
        folder: Where the page is.
        target: What to convert to; what is acted, or else heard, is enhanced when not given.
    """
    made = enhancer(str(clip.file), emotion=target, source_emotion=clip.emotion)
    verb = "enhanced" if target is None else "converted to"
    title = f"{verb} {made.emotions[0]}"
    sound = f"sounds/{Path(clip.sound).stem}_{title.replace(' ', '_')}.wav"
    soundfile.write(folder / sound, made.audios[0], made.sampling_rate)
    waveform = read_recording(folder / sound, RATE).numpy()
    return title, sound, waveform


def melody(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mels, and F0 in Hz, NaN where nothing is voiced."""
    prosody = extract_prosody(excerpt(waveform), RATE, HOP)
    return log_mel(waveform), np.where(prosody.voiced, np.exp(prosody.log_f0), np.nan)


if __name__ == "__main__":
    sys.exit(main())
