"""Builder of the embedded corpus of synthetic voices."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import datasets
import pyarrow as pa
import soundfile
from datasets.builder import Key

from ..builder import CorpusBuilder, CorpusConfig, configurations
from ..schema import EMOTIONS
from .synthesis import SAMPLING_RATE, SENTENCES, Voice, make_voice, synthesize

MAX_SPEAKERS = 98


@dataclass
class ToyEmotionsConfig(CorpusConfig):
    """Options of the embedded corpus.

    Args:
        speakers: Number of voices, women and men in turn, 1 to 98.
        repetitions: How often each voice says each sentence in each emotion, at least 1.
        seed: Seed of the voices and of their variation.
    """

    speakers: int = 8
    repetitions: int = 2
    seed: int = 0

    def validate(self) -> None:
        """Refuse a corpus of no size, and options of recorded corpora.

        Raises:
            ValueError: Numbers out of range, or a data folder or address, which would be ignored.
        """
        super().validate()
        if not 1 <= self.speakers <= MAX_SPEAKERS:
            raise ValueError(f"Bad speakers {self.speakers}, expected 1 to {MAX_SPEAKERS}")
        if not 1 <= self.repetitions < 100:
            raise ValueError(f"Bad repetitions {self.repetitions}, expected 1 to 99")
        if self.seed < 0:
            raise ValueError(f"Bad seed {self.seed}, expected 0 or more")
        reason = "for toy_emotions, which is synthesised"
        self.refuse("data_dir", "url", "md5", reason=reason)


class ToyEmotions(CorpusBuilder):
    """Synthetic voices that say two meaningless sentences in six emotions, for demos and tests.

    ```python
    import datasets_scripts
    from datasets import load_dataset

    dataset = load_dataset("toy_emotions", split="train")
    ```
    """

    CORPUS = "toy_emotions"
    DESCRIPTION = "Synthetic source-filter voices in six emotions; nobody was recorded."
    LICENSE = "apache-2.0"
    BUILDER_CONFIG_CLASS = ToyEmotionsConfig
    BUILDER_CONFIGS: ClassVar = configurations(ToyEmotionsConfig, "the synthetic voices")

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(datasets.Split.TRAIN)]

    def _generate_tables(self) -> Iterator[tuple[Key, pa.Table]]:
        yield from self._batches(self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        for speaker in range(1, self.config.speakers + 1):
            voice = make_voice(speaker, self.config.seed)
            for emotion in EMOTIONS:
                for sentence in SENTENCES:
                    for repetition in range(1, self.config.repetitions + 1):
                        yield self._row(voice, emotion, sentence, repetition)

    def _row(self, voice: Voice, emotion: str, sentence: str, repetition: int) -> dict[str, Any]:
        speaker = f"{voice.speaker:02d}"
        stem = f"{speaker}_{sentence}_{emotion}_{repetition:02d}"
        samples = synthesize(voice, emotion, sentence, repetition)
        wav = BytesIO()
        soundfile.write(wav, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")
        return {
            "audio": {"bytes": wav.getvalue(), "path": f"{stem}.wav"},
            "emotion": emotion,
            "speaker": speaker,
            "gender": voice.gender,
            "sentence": sentence,
            "transcript": " ".join(SENTENCES[sentence]),
            "intensity": "normal",
            "repetition": f"{repetition:02d}",
            "file": f"{stem}.wav",
            "group": stem,
        }
