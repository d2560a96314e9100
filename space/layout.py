"""How the page looks: one recording at the top, and a tab for each thing to do with it."""

import html
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from datasets_scripts import EMOTIONS
from datasets_scripts.emodb.emodb import EmoDB
from evaluation.demo import KNOWN_VOICES, unseen_scores
from pipelines import EmotionEnhancementPipeline
from pretrained import CLASSIFIER, RECORDINGS

from .actions import (
    MOST_CALIBRATION_FILES,
    SECONDS,
    Models,
    calibrate,
    enhance,
    forget,
    recognise,
)

MAX_FILE_SIZE = "25mb"
# Of people who wait; whoever comes then is told so.
MOST_WAITING = 20
# Uploads and results are deleted when they are so many seconds old.
KEPT_SECONDS = 3600
CLEARER = "clearer, whatever it is"
RERANK = (
    "Tries half as far, as far, and one and a half times as far, and keeps the first version"
    " in which the emotion is surely heard, or else the best."
)
TITLE = "Emotion in speech"
INTRODUCTION = f"""# {TITLE}
Hear which acted emotion a voice resembles, make it clearer, or turn it into another one.

**Emotions here were acted: use recordings of people who agreed to it, mark what you changed, and
decide nothing about anybody with it.**
"""
PRIVACY = (
    f"Recordings last {SECONDS[0]:g} to {SECONDS[1]:g} seconds. They are deleted after an hour and"
    " used for nothing else."
)
CALIBRATION = (
    f"Upload up to {MOST_CALIBRATION_FILES} other recordings of the same person, best ten in"
    " different emotions. Nobody has to say which. They hold for this session only, and nothing of"
    " them is stored."
)
NO_JUDGE = "What is heard is said by the classifier of this page, which is no independent judge."
UNCALIBRATED = "Not calibrated: the person is unknown."
# Of the system: the page asks nobody else for fonts.
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)  # fmt: skip
SLIDERS = {
    "intensity": (0, 2, 0.1, "Intensity", "0 leaves the emotion out, more than 1 exaggerates"),
    "strength": (0, 1, 0.05, "Strength", "0 leaves denoising out, 1 starts from nothing but noise"),
    "guidance_scale": (1, 8, 0.5, "Guidance", "How much the emotion counts; 1 is least"),
    "num_noises": (1, 8, 1, "Noises", "Averaged: more are steadier, and slower"),
    "num_inference_steps": (1, 50, 1, "Steps", "More are finer, and slower"),
}
AUTO, SHIFT, DIFFUSION, BOTH = "auto", "shift", "diffusion", "both"
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(EmotionEnhancementPipeline.__call__).parameters.items()
}


def build_page(models: Models) -> gr.Blocks:
    """The page; `launch_page` serves it."""
    # Without analytics nothing is told to anybody about who opens it.
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as page:
        voice = gr.State(None, delete_callback=lambda name: forget(models, name))
        gr.Markdown(INTRODUCTION)
        recording = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Recording",
            elem_id="recording",
            buttons=["download"],
        )
        _add_examples(recording)
        with gr.Tab("Recognise"):
            _add_recognition(models, recording, voice)
        with gr.Tab("Enhance"):
            _add_enhancement(models, recording, voice)
        with gr.Tab("Calibrate"):
            _add_calibration(models, voice)
        gr.Markdown(f"{_scores(models)} {PRIVACY}")
    # One model, one recording at a time, whatever is done with it.
    page.queue(max_size=MOST_WAITING)
    return page


def launch_page(page: gr.Blocks, **options: Any) -> Any:
    """Serve the page with its limits and looks; options as of `gradio.Blocks.launch`."""
    looks: dict[str, Any] = {"theme": THEME, "footer_links": ["api"], "ssr_mode": False}
    return page.launch(**({"max_file_size": MAX_FILE_SIZE} | looks | options))


def _add_examples(recording: gr.Audio) -> None:
    files = sorted(RECORDINGS.glob("*.flac"), key=_emotion_index)
    if not files:
        return
    known = [EmoDB.parse_stem(file.stem) for file in files]
    gr.Examples(
        [[str(file)] for file in files],
        [recording],
        label="Actors of EmoDB",
        example_labels=[f"{row['emotion']}, {row['gender']}, {row['age']}" for row in known],
        examples_per_page=len(files),
    )


def _emotion_index(file: Any) -> tuple[int, str]:
    return EMOTIONS.index(EmoDB.parse_stem(file.stem)["emotion"]), file.name


def _scores(models: Models) -> str:
    """How well the classifier does, where that is known."""
    if models.classifier_name != CLASSIFIER or not CLASSIFIER.is_dir():
        return ""
    return f"{KNOWN_VOICES} {unseen_scores()}"


def _add_recognition(models: Models, recording: gr.Audio, voice: gr.State) -> None:
    button = gr.Button("Recognise", variant="primary")
    with gr.Row():
        with gr.Column(min_width=280):
            emotions = gr.Label(label="Resembles", min_width=280)
        with gr.Column(min_width=280):
            pitch = _picture("Pitch over the spectrogram, first 10 s")
    looks = _picture("When the classifier listens for each emotion, first 10 s")

    def show(file: str | None, name: str | None) -> tuple[Any, ...]:
        with _one_sentence():
            result = recognise(models, file, name)
        _warn(result.warnings)
        maps = gr.Image(result.attention, visible=result.attention is not None)
        return result.probabilities, result.pitch, maps

    button.click(
        show, [recording, voice], [emotions, pitch, looks],
        api_name="recognise", **_one_at_a_time(),
    )  # fmt: skip


def _add_enhancement(models: Models, recording: gr.Audio, voice: gr.State) -> None:
    with gr.Row():
        emotion = gr.Dropdown(
            [CLEARER, *EMOTIONS], value=CLEARER, label="Make the emotion", min_width=280
        )
        method = gr.Radio(
            [AUTO, SHIFT, DIFFUSION, BOTH],
            value=AUTO,
            label="Method",
            info="Shift: by the mean effect of an emotion. Diffusion: by a network, for this"
            " recording. Both: one on top of the other. Auto: the shift to make clearer,"
            " both to convert.",
            min_width=280,
        )
    with gr.Row():
        intensity = _slider("intensity")
        rerank = gr.Checkbox(value=True, label="Rerank", info=RERANK)
    with gr.Accordion("Settings of the diffusion", open=False):
        others = [_slider(name) for name in SLIDERS if name != "intensity"]
    button = gr.Button("Enhance or convert", variant="primary")
    aim = gr.Markdown()
    with gr.Row():
        with gr.Column(min_width=280):
            source = _player("Before", "before")
            heard = gr.Label(label="Heard before")
        with gr.Column(min_width=280):
            result = _player("After", "after")
            heard_after = gr.Label(label="Heard after")
    pitch = _picture("Pitch before and after, first 10 s")
    change = _picture("Spectrogram before, after, and what changed")

    def show(file: str | None, name: str | None, target: str, *values: Any) -> tuple[Any, ...]:
        settings = dict(zip(("method", "rerank", *SLIDERS), values, strict=True))
        if settings["method"] not in (DIFFUSION, BOTH):
            # The shift would refuse the settings of the diffusion, and auto take it for them.
            settings = {name: settings[name] for name in ("method", "rerank", "intensity")}
        with _one_sentence():
            made = enhance(models, file, None if target == CLEARER else target, name, **settings)
        _warn(made.warnings)
        verb = "Made clearer:" if target == CLEARER else "Converted to"
        return (
            f"{verb} **{made.emotion}**, by {made.how}. {NO_JUDGE}",
            file,
            made.before,
            (made.sampling_rate, made.samples),
            made.after,
            made.pitch,
            made.change,
        )

    button.click(
        show,
        [recording, voice, emotion, method, rerank, intensity, *others],
        [aim, source, heard, result, heard_after, pitch, change],
        api_name="enhance",
        **_one_at_a_time(),
    )


def _add_calibration(models: Models, voice: gr.State) -> None:
    gr.Markdown(CALIBRATION)
    files = gr.File(
        file_count="multiple", file_types=["audio"], label="Recordings of one person",
        elem_id="voice",
    )  # fmt: skip
    with gr.Row():
        button = gr.Button("Calibrate", variant="primary", min_width=140)
        drop = gr.Button("Forget", min_width=140)
    state = gr.Markdown(UNCALIBRATED)

    def learn(paths: list[str] | None, earlier: str | None) -> tuple[str, str]:
        with _one_sentence():
            name = calibrate(models, paths)
        forget(models, earlier)
        return name, f"Calibrated with {len(paths or [])} recordings, for this session."

    def drop_voice(name: str | None) -> tuple[None, str]:
        forget(models, name)
        return None, UNCALIBRATED

    button.click(learn, [files, voice], [voice, state], api_name="calibrate", **_one_at_a_time())
    drop.click(drop_voice, [voice], [voice, state], api_name="forget", **_one_at_a_time())


def _picture(caption: str) -> gr.Image:
    # Above: a label of Gradio's lies over the picture.
    gr.Markdown(caption)
    return gr.Image(
        label=caption,
        show_label=False,
        # WebP, which would be the default, blurs the letters.
        format="png",
        interactive=False,
        buttons=["fullscreen"],
        min_width=280,
    )


def _player(label: str, name: str) -> gr.Audio:
    return gr.Audio(label=label, elem_id=name, interactive=False, buttons=["download"])


def _slider(name: str) -> gr.Slider:
    low, high, step, label, info = SLIDERS[name]
    return gr.Slider(low, high, value=DEFAULTS[name], step=step, label=label, info=info)


def _one_at_a_time() -> dict[str, Any]:
    return {"concurrency_id": "models", "concurrency_limit": 1}


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What is wrong with a recording or a setting, as the page shows errors."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        # Gradio takes the message for HTML, and it holds the name of a file.
        message = html.escape(str(error), quote=False)
        raise gr.Error(message, title="That did not work", print_exception=False) from error


def _warn(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        gr.Warning(html.escape(sentence, quote=False), title="Mind")
