import re

import pytest
from huggingface_hub import ModelCard

from datasets_scripts import EVERYBODY
from evaluation import (
    enhancement_table,
    enhancer_card,
    make_record,
    model_card,
    provenance,
    recognition_metrics,
    write_records,
)
from evaluation.cards import weights_license
from training.config import DiffusionConfig
from training.enhancer_card import write_enhancer_card


def record(**changes):
    metrics = recognition_metrics([0, 1, 1, 3, 3], [0, 1, 0, 3, 2], speakers=list("abaab"))
    fields = {
        "task": "recognition",
        "corpus": "emodb",
        "protocol": "speaker_independent",
        "system": "emotion-resnet",
        "metrics": metrics,
        "provenance": provenance(seed=0, seconds=1.0),
        "folds": 10,
    }
    return make_record(**(fields | changes))


def card(**changes):
    arguments = {
        "model_name": "someone/emotion-resnet",
        "corpora": ["emodb"],
        "records": [record(), record(protocol="paper", folds=5)],
        "config_summary": {"parameters": 1_234_567},
    }
    return model_card(**(arguments | changes))


@pytest.mark.parametrize(
    ("corpora", "expected"),
    [
        (["emodb"], "cc0-1.0"),
        (["ravdess"], "cc-by-nc-sa-4.0"),
        (["emodb", "ravdess"], "cc-by-nc-sa-4.0"),
        (["toy_emotions", "ravdess"], "cc-by-nc-sa-4.0"),
        (["toy_emotions"], "apache-2.0"),
        (["emodb", "nemo", "tess"], "cc-by-nc-nd-4.0"),
        (["emodb", "crema_d"], "odbl"),
        (["ravdess", "savee"], "other"),
        (["emodb", "my_folder"], "other"),
    ],
)
def test_licence_follows_the_recordings(corpora, expected):
    assert weights_license(corpora) == expected
    made = card(corpora=corpora)
    assert made.data.license == expected
    assert f"`{expected}`: weights follow the data" in made.text


def test_unknown_and_restricted_corpora_are_named():
    text = card(corpora=["ravdess", "my_folder"], base_model="someone/wavlm").text
    assert "The licence of `my_folder` is unknown" in text
    assert "non-commercial" in text
    assert "The terms of `someone/wavlm` apply as well" in text


def test_the_base_models_licence_is_named_where_it_is_known():
    text = card(base_model="openai/whisper-tiny.en").text
    assert "`openai/whisper-tiny.en`, whose licence is MIT" in text


def test_languages_of_all_corpora_are_in_the_metadata():
    made = card(corpora=["emodb", "crema_d", "nemo", "my_folder"])
    assert made.data.language == ["de", "en", "pl"]


def test_card_survives_saving_and_loading(tmp_path):
    made = card(base_model="someone/wavlm")
    made.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.to_dict() == made.data.to_dict()
    assert loaded.data.library_name == "transformers"
    assert loaded.data.pipeline_tag == "audio-classification"
    assert loaded.data.base_model == "someone/wavlm"
    assert loaded.data.datasets == ["emodb"]
    assert loaded.data.model_name == "someone/emotion-resnet"


def test_model_index_holds_the_records_numbers(tmp_path):
    own = record()
    card(records=[own]).save(tmp_path / "README.md")
    accuracy, recall = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert accuracy.metric_value == own["metrics"]["WA"]
    assert recall.metric_value == own["metrics"]["UA"]
    assert recall.metric_args["UA_ci95"] == own["metrics"]["UA_ci95"]
    assert recall.metric_args["ci_unit"] == "speaker"
    assert (recall.dataset_type, recall.dataset_config) == ("emodb", "speaker_independent")


def test_every_score_in_the_text_stands_in_the_records():
    own = record()
    section = card(records=[own]).text.split("## Results")[1].split("Measured on")[0]
    names = ("WA", "UA", "macro_F1")
    values = [own["metrics"][name] for name in names]
    values += [bound for name in names for bound in own["metrics"][f"{name}_ci95"]]
    shown = re.findall(r"\d+\.\d", section)
    assert sorted(shown) == sorted(f"{100 * value:.1f}" for value in values)


def test_other_conditions_have_tables_of_their_own_and_no_place_in_the_model_index():
    own = record()
    worse = own["metrics"] | {"WA": own["metrics"]["WA"] - 0.2}
    records = [
        own,
        record(condition="telephone", metrics=worse),
        record(condition="calibrated_speaker_10"),
    ]
    made = card(records=records)
    assert "| EmoDB | unseen speakers | emotion-resnet | 60.0 / 62.5 | 40.0 / 62.5 (-20.0) |" in (
        made.text
    )
    assert "| EmoDB | unseen speakers | emotion-resnet | speaker | 60.0 / 62.5 |" in made.text
    assert len(made.data.eval_results) == 2
    assert made.text.count("unseen speakers (10 folds)") == 1
    assert "Calibrated by" not in card(records=[own]).text


def test_card_says_who_was_held_out_and_what_it_is_not_for():
    text = card().text
    assert "EmoDB, unseen speakers (10 folds): the speakers tested were in no training" in text
    assert "the same speakers on both" in text
    assert "Not for decisions about people" in text
    assert "says nothing about human speech" not in text
    assert "says nothing about human speech" in card(corpora=["toy_emotions"]).text


def test_usage_names_the_model_and_compiles():
    text = card(model_name="runs/my model").text
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(snippet, "snippet", "exec")
    assert 'pipeline("audio-classification", "runs/my model", trust_remote_code=True)' in snippet
    assert 'classifier("speech.wav", corpus="my_room")' in snippet


def test_a_mere_name_is_no_repository_of_somebody_on_the_hub():
    text = card(model_name="toy").text
    assert '"path/to/toy", trust_remote_code=True' in text


def test_card_of_weights_that_everybody_trained_says_whose_scores_it_shows():
    assert "Everybody in the corpora trained these weights" in card(of_recipe=True).text
    assert "Everybody" not in card().text
    assert "Everybody" not in card(of_recipe=True, records=[]).text


def test_card_without_measurements_claims_nothing():
    made = card(records=[record(data="enhanced")])
    assert made.data.eval_results is None
    assert "Nothing was measured." in made.text


def test_card_refuses_scores_of_other_systems():
    with pytest.raises(ValueError, match=r"one system, got \['emotion-resnet', 'svm'\]"):
        card(records=[record(), record(system="svm")])
    with pytest.raises(ValueError, match="Bad corpora"):
        card(corpora=[])


def heard(**changes):
    """What all judges together hear in speech that an enhancer converted."""
    metrics = {"WA": 0.2, "target_WA": 0.5}
    metrics["over_shift"] = {"gain": 0.1, "gain_ci95": [0.05, 0.15]}
    fields = {"task": "clarity", "system": "emotion-enhancer", "judge": "mean", "data": "converted"}
    return record(**(fields | {"metrics": metrics} | changes))


def card_of_enhancer(**changes):
    arguments = {
        "model_name": "someone/emotion-enhancer",
        "corpora": ["emodb"],
        "history": [{"stage": "denoiser", "validation_loss": 0.25}],
        "config_summary": {"seed": 0},
    }
    return enhancer_card(**(arguments | changes))


def test_the_card_of_an_enhancer_shows_it_beside_the_shift_of_its_run():
    records = [heard(), heard(system="class-shift", metrics={"WA": 0.2}, beside="emotion-enhancer")]
    text = card_of_enhancer(records=records).text
    results = text.split("## Results")[1].split("## Training")[0]
    assert enhancement_table(records) in results
    assert "+10.0 [+5.0, +15.0]" in results
    assert "people whom neither they nor the model had heard" in results
    unheard = card_of_enhancer().text
    assert "No judge has heard this model yet." in unheard
    assert not re.search(r"\d", unheard.split("## Results")[1].split("## Training")[0])


def card_of_everybody(folder, corpora):
    config = DiffusionConfig(
        corpora=corpora, protocol=EVERYBODY, card_records=str(folder / "results")
    )
    (folder / "run" / "model").mkdir(parents=True, exist_ok=True)
    write_enhancer_card(folder / "run" / "model", config, [])
    return (folder / "run" / "model" / "README.md").read_text()


def test_an_enhancer_that_everybody_trained_shows_what_its_recipe_reached(tmp_path):
    """With what stood beside it, and trained on the same corpora."""
    beside = heard(system="class-shift", metrics={"WA": 0.2}, beside="emotion-enhancer")
    alone = heard(system="class-shift", metrics={"WA": 0.3, "target_WA": 0.52})
    both, one = ([heard(metrics={"WA": wa}), beside] for wa in (0.1, 0.4))
    write_records(tmp_path / "results" / "enhancement.json", [*both, alone])
    write_records(tmp_path / "results" / "emodb" / "enhancement.json", one)
    for corpora, records in ((("emodb", "ravdess"), both), (("emodb",), one)):
        text = card_of_everybody(tmp_path, dict.fromkeys(corpora))
        assert enhancement_table(records) in text
        assert "Everybody in the corpora trained this model" in text
    unheard = card_of_everybody(tmp_path, {"ravdess": None})
    assert "No judge has heard this model yet." in unheard


def test_usage_of_an_enhancer_names_the_model_and_compiles():
    snippet = re.search(r"```python\n(.*?)```", card_of_enhancer().text, re.DOTALL)[1]
    compile(snippet, "snippet", "exec")
    assert '"someone/emotion-enhancer", trust_remote_code=True' in snippet
