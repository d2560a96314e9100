"""Corpora of emotional speech as `datasets` builders, and the protocols that divide them.

Importing this package makes `datasets.load_dataset` know the corpora `emodb`, `ravdess`, `crema_d`,
`savee`, `tess`, `nemo`, `toy_emotions`, and `folder`, which is any folder of one's own:

```python
import datasets_scripts
from datasets import load_dataset

dataset = load_dataset("emodb", data_dir="path/to/recordings", split="train")
own = load_dataset("folder", data_dir="path/to/folder", emotion_column="mood", split="train")
```
"""

from .loading import load_corpus
from .parquet import export_parquet
from .protocols import EVERYBODY, PROTOCOLS, Fold, check_leaks, protocol_folds
from .registry import CORPORA, register
from .schema import EMOTIONS, corpus_features, decode_audio
from .transforms import map_mel, mel_transform

__all__ = [
    "CORPORA",
    "EMOTIONS",
    "EVERYBODY",
    "PROTOCOLS",
    "Fold",
    "check_leaks",
    "corpus_features",
    "decode_audio",
    "export_parquet",
    "load_corpus",
    "map_mel",
    "mel_transform",
    "protocol_folds",
]

register()
