"""Builder of nEMO, emotional speech in Polish (Christop, 2024)."""

import re
from typing import Any, ClassVar

from ..builder import CorpusConfig, configurations
from ..recorded import RecordedCorpusBuilder
from ..tables import find_beside, read_numbers, read_table

EMOTION_CODES = {
    "neutral": "neutral",
    "happiness": "happiness",
    "sadness": "sadness",
    "anger": "anger",
    "fear": "fear",
    "surprised": "surprise",
}
TABLE = "data.tsv"
_STEM = re.compile(rf"([A-Z0-9]+)_({'|'.join(EMOTION_CODES)})_(\d+)")


class NemoConfig(CorpusConfig):
    """Options of nEMO; its table of speakers and texts belongs to the key of the cache."""

    BESIDE = (TABLE,)


class Nemo(RecordedCorpusBuilder):
    """4481 recordings of nine actors who say Polish sentences in six emotions, without disgust.

    ```python
    from datasets_scripts import load_corpus

    dataset = load_corpus("nemo", data_dir="path/to/nEMO")
    ```
    """

    CORPUS = "nemo"
    EXAMPLE = "EB0_anger_1"
    EXTRA_EMOTIONS = ("surprise",)
    DESCRIPTION = "nEMO: Polish sentences, acted in six emotions by nine actors."
    LICENSE = "cc-by-nc-sa-4.0"
    LANGUAGE = "pl"
    HOMEPAGE = "https://github.com/amu-cai/nEMO"
    CITATION = "I. Christop: nEMO: Dataset of Emotional Speech in Polish. LREC-COLING 2024"
    ACCESS = f"clone {HOMEPAGE}"
    PUBLISHED: ClassVar = {(): 4481}
    BUILDER_CONFIG_CLASS = NemoConfig
    BUILDER_CONFIGS = configurations(NemoConfig, "nEMO")

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any]:
        """Columns of e.g. `EB0_anger_1`: speaker, emotion, sentence."""
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected speaker, emotion and sentence, as in 'EB0_anger_1'")
        speaker, emotion, sentence = match.groups()
        return {"emotion": EMOTION_CODES[emotion], "speaker": speaker, "sentence": sentence}

    def columns_beside(self, folder: Any) -> dict[str, dict[str, Any]]:
        """`gender`, `age` and `transcript` by name, where the table is found."""
        path = find_beside(folder, NemoConfig.BESIDE).get(TABLE)
        if path is None:
            return {}
        rows = read_table(path, ["file_id", "raw_text", "gender", "age"])
        ages = {number: int(age) for number, age in read_numbers(rows, "age", path).items()}
        return {
            row["file_id"].removesuffix(".wav"): {
                "gender": row["gender"].lower(),
                "age": ages.get(number),
                "transcript": row["raw_text"],
            }
            for number, row in rows.items()
        }
