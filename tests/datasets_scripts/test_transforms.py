from io import BytesIO

import numpy as np
import pytest
import soundfile
from corpus_helpers import write_recording

from datasets_scripts import decode_audio, load_corpus, map_mel, mel_transform
from modeling.feature_extraction_emotion import EmotionFeatureExtractor

pytestmark = pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")


@pytest.fixture
def dataset(tmp_path, cache):
    """Recordings of several rates, lengths and channels."""
    folder = tmp_path / "recordings"
    write_recording(folder / "03a01Fa.wav", rate=16_000)
    write_recording(folder / "03a01Nc.wav", rate=48_000, channels=2)
    write_recording(folder / "08a01Na.flac", rate=22_025)
    write_recording(folder / "09a01Wb.wav", rate=8_000)
    return load_corpus("emodb", data_dir=folder, cache_dir=cache)


@pytest.fixture
def extractor():
    return EmotionFeatureExtractor(
        feature_size=8, n_fft=64, hop_length=32, max_seconds=0.05, mean=-3.0, std=2.0
    )


@pytest.mark.parametrize("padding", [False, "max_length"])
@pytest.mark.parametrize("num_proc", [None, 2])
def test_on_the_fly_and_cached_are_the_same_numbers(dataset, extractor, padding, num_proc):
    lazy = mel_transform(dataset, extractor, padding=padding)
    cached = map_mel(dataset, extractor, num_proc=num_proc, padding=padding)
    assert len(lazy) == len(cached) == 4
    for one, other in zip(lazy, cached, strict=True):
        assert one.keys() == other.keys()
        for name in ("input_features", "attention_mask"):
            # Processes of their own compute with one thread, which rounds sums otherwise.
            np.testing.assert_allclose(one.pop(name), other.pop(name), rtol=1e-5, atol=1e-5)
        assert one == other


def test_features_are_those_of_the_mono_recording_at_its_own_rate(dataset, extractor):
    rows = mel_transform(dataset, extractor)
    for row, source in zip(rows, dataset, strict=True):
        samples, rate = decode_audio(source["audio"])
        mono = samples.mean(axis=1) if samples.ndim == 2 else samples
        expected = extractor(mono, sampling_rate=rate, padding=False)["input_features"][0]
        assert np.array_equal(row["input_features"], expected)
        assert row["input_features"].dtype == np.float32
        assert row["attention_mask"].tolist() == [1] * len(expected)
        assert "audio" not in row


def test_max_length_pads_and_masks(dataset, extractor):
    batch = mel_transform(dataset, extractor, padding="max_length")[:]
    assert np.shape(batch["input_features"]) == (4, extractor.max_frames, 8)
    real = [mask.sum() for mask in batch["attention_mask"]]
    assert real == [len(x) for x in mel_transform(dataset, extractor)[:]["input_features"]]


def test_cache_is_found_by_an_extractor_of_the_same_configuration(dataset, extractor):
    first = map_mel(dataset, extractor)
    again = map_mel(dataset, EmotionFeatureExtractor.from_dict(extractor.to_dict()))
    other = map_mel(dataset, EmotionFeatureExtractor(feature_size=8, n_fft=64, hop_length=32))
    assert again.cache_files == first.cache_files
    assert other.cache_files != first.cache_files
    assert not np.array_equal(other[0]["input_features"], first[0]["input_features"])


@pytest.mark.parametrize("transform", [mel_transform, map_mel])
def test_padding_that_depends_on_the_batch_is_refused(dataset, extractor, transform):
    with pytest.raises(ValueError, match=r"Bad padding 'longest', expected one of \[False"):
        transform(dataset, extractor, padding="longest")


def test_recording_that_the_extractor_refuses_is_named(dataset, extractor):
    samples = np.full(2000, np.nan, dtype=np.float32)
    wav = BytesIO()
    soundfile.write(wav, samples, 16_000, format="WAV", subtype="FLOAT")
    broken = {"bytes": wav.getvalue(), "path": "broken.wav"}
    rows = dataset.select([0]).remove_columns("audio")
    rows = rows.add_column("audio", [broken], feature=dataset.features["audio"])
    with pytest.raises(ValueError, match=r"features of 'broken\.wav': .*"):
        mel_transform(rows, extractor)[0]
