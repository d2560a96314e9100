from pathlib import Path

import datasets
import numpy as np
import pytest
from toy_enhancer import make_extractor

from datasets_scripts import decode_audio, load_corpus
from modeling import EmotionFeatureExtractor, extract_prosody
from training.features import MelFeatures
from training.prosodies import load_prosodies


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A few recordings: the pitch of one takes a while."""
    datasets.disable_progress_bars()
    cache = str(tmp_path_factory.mktemp("cache"))
    corpus = load_corpus("toy_emotions", speakers=1, repetitions=1, cache_dir=cache)
    return corpus.select(range(4))


@pytest.mark.parametrize("hop", [256, 512])
def test_stand_on_the_frames_of_the_mels(dataset, hop):
    extractor = EmotionFeatureExtractor(hop_length=hop)
    log_mels = MelFeatures(dataset, extractor, crop_seconds=1.0).log_mels
    loaded = load_prosodies(dataset, [3, 1], extractor)
    assert list(loaded) == [3, 1]
    for row, prosody in loaded.items():
        for name, values in vars(prosody).items():
            assert values.shape == (len(log_mels[row]),), name
        assert prosody.log_f0.dtype == np.float32
        assert prosody.voiced.dtype == bool


def test_are_those_of_the_recording_at_the_rate_of_the_front_end(dataset):
    samples, rate = decode_audio(dataset[3]["audio"])
    assert rate != make_extractor().sampling_rate
    (loaded,) = load_prosodies(dataset, [3], make_extractor()).values()
    plain = extract_prosody(samples, rate)
    pitch = [p.log_f0[p.voiced].mean() for p in (loaded, plain)]
    assert pitch[0] == pytest.approx(pitch[1], abs=0.03)
    assert loaded.voiced.mean() == pytest.approx(plain.voiced.mean(), abs=0.1)


def test_another_fold_computes_nothing_again(dataset):
    folder = Path(dataset.cache_files[0]["filename"]).parent
    before = load_prosodies(dataset, [0, 1], make_extractor())
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    after = load_prosodies(dataset, [1, 2], make_extractor())
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    np.testing.assert_array_equal(after[1].log_f0, before[1].log_f0)
