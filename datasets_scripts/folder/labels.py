"""How people spell emotions."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from ..recordings import CorpusError
from ..schema import EMOTIONS

# Emotions beyond the six that the corpora of this package, and those of others, have.
OTHER_EMOTIONS: Final = (
    "boredom", "calm", "contempt", "excitement", "frustration", "surprise", "other",
)  # fmt: skip
_SPELLINGS: Final = {
    "neutral": "neu neutrality",
    "happiness": "hap happily happy joy joyful joyous",
    "sadness": "sad sadly",
    "anger": "ang angrily angry",
    "fear": "afraid fea fearful fearfully scared",
    "disgust": "dis disgusted",
    "boredom": "bor bored boring",
    "calm": "calmness",
    "contempt": "contemptuous",
    "excitement": "exc excited",
    "frustration": "fru frustrated",
    "surprise": "pleasant_surprise pleasant_surprised ps sur surprised",
    "other": "oth others",
}
_EMOTION_OF: Final = {
    spelling: emotion
    for emotion, spellings in _SPELLINGS.items()
    for spelling in (emotion, *spellings.split())
}


def normalize_names(emotion_names: Mapping[Any, Any]) -> dict[str, str | None]:
    """A user's labels in the form that they are compared in, with the emotions' own names.

    Raises:
        ValueError: Something else than an emotion, or `None` for labels to be left out.
    """
    names = {}
    for label, emotion in emotion_names.items():
        known = None if emotion is None else _EMOTION_OF.get(_normalize(emotion))
        if known is None and emotion is not None:
            raise ValueError(
                f"Bad emotion '{emotion}' of the label '{label}' in emotion_names, expected one of "
                f"{[*EMOTIONS, *OTHER_EMOTIONS]}, or none to leave it out"
            )
        names[_normalize(label)] = known
    return names


def is_label(name: str, emotion_names: Mapping[str, str | None]) -> bool:
    """Whether a name is one of the user's labels, or a known spelling of an emotion."""
    return _normalize(name) in emotion_names or _normalize(name) in _EMOTION_OF


def resolve_labels(
    labels: Counter[str], emotion_names: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Emotion of each label, `None` for those to be left out.

    Args:
        labels: The labels of a corpus, with their numbers of recordings.
        emotion_names: From [`normalize_names`]; goes before the known spellings.

    Raises:
        CorpusError: Unknown labels; all of them are listed.
    """
    known = _EMOTION_OF | dict(emotion_names)
    unknown = {label: n for label, n in labels.items() if _normalize(label) not in known}
    if unknown:
        listed = ", ".join(f"'{label}' ({n})" for label, n in sorted(unknown.items()))
        raise CorpusError(
            f"Unknown emotions {listed}: expected emotion_names to map each to one of "
            f"{[*EMOTIONS, *OTHER_EMOTIONS]}, or to none to leave it out, as in "
            f"emotion_names={{'{min(unknown)}': 'anger'}}"
        )
    return {label: known[_normalize(label)] for label in labels}


def _normalize(label: Any) -> str:
    return "_".join(str(label).casefold().replace("-", " ").replace("_", " ").split())
