"""Builder of the audio-only speech of RAVDESS (Livingstone and Russo, 2018)."""

import itertools
import re
from typing import Any

from ..builder import CorpusConfig, configurations
from ..download import Archive
from ..recorded import RecordedCorpusBuilder

EMOTION_CODES = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITIES = {"01": "normal", "02": "strong"}
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))
AUDIO_ONLY, SPEECH = "03", "01"
_STEM = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")


class RAVDESS(RecordedCorpusBuilder):
    """1440 recordings of 24 actors who say two English sentences in eight emotions.

    ```python
    import datasets_scripts
    from datasets import load_dataset

    dataset = load_dataset("ravdess", data_dir="path/to/recordings", split="train")
    ```
    """

    CORPUS = "ravdess"
    EXAMPLE = "03-01-06-01-02-01-12"
    EXTRA_EMOTIONS = ("calm", "surprise")
    DESCRIPTION = "RAVDESS: two English sentences, acted in eight emotions by 24 actors."
    LICENSE = "cc-by-nc-sa-4.0"
    LANGUAGE = "en"
    HOMEPAGE = "https://zenodo.org/records/1188976"
    CITATION = (
        "S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech "
        "and Song (RAVDESS). PLoS ONE 13(5), 2018."
    )
    ARCHIVE = Archive(
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
        md5="bc696df654c87fed845eb13823edef8a",
        size=208_468_073,
    )
    BUILDER_CONFIGS = configurations(CorpusConfig, "RAVDESS")

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any] | None:
        """Columns of e.g. `03-01-06-01-02-01-12`; `None` for song and for sound of the videos.

        The fields are modality, channel, emotion, intensity, statement, repetition and actor. The
        sound of the videos (modalities 01 and 02) is the same speech again.
        """
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected seven two-digit codes, as in '03-01-06-01-02-01-12'")
        modality, channel, emotion, intensity, sentence, repetition, actor = match.groups()
        if (modality, channel) != (AUDIO_ONLY, SPEECH):
            return None
        return {
            "emotion": EMOTION_CODES[emotion],
            "speaker": actor,
            "gender": "male" if int(actor) % 2 else "female",
            "sentence": sentence,
            "transcript": SENTENCES[sentence],
            "intensity": INTENSITIES[intensity],
            "repetition": repetition,
        }

    @staticmethod
    def published_stems() -> list[str]:
        """Stems of the 1440 published recordings: neutral has no strong intensity."""
        twice = ("01", "02")
        codes = itertools.product(EMOTION_CODES, INTENSITIES, SENTENCES, twice, ACTORS)
        return sorted(
            "-".join((AUDIO_ONLY, SPEECH, *code)) for code in codes if code[:2] != ("01", "02")
        )
