"""Builder of EmoDB, the Berlin Database of Emotional Speech (Burkhardt et al., 2005)."""

import re
from typing import Any

from ..builder import CorpusConfig, configurations
from ..download import Archive
from ..recorded import RecordedCorpusBuilder
from ..tables import find_beside
from .listeners import FILE_NAME, read_ratings
from .published import published_stems

EMOTION_CODES = {
    "N": "neutral",
    "F": "happiness",
    "T": "sadness",
    "W": "anger",
    "A": "fear",
    "E": "disgust",
    "L": "boredom",
}
SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_STEM = re.compile(
    f"({'|'.join(SPEAKERS)})({'|'.join(SENTENCES)})([{''.join(EMOTION_CODES)}])([a-z])"
)


class EmoDBConfig(CorpusConfig):
    """Options of EmoDB; the ratings of its listeners belong to the key of the cache."""

    BESIDE = (FILE_NAME, f"*/{FILE_NAME}")


class EmoDB(RecordedCorpusBuilder):
    """535 recordings of ten actors who say ten German sentences in seven emotions.

    ```python
    import datasets_scripts
    from datasets import load_dataset

    dataset = load_dataset("emodb", data_dir="path/to/recordings", split="train")
    ```
    """

    CORPUS = "emodb"
    EXAMPLE = "03a01Fa"
    EXTRA_EMOTIONS = ("boredom",)
    DESCRIPTION = "EmoDB: German sentences, acted in seven emotions by five women and five men."
    LICENSE = "cc0-1.0"
    LANGUAGE = "de"
    HOMEPAGE = "http://emodb.bilderbar.info"
    CITATION = (
        "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: A database of German "
        "emotional speech. Interspeech 2005."
    )
    # The server has no HTTPS and no checksum: what it sends is compared with what was published.
    ARCHIVE = Archive(
        url="http://emodb.bilderbar.info/download/download.zip",
        contents="e5f0efdc6e44e3eb3a41b7205f955dc87c334e77a96e7adc1ca86f1d6c49b480",
    )
    BUILDER_CONFIG_CLASS = EmoDBConfig
    BUILDER_CONFIGS = configurations(EmoDBConfig, "EmoDB")

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any]:
        """Columns of e.g. `03a01Fa`: speaker, sentence, emotion, version."""
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected speaker, sentence, emotion and version, as in '03a01Fa'")
        speaker, sentence, emotion, version = match.groups()
        gender, age = SPEAKERS[speaker]
        return {
            "emotion": EMOTION_CODES[emotion],
            "speaker": speaker,
            "gender": gender,
            "age": age,
            "sentence": sentence,
            "transcript": SENTENCES[sentence],
            "repetition": version,
        }

    @staticmethod
    def published_stems() -> list[str]:
        """Stems of the 535 published recordings."""
        return published_stems()

    def columns_beside(self, folder: Any) -> dict[str, dict[str, Any]]:
        """`agreement` of the listeners by stem, where their table is found."""
        path = find_beside(folder, EmoDBConfig.BESIDE).get(FILE_NAME)
        ratings = read_ratings(path) if path else {}
        return {stem: {"agreement": agreement} for stem, agreement in ratings.items()}
