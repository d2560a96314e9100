"""Makes `datasets.load_dataset` know the corpora by name."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from datasets.load import PackagedDatasetModuleFactory
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from .builder import CorpusBuilder
from .crema_d.crema_d import CremaD
from .emodb.emodb import EmoDB
from .folder.folder import Folder
from .nemo.nemo import Nemo
from .ravdess.ravdess import RAVDESS
from .savee.savee import SAVEE
from .tess.tess import TESS
from .toy_emotions.toy_emotions import ToyEmotions

CORPORA: Final[dict[str, type[CorpusBuilder]]] = {
    builder.CORPUS: builder
    for builder in (EmoDB, RAVDESS, CremaD, SAVEE, TESS, Nemo, Folder, ToyEmotions)
}


@functools.cache
def source_hash() -> str:
    """Digest of this package's code, so that what older code prepared is not taken from a cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def register() -> None:
    """Add the corpora to the builders that `datasets` knows by name."""
    for name, builder in CORPORA.items():
        _PACKAGED_DATASETS_MODULES[name] = (builder.__module__, source_hash())
    get_module = PackagedDatasetModuleFactory.get_module
    if not hasattr(get_module, "__wrapped__"):
        PackagedDatasetModuleFactory.get_module = _without_scan(get_module)


def _without_scan(get_module: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Keep `datasets` from looking for data files of a corpus.

    It would scan the data folder, or the current one when none is given, and fail where that is
    empty; the builders find their own files.
    """

    @functools.wraps(get_module)
    def wrapper(factory: Any) -> Any:
        if factory.name in CORPORA and factory.data_files is None:
            factory.data_files = {}
        return get_module(factory)

    return wrapper
