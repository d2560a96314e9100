import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from evaluation.quality import QualityMeter, quality_metrics, word_error_rate

ROOT = Path(__file__).parents[2]
RATE = 22_025
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DNSMOS = ("ovrl_mos", "sig_mos", "bak_mos")
CONVOLUTIONS = {"conv_dim": (16,) * 4, "conv_kernel": (10, 8, 4, 4), "conv_stride": (5, 4, 4, 4)}
SENTENCES = ["Kids are talking by the door", "Dogs are sitting by the door"]
# Hertz: F0 and the first three formants.
SPEAKERS = {"low": (100, 500, 1_100, 2_300), "high": (260, 850, 2_000, 3_300)}


def speech(speaker, take=0, seconds=1.0, rate=RATE):
    """A buzz at the pitch and with the formants of a speaker, in syllables that differ by take."""
    f0, *formants = SPEAKERS[speaker]
    time = np.arange(round(seconds * rate)) / rate
    swing = 0.15 * np.sin(2 * np.pi * (1.5 + 0.3 * take) * time)
    phase = 2 * np.pi * np.cumsum(f0 * 2**swing) / rate
    harmonics = np.arange(1, int(4_000 / f0) + 1)
    distances = np.subtract.outer(harmonics * f0, formants)
    gains = np.exp(-np.square(distances / 150)).sum(axis=1) + 0.02
    buzz = sum(gain * np.sin(k * phase) for k, gain in zip(harmonics, gains, strict=True))
    syllables = 0.2 + np.square(np.sin(2 * np.pi * (2 + 0.2 * take) * time))
    return (0.05 * buzz * syllables).astype(np.float32)


def with_noise(wave, scale=0.1):
    noise = np.random.default_rng(0).standard_normal(len(wave))
    return (wave + scale * noise).astype(np.float32)


@pytest.fixture(scope="module")
def originals():
    return [speech("low", 0), speech("low", 1), speech("high", 0), speech("high", 1)]


@pytest.fixture(scope="module")
def names():
    return ["low", "low", "high", "high"]


@pytest.fixture(scope="module")
def toy_whisper(tmp_path_factory):
    """A folder as on the Hub, of random weights, that speaks single letters."""
    folder = tmp_path_factory.mktemp("whisper")
    tokens = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", *LETTERS]
    tokenizer = WhisperTokenizer({token: i for i, token in enumerate(tokens)}, merges=[])
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 1}
    torch.manual_seed(0)
    config = WhisperConfig(**layers, **heads, **widths, **ids, vocab_size=len(tokenizer))
    model = WhisperForConditionalGeneration(config)
    # Never ends at once, so that each recording has a text.
    model.generation_config = GenerationConfig(
        **ids,
        max_new_tokens=6,
        suppress_tokens=[0],
        no_timestamps_token_id=2,
        is_multilingual=False,
    )
    for part in (model, tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def toy_ctc(tmp_path_factory):
    """The same without a decoder."""
    folder = tmp_path_factory.mktemp("ctc")
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        **sizes, **CONVOLUTIONS, **positions, intermediate_size=32, num_feat_extract_layers=4,
        vocab_size=len(tokens),
    )  # fmt: skip
    parts = (
        Wav2Vec2ForCTC(config),
        Wav2Vec2CTCTokenizer(folder / "vocab.json"),
        Wav2Vec2FeatureExtractor(),
    )
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


# --- Words ---------------------------------------------------------------------------------------


def test_case_and_punctuation_are_no_errors():
    pytest.importorskip("jiwer")
    assert word_error_rate(SENTENCES, ["kids are talking, by the door.", SENTENCES[1] + "!"]) == 0
    assert word_error_rate(["Das will sie am Mittwoch abgeben"], ["das will, SIE"]) == 0.5


def test_word_errors_are_counted_over_all_texts_and_can_exceed_the_words():
    pytest.importorskip("jiwer")
    # A substitution and a deletion of 6 words, an insertion to 2.
    assert word_error_rate([SENTENCES[0], "by day"], ["kid are talking by door", "by the day"]) == (
        pytest.approx(3 / 8)
    )
    assert word_error_rate(["yes"], ["no no no"]) == 3
    assert word_error_rate(["two words"], [""]) == 1


@pytest.mark.parametrize("kind", ["toy_whisper", "toy_ctc"])
def test_random_weights_recognise_nothing_and_their_own_text_is_without_error(
    kind, originals, request
):
    pytest.importorskip("jiwer")
    asr = request.getfixturevalue(kind)
    settings = {"asr": asr, "batch_size": 2, "sound": False}
    transcripts = SENTENCES * 2
    first = QualityMeter(originals, RATE, transcripts=transcripts, **settings)
    assert first.originals.metrics["word_error_rate"] > 0.9
    assert first.originals.recordings["words"] == [6] * 4
    heard = first.originals.recordings["transcription"]
    assert all(heard)
    again = quality_metrics(originals, originals, RATE, transcripts=heard, **settings)
    assert again.metrics["word_error_rate"] == again.metrics["word_error_rate_original"] == 0
    assert again.recordings["word_errors"] == [0] * 4


def test_batches_change_no_transcription(toy_whisper, originals):
    pytest.importorskip("jiwer")
    settings = {"transcripts": SENTENCES * 2, "asr": toy_whisper, "sound": False}
    texts = [
        QualityMeter(originals, RATE, batch_size=size, **settings).originals.recordings
        for size in (1, 3)
    ]
    assert texts[0]["transcription"] == texts[1]["transcription"]


def test_an_english_recogniser_refuses_another_language(toy_whisper, originals):
    pytest.importorskip("jiwer")
    with pytest.raises(ValueError, match="Bad language 'de', expected 'en'"):
        QualityMeter(
            originals, RATE, transcripts=SENTENCES * 2, asr=toy_whisper, language="de", sound=False
        )


def test_what_the_recogniser_cannot_hear_at_once_is_refused(toy_whisper):
    pytest.importorskip("jiwer")
    with pytest.raises(ValueError, match=r"Bad length 31\.0 s of recording 0"):
        QualityMeter(
            [speech("low", seconds=31)], RATE, transcripts=["a"], asr=toy_whisper, sound=False
        )


def test_a_model_that_cannot_be_had_is_named_and_left_out(originals, tmp_path):
    pytest.importorskip("jiwer")
    nowhere = str(tmp_path / "nowhere" / "model")
    with pytest.warns(UserWarning, match=f"Left out word_error_rate.*'{nowhere}'"):
        meter = QualityMeter(originals, RATE, transcripts=SENTENCES * 2, asr=nowhere, sound=False)
    assert "word_error_rate" not in meter.measure(originals).metrics


# --- Voice ---------------------------------------------------------------------------------------


def test_the_voice_is_that_of_its_speaker_and_another_is_noticed(originals, names):
    pytest.importorskip("resemblyzer")
    meter = QualityMeter(originals, RATE, speakers=names, sound=False)
    kept = meter.measure(originals)
    assert kept.metrics["speaker_rank1"] == 1
    assert kept.recordings["speaker_nearest"] == names
    for name in ("speaker_similarity", "speaker_similarity_other", "speaker_rank1"):
        assert kept.metrics[name] == kept.metrics[f"{name}_original"]
    swapped = meter.measure(originals[2:] + originals[:2])
    assert swapped.metrics["speaker_rank1"] == 0
    assert swapped.metrics["speaker_rank1_original"] == 1
    assert swapped.metrics["speaker_similarity"] < kept.metrics["speaker_similarity"]


def test_a_recording_is_not_compared_with_itself(originals, names):
    """Else a recording unlike the others of its speaker would be nearest to itself."""
    pytest.importorskip("resemblyzer")
    mislabelled = [originals[0], speech("high", 3), *originals[2:]]
    speakers = ["low", "low", "high", "high"]
    quality = QualityMeter(mislabelled, RATE, speakers=speakers, sound=False).originals
    assert quality.recordings["speaker_nearest"][1] == "high"


def test_enrolment_brings_candidates_and_must_hold_no_original(originals, names):
    pytest.importorskip("resemblyzer")
    enrolment = {name: [speech(name, take) for take in (4, 5)] for name in SPEAKERS}
    one_each = [originals[0], originals[2]]
    quality = quality_metrics(
        one_each, one_each, RATE, speakers=["low", "high"], enrolment=enrolment, sound=False
    )
    assert quality.metrics["speaker_rank1"] == 1
    assert quality.metrics["speaker_similarity"] > quality.metrics["speaker_similarity_other"]
    with_original = enrolment | {"low": originals[:1]}
    with pytest.raises(ValueError, match="Bad enrolment of 'low' with an original"):
        QualityMeter(originals, RATE, speakers=names, enrolment=with_original, sound=False)
    with pytest.raises(ValueError, match="Bad speaker 'third'"):
        QualityMeter(one_each, RATE, speakers=["low", "third"], enrolment=enrolment, sound=False)


# --- Sound ---------------------------------------------------------------------------------------


def test_noise_is_heard_in_the_background(originals):
    pytest.importorskip("speechmos.dnsmos")
    noisy = [with_noise(wave) for wave in originals[:2]]
    quality = quality_metrics(originals[:2], noisy, RATE)
    assert set(quality.recordings) == set(DNSMOS)
    assert quality.metrics["bak_mos"] < quality.metrics["bak_mos_original"] - 0.5
    assert quality.metrics["ovrl_mos"] < quality.metrics["ovrl_mos_original"]
    means = {name: np.mean(quality.recordings[name]) for name in DNSMOS}
    assert {name: quality.metrics[name] for name in DNSMOS} == pytest.approx(means)


def test_silence_and_overshoot_are_measured_too(originals, names):
    """Enhancers do fail, and that is no error of the measure."""
    pytest.importorskip("speechmos.dnsmos")
    broken = [np.zeros(RATE), 30 * originals[1], originals[2], originals[3]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Left out")
        quality = quality_metrics(originals, broken, RATE, speakers=names)
    numbers = [*quality.metrics.values(), *quality.recordings["ovrl_mos"]]
    assert np.isfinite(numbers).all()
    json.dumps([quality.metrics, quality.recordings])


# --- Packages and input --------------------------------------------------------------------------

PACKAGES = ("jiwer", "resemblyzer", "speechmos")


class Blocker:
    """Finds none of the packages, as in an environment without them."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


@pytest.fixture
def no_packages(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] in PACKAGES:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])


def test_without_the_packages_each_measure_is_named_once_and_nothing_fails(
    no_packages, originals, names
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        meter = QualityMeter(originals, RATE, speakers=names, transcripts=SENTENCES * 2)
        quality = meter.measure(originals)
    assert quality.metrics == quality.recordings == {}
    said = [warning for warning in caught if str(warning.message).startswith("Left out")]
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 3
    measures = ("word_error_rate", "speaker_similarity", "ovrl_mos")
    for package, measure in zip(PACKAGES, measures, strict=True):
        (text,) = [text for text in texts if f"'{package}'" in text]
        assert f"Left out {measure}" in text
        assert "pip install speech-emotion-diffusion[measures]" in text
    # The line that made the meter.
    assert {warning.filename for warning in said} == {__file__}


def test_the_extra_holds_every_package_that_the_measures_import():
    extra = (ROOT / "setup.cfg").read_text().split("measures =\n")[1].split("test =")[0]
    for package in ("jiwer", "onnxruntime", "resemblyzer", "speechmos"):
        assert f"    {package}>=" in extra


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"originals": []}, "Bad number of recordings 0"),
        ({"sampling_rate": 800}, "Bad sampling_rate 800"),
        ({"originals": [np.full(RATE, np.nan)] * 4}, "Recording 0: .*NaN"),
        ({"originals": [np.zeros((2, RATE))] * 4}, r"of shape \(2, 22025\)"),
        ({"originals": [np.zeros(RATE, dtype=np.int16)] * 4}, "Recording 0: .* type int16"),
        ({"originals": [np.zeros(1_000)] * 4}, "Bad length 0.045 s of recording 0"),
        ({"speakers": ["low", "high"]}, "Bad speakers of length 2, expected 4"),
        ({"speakers": ["low"] * 4}, r"Bad speakers \['low'\], expected two or more"),
        ({"speakers": ["low", "low", "low", "high"]}, "Bad speaker 'high' with one recording"),
        ({"transcripts": ["a word"]}, "Bad transcripts of length 1, expected 4"),
    ],
)
def test_input_that_is_none_is_refused_by_name(change, message, originals):
    arguments = {"originals": originals, "sampling_rate": RATE, "sound": False} | change
    with pytest.raises(ValueError, match=message):
        QualityMeter(**arguments)


def test_as_many_enhanced_as_originals_and_words_in_every_transcript(originals):
    with pytest.raises(ValueError, match="4 originals and 3 enhanced"):
        quality_metrics(originals, originals[:3], RATE)
    pytest.importorskip("jiwer")
    with pytest.raises(ValueError, match="Bad transcript '...' of recording 1"):
        QualityMeter(originals, RATE, transcripts=["a", "...", "b", "c"], asr="none", sound=False)
    with pytest.raises(ValueError, match="Bad hypotheses of length 1, expected 2"):
        word_error_rate(SENTENCES, ["one"])
    with pytest.raises(ValueError, match="Bad number of transcripts 0"):
        word_error_rate([], [])
