import datasets
import pytest
from corpus_helpers import labels_of, published_stems, write_recording
from datasets import concatenate_datasets


@pytest.fixture(autouse=True)
def quiet_datasets():
    datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def emodb_folder(tmp_path_factory):
    """All 535 names of EmoDB, with noise in the files."""
    folder = tmp_path_factory.mktemp("emodb")
    for stem in published_stems("emodb"):
        write_recording(folder / "wav" / f"{stem}.wav")
    return folder


@pytest.fixture(scope="session")
def ravdess_folder(tmp_path_factory):
    """All 1440 names of RAVDESS, with noise in the files; two of actor 07 are identical."""
    folder = tmp_path_factory.mktemp("ravdess")
    for stem in published_stems("ravdess"):
        noise = stem.replace("03-01-03-01-02-02-07", "03-01-03-01-02-01-07")
        write_recording(folder / f"Actor_{stem[-2:]}" / f"{stem}.wav", noise, rate=48_000)
    return folder


@pytest.fixture
def small_emodb(tmp_path):
    """Three recordings of EmoDB, one of them of boredom."""
    for stem in ("03a01Fa", "03a01Nc", "03a04Lc"):
        write_recording(tmp_path / "recordings" / f"{stem}.wav")
    return tmp_path / "recordings"


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture(scope="session")
def labels():
    """Label-only datasets by corpus, and of both together."""
    emodb, ravdess = labels_of("emodb"), labels_of("ravdess")
    both = concatenate_datasets([ravdess, emodb])
    return {"emodb": emodb, "ravdess": ravdess, "both": both}
