"""Builder of SAVEE, Surrey Audio-Visual Expressed Emotion (Haq and Jackson, 2009)."""

import re
from pathlib import PurePath
from typing import Any

from ..builder import CorpusConfig, configurations
from ..recorded import RecordedCorpusBuilder

EMOTION_CODES = {
    "n": "neutral",
    "h": "happiness",
    "sa": "sadness",
    "a": "anger",
    "f": "fear",
    "d": "disgust",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
TAKES, NEUTRAL_TAKES = 15, 30
_STEM = re.compile(f"({'|'.join(SPEAKERS)})_(sa|su|[adfhn])([0-3][0-9])")


class SAVEE(RecordedCorpusBuilder):
    """480 recordings of four men who say English sentences in seven emotions.

    ```python
    from datasets_scripts import load_corpus

    dataset = load_corpus("savee", data_dir="path/to/AudioData")
    ```
    """

    CORPUS = "savee"
    EXAMPLE = "DC/a01"
    EXTRA_EMOTIONS = ("surprise",)
    DESCRIPTION = "SAVEE: English sentences, acted in seven emotions by four men."
    LICENSE = "other"
    LANGUAGE = "en"
    HOMEPAGE = "http://kahlan.eps.surrey.ac.uk/savee/"
    CITATION = (
        "S. Haq, P. J. B. Jackson: Speaker-dependent audio-visual emotion recognition. "
        "AVSP 2009. For research, by registration"
    )
    ACCESS = f"register at {HOMEPAGE}, unpack the archive of the sound"
    BUILDER_CONFIGS = configurations(CorpusConfig, "SAVEE")

    @staticmethod
    def name_of(file: str) -> str:
        """`DC_a01`, of `DC/a01.wav` and of `DC_a01.wav` alike."""
        path = PurePath(file)
        return path.stem if "_" in path.stem else f"{path.parent.name}_{path.stem}".lstrip("_")

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any]:
        """Columns of e.g. `DC_a01`: speaker, emotion, number.

        The number says which sentence it is only together with the emotion, so that no sentence
        would be left for a test in all emotions: the column stays empty.
        """
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected speaker, emotion and number, as in 'DC/a01' or 'DC_a01'")
        speaker, emotion, number = match.groups()
        return {
            "emotion": EMOTION_CODES[emotion],
            "speaker": speaker,
            "gender": "male",
            "repetition": number,
        }

    @staticmethod
    def published_stems() -> list[str]:
        """Names of the 480 published recordings: 15 a speaker and emotion, 30 of neutral."""
        return sorted(
            f"{speaker}_{code}{number:02d}"
            for speaker in SPEAKERS
            for code in EMOTION_CODES
            for number in range(1, 1 + (NEUTRAL_TAKES if code == "n" else TAKES))
        )
