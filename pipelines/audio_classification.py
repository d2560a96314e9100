"""`pipeline("audio-classification")` that takes recordings as people have them.

This file is copied to the Hub with a model, with its siblings `audio_inputs.py` and
`speech_presence.py`; it imports nothing else of this project.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AudioClassificationPipeline, AutoModelForAudioClassification
from transformers.pipelines.base import PipelineRegistry

from .audio_inputs import (
    as_entries,
    check_rate,
    is_one_recording,
    list_recordings,
    read_recording,
)
from .speech_presence import speech_score

FUNCTIONS = ("softmax", "sigmoid", "none")
CALL_ARGUMENTS = (
    "batch_size",
    "calibrate",
    "corpus",
    "function_to_apply",
    "num_workers",
    "sampling_rate",
    "top_k",
)
# Statistics of a list that is calibrated by itself, for as long as the call lasts.
THESE_RECORDINGS = "these recordings"
# What `transformers.pipeline` hands on of its own arguments.
LOADING_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies")


class EmotionClassificationPipeline(AudioClassificationPipeline):
    """Audio classification of a path, bytes, URL, array or dataset row.

    Decodes wav, flac, ogg and mp3 with soundfile (no ffmpeg program), resamples, averages channels
    and pads a batch to its longest clip. Clips longer than the model's are cut.

    Any transformers audio classifier can be run with it. Classifiers of this project normalise what
    they hear with statistics: of recordings of unknown origin, of a corpus that they were trained
    on (`corpus="emodb"`, at construction or call), or of your own room or voice: see `calibrate`.
    """

    def __init__(self, *args: Any, top_k: int | None = None, **kwargs: Any) -> None:
        _check_batches(kwargs)
        kwargs = {name: kwargs[name] for name in kwargs if name not in LOADING_ARGUMENTS}
        # Without a value the parent would make it 5.
        super().__init__(*args, top_k=top_k, **kwargs)
        _forget_pipelines(self.model.config)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify one recording, or a list, dataset or generator of recordings.

        Args:
            inputs: A path, a URL, the bytes of an audio file, a file opened in binary mode, an
                array, tensor or list of samples (`(samples,)`, or with an axis of at most 8
                channels; floats in -1 to 1 or PCM), a pair `(sampling_rate, array)` or
                `(array, sampling_rate)`, a mapping with `sampling_rate` and `array` or `raw`, a
                mapping with `bytes` or `path`, a torchcodec decoder, or a dataset row with any of
                these under `audio`. A list or array of them is checked before anything is computed.
            kwargs: `top_k` (all classes by default), `function_to_apply` (`"softmax"`, `"sigmoid"`
                or `"none"`), `corpus` (a corpus of the training, or a name of `calibrate`),
                `calibrate=True` (a list of recordings of one room is calibrated by itself),
                `sampling_rate` in Hz of arrays that come without one (the model's when not given),
                `batch_size`, `num_workers`.

        Returns:
            For each recording a list of `{"label", "score"}`, the most probable first. Datasets and
            generators give an iterator of those.

        Raises:
            ValueError: Nothing that can be decoded, sound without samples or with NaN, a corpus
                that the model does not know, a sampling rate other than the recording's own, an
                empty list, or an argument out of range. In a list it names the place.
            TypeError: An input of another type, or an unknown argument.
            OSError: A file that is not there, or an address that does not answer.
        """
        _check_batches(kwargs)
        calibrate = kwargs.pop("calibrate", False)
        if not isinstance(calibrate, bool):
            raise ValueError(
                f"Bad calibrate {calibrate!r}, expected True or False; a name of `calibrate` is "
                "given as corpus"
            )
        self._sanitize_parameters(**_without_batches(kwargs))
        if calibrate:
            return self._call_calibrated(inputs, **kwargs)
        return super().__call__(as_entries(inputs, self._rate_of_arrays(kwargs)), **kwargs)

    def calibrate(
        self,
        recordings: Any,
        *,
        name: str,
        speakers: Iterable[str] | None = None,
        sampling_rate: int | None = None,
    ) -> None:
        """Keep the statistics of unlabelled recordings of one room, or of one voice, under a name.

        `corpus=name` uses them, and `save_pretrained` keeps them. Ten recordings of the person who
        is to be classified, in whatever emotions, do most; of the room alone they help, too.

        Args:
            recordings: A list, dataset or generator of recordings as a call takes them.
            name: What to call the statistics; those of that name before are replaced.
            speakers: Speaker of each recording; each gets statistics under `name/speaker` as well.
            sampling_rate: Rate in Hz of arrays that come without one; the model's when not given.

        Raises:
            ValueError: A model that holds no statistics, no name, no recordings, not one speaker
                for each of them, or a recording as in a call; so `TypeError` and `OSError`.
        """
        if name == THESE_RECORDINGS:
            raise ValueError(f"Bad name {name!r}, expected another: it is kept for lists")
        self._calibrate(recordings, name, speakers, sampling_rate)

    def _calibrate(
        self, recordings: Any, name: str, speakers: Iterable[str] | None, sampling_rate: int | None
    ) -> None:
        holder = self._holder()
        rate = self.feature_extractor.sampling_rate
        entries = list_recordings(
            recordings, self._rate_of_arrays({"sampling_rate": sampling_rate})
        )
        waves = [read_recording(entry, rate, sampling_rate).numpy() for entry in entries]
        if holder is self.feature_extractor:
            holder.calibrate(waves, rate, name=name, speakers=speakers)
            return
        features = [
            holder_input["input_features"][0]
            for holder_input in (
                self.feature_extractor(wave, sampling_rate=rate, return_tensors="pt")
                for wave in waves
            )
        ]
        holder.calibrate(features, name=name, speakers=speakers)

    def forget(self, name: str) -> None:
        """Drop the statistics that `calibrate` keeps under a name, and of the speakers under it."""
        self._holder().forget(name)

    @property
    def names(self) -> list[str]:
        """What `corpus=` may be: corpora of the training, and names of `calibrate`."""
        return self._holder().names if self._holds_statistics() else []

    def _call_calibrated(self, inputs: Any, **kwargs: Any) -> Any:
        if kwargs.get("corpus") is not None:
            raise ValueError(f"Got calibrate=True and corpus={kwargs['corpus']!r}, expected one")
        if is_one_recording(inputs):
            raise ValueError("Got calibrate=True and one recording, expected a list of several")
        # Kept as a list: a generator would be used up by the calibration.
        inputs = inputs if isinstance(inputs, (list, tuple)) else list(inputs)
        self._calibrate(inputs, THESE_RECORDINGS, None, self._rate_of_arrays(kwargs))
        try:
            return self(inputs, corpus=THESE_RECORDINGS, **kwargs)
        finally:
            self._holder().forget(THESE_RECORDINGS)

    def _holds_statistics(self) -> bool:
        return any(hasattr(part, "calibrate") for part in (self.model, self.feature_extractor))

    def _holder(self) -> Any:
        """Whatever holds statistics: the model where they are of an encoder's frames."""
        if not self._holds_statistics():
            raise ValueError("This model holds no statistics, expected one of this project")
        return self.model if hasattr(self.model, "calibrate") else self.feature_extractor

    def speech_score(self, inputs: Any, sampling_rate: int | None = None) -> float | list[float]:
        """How sure it is that there is speech: 1; 0 for silence, noise, tones and clicks.

        It depends on the sound alone, not on the model; below 0.5 the emotions that a call names
        mean nothing. Source and measure: `speech_presence.py`.

        Args:
            inputs: As for a call.
            sampling_rate: Rate in Hz of arrays that come without one; the model's when not given.

        Returns:
            A score in 0 to 1, a list of them for several recordings.

        Raises:
            ValueError: As a call; so `TypeError` and `OSError`.
        """
        rate = self.feature_extractor.sampling_rate
        entries = list_recordings(inputs, self._rate_of_arrays({"sampling_rate": sampling_rate}))
        scores = [
            speech_score(read_recording(entry, rate, sampling_rate).numpy(), rate)
            for entry in entries
        ]
        return scores[0] if entries[0].index is None else scores

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save model, feature extractor and the code of this pipeline, which loads them again."""
        super().save_pretrained(save_directory, **kwargs)
        _forget_pipelines(self.model.config)

    def _sanitize_parameters(
        self, corpus: str | None = None, sampling_rate: int | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        # A call has taken `calibrate` before it comes here; a construction cannot have it.
        if unknown := sorted(kwargs.keys() - (set(CALL_ARGUMENTS) - {"calibrate"})):
            raise TypeError(f"Bad arguments {unknown}, expected some of {list(CALL_ARGUMENTS)}")
        _check_outputs(**kwargs)
        _, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if "top_k" not in kwargs:
            # A call that does not say how many keeps what the construction said.
            del postprocess["top_k"]
        preprocess: dict[str, Any] = {}
        if corpus is not None:
            preprocess["corpus"] = self._checked_corpus(corpus)
        if sampling_rate is not None:
            preprocess["sampling_rate"] = check_rate(sampling_rate)
        return preprocess, forward, postprocess

    def preprocess(
        self, inputs: Any, corpus: str | None = None, sampling_rate: int | None = None
    ) -> Any:
        """Decode one recording and extract its features.

        A caller's autocast is for networks: extractors of transformers fail under it.
        """
        with torch.autocast("cpu", enabled=False):
            return self._features(inputs, corpus, sampling_rate)

    def _features(self, inputs: Any, corpus: str | None, sampling_rate: int | None) -> Any:
        rate = self.feature_extractor.sampling_rate
        wave = read_recording(inputs, rate, sampling_rate)
        in_model = hasattr(self.model, "statistics_of")
        features = self.feature_extractor(
            wave.numpy(),
            sampling_rate=rate,
            return_tensors="pt",
            **self._padding(),
            **({} if corpus is None or in_model else {"corpus": corpus}),
        )
        if in_model:
            # A copy for each recording: transformers makes a batch of whatever it is given.
            features["statistics"] = self.model.statistics_of(corpus).cpu()[None]
        return features if self.dtype is None else features.to(dtype=self.dtype)

    def _rate_of_arrays(self, kwargs: dict[str, Any]) -> int | None:
        """The rate that a call names, or else the construction."""
        named = kwargs.get("sampling_rate")
        return self._preprocess_params.get("sampling_rate") if named is None else named

    def _checked_corpus(self, corpus: Any) -> str:
        known = self.names
        if not self._holds_statistics():
            raise ValueError(f"Got corpus={corpus!r}, but this model knows no corpora")
        if not isinstance(corpus, str) or corpus not in known:
            raise ValueError(f"Bad corpus {corpus!r}, expected one of {sorted(known)} or None")
        return corpus

    def _padding(self) -> dict[str, Any]:
        """Our features are padded to the batch by transformers; others know what they need."""
        ours = hasattr(self.feature_extractor, "pad_features")
        return {"padding": "longest"} if ours else {}


def _without_batches(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the parent does not use up before it asks for parameters."""
    return {name: kwargs[name] for name in kwargs if name not in ("batch_size", "num_workers")}


def _check_batches(kwargs: dict[str, Any]) -> None:
    for name, smallest in (("batch_size", 1), ("num_workers", 0)):
        value = kwargs.get(name)
        if value is not None and not _is_whole(value, smallest):
            raise ValueError(f"Bad {name} {value!r}, expected a whole number, {smallest} or more")


def _check_outputs(top_k: Any = None, function_to_apply: Any = None) -> None:
    if top_k is not None and not _is_whole(top_k, 1):
        raise ValueError(f"Bad top_k {top_k!r}, expected a whole number, 1 or more, or None")
    if function_to_apply is not None and function_to_apply not in FUNCTIONS:
        raise ValueError(
            f"Bad function_to_apply {function_to_apply!r}, expected one of {list(FUNCTIONS)}"
        )


def _is_whole(value: Any, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _forget_pipelines(config: Any) -> None:
    """Whoever saves the model alone saves no code of a pipeline, and must not name it.

    `transformers` would look for it when the copy is loaded. `save_pretrained` names it again.
    """
    if hasattr(config, "custom_pipelines"):
        del config.custom_pipelines


# In a registry of its own: `save_pretrained` then saves this file and names the class in the
# configuration, and the stock pipeline stays what it is for all other models.
PipelineRegistry({}, {}).register_pipeline(
    "audio-classification",
    pipeline_class=EmotionClassificationPipeline,
    pt_model=AutoModelForAudioClassification,
    type="audio",
)
