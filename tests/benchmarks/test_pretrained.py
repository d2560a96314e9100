import dataclasses
import json
import warnings

import datasets
import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("sklearn")

from small_corpora import speak, write_corpora
from toy_encoders import CONVOLUTIONS, SIZES, save_toy_encoder
from transformers import (
    AutoModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from benchmarks.pretrained import PretrainedJudge, UnusableModelError, main
from datasets_scripts import EMOTIONS, decode_audio, load_corpus
from datasets_scripts.toy_emotions.synthesis import SAMPLING_RATE
from enhance_dataset import write_shard
from evaluation import read_predictions, read_records
from evaluation.label_maps import LABEL_MAPS, KnownModel, read_label_maps
from evaluation.tables import enhancement_table, folds_table, markdown_table, robustness_table
from training.state import write_json

EIGHT = {
    **{"sad": "sadness", "calm": None, "angry": "anger", "furious": "anger"},
    **{"happy": "happiness", "neutral": "neutral", "scared": "fear", "disgusted": "disgust"},
}
FOUR = {"neu": "neutral", "hap": "happiness", "ang": "anger", "sad": "sadness"}
WHISPER = {
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 20},
    **{"encoder_attention_heads": 2, "encoder_ffn_dim": 16, "vocab_size": 32},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}


def save_wav2vec2(folder, labels, model=Wav2Vec2ForSequenceClassification):
    torch.manual_seed(0)
    config = Wav2Vec2Config(**SIZES, **CONVOLUTIONS, id2label=dict(enumerate(labels)))
    model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders named after what they hold, and a file that knows the classifiers among them."""
    home = tmp_path_factory.mktemp("models")
    save_wav2vec2(home / "eight", EIGHT)
    save_wav2vec2(home / "four", FOUR)
    save_wav2vec2(home / "headless", FOUR, model=Wav2Vec2Model)
    save_toy_encoder(home / "whisper-toy")
    known = [
        {"id": "someone/eight", "labels": EIGHT, "trained_on": ["ravdess", "iemocap"]},
        {"id": "someone/four", "labels": FOUR},
        {"id": "someone/headless", "labels": FOUR},
    ]
    write_json(home / "maps.json", [entry | {"use": "audio-classification"} for entry in known])
    return home


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    """The command on small corpora of synthetic voices; returns status and output in a folder."""
    home = tmp_path_factory.mktemp("run")
    corpora = write_corpora(home)

    def call(names, *arguments, corpora=corpora):
        folders = [str(models / name) for name in names]
        output = ["--cache", str(home / "cache"), "--output", str(home / "results/pretrained.json")]
        maps = ["--label_maps", str(models / "maps.json")]
        return main(["--models", *folders, *corpora, *maps, *output, *arguments])

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "prepared")
        # Four voices are not all of EmoDB.
        warnings.simplefilter("ignore")
        call.home, call.results, call.emodb = home, home / "results", home / "emodb"
        yield call


@pytest.fixture(scope="module")
def tested(run):
    """Records of everything that the folders hold."""
    conditions = ["--conditions", "as_recorded", "telephone", "calibrated_speaker_3"]
    status = run(["eight", "four", "headless", "whisper-toy"], *conditions)
    return status, read_records(run.results)


def of(records, **fields):
    return [r for r in records if all(r[name] == value for name, value in fields.items())]


def test_a_classifier_adds_labels_of_one_emotion_and_leaves_out_others(models):
    judge = PretrainedJudge.load(str(models / "eight"), EIGHT)
    waves = [speak(1, "anger"), speak(2, "sadness")]
    said = judge.predict_proba(waves, SAMPLING_RATE)
    assert (said.shape, said.dtype) == ((2, 6), np.float32)
    assert judge.classes == judge.emotions == EMOTIONS

    model = Wav2Vec2ForSequenceClassification.from_pretrained(models / "eight").eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(models / "eight")
    inputs = extractor(waves[0], sampling_rate=SAMPLING_RATE, return_tensors="pt")
    with torch.no_grad():
        shares = model(**inputs).logits[0].softmax(dim=0).tolist()
    of_label = dict(zip(EIGHT, shares, strict=True))
    anger = (of_label["angry"] + of_label["furious"]) / (1 - of_label["calm"])
    assert said[0, EMOTIONS.index("anger")] == pytest.approx(anger, abs=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    # Another rate is resampled, not taken for the model's own.
    slower = judge.predict_proba([np.repeat(waves[0], 2)], 2 * SAMPLING_RATE)
    np.testing.assert_allclose(slower[0], said[0], atol=0.02)


def test_a_whisper_classifier_hears_its_thirty_seconds(tmp_path):
    torch.manual_seed(0)
    config = WhisperConfig(**WHISPER, id2label=dict(enumerate(FOUR)))
    WhisperForAudioClassification(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=20).save_pretrained(tmp_path)
    judge = PretrainedJudge.load(str(tmp_path), FOUR)
    said = judge.predict_proba([speak(1, "fear")], SAMPLING_RATE)
    assert judge.emotions == EMOTIONS[:4]
    assert said[0, :4].sum() == pytest.approx(1, abs=1e-5)
    assert said[0, 4:].tolist() == [0, 0]


def test_a_head_that_is_not_in_the_checkpoint_is_refused_by_name(models):
    with pytest.raises(UnusableModelError, match=r"headless.*missing \['classifier.bias', 'class"):
        PretrainedJudge.load(str(models / "headless"), FOUR)


def test_an_encoder_without_some_of_its_weights_is_refused(models, tmp_path):
    model = AutoModel.from_pretrained(models / "whisper-toy")
    weights = {k: v for k, v in model.state_dict().items() if "encoder.layers.1.fc1" not in k}
    model.save_pretrained(tmp_path, state_dict=weights)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(UnusableModelError, match=r"missing \['encoder.layers.1.fc1.bias'"):
        PretrainedJudge.load(str(tmp_path))


def test_a_map_that_does_not_fit_is_refused_with_both_sides(models):
    wrong = {**{label: e for label, e in FOUR.items() if label != "hap"}, "joy": "happiness"}
    message = r"not in the map \['hap'\], not in the model \['joy'\]"
    with pytest.raises(UnusableModelError, match=message):
        PretrainedJudge.load(str(models / "four"), wrong)


def test_remote_code_needs_a_revision(models):
    with pytest.raises(ValueError, match="Bad revision None"):
        PretrainedJudge.load(str(models / "four"), FOUR, trust_remote_code=True)
    with pytest.raises(SystemExit):
        main(["--models", str(models / "four"), "--corpus=emodb", "--trust_remote_code"])


def test_an_encoder_learns_the_toy_emotions_of_one_half_of_the_voices(models):
    corpus = load_corpus("toy_emotions", speakers=4, repetitions=1)
    waves = [decode_audio(audio)[0] for audio in corpus["audio"]]
    names = [EMOTIONS[i] for i in corpus["emotion"]]
    learned = np.isin(corpus["speaker"], ["01", "02"])
    judge = PretrainedJudge.load(str(models / "whisper-toy"))
    with pytest.raises(ValueError, match="expected `fit` before"):
        judge.predict_proba(waves[:1], SAMPLING_RATE)
    with pytest.raises(ValueError, match=r"Bad recording 1 of 0.010 s, expected a longer one"):
        judge.fit([waves[0], waves[1][:160]], SAMPLING_RATE, names[:2])
    halves = [np.flatnonzero(learned), np.flatnonzero(~learned)]
    (own, own_names), (others, true) = (
        ([waves[i] for i in half], [names[i] for i in half]) for half in halves
    )
    said = judge.fit(own, SAMPLING_RATE, own_names).predict_proba(others, SAMPLING_RATE)
    heard = [judge.classes[i] for i in said.argmax(axis=1)]
    # Chance is a sixth; the weights are random, the sounds are not.
    assert np.mean([a == b for a, b in zip(heard, true, strict=True)]) > 0.3


def test_the_command_refuses_what_is_random_and_tests_the_rest(tested, run):
    status, records = tested
    assert status == 1
    systems = ("eight", "four", "whisper-toy")
    assert {(r["system"], r["corpus"], r["condition"]) for r in records} >= {
        (system, corpus, condition)
        for system in systems
        for corpus in ("emodb", "ravdess")
        for condition in ("as_recorded", "telephone")
    }
    # Verdicts cannot be calibrated, embeddings can.
    calibrated = of(records, condition="calibrated_speaker_3")
    assert {record["system"] for record in calibrated} == {"whisper-toy"}
    for record in (record for record in records if record["predictions"]):
        assert (record["judge"], record["data"]) == (None, "original")
        rows = read_predictions(run.results / record["predictions"])
        kept = [row for row in rows if row["condition"] == record["condition"]]
        right = np.mean([row["emotion"] == row["prediction"] for row in kept])
        assert right == pytest.approx(record["metrics"]["WA"])
    (encoder,) = of(records, system="whisper-toy", corpus="emodb", condition="as_recorded")
    assert encoder["metrics"]["use"] == "embeddings"
    assert encoder["metrics"]["UA"] > 2 / 6


def test_training_on_the_tested_corpus_is_marked_in_records_and_tables(tested):
    _, records = tested
    eight = of(records, system="eight", condition="as_recorded")
    marks = {record["corpus"]: record["metrics"]["contaminated"] for record in eight}
    assert marks == {"emodb": False, "ravdess": True}
    (unknown,) = of(records, system="whisper-toy", corpus="ravdess", condition="as_recorded")
    assert unknown["metrics"]["contaminated"] is None
    for table in (markdown_table(eight), folds_table(eight)):
        lines = [line for line in table.splitlines() if "(contaminated)" in line]
        assert lines
        assert all("RAVDESS" in line for line in lines)
    assert "| eight (contaminated) |" in robustness_table(of(records, system="eight"))


def test_four_classes_are_tested_on_their_recordings_and_say_how_many_those_are(tested):
    _, records = tested
    (record,) = of(records, system="four", corpus="emodb", condition="as_recorded")
    metrics = record["metrics"]
    assert metrics["classes"] == list(EMOTIONS[:4])
    assert metrics["coverage"] == pytest.approx(4 / 6)
    counts = np.asarray(metrics["confusion_matrix"])
    assert counts.sum() == 32 == sum(fold["n"] for fold in record["per_fold"])
    assert counts[4:].sum() == counts[:, 4:].sum() == 0
    recalls = [metrics["per_emotion"][name]["recall"] for name in metrics["classes"]]
    assert metrics["UA"] == pytest.approx(np.mean(recalls))
    assert "| four (4 emotions, 67 % of the recordings) |" in markdown_table([record])


@pytest.fixture(scope="module")
def changed(run):
    """What `enhance_dataset.py` writes: each recording unchanged, its aim the next emotion."""
    folder = run.home / "converted"
    corpus = load_corpus("emodb", data_dir=run.emodb)
    extra = {"mel": [[0.0]], "seed": 0, "settings": "{}"}
    rows = [{**r, **extra, "target_emotion": (r["emotion"] + 1) % 6} for r in corpus]
    (folder / "data").mkdir(parents=True)
    write_shard(folder / "data/train-00000-of-00002.parquet", corpus, rows[:24])
    # Two copies of each of the second half.
    write_shard(folder / "data/train-00001-of-00002.parquet", corpus, rows[24:] + rows[24:])
    write_json(folder / "settings.json", {"model": "outputs/enhancer_0/model"})
    return folder


@pytest.mark.filterwarnings("ignore::datasets_scripts.recordings.CorpusWarning")
def test_a_judge_that_learns_hears_changed_speech_in_the_fold_of_its_original(tested, run, changed):
    _, records = tested
    options = ["--recordings", str(changed), "--data", "enhanced"]
    assert run(["whisper-toy"], *options) == 0
    (record,) = of(read_records(run.results), task="clarity", data="enhanced")
    assert (record["judge"], record["system"]) == ("whisper-toy", "enhancer_0")
    (original,) = of(records, system="whisper-toy", corpus="emodb", condition="as_recorded")
    before = read_predictions(run.results / original["predictions"])
    before = {p["file"]: p for p in before if p["condition"] == "as_recorded"}
    after = read_predictions(run.results / record["predictions"])
    assert len(after) == 72
    for row in after:
        # Nothing was changed, so nothing else is heard, if the same people trained the judge.
        assert row["prediction"] == before[row["file"].partition("#")[0]]["prediction"]
        assert row["fold"] == before[row["file"].partition("#")[0]]["fold"]


def test_converted_speech_is_judged_by_what_it_was_to_become(tested, run, changed):
    options = ["--recordings", str(changed), "--data", "converted"]
    assert run(["eight"], *options, corpora=()) == 0
    (record,) = of(read_records(run.results), judge="eight", data="converted")
    metrics = record["metrics"]
    rows = read_predictions(run.results / record["predictions"])
    assert metrics["WA"] == metrics["target_WA"]
    assert metrics["WA"] == np.mean([r["emotion"] == r["prediction"] for r in rows])
    emotions = {
        (EMOTIONS["NFTWAE".index(row["file"][5])], row["emotion"], row["prediction"])
        for row in rows
    }
    assert all(EMOTIONS.index(aim) == (EMOTIONS.index(own) + 1) % 6 for own, aim, _ in emotions)
    assert "told another emotion" in enhancement_table([record])


def test_a_parquet_file_and_a_folder_of_labels_can_be_judged(run, changed, tmp_path):
    shard = changed / "data/train-00000-of-00002.parquet"
    assert run(["four"], "--recordings", str(shard), "--system", "mine", corpora=()) == 0
    for emotion in ("anger", "sadness", "disgust"):
        (tmp_path / emotion).mkdir()
        soundfile.write(tmp_path / emotion / "a.wav", speak(3, emotion), SAMPLING_RATE)
    assert run(["four"], "--recordings", str(tmp_path), "--system", "mine", corpora=()) == 0
    shard_record, folder_record = of(read_records(run.results), system="mine", judge="four")
    assert shard_record["metrics"]["coverage"] == pytest.approx(16 / 24)
    assert shard_record["per_fold"][0]["n"] == 16
    assert (folder_record["corpus"], folder_record["per_fold"][0]["n"]) == ("folder", 2)


def test_recordings_that_cannot_be_judged_are_refused(run, changed, tmp_path):
    with pytest.raises(ValueError, match="has to learn from originals, expected --corpus emodb"):
        run(["whisper-toy"], "--recordings", str(changed), corpora=())
    with pytest.raises(FileNotFoundError, match="expected a folder of recordings"):
        run(["eight"], "--recordings", str(tmp_path / "nowhere"), corpora=())


def test_what_ships_is_complete_and_means_our_emotions():
    entries = json.loads(LABEL_MAPS.read_text(encoding="utf-8"))
    fields = {field.name for field in dataclasses.fields(KnownModel)}
    for entry in entries:
        assert set(entry) == fields
        assert set(entry["labels"].values()) <= {*EMOTIONS, None}
        assert entry["trained_on"]
        assert entry["source"]
        assert entry["verified"] or entry["note"]
    models = read_label_maps()
    assert len(models) == len(entries) >= 8
    assert models["superb/hubert-large-superb-er"].emotions == EMOTIONS[:4]
    assert models["padmalcom/wav2vec2-large-emotion-detection-german"].knows("emodb")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "a", "use": "audio-classification", "labels": {"x": "joy", "y": "fear"}}, "joy"),
        ({"id": "a", "use": "audio-classification", "labels": {"x": "fear"}}, "two emotions"),
        ({"id": "a", "use": "embeddings", "labels": {"x": "fear"}}, "expected none"),
        ({"id": "a", "use": "oracle"}, "Bad use 'oracle'"),
        ({"id": "a", "use": "embeddings", "lisence": "mit"}, r"Bad fields \['lisence'\]"),
        ({"use": "embeddings"}, r"missing \['id'\]"),
    ],
)
def test_a_bad_entry_is_refused(entry, message, tmp_path):
    file = tmp_path / "maps.json"
    write_json(file, [entry])
    with pytest.raises(ValueError, match=message):
        read_label_maps(file)
