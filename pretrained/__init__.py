"""What works right after the clone: weights of a classifier and an enhancer, and recordings.

Folders as `transformers` and `diffusers` load them, of EmoDB (CC0-1.0) alone; each has a card of
its own. Importing this loads nothing.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

CLASSIFIER = _HERE / "classifier"
ENHANCER = _HERE / "enhancer"
RECORDINGS = _HERE / "recordings"

__all__ = ["CLASSIFIER", "ENHANCER", "RECORDINGS"]
