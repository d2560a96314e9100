"""Builder of CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al., 2014)."""

import re
from pathlib import PurePath
from typing import Any, ClassVar

from ..builder import CorpusConfig, configurations
from ..recorded import RecordedCorpusBuilder
from ..tables import find_beside, read_numbers, read_table

EMOTION_CODES = {
    "NEU": "neutral",
    "HAP": "happiness",
    "SAD": "sadness",
    "ANG": "anger",
    "FEA": "fear",
    "DIS": "disgust",
}
VOTE_OF_EMOTION = {code: code[0] for code in EMOTION_CODES}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
DEMOGRAPHICS, VOTES = "VideoDemographics.csv", "tabulatedVotes.csv"
# Listeners heard the sound alone (1), saw the picture alone (2), or both (3); rows are numbered so.
VOICE_ONLY = "1"
_STEM = re.compile(
    rf"(10\d\d)_({'|'.join(SENTENCES)})_({'|'.join(EMOTION_CODES)})_({'|'.join(INTENSITIES)})"
)


class CremaDConfig(CorpusConfig):
    """Options of CREMA-D; its tables of actors and of votes belong to the key of the cache."""

    BESIDE = (DEMOGRAPHICS, VOTES, f"*/{DEMOGRAPHICS}", f"*/{VOTES}")


class CremaD(RecordedCorpusBuilder):
    """7442 recordings of 91 actors who say twelve English sentences in six emotions.

    ```python
    from datasets_scripts import load_corpus

    dataset = load_corpus("crema_d", data_dir="path/to/CREMA-D")
    ```
    """

    CORPUS = "crema_d"
    EXAMPLE = "1001_DFA_ANG_XX"
    DESCRIPTION = "CREMA-D: twelve English sentences, acted in six emotions by 91 actors."
    LICENSE = "odbl"
    LANGUAGE = "en"
    HOMEPAGE = "https://github.com/CheyneyComputerScience/CREMA-D"
    CITATION = (
        "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma: CREMA-D: "
        "Crowd-sourced Emotional Multimodal Actors Dataset. IEEE Transactions on Affective "
        "Computing 5(4), 2014."
    )
    ACCESS = f"clone {HOMEPAGE} with Git LFS (its zip archive holds no recordings)"
    PUBLISHED: ClassVar[dict[tuple[str, ...], int]] = {
        (emotion,): 1087 if emotion == "neutral" else 1271 for emotion in EMOTION_CODES.values()
    }
    BUILDER_CONFIG_CLASS = CremaDConfig
    BUILDER_CONFIGS = configurations(CremaDConfig, "CREMA-D")

    @staticmethod
    def name_of(file: str) -> str:
        """Name of a recording; one has lost a letter, `1040_ITH_SAD_X`."""
        stem = PurePath(file).stem
        return f"{stem}X" if stem.endswith("_X") else stem

    @staticmethod
    def parse_stem(stem: str) -> dict[str, Any]:
        """Columns of e.g. `1001_DFA_ANG_XX`: actor, sentence, emotion, intensity."""
        match = _STEM.fullmatch(stem)
        if not match:
            raise ValueError("expected actor, sentence, emotion and level, as in '1001_DFA_ANG_XX'")
        actor, sentence, emotion, intensity = match.groups()
        return {
            "emotion": EMOTION_CODES[emotion],
            "speaker": actor,
            "sentence": sentence,
            "transcript": SENTENCES[sentence],
            "intensity": INTENSITIES[intensity],
        }

    def columns_beside(self, folder: Any) -> dict[str, dict[str, Any]]:
        """`age` and `gender` by actor and `agreement` of the listeners by name, where found."""
        tables = find_beside(folder, CremaDConfig.BESIDE)
        return (_read_actors(tables[DEMOGRAPHICS]) if DEMOGRAPHICS in tables else {}) | (
            _read_votes(tables[VOTES]) if VOTES in tables else {}
        )


def _read_actors(path: Any) -> dict[str, dict[str, Any]]:
    rows = read_table(path, ["ActorID", "Age", "Sex"])
    ages = {number: int(age) for number, age in read_numbers(rows, "Age", path).items()}
    return {
        row["ActorID"]: {"age": ages.get(number), "gender": row["Sex"].lower()}
        for number, row in rows.items()
    }


def _read_votes(path: Any) -> dict[str, dict[str, Any]]:
    """Share of those who heard a recording and chose the intended emotion."""
    columns = VOTE_OF_EMOTION.values()
    rows = read_table(path, ["", "fileName", "numResponses", *columns])
    rows = {number: row for number, row in rows.items() if row[""].startswith(VOICE_ONLY)}
    answers = read_numbers(rows, "numResponses", path)
    votes = {column: read_numbers(rows, column, path) for column in columns}
    shares = {}
    for number, row in rows.items():
        code = "".join(row["fileName"].split("_")[2:3])
        count = votes.get(VOTE_OF_EMOTION.get(code, ""), {}).get(number)
        if count is not None and answers.get(number):
            share = count / answers[number]
            shares[CremaD.name_of(f"{row['fileName']}.wav")] = {"agreement": share}
    return shares
