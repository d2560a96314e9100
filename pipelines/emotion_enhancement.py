"""Makes the emotion of recorded speech clearer, or another one, and keeps words and voice.

This file is copied to the Hub with the models, with the siblings that it imports; it imports
nothing else of this project.
"""

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDIMInverseScheduler,
    DDIMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from .audio_inputs import Entry, check_rate, list_recordings, read_recording
from .emotion_enhancement_task import config_content
from .enhancement_checks import (
    check_heard,
    check_seconds,
    check_settings,
    generators_each,
    one_each,
)
from .exported_code import LIBRARIES, export_code, export_component

NO_EMOTION: dict[str, Any] = {"intensity": 0.0, "guidance_scale": 1.0}
# Steps that DDIM can go both ways.
INVERTIBLE = {"timestep_spacing": "leading"}
WINDOW_SECONDS = 10.0
OVERLAP_SECONDS = 1.0
# What is denoised at once: so that a long recording with several noises still fits in memory.
BATCH_SECONDS = 160.0
# Log-mel bands that make one band of the content: wide enough to lose the harmonics.
CONTENT_POOLING = 4
# Spread that a band of the content has at least, in nepers: silence stays silence.
SMALLEST_SPREAD = 0.5


@dataclass
class EmotionEnhancementOutput(BaseOutput):
    """What [`EmotionEnhancementPipeline`] returns, one entry per recording.

    Args:
        audios: Waveforms `(samples,)` float32 at `sampling_rate`, as long as the recordings; empty
            for `output_type="mel"`.
        log_mels: Natural logarithms of mel magnitudes `(frames, n_mels)`.
        emotions: The emotion aimed at.
        sampling_rate: Rate of `audios` in Hz.
    """

    audios: list[np.ndarray]
    log_mels: list[torch.Tensor]
    emotions: list[str]
    sampling_rate: int


@dataclass(frozen=True)
class _Settings:
    """How a batch is denoised."""

    strength: float
    guidance_scale: float
    intensity: float
    num_inference_steps: int
    injection: str
    anchor: str = "source"
    num_noises: int = 1
    callback_on_step_end: Callable[..., Any] | None = None


@dataclass(frozen=True)
class _Window:
    """A stretch of one recording, or all of it, with everything that it is denoised from.

    Args:
        clip: Index of the recording.
        start: First frame of the stretch.
        features: Z-scored log-mels `(frames, n_mels)`, frames padded to a multiple of the stride.
        content: `(channels, bands, latent frames)`.
        style: Tokens `(tokens, size)`.
        emotion: Row of the emotion.
        noise: `(channels, bands, latent frames)`.
        frames: Frames without padding.
        seed: Of the noise that some schedulers add in their steps.
    """

    clip: int
    start: int
    features: torch.Tensor
    content: torch.Tensor
    style: torch.Tensor
    emotion: int
    noise: torch.Tensor
    frames: int
    seed: int


class EmotionEnhancementPipeline(DiffusionPipeline):
    r"""Clearer (or other) emotion in recorded speech by latent diffusion.

    A recording's mel-spectrogram is encoded, noise is injected into its latents up to a timestep
    given by `strength`, and the denoiser extracts it again under the target emotion. The denoiser
    also sees the content (the envelope that makes the words, without pitch, level and tilt) and
    style tokens (voice and delivery). What changed between the decoded latents before and after is
    added to the recording's own spectrogram, so that whatever the autoencoder cannot hold is kept.

    Args:
        vae: Autoencoder of z-scored log-mels `(batch, 1, n_mels, frames)`.
        unet: Denoiser of its latents.
        scheduler: Any scheduler of diffusers that can step forward; `DDPMScheduler` in training.
        emotion_encoder: `EmotionEncoder`.
        style_encoder: `StyleEncoder`.
        classifier: The recogniser, which names the emotion when nobody does.
        feature_extractor: `EmotionFeatureExtractor` with the statistics of training speakers.
        vocoder: `MelVocoder`.
        shift: `EmotionShift` fitted on training speakers, or None: `method="shift"` needs it.

    Attributes:
        listener: An audio classification pipeline that names the emotions that nobody names, where
            the recogniser, which is small, is no good at it. Not saved.

    Raises:
        ValueError: The recogniser and the emotion encoder have other labels.
    """

    model_cpu_offload_seq = "classifier->style_encoder->emotion_encoder->unet->vae->vocoder"
    _optional_components = ["shift"]  # noqa: RUF012 (a diffusers name)

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: Any,
        emotion_encoder: Any,
        style_encoder: Any,
        classifier: Any,
        feature_extractor: Any,
        vocoder: Any,
        shift: Any = None,
    ) -> None:
        super().__init__()
        labels = [classifier.config.id2label[i] for i in range(classifier.config.num_labels)]
        if labels != list(emotion_encoder.config.emotions):
            raise ValueError(
                f"Bad classifier with labels {labels}, expected those of the emotion encoder: "
                f"{list(emotion_encoder.config.emotions)}"
            )
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            emotion_encoder=emotion_encoder,
            style_encoder=style_encoder,
            classifier=classifier,
            feature_extractor=feature_extractor,
            vocoder=vocoder,
            shift=shift,
        )
        self.listener: Any = None

    @property
    def emotions(self) -> list[str]:
        """Emotions that can be aimed at."""
        return list(self.emotion_encoder.config.emotions)

    @property
    def stride(self) -> int:
        """Frames, and bands, of the spectrogram that make one of the latents."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        emotion: str | Sequence[str | None] | None = None,
        corpus: str | Sequence[str | None] | None = None,
        strength: float = 0.8,
        guidance_scale: float = 4.0,
        intensity: float = 1.0,
        num_inference_steps: int = 8,
        injection: str = "noise",
        anchor: str = "no_emotion",
        num_noises: int = 4,
        reference: Any = None,
        reference_corpus: str | Sequence[str | None] | None = None,
        vocoder: str = "source_filter",
        hifigan: Any = None,
        output_type: str = "wav",
        generator: torch.Generator | list[torch.Generator] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        method: str = "auto",
        source_emotion: str | Sequence[str | None] | None = None,
    ) -> EmotionEnhancementOutput:
        r"""Enhance the emotion of recordings, or convert them to another one.

        Args:
            audio: One recording or a list of them: a path, URL, bytes, array, mapping or dataset
                row, as the classification pipeline takes them.
            sampling_rate: Rate in Hz of arrays that come without one; the model's own when not
                given.
            emotion: The target, one for all or one per recording. `None` enhances the source
                emotion or, where that is not said either, what the listener hears.
            corpus: Whose statistics to normalise with, if the feature extractor knows several; one
                for all or one per recording.
            strength: Share of the noise schedule that is injected, 0 to 1: the latents become
                `sqrt(a) * latents + sqrt(1 - a) * noise`, with `a` the schedule's cumulative
                product at that share. 0 returns the recording, 1 starts from noise.
            guidance_scale: Weight of the emotion against "no emotion" (classifier-free guidance); 1
                is none.
            intensity: How far to go from "no emotion" (0) to the emotion (1), or beyond.
            num_inference_steps: Steps of the whole schedule; `strength` of them are run.
            injection: `"noise"` draws it; `"inversion"` finds the noise that gives the recording
                back without an emotion (DDIM inversion, Song et al. 2021), which is more faithful,
                and steps with DDIM whatever the scheduler.
            anchor: What the result is compared with; the difference is added to the recording.
                `"source"` is its own latents. `"no_emotion"` is what the same noise becomes without
                an emotion: only the emotion's share of the change remains, for half as much
                computation again.
            num_noises: Noises that are injected, each for itself, and whose changes are averaged:
                what they have in common is the emotion's, the rest is chance. Inversion draws none.
            reference: Recordings whose style is taken instead of the recordings' own: one for
                all, or one per recording.
            reference_corpus: Whose statistics to normalise the references with, one for all or one
                per reference. When not given, `corpus` where that is one for all, otherwise those
                of recordings of unknown origin.
            vocoder: `"griffin_lim"`, `"source_filter"`, `"psola"` or `"hifigan"`.
            hifigan: Vocoder model for `"hifigan"`.
            output_type: `"wav"`, or `"mel"` for spectrograms only.
            generator: Source of the noise; a list has one per recording.
            callback_on_step_end: Called with `(pipeline, step, timestep, {"latents": ...})` after
                each step; may return a dictionary with other latents.
            method: `"diffusion"`, or `"shift"`: bands, pitch and tempo of the recording's own
                waveform are moved by the mean effect of the emotion on training speakers, times
                `intensity`, at the level that it had (or lower, where peaks would exceed full
                scale), within an octave and half or twice the tempo. That takes no network, and
                listens to none of the other settings. `"auto"` is the shift where the model holds
                one: it converts, which the diffusion model hardly does.
            source_emotion: What recordings carry now, for `"shift"`; what the listener hears when
                not given. Another one than the target is converted: its effect is taken away.

        Raises:
            ValueError: An unknown emotion, corpus, vocoder or option, numbers out of range or of
                another type, a scheduler that cannot step so, or a recording that cannot be read,
                is empty or holds NaN. Nothing has been computed then.
            TypeError: A recording of another type.
            OSError: A file that is not there, or an address that does not answer.
        """
        settings = _Settings(
            strength,
            guidance_scale,
            intensity,
            num_inference_steps,
            injection,
            anchor,
            num_noises,
            callback_on_step_end,
        )
        others = {"vocoder": vocoder, "hifigan": hifigan}
        check_settings(
            self.scheduler, **vars(settings), **others, output_type=output_type, method=method
        )
        method = self._method(method)
        if method == "shift":
            unheard = {name: value for name, value in vars(settings).items() if name != "intensity"}
            parameters = inspect.signature(type(self).__call__).parameters
            check_heard({**unheard, **others, "reference": reference}, parameters)
        entries = self._entries(audio, sampling_rate)
        given = self._names(emotion, len(entries), "emotions")
        corpora = self._names(corpus, len(entries), "corpora")
        carried = self._names(source_emotion, len(entries), "emotions")
        generators = generators_each(generator, len(entries))
        if reference_corpus is None and isinstance(corpus, str):
            reference_corpus = corpus
        references = self._listed(reference, reference_corpus, sampling_rate, len(entries))
        waves = self._read(entries, sampling_rate)
        features = [self._features(w, c) for w, c in zip(waves, corpora, strict=True)]
        theirs = [
            self._features(self._read([entry], sampling_rate)[0], c) for entry, c in references
        ]
        # Who is said to carry an emotion, and to be given none, has that one made clearer.
        given = [name or own for name, own in zip(given, carried, strict=True)]
        emotions = self._fill_in(given, waves, features, corpora)
        if method == "shift":
            return self._shifted(
                waves, features, corpora, emotions, carried, intensity, output_type
            )
        log_mels = self._denoised(features, corpora, theirs, emotions, generators, settings)
        audios: list[np.ndarray] = []
        if output_type == "wav":
            audios = self._vocode(log_mels, waves, vocoder, hifigan, generators)
        self.maybe_free_model_hooks()
        rate = self.feature_extractor.sampling_rate
        return EmotionEnhancementOutput(audios, log_mels, emotions, rate)

    @torch.no_grad()
    def generate(
        self,
        reference: Any,
        emotion: str,
        seconds: float = 3.0,
        sampling_rate: int | None = None,
        corpus: str | None = None,
        guidance_scale: float = 2.0,
        intensity: float = 1.0,
        num_inference_steps: int = 50,
        output_type: str = "wav",
        generator: torch.Generator | None = None,
    ) -> EmotionEnhancementOutput:
        """Speech-like sound with an emotion, from pure noise in the style of a reference.

        It has no words: data for training and listening, not a message.

        Raises:
            ValueError: As for a call, or `seconds` outside 0 to 10.
        """
        settings = _Settings(1.0, guidance_scale, intensity, num_inference_steps, "noise")
        check_settings(self.scheduler, **vars(settings), output_type=output_type)
        check_seconds(seconds, WINDOW_SECONDS)
        self.emotion_encoder.index(emotion)
        self._names(corpus, 1, "corpora")
        (generator,) = generators_each(generator, 1)
        (wave,) = self._read(self._references(reference, sampling_rate, 1), sampling_rate)
        style = self._encode_style(self._features(wave, corpus))
        rate = self.feature_extractor.sampling_rate
        frames = self.feature_extractor.num_frames(round(seconds * rate))
        window = self._empty_window(frames, style, self.emotion_encoder.index(emotion), generator)
        latents = self._denoise([window], settings)
        mel = self._decode(latents)[0, :frames].cpu()
        log_mel = self.feature_extractor.denormalize(mel, corpus)
        audios: list[np.ndarray] = []
        if output_type == "wav":
            audios = [self.vocoder(log_mel, generator=generator).cpu().numpy()]
        return EmotionEnhancementOutput(audios, [log_mel], [emotion], rate)

    @torch.no_grad()
    def reconstruct(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        corpus: str | None = None,
        vocoder: str = "source_filter",
    ) -> EmotionEnhancementOutput:
        """Recordings through the autoencoder alone: what its latents can hold.

        Arguments and errors as of a call; no emotion is aimed at.
        """
        check_settings(self.scheduler, num_inference_steps=1, vocoder=vocoder)
        self._names(corpus, 1, "corpora")
        waves = self.read(audio, sampling_rate)
        log_mels = []
        for wave in waves:
            features = self._features(wave, corpus)
            mel = self._decode(self._encode(self._pad(features)[None]))[0, : len(features)]
            log_mels.append(self._log_mel(mel.cpu(), corpus))
        audios = self._vocode(log_mels, waves, vocoder, None, [None] * len(waves))
        return EmotionEnhancementOutput(audios, log_mels, [], self.feature_extractor.sampling_rate)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save models and code, so that `DiffusionPipeline.from_pretrained` needs nothing else.

        `trust_remote_code=True` is needed to load it. Arguments are those of `DiffusionPipeline`,
        except `push_to_hub`: use the method of that name.

        Raises:
            ValueError: `push_to_hub` was asked for here.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("Got push_to_hub, expected a call of the method push_to_hub instead")
        super().save_pretrained(save_directory, *args, **kwargs)
        folder = Path(save_directory)
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        module = export_code(type(self), folder)
        index["_class_name"] = [module, type(self).__name__]
        held = {name: part for name, part in self.components.items() if part is not None}
        for name, component in held.items():
            if type(component).__module__.split(".")[0] not in LIBRARIES:
                index[name] = [export_component(component, folder / name), type(component).__name__]
        for name, content in (("model_index", index), ("config", config_content(module))):
            text = json.dumps(content, indent=2) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="utf-8")

    def read(self, audio: Any, sampling_rate: int | None = None) -> list[torch.Tensor]:
        """Mono waveforms `(samples,)` at the model's rate, of one recording or a list of them.

        Raises:
            ValueError: A recording that cannot be read, is empty or holds NaN.
        """
        return self._read(self._entries(audio, sampling_rate), sampling_rate)

    def calibrate(
        self,
        recordings: Any,
        *,
        name: str,
        speakers: Sequence[str] | None = None,
        sampling_rate: int | None = None,
    ) -> None:
        """Keep the statistics of unlabelled recordings of one room, or of one voice, under a name.

        `corpus=name` uses them, and `save_pretrained` keeps them.

        Args:
            recordings: A list of recordings, as a call takes them.
            name: What to call the statistics; those of that name before are replaced.
            speakers: Speaker of each recording; each gets statistics under `name/speaker` as well.
            sampling_rate: Rate in Hz of arrays that come without one; the model's when not given.

        Raises:
            ValueError: No name, no recordings, not one speaker for each of them, or a recording
                that cannot be read, is empty or holds NaN.
        """
        waves = [wave.numpy() for wave in self.read(recordings, sampling_rate)]
        rate = self.feature_extractor.sampling_rate
        self.feature_extractor.calibrate(waves, rate, name=name, speakers=speakers)

    def _method(self, method: str) -> str:
        """What `"auto"` stands for; any other as it is."""
        if method == "auto":
            return "diffusion" if self.shift is None else "shift"
        if method == "shift" and self.shift is None:
            raise ValueError("Bad method 'shift', expected 'diffusion': the model holds no shift")
        return method

    def _entries(self, audio: Any, sampling_rate: Any) -> list[Entry]:
        """One recording or several, checked as far as that takes no decoding."""
        if sampling_rate is not None:
            check_rate(sampling_rate)
        return list_recordings(audio, sampling_rate)

    def _listed(
        self, reference: Any, corpus: Any, sampling_rate: Any, count: int
    ) -> list[tuple[Entry, str | None]]:
        """References with the corpus of each; none where there is none."""
        if reference is None:
            return []
        entries = self._references(reference, sampling_rate, count)
        return list(zip(entries, self._names(corpus, len(entries), "corpora"), strict=True))

    def _references(self, reference: Any, sampling_rate: Any, count: int) -> list[Entry]:
        """One reference for all, or one for each of so many recordings."""
        entries = self._entries(reference, sampling_rate)
        if len(entries) not in (1, count):
            raise ValueError(f"Got {len(entries)} references, expected 1 or {count}")
        return entries

    def _read(self, entries: Sequence[Entry], sampling_rate: Any) -> list[torch.Tensor]:
        rate = self.feature_extractor.sampling_rate
        return [read_recording(entry, rate, sampling_rate) for entry in entries]

    def _names(self, given: Any, count: int, kind: str) -> list[str | None]:
        """Emotions or corpora, one per recording, all of which the model knows."""
        names = one_each(given, count, kind)
        for name in filter(None, names):
            if kind == "emotions":
                self.emotion_encoder.index(name)
            elif name not in (known := self.feature_extractor.corpus_statistics):
                raise ValueError(f"Bad corpus {name!r}, expected one of {sorted(known)} or None")
        return names

    def _features(self, wave: torch.Tensor, corpus: str | None) -> torch.Tensor:
        """Z-scored log-mels `(frames, n_mels)` of a waveform of any length."""
        features = self.feature_extractor(wave, padding=False, truncation=False, corpus=corpus)
        return torch.from_numpy(features["input_features"][0])

    def _log_mel(self, features: torch.Tensor, corpus: str | None) -> torch.Tensor:
        return self.feature_extractor.denormalize(features, corpus)

    def _recognise(self, features: torch.Tensor) -> str:
        longest = self.feature_extractor.max_frames
        features = features[None, :longest].to(self._execution_device, self.classifier.dtype)
        logits = self.classifier(features).logits
        return self.classifier.config.id2label[int(logits.argmax())]

    def _fill_in(
        self,
        names: Sequence[str | None],
        waves: Sequence[torch.Tensor],
        features: Sequence[torch.Tensor],
        corpora: Sequence[str | None],
    ) -> list[str]:
        """Emotions as given, or as they are heard."""
        recordings = zip(names, waves, features, corpora, strict=True)
        return [self._hear(w, x, c) if name is None else name for name, w, x, c in recordings]

    def _hear(self, wave: torch.Tensor, features: torch.Tensor, corpus: str | None) -> str:
        """What the listener hears, or without one the recogniser."""
        if self.listener is None:
            return self._recognise(features)
        known = {"corpus": corpus} if corpus in getattr(self.listener, "names", ()) else {}
        rate = self.feature_extractor.sampling_rate
        recording = {"array": wave.numpy(), "sampling_rate": rate}
        guesses = self.listener(recording, top_k=None, **known)
        heard = (guess["label"] for guess in guesses if guess["label"] in self.emotions)
        return next(heard, None) or self._recognise(features)

    def _shifted(
        self,
        waves: Sequence[torch.Tensor],
        features: Sequence[torch.Tensor],
        corpora: Sequence[str | None],
        emotions: list[str],
        carried: Sequence[str | None],
        intensity: float,
        output_type: str,
    ) -> EmotionEnhancementOutput:
        """Recordings moved by the mean effects of emotions."""
        audios = []
        sources = self._fill_in(carried, waves, features, corpora)
        for wave, x, corpus, emotion, source in zip(
            waves, features, corpora, emotions, sources, strict=True
        ):
            factors = tuple(intensity * f for f in self.shift.factors(emotion, source, corpus))
            log_mel = self._log_mel(x, corpus)
            sound = self.shift.move(
                wave.numpy(), log_mel, self.vocoder, emotion, source, corpus, factors
            )
            # At the level that it had a peak may exceed full scale, where a file would clip it.
            audios.append(sound / max(np.abs(sound).max(), 1.0))
        log_mels = [self._log_mel(self._features(torch.from_numpy(a), None), None) for a in audios]
        rate = self.feature_extractor.sampling_rate
        return EmotionEnhancementOutput(
            audios if output_type == "wav" else [], log_mels, emotions, rate
        )

    def _encode_style(self, features: torch.Tensor) -> torch.Tensor:
        longest = self.feature_extractor.max_frames
        features = features[None, :longest].to(self._execution_device, self.style_encoder.dtype)
        return self.style_encoder(features)[0]

    def _denoised(
        self,
        features: Sequence[torch.Tensor],
        corpora: Sequence[str | None],
        references: Sequence[torch.Tensor],
        emotions: Sequence[str],
        generators: Sequence[torch.Generator | None],
        settings: _Settings,
    ) -> list[torch.Tensor]:
        """Log-mels `(frames, n_mels)` of recordings, changed by denoising them."""
        sources = [self._log_mel(x, c) for x, c in zip(features, corpora, strict=True)]
        styles = [self._encode_style(x) for x in references or features]
        styles *= len(features) // len(styles)
        changes = self._changes(features, sources, styles, emotions, generators, settings)
        return [
            source if change is None else self._log_mel(x + change.cpu(), c)
            for source, x, change, c in zip(sources, features, changes, corpora, strict=True)
        ]

    def _changes(
        self,
        features: Sequence[torch.Tensor],
        sources: Sequence[torch.Tensor],
        styles: Sequence[torch.Tensor],
        emotions: Sequence[str],
        generators: Sequence[torch.Generator | None],
        settings: _Settings,
    ) -> Sequence[torch.Tensor | None]:
        """What denoising changes of each recording's features, `(frames, n_mels)`."""
        if _steps_to_run(settings) == 0:
            return [None] * len(features)
        changes = [torch.zeros_like(x, device=self._execution_device) for x in features]
        windows: list[_Window] = []
        for i, (x, source) in enumerate(zip(features, sources, strict=True)):
            emotion = self.emotion_encoder.index(emotions[i])
            for _ in range(_noises_to_draw(settings)):
                windows += self._windows(i, x, source, styles[i], emotion, generators[i])
        weights = [torch.zeros(len(x), 1, device=self._execution_device) for x in features]
        for group in _batches(windows, self._frames(BATCH_SECONDS)):
            for window, change in zip(group, self._change(group, settings), strict=True):
                span = slice(window.start, window.start + window.frames)
                fade = _fade(window.frames, self._overlap).to(change)
                changes[window.clip][span] += fade * change[: window.frames]
                weights[window.clip][span] += fade
        return [change / weight for change, weight in zip(changes, weights, strict=True)]

    def _change(self, windows: Sequence[_Window], settings: _Settings) -> torch.Tensor:
        """Decoded latents after denoising minus the anchor, `(batch, frames, n_mels)`."""
        before = self._encode(torch.stack([w.features for w in windows]))
        after = self._denoise(windows, settings, before)
        if settings.anchor == "no_emotion":
            before = self._denoise(windows, replace(settings, **NO_EMOTION), before)
        return self._decode(after) - self._decode(before)

    @property
    def _overlap(self) -> int:
        """Frames that neighbouring windows share."""
        return self._frames(OVERLAP_SECONDS)

    def _frames(self, seconds: float) -> int:
        """Frames, with padding, of a recording of so many seconds."""
        samples = round(seconds * self.feature_extractor.sampling_rate)
        return math.ceil(self.feature_extractor.num_frames(samples) / self.stride) * self.stride

    def _windows(
        self,
        clip: int,
        features: torch.Tensor,
        source: torch.Tensor,
        style: torch.Tensor,
        emotion: int,
        generator: torch.Generator | None,
    ) -> list[_Window]:
        """Windows over a recording; noise and content are those of the whole."""
        padded, stride = self._pad(features), self.stride
        content = self._content(source, len(padded))
        noise = self._noise(len(padded) // stride, generator)
        longest = self._frames(WINDOW_SECONDS)
        hop = longest - self._overlap
        windows = []
        for start in range(0, max(len(padded) - self._overlap, 1), hop):
            stop = min(start + longest, len(padded))
            latent = slice(start // stride, stop // stride)
            windows.append(
                _Window(
                    clip,
                    start,
                    padded[start:stop],
                    content[..., latent],
                    style,
                    emotion,
                    noise[..., latent],
                    min(stop, len(features)) - start,
                    _draw_seed(generator),
                )
            )
        return windows

    def _empty_window(
        self, frames: int, style: torch.Tensor, emotion: int, generator: torch.Generator | None
    ) -> _Window:
        """Nothing but noise, of so many frames."""
        features = torch.zeros(frames, self.feature_extractor.feature_size)
        window = self._windows(0, features, features, style, emotion, generator)[0]
        return replace(window, content=torch.zeros_like(window.content))

    def _pad(self, features: torch.Tensor) -> torch.Tensor:
        """Repeat the last frame up to a multiple of the stride."""
        missing = -len(features) % self.stride
        return torch.cat([features, features[-1:].expand(missing, -1)])

    def _content(self, source: torch.Tensor, frames: int) -> torch.Tensor:
        """Content of a log-mel, or an empty one if the denoiser does not look at it."""
        channels = self.unet.config.in_channels - self.vae.config.latent_channels
        envelope = content_envelope(source)
        envelope = torch.cat([envelope, envelope[-1:].expand(frames - len(envelope), -1)])
        return fold_frames(envelope, self.stride)[:channels].to(self._execution_device)

    def _noise(self, length: int, generator: torch.Generator | None) -> torch.Tensor:
        bands = self.feature_extractor.feature_size // self.stride
        shape = (self.vae.config.latent_channels, bands, length)
        return randn_tensor(shape, generator, self._execution_device, torch.float32)

    def _encode(self, features: torch.Tensor) -> torch.Tensor:
        """Latents `(batch, channels, bands, frames)` of features `(batch, frames, n_mels)`."""
        image = features.transpose(1, 2)[:, None].to(self._execution_device, self.vae.dtype)
        return self.vae.encode(image).latent_dist.mode().float() * self.vae.config.scaling_factor

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Features `(batch, frames, n_mels)` of latents."""
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        return self.vae.decode(latents).sample[:, 0].transpose(1, 2).float()

    def _denoise(
        self,
        windows: Sequence[_Window],
        settings: _Settings,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Inject noise into latents, or start from it, and extract it under the emotion."""
        content = torch.stack([w.content for w in windows])
        style = torch.stack([w.style for w in windows])
        emotions = torch.tensor([w.emotion for w in windows], device=style.device)
        vectors = self.emotion_encoder.prototypes[emotions]
        target = self.emotion_encoder(emotions, vectors, settings.intensity)
        nothing = self.emotion_encoder(emotions, None, 0.0)
        noise = torch.stack([w.noise for w in windows])
        scheduler = self._scheduler(settings)
        timesteps, options = self._timesteps(scheduler, settings), _step_options(scheduler, windows)
        if latents is None:
            latents = noise * scheduler.init_noise_sigma
        elif settings.injection == "inversion":
            latents = self._invert(latents, nothing, style, content, settings)
        else:
            latents = scheduler.add_noise(latents, noise, timesteps[:1].expand(len(latents)))
        guided = settings.guidance_scale != 1
        conditions = [target, style, content]
        if guided:
            # Both in one batch, which takes less time than one after the other.
            free = [nothing, style, content]
            conditions = [torch.cat(pair) for pair in zip(conditions, free, strict=True)]
        for i, t in enumerate(self.progress_bar(timesteps)):
            model_input = scheduler.scale_model_input(latents, t)
            model_input = torch.cat([model_input] * 2) if guided else model_input
            prediction = self._predict(model_input, t, *conditions)
            if guided:
                prediction, nothing_said = prediction.chunk(2)
                prediction = nothing_said + settings.guidance_scale * (prediction - nothing_said)
            latents = scheduler.step(prediction, t, latents, **options).prev_sample
            if settings.callback_on_step_end is not None:
                given = settings.callback_on_step_end(self, i, t, {"latents": latents})
                latents = (given or {}).get("latents", latents)
        return latents

    def _scheduler(self, settings: _Settings) -> Any:
        """The pipeline's; inversion goes back the way of DDIM, whatever that is."""
        if settings.injection == "noise":
            return self.scheduler
        return DDIMScheduler.from_config(self.scheduler.config, **INVERTIBLE)

    def _timesteps(self, scheduler: Any, settings: _Settings) -> torch.Tensor:
        """The last `strength` of the schedule."""
        scheduler.set_timesteps(settings.num_inference_steps, device=self._execution_device)
        first = settings.num_inference_steps - _steps_to_run(settings)
        first *= getattr(scheduler, "order", 1)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        return scheduler.timesteps[first:]

    def _invert(
        self,
        latents: torch.Tensor,
        nothing: torch.Tensor,
        style: torch.Tensor,
        content: torch.Tensor,
        settings: _Settings,
    ) -> torch.Tensor:
        """The noise that would give the latents back without an emotion."""
        inverse = DDIMInverseScheduler.from_config(self.scheduler.config, **INVERTIBLE)
        inverse.set_timesteps(settings.num_inference_steps, device=self._execution_device)
        for t in inverse.timesteps[: _steps_to_run(settings)]:
            prediction = self._predict(latents, t, nothing, style, content)
            latents = inverse.step(prediction, t, latents).prev_sample
        return latents

    def _predict(
        self,
        model_input: torch.Tensor,
        timestep: torch.Tensor,
        emotion: torch.Tensor,
        style: torch.Tensor,
        content: torch.Tensor,
    ) -> torch.Tensor:
        return self.unet(
            torch.cat([model_input, content], dim=1).to(self.unet.dtype),
            timestep,
            encoder_hidden_states=style.to(self.unet.dtype),
            class_labels=emotion.to(self.unet.dtype),
        ).sample.float()

    def _vocode(
        self,
        log_mels: Sequence[torch.Tensor],
        waves: Sequence[torch.Tensor],
        method: str,
        hifigan: Any,
        generators: Sequence[torch.Generator | None],
    ) -> list[np.ndarray]:
        return [
            self.vocoder(log_mel, wave, method=method, hifigan=hifigan, generator=own).cpu().numpy()
            for log_mel, wave, own in zip(log_mels, waves, generators, strict=True)
        ]


def content_envelope(log_mel: torch.Tensor) -> torch.Tensor:
    """What makes the words: the coarse envelope without level, tilt and pitch.

    Bands are pooled until harmonics are gone; over the recording each then has mean 0 and the same
    spread (cepstral mean and variance normalisation, Viikki & Laurila 1998, on log energies), which
    takes away how loud, how bright and how lively the voice is: those carry arousal.

    Args:
        log_mel: Natural logarithms of mel magnitudes `(frames, n_mels)` of a whole recording.

    Returns:
        `(frames, n_mels / 4)`.
    """
    pooled = F.avg_pool1d(log_mel[None], CONTENT_POOLING)[0]
    centred = pooled - pooled.mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt().clamp(min=SMALLEST_SPREAD)
    return centred / spread


def fold_frames(envelope: torch.Tensor, stride: int) -> torch.Tensor:
    """Neighbouring frames as channels: `(frames, bands)` to `(stride, bands, frames / stride)`."""
    frames, bands = envelope.shape
    return envelope.reshape(frames // stride, stride, bands).permute(1, 2, 0).contiguous()


def _steps_to_run(settings: _Settings) -> int:
    return math.ceil(settings.strength * settings.num_inference_steps)


def _noises_to_draw(settings: _Settings) -> int:
    """Inversion draws none: its results would all be the same."""
    return settings.num_noises if settings.injection == "noise" else 1


def _draw_seed(generator: torch.Generator | None) -> int:
    device = None if generator is None else generator.device
    return int(torch.randint(2**62, (1,), generator=generator, device=device))


def _step_options(scheduler: Any, windows: Sequence[_Window]) -> dict[str, Any]:
    """A new generator for each window, for schedulers that draw noise in their steps.

    The noise depends neither on what else is in the batch nor on what was denoised before.
    """
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    return {"generator": [torch.Generator().manual_seed(w.seed) for w in windows]}


def _batches(windows: Sequence[_Window], frames: int) -> Iterator[list[_Window]]:
    """Windows that can be stacked, at most so many frames at a time: nothing sees padding."""
    groups: dict[int, list[_Window]] = {}
    for window in windows:
        groups.setdefault(len(window.features), []).append(window)
    for length, group in groups.items():
        count = max(1, frames // length)
        for first in range(0, len(group), count):
            yield group[first : first + count]


def _fade(frames: int, overlap: int) -> torch.Tensor:
    """Weights `(frames, 1)` that rise and fall within the overlap; positive everywhere."""
    position = torch.arange(1, frames + 1)
    return torch.minimum(position, position.flip(0)).clamp(max=overlap)[:, None] / overlap
