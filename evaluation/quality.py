"""Voice, words and sound of enhanced speech, as heard by models that others trained elsewhere.

    meter = QualityMeter(originals, 22_025, speakers=speakers, transcripts=transcripts)
    quality = meter.measure(enhanced)
    quality.metrics["speaker_rank1"], quality.recordings["transcription"]

* Whose voice it is: GE2E speaker embeddings (Wan et al. 2018) by Resemblyzer.
* What is said: the word error rate of a speech recogniser of transformers, by default Whisper
  (Radford et al. 2023), counted by jiwer.
* How it sounds: DNSMOS P.835 (Reddy et al. 2022) by speechmos, trained on opinions of listeners.

The packages are those of the extra `measures`. A measure whose package or model is not there is
left out, and a warning names it. Nothing is learned here.
"""

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from modeling.prosody import LOWEST_SAMPLING_RATE, checked_waveform

INSTALL = "pip install speech-emotion-diffusion[measures]"
DEFAULT_ASR = "openai/whisper-tiny.en"
# Hz, of all three models.
SAMPLING_RATE = 16_000
# Three windows of the voice activity detector; and what Whisper hears at once.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 30.0
ENGLISH = ("en", "english")
ORIGINAL = "_original"

Waves = Sequence[np.ndarray]
# `(samples,)` each, at 16 kHz.
Prepared = list[NDArray[np.float32]]
# A list for each name, with one value per recording.
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        metrics: Means by name, the "metrics" of a results record. Those of the originals, with the
            suffix "_original", are what the models give to speech that nobody changed.
        recordings: Values of each recording by name, in the order of the recordings.
    """

    metrics: dict[str, float]
    recordings: Columns


def quality_metrics(
    originals: Waves, enhanced: Waves, sampling_rate: int, **settings: Any
) -> Quality:
    """Measure enhanced recordings and their originals once; `QualityMeter` measures several sets.

    Args:
        originals: Recordings, `(samples,)` each.
        enhanced: Their enhanced versions, in the same order.
        sampling_rate: Rate in Hz of all of them.
        **settings: Those of `QualityMeter`.

    Raises:
        ValueError: As `QualityMeter` and `QualityMeter.measure`.
    """
    _check_number(enhanced, len(originals))
    return QualityMeter(originals, sampling_rate, **settings).measure(enhanced)


class QualityMeter:
    """Measures any number of enhanced versions of the same originals, which are measured once.

    The voice is measured where `speakers` are given, the words where `transcripts` are. What
    exceeds full scale is clipped, as it would be in a file.

    Args:
        originals: Recordings, `(samples,)` each, floating point, full scale at -1 and 1.
        sampling_rate: Rate in Hz of these, of enhanced recordings and of enrolment.
        speakers: Who speaks, one per recording; unique over corpora.
        enrolment: Other real recordings of each speaker, and of any other candidates. Without it,
            speakers are known by the originals, always less the one that is asked about.
        transcripts: What is said, one per recording.
        sound: Whether opinions of the sound are predicted.
        asr: Hub id or folder of a speech recogniser of transformers, with or without a decoder.
        language: Of the transcripts, e.g. "de"; recognisers of several languages are told.
        batch_size: Recordings that are recognised at once.
        device: Where voices and words are recognised; opinions are always computed on the CPU.

    Attributes:
        originals: What was measured of the originals; here names have no suffix.

    Raises:
        ValueError: No recordings, or one that is empty, not mono, not floating point, not finite or
            shorter than 0.1 s, or, with transcripts, longer than 30 s; a sampling rate below 8 kHz;
            a single speaker, one without another recording or absent from `enrolment`, or an
            original in it; a transcript without words; a language that the recogniser lacks.
    """

    def __init__(
        self,
        originals: Waves,
        sampling_rate: int,
        *,
        speakers: Sequence[Hashable] | None = None,
        enrolment: Mapping[Any, Waves] | None = None,
        transcripts: Sequence[str] | None = None,
        sound: bool = True,
        asr: str = DEFAULT_ASR,
        language: str = "en",
        batch_size: int = 8,
        device: str = "cpu",
    ) -> None:
        waves = _prepare(originals, sampling_rate)
        measures = [_make_or_warn(_Sound)] if sound else []
        if speakers is not None:
            _check_length("speakers", speakers, len(waves))
            others = _prepare_enrolment(enrolment, sampling_rate, waves)
            _check_speakers(speakers, others)
            measures.append(_make_or_warn(_Voice, waves, speakers, others, device))
        if transcripts is not None:
            _check_length("transcripts", transcripts, len(waves))
            settings = (asr, language, batch_size, device)
            measures.append(_make_or_warn(_Words, transcripts, *settings))
        self.sampling_rate = sampling_rate
        self._measures = [measure for measure in measures if measure is not None]
        self._count = len(waves)
        self.originals = self._measure(waves)

    def measure(self, enhanced: Waves) -> Quality:
        """Measure enhanced versions of the originals.

        Args:
            enhanced: Recordings, `(samples,)` each, in the order of the originals.

        Returns:
            Metrics of what could be measured, each also with the suffix "_original":

            * "speaker_similarity": Mean cosine with the centroid of the own speaker, 0 to 1.
            * "speaker_similarity_other": The same with the nearest other speaker.
            * "speaker_rank1": Share of recordings whose nearest speaker is the own, 0 to 1.
            * "word_error_rate": Wrong words over words said, above 1 where more is heard than said.
            * "ovrl_mos", "sig_mos", "bak_mos": Opinion of the whole, of the speech and of the
              background (5 is best: no noise), 1 to 5.

            For each recording "speaker_similarity", "speaker_similarity_other",
            "speaker_nearest", "transcription", "word_errors", "words" and the three opinions.

        Raises:
            ValueError: Not as many as originals, or a recording that is none.
        """
        _check_number(enhanced, self._count)
        quality = self._measure(_prepare(enhanced, self.sampling_rate))
        originals = {name + ORIGINAL: value for name, value in self.originals.metrics.items()}
        return Quality(quality.metrics | originals, quality.recordings)

    def _measure(self, waves: Prepared) -> Quality:
        quality = Quality({}, {})
        for measure in self._measures:
            columns = measure.columns(waves)
            quality.recordings.update(columns)
            quality.metrics.update(measure.metrics(columns))
        return quality


# --- Measures ------------------------------------------------------------------------------------


class _Measure(ABC):
    """Something to measure of recordings; making one loads its packages and its model.

    Attributes:
        title: The metrics that are left out without it.
    """

    title: ClassVar[str]

    @abstractmethod
    def columns(self, waves: Prepared) -> Columns:
        """Values of each recording, in the order of the originals."""

    def metrics(self, columns: Columns) -> dict[str, float]:
        """Means over recordings."""
        return {name: float(np.mean(values)) for name, values in columns.items()}


class _MissingModelError(Exception):
    """A model that is neither in a folder nor to be had from the Hub."""


def _make_or_warn(kind: type[_Measure], *arguments: Any) -> _Measure | None:
    try:
        return kind(*arguments)
    except ImportError as error:
        reason = f"{error}. {INSTALL}"
    except _MissingModelError as error:
        reason = str(error)
    # Points at the line that makes the meter.
    warnings.warn(f"Left out {kind.title}: {reason}", stacklevel=3)
    return None


class _Sound(_Measure):
    """Opinions of listeners as DNSMOS predicts them.

    The model hears 9.01 s. speechmos doubles what is shorter until it is longer than that, and so
    hears a recording of 3.3 to 3.8 s four to six times; here it is repeated to 9.01 s and heard
    once. That moved the opinion of a recording by less than 0.1 in each of nine that were tried.
    """

    title = "ovrl_mos, sig_mos and bak_mos (DNSMOS)"

    def __init__(self) -> None:
        from speechmos import dnsmos

        self._run, self._seconds = dnsmos.run, dnsmos.INPUT_LENGTH

    def columns(self, waves: Prepared) -> Columns:
        length = int(self._seconds * SAMPLING_RATE)
        repeated = (np.resize(wave, max(length, len(wave))) for wave in waves)
        rows = [self._run(wave, SAMPLING_RATE) for wave in repeated]
        names = ("ovrl_mos", "sig_mos", "bak_mos")
        return {name: [float(row[name]) for row in rows] for name in names}


class _Voice(_Measure):
    """Cosines with centroids of speakers, one that holds the recording itself left without it.

    Leaving it out is eq. 8 of Wan et al., "Generalized end-to-end loss for speaker verification"
    (2018).
    """

    title = "speaker_similarity and speaker_rank1 (Resemblyzer)"

    def __init__(
        self,
        originals: Prepared,
        speakers: Sequence[Hashable],
        enrolment: Mapping[Hashable, Prepared] | None,
        device: str,
    ) -> None:
        with warnings.catch_warnings():
            # Of old names in scipy and setuptools, which nobody here can change.
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder, preprocess_wav
        self._preprocess = preprocess_wav
        self._encoder = VoiceEncoder(device, verbose=False)
        self._speakers = list(speakers)
        if enrolment is None:
            self._own = self._embed(originals)
            members = {name: self._own[[s == name for s in speakers]] for name in speakers}
        else:
            self._own = np.zeros((len(originals), 1))
            members = {name: self._embed(waves) for name, waves in enrolment.items()}
        self._candidates = list(members)
        self._sums = np.stack([embeddings.sum(axis=0) for embeddings in members.values()])

    def columns(self, waves: Prepared) -> Columns:
        places = [self._candidates.index(speaker) for speaker in self._speakers]
        cosines = np.stack(list(map(self._cosines, self._embed(waves), self._own, places)))
        rows = np.arange(len(waves))
        others = cosines.copy()
        others[rows, places] = -np.inf
        return {
            "speaker_similarity": cosines[rows, places].tolist(),
            "speaker_similarity_other": others.max(axis=1).tolist(),
            "speaker_nearest": [self._candidates[i] for i in cosines.argmax(axis=1)],
        }

    def metrics(self, columns: Columns) -> dict[str, float]:
        nearest = columns["speaker_nearest"]
        hits = [a == b for a, b in zip(nearest, self._speakers, strict=True)]
        cosines = {name: columns[name] for name in columns if name != "speaker_nearest"}
        return super().metrics(cosines | {"speaker_rank1": hits})

    def _cosines(self, embedding: np.ndarray, own: np.ndarray, place: int) -> np.ndarray:
        """Cosine of an embedding with the centroid of each candidate, `(candidates,)`."""
        sums = self._sums.copy()
        sums[place] -= own
        return sums @ embedding / np.linalg.norm(sums, axis=1)

    def _embed(self, waves: Prepared) -> NDArray[np.float64]:
        """Embeddings `(recordings, 256)` of length 1.

        The encoder's own preprocessing lifts the level to -30 dB and cuts long silences. What is
        silent all the way is an embedding like any other.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            speech = [self._preprocess(wave) for wave in waves]
        embeddings = [self._encoder.embed_utterance(wave) for wave in speech]
        return np.stack(embeddings).astype(np.float64)


class _Words(_Measure):
    """Word errors of a speech recogniser."""

    title = "word_error_rate (jiwer and a speech recogniser)"

    def __init__(
        self, transcripts: Sequence[str], asr: str, language: str, batch_size: int, device: str
    ) -> None:
        # Without words to count there is nothing to say about them.
        _check_transcripts(transcripts)
        self._transcripts = transcripts
        self._recognizer = _load_recognizer(asr, device)
        self._settings = _greedy_settings(self._recognizer, asr, language)
        self._batch_size = batch_size

    def columns(self, waves: Prepared) -> Columns:
        for index, wave in enumerate(waves):
            seconds = len(wave) / SAMPLING_RATE
            if seconds > LONGEST_SECONDS:
                raise ValueError(
                    f"Bad length {seconds:.1f} s of recording {index}, "
                    f"expected at most {LONGEST_SECONDS:g} s where words are recognised"
                )
        sounds = [{"raw": wave, "sampling_rate": SAMPLING_RATE} for wave in waves]
        heard = self._recognizer(sounds, batch_size=self._batch_size, **self._settings)
        texts = [result["text"].strip() for result in heard]
        errors, words = count_word_errors(self._transcripts, texts)
        return {"transcription": texts, "word_errors": errors, "words": words}

    def metrics(self, columns: Columns) -> dict[str, float]:
        return {"word_error_rate": sum(columns["word_errors"]) / sum(columns["words"])}


# --- Words ---------------------------------------------------------------------------------------


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substituted, deleted and inserted words of all texts over the words of all references.

    Args:
        references: What was said.
        hypotheses: What was recognised, in the same order.

    Raises:
        ImportError: jiwer is not installed.
        ValueError: Unequal numbers or none, or a reference without words.
    """
    errors, words = count_word_errors(references, hypotheses)
    return sum(errors) / sum(words)


def count_word_errors(
    references: Sequence[str], hypotheses: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Word errors of each text, and words of each reference; case and punctuation do not count.

    Args and errors are those of `word_error_rate`.
    """
    import jiwer

    _check_transcripts(references)
    _check_length("hypotheses", hypotheses, len(references))
    pairs = zip(map(_normalize, references), map(_normalize, hypotheses), strict=True)
    found = [jiwer.process_words(reference, hypothesis) for reference, hypothesis in pairs]
    errors = [row.substitutions + row.deletions + row.insertions for row in found]
    return errors, [row.substitutions + row.deletions + row.hits for row in found]


def _normalize(text: str) -> str:
    import jiwer

    steps = (jiwer.ToLowerCase, jiwer.RemovePunctuation, jiwer.RemoveMultipleSpaces, jiwer.Strip)
    return jiwer.Compose([step() for step in steps])(text)


def _load_recognizer(asr: str, device: str) -> Any:
    from transformers import pipeline

    try:
        # float32 also where weights are saved in half precision, which a CPU is slow at.
        recognizer = pipeline(
            "automatic-speech-recognition", model=asr, dtype=torch.float32, device=device
        )
    except OSError as error:
        first_line = str(error).splitlines()[0]
        raise _MissingModelError(
            f"'{asr}' is no folder of a speech recogniser and the Hub does not give it "
            f"({first_line})"
        ) from error
    tokenizer = recognizer.tokenizer
    if tokenizer.pad_token is None:
        # The pipeline wants one for batches, though sound alone is padded.
        tokenizer.pad_token = tokenizer.eos_token
    return recognizer


def _greedy_settings(recognizer: Any, asr: str, language: str) -> dict[str, Any]:
    """Arguments of the recogniser's call: no sampling, no beams, the language where it has many."""
    if not recognizer.type.startswith("seq2seq"):
        return {}
    settings: dict[str, Any] = {"do_sample": False, "num_beams": 1}
    config = recognizer.model.generation_config
    if getattr(config, "lang_to_id", None):
        settings["language"] = language
    elif getattr(config, "is_multilingual", None) is False and language.lower() not in ENGLISH:
        raise ValueError(f"Bad language '{language}', expected 'en': '{asr}' knows English alone")
    return {"generate_kwargs": settings}


# --- Input ---------------------------------------------------------------------------------------


def _prepare(waves: Waves, sampling_rate: int) -> Prepared:
    """Recordings at 16 kHz within full scale, or an error that says which is none."""
    if len(waves) == 0:
        raise ValueError("Bad number of recordings 0, expected at least one")
    if sampling_rate < LOWEST_SAMPLING_RATE:
        raise ValueError(
            f"Bad sampling_rate {sampling_rate}, expected {LOWEST_SAMPLING_RATE} Hz or more"
        )
    return [_prepare_one(wave, sampling_rate, index) for index, wave in enumerate(waves)]


def _prepare_one(wave: np.ndarray, sampling_rate: int, index: int) -> NDArray[np.float32]:
    try:
        samples = checked_waveform(wave)
    except ValueError as error:
        raise ValueError(f"Recording {index}: {error}") from error
    if len(samples) < SHORTEST_SECONDS * sampling_rate:
        raise ValueError(
            f"Bad length {len(samples) / sampling_rate:.3f} s of recording {index}, "
            f"expected at least {SHORTEST_SECONDS} s"
        )
    resampled = soxr.resample(samples.astype(np.float32), sampling_rate, SAMPLING_RATE)
    return np.clip(resampled, -1, 1)


def _prepare_enrolment(
    enrolment: Mapping[Any, Waves] | None, sampling_rate: int, originals: Prepared
) -> dict[Hashable, Prepared] | None:
    if enrolment is None:
        return None
    prepared = {name: _prepare(waves, sampling_rate) for name, waves in enrolment.items()}
    known = {wave.tobytes() for wave in originals}
    for name, waves in prepared.items():
        if any(wave.tobytes() in known for wave in waves):
            raise ValueError(f"Bad enrolment of {name!r} with an original, expected other ones")
    return prepared


def _check_speakers(
    speakers: Sequence[Hashable], enrolment: Mapping[Hashable, Prepared] | None
) -> None:
    counts = Counter(speakers)
    candidates = set(counts if enrolment is None else enrolment)
    if len(candidates) < 2:
        raise ValueError(f"Bad speakers {sorted(map(str, candidates))}, expected two or more")
    for name, recordings in counts.items():
        if name not in candidates:
            raise ValueError(f"Bad speaker {name!r}, expected one of {sorted(candidates, key=str)}")
        if enrolment is None and recordings < 2:
            raise ValueError(
                f"Bad speaker {name!r} with one recording, expected two or more, or enrolment"
            )


def _check_transcripts(transcripts: Sequence[str]) -> None:
    if len(transcripts) == 0:
        raise ValueError("Bad number of transcripts 0, expected at least one")
    for index, text in enumerate(transcripts):
        if not isinstance(text, str) or not _normalize(text):
            raise ValueError(f"Bad transcript {text!r} of recording {index}, expected words")


def _check_length(name: str, values: Sequence[Any], count: int) -> None:
    if len(values) != count:
        raise ValueError(f"Bad {name} of length {len(values)}, expected {count}, one a recording")


def _check_number(enhanced: Waves, count: int) -> None:
    if len(enhanced) != count:
        raise ValueError(
            f"Bad number of recordings, {count} originals and {len(enhanced)} enhanced, "
            "expected as many of both"
        )
