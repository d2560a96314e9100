import datasets
import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from small_corpora import dataset_of, speak, write_corpora
from toy_encoders import save_whisper
from transformers import WhisperFeatureExtractor, WhisperModel

from benchmarks.baseline import extract_features
from benchmarks.whisper_logistic_regression import main, whisper_logistic_regression
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE
from evaluation import read_predictions, read_records
from pipelines.audio_inputs import resample

CONDITIONS = ("as_recorded", "level_plus_20", "calibrated_speaker_3")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.mark.filterwarnings("ignore::datasets_scripts.recordings.CorpusWarning")
def test_the_program_writes_records_and_predictions(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    output = tmp_path / "results" / "whisper.json"
    options = ["--conditions", *CONDITIONS, "--output", str(output), "--cache", str(tmp_path)]
    main([*write_corpora(tmp_path), "--encoder", str(encoder), *options])
    records = read_records(output.parent)
    assert [(record["corpus"], record["condition"]) for record in records] == [
        (corpus, condition) for corpus in ("emodb", "ravdess") for condition in CONDITIONS
    ]
    for record in records:
        metrics = record["metrics"]
        assert record["system"] == "whisper-logistic-regression"
        assert 0 <= metrics["ECE"] <= 1
        assert set(metrics["layers"]) <= {1, 2, 3}
        recordings = {"emodb": 48, "ravdess": 18}[record["corpus"]]
        draws = 5 if record["condition"].startswith("calibrated") else 1
        if draws == 1:
            rows = read_predictions(output.parent / record["predictions"])
            assert sum(row["condition"] == record["condition"] for row in rows) == recordings
        assert np.sum(metrics["confusion_matrix"]) == draws * recordings
        command = record["provenance"]["command"]
        assert "--encoder tiny" in command
        assert str(tmp_path) not in command
    scores = [record["metrics"]["UA"] for record in records if record["corpus"] == "emodb"]
    # Untrained, it still tells one sound from another; ten times as loud is another sound.
    assert scores[0] > 2 / 6
    assert scores[0] != scores[1]
    assert "emodb, speaker_independent, level_plus_20: WA" in capsys.readouterr().out


def test_layers_are_those_of_the_encoder_itself(encoder, tmp_path):
    """Of 30 s, what its own `forward` gives; it would pad shorter ones, which sounds otherwise."""
    wave = np.tile(speak(1, "anger"), 30)[: 30 * SAMPLING_RATE]
    short = wave[: 3 * SAMPLING_RATE]
    padded = np.pad(short, (0, 27 * SAMPLING_RATE))
    baseline = whisper_logistic_regression(str(encoder))
    features = extract_features(baseline, dataset_of(wave, short, padded), tmp_path)
    assert features.shape == (3, 3, 32)

    extractor = WhisperFeatureExtractor.from_pretrained(encoder)
    model = WhisperModel.from_pretrained(encoder, dtype=torch.float32).encoder.eval()
    sound = resample(torch.from_numpy(wave).float(), SAMPLING_RATE, 16_000).numpy()
    mels = extractor(sound, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        # The last one is given after the final norm only.
        _, *states, _ = model(mels, output_hidden_states=True).hidden_states
    expected = [torch.cat([state[0].mean(0), state[0].std(0)]).numpy() for state in states]
    np.testing.assert_allclose(features[0, :2], expected, atol=1e-4)
    assert np.abs(features[1] - features[2]).max() > 0.1


def test_a_recording_too_short_is_named(encoder, tmp_path):
    dataset = dataset_of(np.full(100, 0.1), speak(1, "fear"))
    baseline = whisper_logistic_regression(str(encoder))
    with pytest.raises(ValueError, match=r"Whisper's layers has no features for '0.wav' of 0.0"):
        extract_features(baseline, dataset, tmp_path)


def test_an_encoder_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of 1 layer, expected at least 2"):
        whisper_logistic_regression(str(save_whisper(tmp_path / "flat", layers=1)))
    with pytest.raises(OSError, match="nowhere"):
        main(["--corpus", "emodb", "--encoder", str(tmp_path / "nowhere")])
