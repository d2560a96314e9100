"""Which emotions the labels of other people's models stand for, and what trained those models.

`label_maps.json` is data: a list of objects of the fields of `KnownModel`. A user's own file has
the same form.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from datasets_scripts.schema import EMOTIONS

LABEL_MAPS: Final = Path(__file__).with_name("label_maps.json")
CLASSIFICATION: Final = "audio-classification"
EMBEDDINGS: Final = "embeddings"
USES: Final = (CLASSIFICATION, EMBEDDINGS)


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model.

    Args:
        id: On the Hub; or the name of a folder.
        use: `"audio-classification"`, as it is; or `"embeddings"`, its encoder's, on which a
            regression is trained.
        labels: One of `EMOTIONS` for each of its labels, or None for a label without counterpart;
            nothing for embeddings.
        sampling_rate: In Hz; that of its feature extractor when None.
        trained_on: Emotional corpora that trained it, under this project's names where it has them;
            None where that is not known.
        licence: Of the weights, None where that is not known.
        source: Where all that is known from.
        verified: Whether labels and corpora were seen in the model's own card or configuration.
        note: What else to know.

    Raises:
        ValueError: An unknown use or emotion, or labels that do not suit the use.
    """

    id: str
    use: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    sampling_rate: int | None = None
    trained_on: tuple[str, ...] | None = None
    licence: str | None = None
    source: str | None = None
    verified: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.use not in USES:
            raise ValueError(f"Bad use '{self.use}' of '{self.id}', expected one of {list(USES)}")
        unknown = sorted({str(e) for e in self.labels.values() if e not in (*EMOTIONS, None)})
        if unknown:
            raise ValueError(
                f"Bad emotions {unknown} of '{self.id}', expected some of {list(EMOTIONS)} or null"
            )
        if self.use == CLASSIFICATION and len(self.emotions) < 2:
            raise ValueError(f"Bad labels of '{self.id}', expected those of two emotions or more")
        if self.use == EMBEDDINGS and self.labels:
            raise ValueError(
                f"Bad labels {sorted(self.labels)} of '{self.id}', expected none for embeddings"
            )

    @property
    def emotions(self) -> tuple[str, ...]:
        """Those that it can name, in the usual order; a regression on embeddings learns all."""
        if self.use == EMBEDDINGS:
            return EMOTIONS
        return tuple(name for name in EMOTIONS if name in self.labels.values())

    def knows(self, corpus: str) -> bool | None:
        """Whether a corpus was among those that trained it, None where that is not known."""
        return None if self.trained_on is None else corpus in self.trained_on


def read_label_maps(path: str | os.PathLike[str] = LABEL_MAPS) -> dict[str, KnownModel]:
    """Models by their id.

    Raises:
        ValueError: The file holds something else; says what.
        FileNotFoundError: There is no such file.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ValueError(f"expected a list of models, got {type(entries).__name__}")
        models = [_known_model(entry) for entry in entries]
        ids = [model.id for model in models]
        doubled = sorted({name for name in ids if ids.count(name) > 1})
        if doubled:
            raise ValueError(f"found twice: {doubled}, expected each model once")
    except (ValueError, TypeError) as error:
        raise ValueError(f"Bad label maps '{path}': {error}") from error
    return {model.id: model for model in models}


def _known_model(entry: Mapping[str, Any]) -> KnownModel:
    names = [field.name for field in dataclasses.fields(KnownModel)]
    unknown = sorted(set(entry) - set(names))
    missing = [name for name in ("id", "use") if name not in entry]
    if unknown or missing:
        raise ValueError(f"Bad fields {unknown}, expected some of {names}, missing {missing}")
    trained_on = entry.get("trained_on")
    return KnownModel(**{**entry, "trained_on": None if trained_on is None else tuple(trained_on)})


def find_model(name_or_path: str, models: Iterable[KnownModel]) -> KnownModel | None:
    """What is known of a Hub id, or of a folder that is named like the last part of one.

    Raises:
        ValueError: A folder whose name several models share.
    """
    models = list(models)
    for model in models:
        if model.id == name_or_path:
            return model
    if not os.path.isdir(os.path.expanduser(name_or_path)):
        return None
    name = Path(name_or_path).expanduser().resolve().name
    alike = [model for model in models if model.id.rsplit("/", 1)[-1] == name]
    if len(alike) > 1:
        raise ValueError(f"Bad folder name '{name}', that of {[model.id for model in alike]}")
    return alike[0] if alike else None
