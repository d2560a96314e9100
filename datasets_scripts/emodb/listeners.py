"""The listening test of EmoDB: how many of 20 listeners recognised the intended emotion."""

import re
from pathlib import Path

FILE_NAME = "erkennung.txt"
# Number, file, recognised %, natural %; the columns are padded with no-break spaces.
_ROW = re.compile(r"(\w+)\.wav\s+(\d+(?:[.,]\d+)?)", re.IGNORECASE)


def read_ratings(path: Path) -> dict[str, float]:
    """Share of listeners, 0 to 1, who recognised the emotion, by stem of the recording."""
    # Copies exist in Latin-1 and in UTF-8; both keep stems and digits, which are ASCII.
    text = path.read_text(encoding="latin-1").replace("\u00c2\u00a0", " ")
    return {stem: float(share.replace(",", ".")) / 100 for stem, share in _ROW.findall(text)}
