"""Model cards, written from measured records only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .conditions import AS_RECORDED, CONDITIONS
from .tables import (
    CORPUS_TITLES,
    PROTOCOL_TITLES,
    calibration_table,
    enhancement_table,
    markdown_table,
    robustness_table,
)

LANGUAGES = {
    "emodb": "de",
    "ravdess": "en",
    "crema_d": "en",
    "savee": "en",
    "tess": "en",
    "nemo": "pl",
}
# Weights follow the licence of the recordings they were trained on; the stricter come first.
LICENSES = {
    "savee": "other",
    "tess": "cc-by-nc-nd-4.0",
    "ravdess": "cc-by-nc-sa-4.0",
    "nemo": "cc-by-nc-sa-4.0",
    "crema_d": "odbl",
    "emodb": "cc0-1.0",
    "toy_emotions": "apache-2.0",
}
LICENSE_NOTES = {
    "savee": "Trained on SAVEE: for research, as its registration says.",
    "tess": "Trained on TESS (CC BY-NC-ND 4.0): non-commercial use, with attribution, no derived"
    " material.",
    "ravdess": "Trained on RAVDESS (CC BY-NC-SA 4.0): non-commercial use, with attribution, shared"
    " alike.",
    "nemo": "Trained on nEMO (CC BY-NC-SA 4.0): non-commercial use, with attribution, shared"
    " alike.",
    "crema_d": "Trained on CREMA-D (ODbL 1.0): with attribution; databases derived from it are"
    " shared alike.",
    "emodb": "Trained on EmoDB, which its publisher placed under CC0-1.0.",
    "toy_emotions": "Trained on sound synthesised by this project.",
}
# Terms of pretrained models, by the beginning of their Hub id.
BASE_LICENSES = {"openai/whisper": "MIT"}
HELD_OUT = {
    "speaker_independent": "the speakers tested were in no training, validation or early-stopping"
    " set",
    "cross_corpus": "the corpus tested took no part in training",
    "sentence_independent": "the sentences tested were in no training or validation set",
    "paper": "a stratified random split as in Kim & Lee 2024, with **the same speakers on both"
    " sides**: people it never heard will get less",
}

TEMPLATE = """\
---
{metadata}
---

# {name}

Recognises the emotion in recorded speech. {origin}

```python
from transformers import pipeline

classifier = pipeline("audio-classification", "{location}", trust_remote_code=True)
for guess in classifier("speech.wav"):
    print(f"{{guess['label']:10s}} {{guess['score']:.2f}}")

# Surer: recordings of your own room, or of the same voice, need no labels.
classifier.calibrate(["a.wav", "b.wav"], name="my_room")
classifier("speech.wav", corpus="my_room")
```

## Results

{results}

## Training

{training}

{settings}

## Intended use and limits

For research on emotional speech, and to condition and to judge generated speech.

{limits}

## Licence

{license}
"""

ENHANCER_TEMPLATE = """\
---
{metadata}
---

# {name}

Makes the emotion in recorded speech clearer, or another one, and keeps the words. Pitch, tempo and
spectrum of the recording's own waveform are moved (PSOLA): by the mean effect of an emotion where
the model holds it (`method="shift"`), by latent diffusion (`method="diffusion"`), which sees
latents of the recording's mel-spectrogram, its melody and its tempo, and has learned from pairs of
recordings, aligned in time, in which one person says one sentence with two emotions, or by the
second on top of the first (`method="both"`). What is carried is made clearer by the first, another
emotion is reached by both. By default half, once, and one and a half times the change are
tried, and the first version is kept that the model's recogniser and a classifier that you set as
`pipe.listener` are sure of; `rerank=False` changes as far as asked for.
{origin}

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{location}", trust_remote_code=True)
enhanced = pipe("speech.wav", emotion="anger")
audio, rate = enhanced.audios[0], enhanced.sampling_rate
```

## Results

{results}

## Training

{losses}

{settings}

## Intended use and limits

For research: to enhance or augment corpora of emotional speech, and to study what makes an emotion
heard.

{limits}

## Licence

{license}
"""

OF_RECIPE = """\
Everybody in the corpora trained these weights. The scores are those of the same recipe where it was
trained without the people, or without the corpus, that it is tested on."""
OF_RECIPE_HEARD = """\
Everybody in the corpora trained this model. What judges hear, in percent, with 95 % intervals, is
of the same recipe where it was trained without the people that it is tested on. By default
`class-shift-reranked` makes clearer, and `emotion-enhancer` converts; the others were measured on
the same recordings."""
OF_RUN = """\
What judges hear in speech of people whom neither they nor the model had heard, in percent, with
95 % intervals; the class shift is that of this model, on the same recordings."""
ENHANCER_LIMITS = """\
* **It changes what a person seems to feel.** Say so wherever enhanced speech is heard, and do not
  put emotions into the mouths of people who did not agree to it.
* **Acted speech of few speakers** in a handful of sentences. Expect less of spontaneous speech,
  other languages and other microphones.
* **Not this person's own way.** The shift moves all voices by the mean effect of an emotion. The
  diffusion model has learned from few people how a voice changes, and part of what it does is
  chance: another seed gives another version."""
LIMITS = """\
* **Acted speech of few speakers.** Actors portray emotions in a handful of studio-recorded
  sentences. Expect less on spontaneous speech, other languages and other microphones.
* **Not for decisions about people.** The scores say which of the acted emotions a voice resembles,
  not what a person feels. Do not use them in hiring, policing, health, education or any other
  assessment of a person. In some places the law forbids it: in the European Union, recognising
  emotions at work and in schools (Regulation 2024/1689, article 5).
* **Only with consent.** A voice is personal data: do not use this on people who did not agree to
  it.
* **No base rates.** The corpora set how often each emotion occurs; the probabilities carry that
  over."""
TOY_LIMIT = """\
* **Synthetic sound.** `toy_emotions` is synthesised by formula. What is learnt and measured on it
  says nothing about human speech."""


def model_card(
    *,
    model_name: str,
    corpora: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    config_summary: Mapping[str, object],
    base_model: str | None = None,
    of_recipe: bool = False,
) -> ModelCard:
    """Write the card of a recognition model; every score in it stands in `records`.

    Args:
        model_name: Repository id on the Hub or folder, which the usage snippet loads; of a mere
            name, `path/to` it.
        corpora: Names of the corpora that the weights were trained on.
        records: Measured records (`evaluation.results.Record`) of this model; those of other tasks
            than recognition, or on other than original data, are left out. Those in other
            conditions than "as_recorded" are shown in tables of their own.
        config_summary: Settings worth knowing, listed as they are.
        base_model: Hub id of the pretrained model that was fine-tuned.
        of_recipe: The records are of models of the same recipe: everybody trained these weights.

    Returns:
        The card; `card.save("README.md")` writes it.

    Raises:
        ValueError: No corpus is named, or the records are of several systems.
    """
    if not corpora:
        raise ValueError("Bad corpora, expected at least one name, got none")
    own = _own_records(records)
    measured = [record for record in own if record["condition"] == AS_RECORDED]
    content = TEMPLATE.format(
        metadata=_metadata(model_name, corpora, measured, base_model).to_yaml(),
        name=model_name,
        location=_location(model_name),
        origin=_origin(corpora, base_model),
        results="\n\n".join([*([OF_RECIPE] if of_recipe and own else []), _results(own)]),
        training=_training(corpora, measured),
        settings="\n".join(f"* {key}: `{value}`" for key, value in config_summary.items()),
        limits="\n".join([LIMITS, TOY_LIMIT] if "toy_emotions" in corpora else [LIMITS]),
        license=_license_note(corpora, base_model),
    )
    return ModelCard(content)


def enhancer_card(
    *,
    model_name: str,
    corpora: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    config_summary: Mapping[str, object],
    records: Sequence[Mapping[str, Any]] = (),
    of_recipe: bool = False,
) -> ModelCard:
    """Write the card of an enhancer; every number in it was measured.

    Args:
        model_name: Repository id on the Hub or folder, which the usage snippet loads.
        corpora: Names of the corpora that the weights were trained on.
        history: Evaluations of the run, with "stage" and "validation_loss".
        config_summary: Settings worth knowing, listed as they are.
        records: Measured records of tasks "clarity" and "preservation", if there are any yet.
        of_recipe: The records are of models of the same recipe: everybody trained these weights.

    Raises:
        ValueError: No corpus is named.
    """
    if not corpora:
        raise ValueError("Bad corpora, expected at least one name, got none")
    license_id = weights_license(corpora)
    metadata = ModelCardData(
        model_name=model_name,
        license=license_id,
        license_name="see-training-data" if license_id == "other" else None,
        language=sorted({LANGUAGES[corpus] for corpus in corpora if corpus in LANGUAGES}) or None,
        library_name="diffusers",
        pipeline_tag="audio-to-audio",
        tags=["speech-emotion", "audio", "speech", "emotion", "diffusion"],
        datasets=list(corpora),
    )
    validated = [entry for entry in history if "validation_loss" in entry]
    final = {entry["stage"]: entry["validation_loss"] for entry in validated}
    content = ENHANCER_TEMPLATE.format(
        metadata=metadata.to_yaml(),
        name=model_name,
        location=_location(model_name),
        origin=_origin(corpora, None),
        results=_heard(records, of_recipe),
        losses=" ".join(
            [
                f"Corpora: {', '.join(f'`{corpus}`' for corpus in corpora)}.",
                *(f"Validation loss of the {k}: {v:.4f}." for k, v in final.items()),
            ]
        ),
        settings="\n".join(f"* {key}: `{value}`" for key, value in config_summary.items()),
        limits="\n".join(
            [ENHANCER_LIMITS, TOY_LIMIT] if "toy_emotions" in corpora else [ENHANCER_LIMITS]
        ),
        license=_license_note(corpora, None),
    )
    return ModelCard(content)


def _heard(records: Sequence[Mapping[str, Any]], of_recipe: bool) -> str:
    if not records:
        return "No judge has heard this model yet."
    table = enhancement_table(records)
    return f"{OF_RECIPE_HEARD if of_recipe else OF_RUN}\n\n{table}"


def weights_license(corpora: Iterable[str]) -> str:
    """Licence id of weights trained on `corpora`; "other" when one of them is not known here."""
    corpora = set(corpora)
    if corpora - set(LICENSES):
        return "other"
    return next(license_id for corpus, license_id in LICENSES.items() if corpus in corpora)


def _own_records(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    own = [r for r in records if r["task"] == "recognition" and r["data"] == "original"]
    systems = sorted({record["system"] for record in own})
    if len(systems) > 1:
        raise ValueError(f"Bad records, expected those of one system, got {systems}")
    return own


def _metadata(
    model_name: str,
    corpora: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    base_model: str | None,
) -> ModelCardData:
    license_id = weights_license(corpora)
    results = [result for record in records for result in _eval_results(record)]
    return ModelCardData(
        model_name=model_name,
        license=license_id,
        license_name="see-training-data" if license_id == "other" else None,
        language=sorted({LANGUAGES[corpus] for corpus in corpora if corpus in LANGUAGES}) or None,
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "audio", "speech", "emotion"],
        datasets=list(corpora),
        metrics=["accuracy", "recall"],
        base_model=base_model,
        eval_results=results or None,
    )


def _eval_results(record: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=record["corpus"],
            dataset_name=_title(record),
            dataset_config=record["protocol"],
            dataset_split="test",
            metric_type=metric_type,
            metric_name=name,
            metric_value=record["metrics"][score],
            metric_args=_metric_args(record["metrics"], score),
        )
        for score, metric_type, name in (
            ("WA", "accuracy", "WA (accuracy)"),
            ("UA", "recall", "UA (unweighted average recall)"),
        )
    ]


def _metric_args(metrics: Mapping[str, Any], score: str) -> dict[str, Any]:
    average = {"average": "macro"} if score == "UA" else {}
    interval = {key: metrics[key] for key in (f"{score}_ci95", "ci_unit") if key in metrics}
    return average | interval


def _title(record: Mapping[str, Any]) -> str:
    corpus, protocol = record["corpus"], record["protocol"]
    return f"{CORPUS_TITLES.get(corpus, corpus)}, {PROTOCOL_TITLES.get(protocol, protocol)}"


def _location(model_name: str) -> str:
    """What a snippet loads: never a mere name, which anybody could take on the Hub."""
    return model_name if "/" in model_name else f"path/to/{model_name}"


def _origin(corpora: Sequence[str], base_model: str | None) -> str:
    titles = ", ".join(CORPUS_TITLES.get(corpus, corpus) for corpus in corpora)
    return f"Fine-tuned from `{base_model}` on {titles}." if base_model else f"Trained on {titles}."


def _results(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "Nothing was measured."
    days = sorted({record["provenance"]["date"][:10] for record in records})
    commits = sorted({f"`{record['provenance']['commit'][:12]}`" for record in records})
    sections = [
        "In percent, with 95 % bootstrap intervals. WA is the accuracy over all utterances, UA\n"
        "the mean of the recalls of the emotions.",
        markdown_table(records),
    ]
    conditions = {record["condition"] for record in records}
    if conditions & set(CONDITIONS[1:]):
        sections += [
            "When recordings are changed, or their corpus is not named; in brackets the difference"
            " in WA:",
            robustness_table(records),
        ]
    if conditions - set(CONDITIONS):
        sections += [
            "Calibrated by so many unlabelled recordings:",
            calibration_table(records),
        ]
    sections += [
        f"Measured on {', '.join(days)} at commit {', '.join(commits)} by",
        "```bash\n" + "\n".join(_commands(records)) + "\n```",
    ]
    return "\n\n".join(sections)


def _commands(records: Iterable[Mapping[str, Any]]) -> list[str]:
    commands = [line for r in records for line in r["provenance"]["command"].split(" && ")]
    return list(dict.fromkeys(commands))


def _training(corpora: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"Corpora: {', '.join(f'`{corpus}`' for corpus in corpora)}.", ""]
    if records:
        lines += ["How the scores above were measured:", ""]
    for record in records:
        held_out = HELD_OUT.get(record["protocol"], f"protocol `{record['protocol']}`")
        folds = f"{record['folds']} fold{'s' if record['folds'] > 1 else ''}"
        lines.append(f"* {_title(record)} ({folds}): {held_out}.")
    return "\n".join(lines)


def _license_note(corpora: Sequence[str], base_model: str | None) -> str:
    notes = [f"`{weights_license(corpora)}`: weights follow the data they were trained on."]
    notes += [note for corpus, note in LICENSE_NOTES.items() if corpus in corpora]
    unknown = [f"`{corpus}`" for corpus in corpora if corpus not in LICENSES]
    if unknown:
        notes.append(f"The licence of {', '.join(unknown)} is unknown here: find out its terms.")
    if base_model:
        notes.append(_base_license_note(base_model))
    return "\n".join(notes)


def _base_license_note(base_model: str) -> str:
    for start, license_name in BASE_LICENSES.items():
        if base_model.startswith(start):
            return f"Its encoder is that of `{base_model}`, whose licence is {license_name}."
    return f"The terms of `{base_model}` apply as well."
