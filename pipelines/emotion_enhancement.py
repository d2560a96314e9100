"""Makes the emotion of recorded speech clearer, or another one, and keeps words and voice.

This file is copied to the Hub with the models, with the siblings that it imports; it imports
nothing else of this project.
"""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from .audio_inputs import Entry, check_rate, list_recordings, read_recording
from .enhancement_checks import (
    check_settings,
    generators_each,
    is_count,
    is_default,
    one_each,
    one_or,
)
from .enhancement_export import save_with_code
from .enhancement_sampling import Sampling, denoise, set_timesteps
from .enhancement_windows import (
    BATCH_SECONDS,
    OVERLAP_SECONDS,
    WINDOW_SECONDS,
    Aim,
    CrossFade,
    Window,
    batches,
    cut_windows,
    pad_frames,
)

# How much of denoising's change is done on top of the shift (chosen on validation speakers).
WEIGHT_BESIDE_SHIFT = 0.5
# What is chosen for each recording (on validation speakers the best; see `__call__`).
AUTO = "auto"
# Settings that denoising alone listens to.
DENOISING = (
    "strength",
    "guidance_scale",
    "num_inference_steps",
    "num_noises",
    "callback_on_step_end",
    "reference",
)
# How far, as a share of what was asked for, versions go until one is heard as told, and how sure
# those who listen have to be of it (chosen on validation speakers).
AMOUNTS = (0.5, 1.0, 1.5)
SURE = 0.7


@dataclass
class EmotionEnhancementOutput(BaseOutput):
    """What [`EmotionEnhancementPipeline`] returns, one entry per recording.

    Args:
        audios: Waveforms `(samples,)` float32 at `sampling_rate`; empty for `output_type="mel"`.
        log_mels: Natural logarithms of their mel magnitudes `(frames, n_mels)`.
        emotions: The emotion aimed at.
        methods: How each was changed: `"shift"`, `"diffusion"` or `"both"`.
        amounts: How far each was changed, 1 being as far as was asked for; see `rerank`.
        certainties: How sure those who listened are of each one's emotion, 0 to 1; `None` where
            nobody was asked, without `rerank`.
        sampling_rate: Rate of `audios` in Hz.
    """

    audios: list[np.ndarray]
    log_mels: list[torch.Tensor]
    emotions: list[str]
    methods: list[str]
    amounts: list[float]
    certainties: list[float | None]
    sampling_rate: int

    def describe(self, index: int = 0) -> str:
        """How a recording was changed, in words, as `"both, 1.5 times as far"`."""
        amount = self.amounts[index]
        return self.methods[index] + ("" if amount == 1 else f", {amount:g} times as far")


@dataclass
class _Recording:
    """One recording of a call.

    Args:
        wave: Mono `(samples,)` at the model's rate.
        features: Its z-scored log-mels `(frames, n_mels)`.
        corpus: Whose statistics those are.
        emotion: The target.
        carried: What it carries now.
        method: `"shift"`, `"diffusion"` or `"both"`.
        amount: How far it was changed.
        certainty: How sure those who listened are of its emotion then.
        generator: Of its noise.
        style: Z-scored log-mels whose style is taken.
    """

    wave: torch.Tensor
    features: torch.Tensor
    corpus: str | None
    emotion: str = ""
    carried: str = ""
    method: str = "diffusion"
    amount: float = 1.0
    certainty: float | None = None
    generator: torch.Generator | None = None
    style: torch.Tensor | None = None


@dataclass(frozen=True)
class _Source:
    """A recording that is to be changed, with what has been found out about it.

    Args:
        told: The recording.
        log_mel: Natural logarithms of its mel magnitudes `(frames, n_mels)`.
        prosody: Its pitch on the same frames; None where nothing is to be changed.
        denoised: How denoising changes it, or None.
    """

    told: _Recording
    log_mel: torch.Tensor
    prosody: Any
    denoised: Any


class EmotionEnhancementPipeline(DiffusionPipeline):
    r"""Clearer (or other) emotion in recorded speech by latent diffusion, or by a mean shift.

    A recording becomes rows over time: the latents of its mel-spectrogram, its melody and its
    tempo. Noise is injected into them up to a timestep given by `strength`, and the denoiser, which
    sees the recording's own rows beside the noisy ones, extracts it again under the target emotion:
    it has learned from pairs of recordings of one sentence by one speaker how the same person says
    the same with that emotion. What changed in spectrum, pitch and tempo is done to the recording's
    own waveform, so that whatever the latents cannot hold is kept.

    Args:
        vae: Autoencoder of z-scored log-mels `(batch, 1, n_mels, frames)`.
        denoiser: `EmotionDenoiser`.
        scheduler: A scheduler of diffusers that can be told its timesteps; `DDPMScheduler` in
            training.
        classifier: The recogniser, which names the emotion when nobody does.
        feature_extractor: `EmotionFeatureExtractor` with the statistics of training speakers.
        vocoder: `MelVocoder`.
        shift: `EmotionShift` fitted on training speakers, or None: `method="shift"` needs it.

    Attributes:
        listener: An audio classification pipeline, with the emotions of the denoiser among its
            labels, that names the emotions that nobody names, and says which version is the
            clearest, where the recogniser, which is small, is no good at it. Not saved.

    Raises:
        ValueError: The recogniser and the denoiser have other labels.
    """

    model_cpu_offload_seq = "classifier->denoiser->vae->vocoder"
    _optional_components = ["shift"]  # noqa: RUF012 (a diffusers name)

    def __init__(
        self,
        vae: AutoencoderKL,
        denoiser: Any,
        scheduler: Any,
        classifier: Any,
        feature_extractor: Any,
        vocoder: Any,
        shift: Any = None,
    ) -> None:
        super().__init__()
        labels = [classifier.config.id2label[i] for i in range(classifier.config.num_labels)]
        if labels != denoiser.emotions:
            raise ValueError(
                f"Bad classifier with labels {labels}, expected those of the denoiser: "
                f"{denoiser.emotions}"
            )
        self.register_modules(
            vae=vae,
            denoiser=denoiser,
            scheduler=scheduler,
            classifier=classifier,
            feature_extractor=feature_extractor,
            vocoder=vocoder,
            shift=shift,
        )
        self.listener: Any = None

    @property
    def emotions(self) -> list[str]:
        """Emotions that can be aimed at."""
        return self.denoiser.emotions

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
        strength: float = 1.0,
        guidance_scale: float = 3.0,
        intensity: float = 1.0,
        num_inference_steps: int = 8,
        num_noises: int = 4,
        reference: Any = None,
        reference_corpus: str | Sequence[str | None] | None = None,
        vocoder: str = "psola",
        hifigan: Any = None,
        output_type: str = "wav",
        generator: torch.Generator | list[torch.Generator] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        method: str = AUTO,
        source_emotion: str | Sequence[str | None] | None = None,
        rerank: bool = True,
    ) -> EmotionEnhancementOutput:
        r"""Enhance the emotion of recordings, or convert them to another one.

        What comes out is at the level that the recording had (or lower, where peaks would exceed
        full scale), so that loudness alone tells no emotion.

        Args:
            audio: One recording or a list of them: a path, URL, bytes, array, mapping or dataset
                row, as the classification pipeline takes them.
            sampling_rate: Rate in Hz of arrays that come without one; the model's own when not
                given.
            emotion: The target, one for all or one per recording. `None` enhances the source
                emotion or, where that is not said either, what the listener hears.
            corpus: Whose statistics to normalise with, if the feature extractor knows several; one
                for all or one per recording.
            strength: Share of the noise schedule that is injected, 0 to 1: the rows become
                `sqrt(a) * rows + sqrt(1 - a) * noise`, with `a` the schedule's cumulative product
                at that share. 0 leaves denoising out, 1 starts from nothing but noise.
            guidance_scale: Weight of the emotion against none said (classifier-free guidance, Ho &
                Salimans 2022); 1 is none.
            intensity: How far to go from no emotion said (0) to the emotion (1), or beyond.
            num_inference_steps: Steps from the noise injected to none.
            num_noises: Noises that are injected, each for itself, and whose changes are averaged:
                what they have in common is the emotion's, the rest is chance.
            reference: Recordings whose style is taken instead of the recordings' own: one for
                all, or one per recording.
            reference_corpus: Whose statistics to normalise the references with, one for all or one
                per reference. When not given, `corpus` where that is one for all, otherwise those
                of recordings of unknown origin.
            vocoder: `"psola"` moves pitch, tempo and spectrum of the recording's own waveform. The
                others move the spectrum alone: `"source_filter"`, `"griffin_lim"`, `"hifigan"`.
            hifigan: Vocoder model for `"hifigan"`.
            output_type: `"wav"`, or `"mel"` for spectrograms only.
            generator: Source of the noise; a list has one per recording.
            callback_on_step_end: Called with `(pipeline, step, timestep, {"latents": ...})` after
                each step; may return a dictionary with other latents, which are noisy rows.
            method: `"shift"` moves bands, pitch and tempo by the mean effect of the emotion on
                training speakers, times `intensity`, which takes no network and listens to no
                setting of the diffusion; `"diffusion"` by what denoising changed; `"both"` by the
                shift and, on top of it, half of what denoising changed. `"auto"` is what was best
                on validation speakers: the shift where the emotion that is carried is to be
                clearer, both where another one is aimed at or a setting of the diffusion is given,
                and the diffusion where the model holds no shift.
            source_emotion: What recordings carry now; what the listener hears when not given.
            rerank: Try to change each recording half as far as asked for, as far, and one and a
                half times as far in pitch and tempo, and keep the first version that the recogniser
                and the listener are sure of, 0.7 or more in the mean of both, otherwise the one
                that they are surest of (as generated images are reranked, Ramesh et al. 2021): no
                more is changed than it takes.

        Raises:
            ValueError: An unknown emotion, corpus, vocoder or option, numbers out of range or of
                another type, a scheduler that cannot step so, or a recording that cannot be read,
                is empty or holds NaN. Nothing has been computed then.
            TypeError: A recording of another type.
            OSError: A file that is not there, or an address that does not answer.
        """
        sampling = Sampling(
            strength,
            guidance_scale,
            intensity,
            num_inference_steps,
            num_noises,
            callback_on_step_end,
        )
        sound = {"vocoder": vocoder, "hifigan": hifigan, "output_type": output_type}
        chosen = {"method": method, "rerank": rerank, "reference": reference}
        method = self.check(**vars(sampling), **sound, **chosen)
        entries = self._entries(audio, sampling_rate)
        given = self._names(emotion, len(entries), "emotions")
        corpora = self._names(corpus, len(entries), "corpora")
        carried = self._names(source_emotion, len(entries), "emotions")
        generators = generators_each(generator, len(entries))
        if reference_corpus is None and isinstance(corpus, str):
            reference_corpus = corpus
        references = self._listed(reference, reference_corpus, sampling_rate, len(entries))
        recordings = [
            _Recording(wave, self._features(wave, c), c, generator=own)
            for wave, c, own in zip(
                self._read(entries, sampling_rate), corpora, generators, strict=True
            )
        ]
        self._take_styles(recordings, references, sampling_rate)
        self._take_aims(recordings, given, carried, method, strength)
        audios = self._changed(recordings, sampling, rerank, vocoder, hifigan)
        self.maybe_free_model_hooks()
        return self._output(recordings, audios, output_type)

    def generate(
        self,
        reference: Any,
        emotion: str,
        num_takes: int = 1,
        sampling_rate: int | None = None,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> EmotionEnhancementOutput:
        """Takes of a reference: its words in its voice with an emotion, each from its own noise.

        A call averages what several noises change, so that the same comes out whatever the noise.
        Here each take keeps what its noise made of melody, tempo and spectrum, as a speaker says
        nothing twice in the same way: copies to train on, or to choose from.

        Args:
            reference: One recording, as a call takes it.
            emotion: What is to be heard.
            num_takes: How many.
            sampling_rate: Rate in Hz of an array that comes without one.
            generator: Source of the noise.
            settings: Others of a call. Takes are made by `method="both"`, or by the diffusion where
                the model holds no shift, if these do not say otherwise.

        Raises:
            ValueError: As of a call; several references, or no whole number of takes.
        """
        if not is_count(num_takes):
            raise ValueError(f"Bad num_takes {num_takes!r}, expected a whole number, 1 or more")
        waves = self.read(reference, sampling_rate)
        if len(waves) != 1:
            raise ValueError(f"Got {len(waves)} references, expected one")
        told = {
            "method": "diffusion" if self.shift is None else "both",
            "num_noises": 1,
            **settings,
        }
        if told["method"] == "shift":
            raise ValueError(
                "Bad method 'shift' for takes, which differ by noise that it has none of, expected "
                "'both' or 'diffusion'"
            )
        rate = self.feature_extractor.sampling_rate
        takes = [waves[0].numpy()] * num_takes
        return self(takes, rate, emotion=emotion, generator=generator, **told)

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
        (corpus,) = self._names(corpus, 1, "corpora")
        recordings = [
            _Recording(w, self._features(w, corpus), corpus)
            for w in self.read(audio, sampling_rate)
        ]
        audios = []
        for told in recordings:
            latents = self._encode(pad_frames(told.features, self.stride)[None])
            mel = self._decode_latents(latents)[0, : len(told.features)].cpu()
            log_mel = self.feature_extractor.denormalize(mel, corpus)
            audios.append(self.vocoder(log_mel, told.wave, method=vocoder).cpu().numpy())
        return self._output(recordings, audios, "wav")

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
        save_with_code(self, Path(save_directory))

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

    def check(
        self, emotion: Any = None, corpus: Any = None, source_emotion: Any = None, **settings: Any
    ) -> str:
        """Refuse what a call would refuse whatever the recordings are, before any is read.

        Args:
            emotion: One for all recordings, as of a call.
            corpus: Likewise.
            source_emotion: Likewise.
            settings: Other arguments of a call, by name; the defaults of those that are not given.

        Returns:
            The method that the call would use, `"auto"` where that depends on the recording.

        Raises:
            ValueError: As of a call.
        """
        parameters = inspect.signature(type(self).__call__).parameters
        if unknown := sorted(set(settings) - set(parameters)):
            raise ValueError(f"Bad setting '{unknown[0]}', expected some of {list(parameters)}")
        given = {name: p.default for name, p in parameters.items()} | settings
        check_settings(self.scheduler, **given)
        if (model := getattr(self.listener, "model", None)) is not None:
            self._check_listener(model.config.id2label.values())
        for names, kind in ((emotion, "emotions"), (source_emotion, "emotions")):
            self._names(names, 1, kind)
        self._names(corpus, 1, "corpora")
        told = sorted(n for n in DENOISING if not is_default(given[n], parameters[n].default))
        return self._method(given["method"], told)

    def _check_listener(self, labels: Collection[str]) -> None:
        """Refuse a listener that cannot say of each emotion how sure it is."""
        if not set(self.emotions) <= set(labels):
            raise ValueError(
                f"Bad listener with labels {list(labels)}, expected one that knows {self.emotions}"
            )

    def _method(self, method: str, told: Sequence[str]) -> str:
        """What was asked for; for `"auto"` what that stands for, with some settings of denoising,
        where that is the same for all recordings."""
        if method == AUTO:
            if self.shift is None:
                return "diffusion"
            return "both" if told else AUTO
        if method != "diffusion" and self.shift is None:
            raise ValueError(
                f"Bad method {method!r}, expected 'diffusion': the model holds no shift"
            )
        if method == "shift" and told:
            raise ValueError(
                f"Got {list(told)} for method 'shift', which listens to none of them, expected "
                "method='both' or 'diffusion' with them; intensity says how far to shift"
            )
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
            raise ValueError(f"Got {len(entries)} references, expected {one_or(count)}")
        return entries

    def _read(self, entries: Sequence[Entry], sampling_rate: Any) -> list[torch.Tensor]:
        rate = self.feature_extractor.sampling_rate
        return [read_recording(entry, rate, sampling_rate) for entry in entries]

    def _names(self, given: Any, count: int, kind: str) -> list[str | None]:
        """Emotions or corpora, one per recording, all of which the model knows."""
        names = one_each(given, count, kind)
        for name in (n for n in names if n is not None):
            if kind == "emotions":
                self.denoiser.emotion_index(name)
            elif name not in (known := self.feature_extractor.corpus_statistics):
                raise ValueError(f"Bad corpus {name!r}, expected one of {sorted(known)} or None")
        return names

    def _features(self, wave: torch.Tensor, corpus: str | None) -> torch.Tensor:
        """Z-scored log-mels `(frames, n_mels)` of a waveform of any length."""
        features = self.feature_extractor(wave, padding=False, truncation=False, corpus=corpus)
        return torch.from_numpy(features["input_features"][0])

    def _recognise(self, features: torch.Tensor) -> dict[str, float]:
        """How sure the recogniser is of each emotion."""
        longest = self.feature_extractor.max_frames
        features = features[None, :longest].to(self._execution_device, self.classifier.dtype)
        sure = self.classifier(features).logits.float().softmax(dim=-1)[0].tolist()
        return dict(zip(self.emotions, sure, strict=True))

    def _take_styles(
        self,
        recordings: Sequence[_Recording],
        references: Sequence[tuple[Entry, str | None]],
        sampling_rate: Any,
    ) -> None:
        """Note whose style each recording is given."""
        theirs = [self._features(self._read([e], sampling_rate)[0], c) for e, c in references]
        theirs *= len(recordings) // max(len(theirs), 1)
        for told, style in zip(recordings, theirs or [r.features for r in recordings], strict=True):
            told.style = style

    def _take_aims(
        self,
        recordings: Sequence[_Recording],
        given: Sequence[str | None],
        carried: Sequence[str | None],
        method: str,
        strength: float,
    ) -> None:
        """Note what each recording carries, what it is to carry, and how it gets there."""
        for told, target, own in zip(recordings, given, carried, strict=True):
            told.carried = own or self._hear(told)
            # Who is to be given no emotion has the one that is carried made clearer.
            told.emotion = target or told.carried
            best = "shift" if told.emotion == told.carried else "both"
            told.method = best if method == AUTO else method
            if told.method == "both" and not strength:
                told.method = "shift"

    def _hear(self, told: _Recording) -> str:
        """The emotion that the listener, or without one the recogniser, hears."""
        if self.listener is None:
            sure = self._recognise(told.features)
        else:
            sure = self._ask_listener(told.wave, told.corpus)
        return max(sure, key=lambda name: sure[name])

    def _certainty(self, told: _Recording, sound: np.ndarray) -> float:
        """How sure they who listen are of what a recording is to carry: the mean of the recogniser
        and, where there is one, the listener."""
        wave = torch.from_numpy(sound)
        heard = [self._recognise(self._features(wave, told.corpus))]
        if self.listener is not None:
            heard.append(self._ask_listener(wave, told.corpus))
        return sum(sure[told.emotion] for sure in heard) / len(heard)

    def _ask_listener(self, wave: torch.Tensor, corpus: str | None) -> dict[str, float]:
        """How sure the listener is of each emotion."""
        known = {"corpus": corpus} if corpus in getattr(self.listener, "names", ()) else {}
        recording = {
            "array": wave.numpy(),
            "sampling_rate": self.feature_extractor.sampling_rate,
        }
        guesses = self.listener(recording, top_k=None, **known)
        sure = {guess["label"]: guess["score"] for guess in guesses}
        self._check_listener(sure)
        return {name: sure[name] for name in self.emotions}

    def _changed(
        self,
        recordings: Sequence[_Recording],
        sampling: Sampling,
        rerank: bool,
        vocoder: str,
        hifigan: Any,
    ) -> list[np.ndarray]:
        """Waveforms of recordings, each changed by its method."""
        still = [told.method == "diffusion" and not sampling.strength for told in recordings]
        listened = [
            (told, None if is_still else self._listen(told.wave))
            for told, is_still in zip(recordings, still, strict=True)
        ]
        denoised = [(t, p) for t, p in listened if t.method != "shift" and sampling.strength]
        changes = self._changes(denoised, sampling)
        audios = []
        for told, prosody in listened:
            source = _Source(
                told,
                self.feature_extractor.denormalize(told.features, told.corpus),
                prosody,
                next(changes) if told.method != "shift" and sampling.strength else None,
            )
            move = functools.partial(
                self._moved, source, sampling.intensity, vocoder=vocoder, hifigan=hifigan
            )
            changed = rerank and prosody is not None
            # Further than asked for only pitch and tempo go, which others leave as they are.
            amounts = [a for a in AMOUNTS if a <= 1 or vocoder == "psola"]
            audios.append(self._clearest(told, move, amounts) if changed else move(1.0))
        return audios

    def _clearest(
        self, told: _Recording, move: Callable[[float], np.ndarray], amounts: Sequence[float]
    ) -> np.ndarray:
        """The version that is changed least of those that the emotion is surely heard in; where
        there is none, the one that it is heard best in."""
        best, clearest = -1.0, told.wave.numpy()
        for amount in amounts:
            version = move(amount)
            if (certainty := self._certainty(told, version)) > best:
                best, told.amount, clearest = certainty, amount, version
            if best >= SURE:
                break
        told.certainty = best
        return clearest

    def _moved(
        self, source: _Source, intensity: float, amount: float, vocoder: str, hifigan: Any
    ) -> np.ndarray:
        """A recording changed so much of what was asked for, at its level."""
        told, steps = source.told, []
        # Further than asked for only pitch and tempo go: more of the spectrum is hiss, or mumbling.
        of_spectrum = min(amount, 1.0)
        if told.method != "diffusion":
            named = (told.emotion, told.carried, told.corpus)
            bands, prosody = self.shift.factors(*named)
            far = (intensity * of_spectrum * bands, intensity * amount * prosody)
            steps.append(self.shift(source.log_mel, source.prosody, *named, far))
        if source.denoised is not None:
            weight = 1.0 if told.method == "diffusion" else WEIGHT_BESIDE_SHIFT
            steps.append(source.denoised.times(amount * weight, of_spectrum * weight))
        sound = told.wave.numpy()
        if steps:
            change = functools.reduce(lambda one, other: one.then(other), steps)
            sound = self._vocoded(source, change, vocoder, hifigan)
        # At the level that it had a peak may exceed full scale, where a file would clip it.
        return sound / max(np.abs(sound).max(initial=0), 1.0)

    def _vocoded(self, source: _Source, change: Any, vocoder: str, hifigan: Any) -> np.ndarray:
        """A recording's waveform after a change."""
        contours: dict[str, Any] = {}
        if vocoder == "psola":
            contours = {
                "pitch_factor": change.pitch_factor,
                "tempo_factor": change.tempo_factor,
                "prosody": source.prosody,
            }
        told = source.told
        sound = self.vocoder(
            source.log_mel + change.log_mel,
            told.wave,
            method=vocoder,
            hifigan=hifigan,
            generator=told.generator,
            **contours,
        )
        return self.vocoder.match_level(sound.cpu().numpy(), told.wave.numpy())

    def _output(
        self, recordings: Sequence[_Recording], audios: list[np.ndarray], output_type: str
    ) -> EmotionEnhancementOutput:
        rate = self.feature_extractor.sampling_rate
        log_mels = []
        for audio in audios:
            features = self._features(torch.from_numpy(audio), None)
            log_mels.append(self.feature_extractor.denormalize(features, None))
        return EmotionEnhancementOutput(
            audios if output_type == "wav" else [],
            log_mels,
            [told.emotion for told in recordings],
            [told.method for told in recordings],
            [told.amount for told in recordings],
            [told.certainty for told in recordings],
            rate,
        )

    # --- Denoising -------------------------------------------------------------------------------

    def _listen(self, wave: torch.Tensor) -> Any:
        extractor = self.feature_extractor
        return self.denoiser.listen(wave.numpy(), extractor.sampling_rate, extractor.hop_length)

    def _changes(
        self, listened: Sequence[tuple[_Recording, Any]], sampling: Sampling
    ) -> Iterator[Any]:
        """How denoising changes each recording, which comes with its prosody."""
        windows: list[Window] = []
        for i, (told, prosody) in enumerate(listened):
            aim, melody = self._aim(told), self.denoiser.melody(prosody)
            for _ in range(sampling.num_noises):
                windows += self._windows(i, told, aim, melody)
        size = self.feature_extractor.feature_size + 2
        joined = CrossFade([len(told.features) for told, _ in listened], size, self._overlap)
        for group in batches(windows, self._frames(BATCH_SECONDS)):
            for window, change in zip(group, self._change(group, sampling), strict=True):
                joined.add(window, change)
        for (told, _), change in zip(listened, joined.joined(), strict=True):
            log_mel = self.feature_extractor.denormalize(told.features, told.corpus)
            z_scores = told.features + change[:, : self.feature_extractor.feature_size]
            after = self.feature_extractor.denormalize(z_scores, told.corpus)
            prosody = change[:, self.feature_extractor.feature_size :]
            yield self.denoiser.smooth(torch.cat([after - log_mel, prosody], dim=1), log_mel)

    def _change(self, windows: Sequence[Window], sampling: Sampling) -> torch.Tensor:
        """Log-mels, log F0 and log tempo after denoising less before, `(batch, frames, n + 2)`."""
        latents = self._encode(torch.stack([w.features for w in windows]))
        source = torch.stack(
            [
                self.denoiser.join(
                    own, w.melody.to(own), torch.zeros_like(w.melody).to(own), self.stride
                )
                for own, w in zip(latents, windows, strict=True)
            ]
        )
        after = self._denoise(windows, sampling, source)
        frames = len(windows[0].features)
        prosody = self.denoiser.contours(after - source, frames).transpose(1, 2)
        return torch.cat([self._decode(after) - self._decode(source), prosody], dim=2)

    def _denoise(
        self, windows: Sequence[Window], sampling: Sampling, source: torch.Tensor
    ) -> torch.Tensor:
        """Rows `(batch, rows, length)`: noise is injected into the source's, and extracted."""
        device = self._execution_device
        noise = torch.stack([w.noise for w in windows]).to(device)
        timesteps = set_timesteps(self.scheduler, sampling, device)
        noisy = self.scheduler.add_noise(source, noise, timesteps[:1].expand(len(source)))
        return denoise(
            self,
            self.scheduler,
            timesteps,
            noisy,
            self._guided(windows, sampling, source),
            [w.seed for w in windows],
            sampling.callback_on_step_end,
        )

    def _guided(
        self, windows: Sequence[Window], sampling: Sampling, source: torch.Tensor
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The denoiser with classifier-free guidance."""
        dtype, device = self.denoiser.dtype, source.device
        style = torch.stack([w.aim.style for w in windows]).to(device, dtype)

        def conditions(intensity: float) -> torch.Tensor:
            told = torch.tensor([[w.aim.target, w.aim.carried, w.aim.corpus] for w in windows])
            target, carried, corpus = told.to(device).T
            return self.denoiser.conditions(target, carried, corpus, intensity=intensity)

        said, scale = [conditions(sampling.intensity)], sampling.guidance_scale
        if scale != 1:
            # Both in one batch, which takes less time than one after the other.
            said.append(conditions(0.0))
        count, told = len(said), torch.cat(said)
        beside, style = source.to(dtype).repeat(count, 1, 1), style.repeat(count, 1, 1)

        def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            repeated = noisy.to(dtype).repeat(count, 1, 1)
            prediction = self.denoiser(repeated, timestep, beside, style, told).float()
            if count == 1:
                return prediction
            aimed, unsaid = prediction.chunk(2)
            return unsaid + scale * (aimed - unsaid)

        return predict

    def _aim(self, told: _Recording) -> Aim:
        features = told.features if told.style is None else told.style
        features = features[None, : self.feature_extractor.max_frames]
        style = self.denoiser.style_encoder(
            features.to(self._execution_device, self.denoiser.dtype)
        )[0]
        return Aim(
            self.denoiser.emotion_index(told.emotion),
            self.denoiser.emotion_index(told.carried or None),
            self.denoiser.corpus_index(told.corpus),
            style,
        )

    @property
    def _overlap(self) -> int:
        """Frames that neighbouring windows share."""
        return self._frames(OVERLAP_SECONDS)

    def _frames(self, seconds: float) -> int:
        """Frames, with padding, of a recording of so many seconds."""
        samples = round(seconds * self.feature_extractor.sampling_rate)
        return math.ceil(self.feature_extractor.num_frames(samples) / self.stride) * self.stride

    def _window(self, clip: int, told: _Recording, aim: Aim, melody: torch.Tensor) -> Window:
        """All of a recording, with its noise."""
        features = pad_frames(told.features, self.stride)
        shape = (self.denoiser.num_rows, len(features) // self.stride)
        noise = randn_tensor(shape, told.generator, torch.device("cpu"), torch.float32)
        melody = pad_frames(melody, self.stride)
        return Window(clip, 0, features, melody, aim, noise, len(told.features), 0)

    def _windows(
        self, clip: int, told: _Recording, aim: Aim, melody: torch.Tensor
    ) -> Iterator[Window]:
        """Windows over a recording; noise and melody are those of the whole."""
        whole = self._window(clip, told, aim, melody)
        return cut_windows(
            whole, self._frames(WINDOW_SECONDS), self._overlap, self.stride, _seeds(told.generator)
        )

    def _encode(self, features: torch.Tensor) -> torch.Tensor:
        """Latents `(batch, channels, bands, length)` of features `(batch, frames, n_mels)`."""
        image = features.transpose(1, 2)[:, None].to(self._execution_device, self.vae.dtype)
        return self.vae.encode(image).latent_dist.mode().float() * self.vae.config.scaling_factor

    def _decode(self, rows: torch.Tensor) -> torch.Tensor:
        """Features `(batch, frames, n_mels)` of rows."""
        return self._decode_latents(self.denoiser.latents(rows))

    def _decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        return self.vae.decode(latents).sample[:, 0].transpose(1, 2).float()


def _seeds(generator: torch.Generator | None) -> Iterator[int]:
    device = None if generator is None else generator.device
    while True:
        yield int(torch.randint(2**62, (1,), generator=generator, device=device))
