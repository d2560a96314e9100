"""The state in which a system heard recordings: the `condition` of a record."""

import re
from typing import Any, Final, NamedTuple

AS_RECORDED: Final = "as_recorded"
# What was done to the recordings, or kept from the system, before it heard them.
CONDITION_TITLES: Final = {
    AS_RECORDED: "as recorded",
    "corpus_unnamed": "corpus unnamed",
    "calibrated": "calibrated",
    "level_minus_20": "20 dB softer",
    "level_plus_20": "20 dB louder",
    "noise_10db": "noise at 10 dB",
    "telephone": "telephone",
    "mp3_32k": "MP3, 32 kbit/s",
    "reverb": "small room",
}
CONDITIONS: Final = tuple(CONDITION_TITLES)
# Whose unlabelled recordings a system was calibrated by: of any emotion, or neutral ones.
CALIBRATED_BY_TITLES: Final = {
    "room": "room",
    "speaker": "speaker",
    "room_neutral": "room, neutral only",
    "speaker_neutral": "speaker, neutral only",
}
CALIBRATED: Final = re.compile(rf"calibrated_({'|'.join(CALIBRATED_BY_TITLES)})_([1-9]\d*)")


class Calibration(NamedTuple):
    """What a condition `calibrated_<by>_<number>` means.

    Args:
        by: Whose recordings: "room", "speaker", "room_neutral" or "speaker_neutral".
        number: How many of them.
    """

    by: str
    number: int


def parse_condition(condition: Any) -> Calibration | None:
    """The calibration that a condition names, or None for one of `CONDITIONS`.

    Raises:
        ValueError: It is neither.
    """
    if condition in CONDITIONS:
        return None
    match = CALIBRATED.fullmatch(condition) if isinstance(condition, str) else None
    if match is None:
        raise ValueError(
            f"Bad condition {condition!r}, expected one of {list(CONDITIONS)} or "
            f"'calibrated_<by>_<number>' by one of {list(CALIBRATED_BY_TITLES)}"
        )
    return Calibration(match[1], int(match[2]))
