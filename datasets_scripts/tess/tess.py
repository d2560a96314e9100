"""Builder of TESS, the Toronto Emotional Speech Set (Pichora-Fuller and Dupuis, 2020)."""

import re
from pathlib import PurePath
from typing import Any, ClassVar

from ..builder import CorpusConfig, configurations
from ..recorded import RecordedCorpusBuilder

EMOTION_CODES = {
    "neutral": "neutral",
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "fear": "fear",
    "disgust": "disgust",
    "ps": "surprise",
}
AGES = {"OAF": 64, "YAF": 26}
WORDS = 200
_STEM = re.compile(f"({'|'.join(AGES)})_([a-z]+)_({'|'.join(EMOTION_CODES)})")


class TESS(RecordedCorpusBuilder):
    """2800 recordings of two women who say 200 English words in a sentence, in seven emotions.

    ```python
    from datasets_scripts import load_corpus

    dataset = load_corpus("tess", data_dir="path/to/recordings")
    ```
    """

    CORPUS = "tess"
    EXAMPLE = "OAF_back_angry"
    EXTRA_EMOTIONS = ("surprise",)
    DESCRIPTION = "TESS: 'Say the word ...' with 200 words, acted in seven emotions by two women."
    LICENSE = "cc-by-nc-nd-4.0"
    LANGUAGE = "en"
    HOMEPAGE = "https://doi.org/10.5683/SP2/E8H2MF"
    CITATION = "M. K. Pichora-Fuller, K. Dupuis: Toronto emotional speech set (TESS). 2020"
    ACCESS = f"fetch the recordings from {HOMEPAGE}"
    PUBLISHED: ClassVar = {
        (emotion, speaker): WORDS for emotion in EMOTION_CODES.values() for speaker in AGES
    }
    BUILDER_CONFIGS = configurations(CorpusConfig, "TESS")

    @staticmethod
    def name_of(file: str) -> str:
        """Name of a recording; copies differ in case, and one has lost a letter (`OA_bite_...`)."""
        speaker, _, rest = PurePath(file).stem.partition("_")
        speaker = {"OA": "OAF", "YA": "YAF"}.get(speaker.upper(), speaker.upper())
        return f"{speaker}_{rest.lower()}"

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any]:
        """Columns of e.g. `OAF_back_angry`: speaker, word, emotion (`ps` is pleasant surprise)."""
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected speaker, word and emotion, as in 'OAF_back_angry'")
        speaker, word, emotion = match.groups()
        return {
            "emotion": EMOTION_CODES[emotion],
            "speaker": speaker,
            "gender": "female",
            "age": AGES[speaker],
            "sentence": word,
            "transcript": f"Say the word {word}",
        }
