"""Train an emotion recogniser, test it on people it never heard, and make it ready for the Hub.

    accelerate launch train_classifier.py --config configs/classifier.yaml \\
        corpora.emodb=/data/emodb corpora.ravdess=/data/ravdess fold=0

Two processes without a GPU:

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train_classifier.py ...

The output folder receives `model/` (safetensors, features, pipeline, card: what goes to the Hub),
`metrics.json` (records in the schema of `results/`), `predictions.json`, `history.json`, `plots/`
and `checkpoints/`, from which `--resume` continues as if nothing had happened.
"""

import argparse
import dataclasses
import inspect
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedModel,
)

from datasets_scripts import EMOTIONS, EVERYBODY
from datasets_scripts.hub import push_folder
from evaluation import (
    make_record,
    model_card,
    plot_confusion,
    plot_history,
    plot_per_emotion,
    plot_reliability,
    provenance,
    read_records,
    recognition_metrics,
)
from evaluation.results import REPORTED_CORPORA, Record
from modeling import (
    EmotionFeatureExtractor,
    EmotionResNetConfig,
    EmotionResNetForAudioClassification,
    EmotionTransformerConfig,
    EmotionTransformerFeatureExtractor,
    EmotionTransformerForAudioClassification,
)
from pipelines import EmotionClassificationPipeline
from training.config import (
    AugmentationConfig,
    ClassifierConfig,
    DegradationConfig,
    StageConfig,
    load_config,
)
from training.data import (
    Batch,
    Corpora,
    evaluation_loader,
    load_corpora,
    soft_cross_entropy,
    train_loader,
)
from training.encoder import FROZEN, check_depth, check_train_encoder, freeze_encoder, thaw_encoder
from training.features import (
    EncoderFeatures,
    Features,
    HiddenStateFeatures,
    MelFeatures,
    WaveformFeatures,
)
from training.loop import Run, train
from training.run import (
    add_run_arguments,
    build_accelerator,
    check_folder,
    check_run_settings,
    claim_folder,
    hub_options,
)
from training.state import halve_weights, replace_folder, write_json

# Natural logarithms: scores may become at most five times as sharp or as flat.
LOG_TEMPERATURES = (-1.6, 1.6)
TEMPERATURE = "score_temperature"
# What a run finds out by itself.
NOT_SETTINGS = {"self", "kwargs", "encoder", "calibrations", "mean", "std", "corpus_statistics"}
STAGE_EMOTIONS = ("six_emotions", "all")


@dataclass(kw_only=True)
class ClassifierRun(Run):
    """A recogniser in training.

    Args:
        corpora: Every recording, and who trains, validates and tests.
        features: The recordings as inputs of the model.
        started: When the run began.
    """

    config: ClassifierConfig
    corpora: Corpora
    features: Features
    started: float = field(default_factory=time.monotonic)

    @property
    def stages(self) -> Sequence[tuple[str, StageConfig]]:
        """Name and settings of every stage."""
        return [(stage.name, stage) for stage in self.config.stages]

    @property
    def stopped_early(self) -> bool:
        """Whether validation has not improved for as long as the settings allow."""
        return 0 < self.config.early_stopping_patience <= self.progress.stale

    @property
    def best_weights(self) -> Path:
        """Each stage has its own: a run may resume from a checkpoint of an earlier stage."""
        return self.folder / f"best-stage-{self.progress.stage}.safetensors"

    def build_stage(self) -> tuple[nn.Module, DataLoader[Any]]:
        """The model as the stage before left it, and the batches of this one."""
        model = self.bare_model
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        number = self.progress.stage
        stage = self.config.stages[number]
        if stage.train_encoder != "frozen":
            thaw_encoder(model, stage.train_encoder)
            self.features = live_features(self)
        labels = model.config.num_labels
        return model, train_loader(self.config, self.corpora, self.features, number, labels)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy against class probabilities."""
        labels = batch.pop("labels")
        return soft_cross_entropy(self.model(**batch).logits, labels)

    def validate(self) -> dict[str, float]:
        """Loss, WA and UA on the validation rows, if any; WA and UA as means over corpora."""
        if not self.corpora.fold.validation:
            return {}
        return validation_scores(self, *predict(self, self.corpora.fold.validation))

    def after_evaluation(self, improved: bool) -> None:
        """Keep the best weights of the stage."""
        if improved and self.accelerator.is_main_process:
            save_weights(self, self.best_weights)

    def finish_stage(self) -> None:
        """Go on with the best weights of the stage."""
        self.bare_model.load_state_dict(load_file(self.best_weights))
        if isinstance(self.features, EncoderFeatures):
            freeze_encoder(self.bare_model)
            # Statistics of each corpus are those of the new encoder; of unknown origin, those that
            # it was trained with.
            self.features = frozen_features(self.config, self.corpora, self.bare_model)
            self.features.fit_statistics(self.corpora.fold.train, keep_unknown=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test, save and, if asked, push."""
    options = parse_arguments(arguments)
    config = load_config(ClassifierConfig, options.config, options.overrides)
    config = dataclasses.replace(config, **hub_options(options))
    check_config(config)
    # wav2vec2 and its kin drop whole layers at random, on each process others.
    accelerator = build_accelerator(config, config.model_name_or_path is not None)
    check_folder(config, options, "model/config.json")
    set_seed(config.seed)
    run = build_run(config, accelerator)
    if not options.evaluate_only:
        claim_folder(config, accelerator, options.overwrite, "emotion-recognition")
        train(run, resume=options.resume)
    test(run)
    if config.push_to_hub and config.hub_model_id is not None and accelerator.is_main_process:
        push_folder(run.folder / "model", config.hub_model_id)
    accelerator.end_training()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line: settings files, overrides and what to do with an existing folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    existing = add_run_arguments(parser)
    existing.add_argument("--evaluate_only", action="store_true", help="test the saved model")
    options = parser.parse_intermixed_args(arguments)
    options.config = options.config or [Path(__file__).parent / "configs" / "classifier.yaml"]
    return options


def check_config(config: ClassifierConfig) -> None:
    """Refuse, before anything is computed, settings that would fail later.

    Raises:
        ValueError: An unknown or absent tracker, no stages or a bad one, a number below 1, or a
            push without an id.
        FileNotFoundError: The folder of records that the card is to show is not there.
    """
    check_run_settings(config)
    recipe_records(config)
    if not config.stages:
        raise ValueError("Got no stages, expected at least one")
    if config.train_on_validation and config.early_stopping_patience:
        raise ValueError(
            "Got early_stopping_patience and train_on_validation, expected one of them"
        )
    check_model_settings(config)
    for stage in config.stages:
        check_stage(stage, config)
    others = [stage.name for stage in config.stages if stage.emotions != "six_emotions"]
    trains = [stage.train_encoder != "frozen" for stage in config.stages]
    if trains != sorted(trains):
        raise ValueError("Got a frozen stage after one that trains the encoder, expected it before")
    pretrained = config.model_name_or_path or config.encoder_name_or_path
    if pretrained and others:
        raise ValueError(f"Stages {others} train all emotions, expected six for a pretrained model")
    if config.model_name_or_path and config.encoder_name_or_path:
        raise ValueError("Got model_name_or_path and encoder_name_or_path, expected one of them")


def check_model_settings(config: ClassifierConfig) -> None:
    """Refuse names that a model or its front end would swallow, and settings without effect.

    Raises:
        ValueError: Names them, and what was expected.
    """
    if config.encoder_name_or_path is None and (
        config.copies or config.degradation != DegradationConfig()
    ):
        raise ValueError("Got copies or degradation without encoder_name_or_path")
    if config.model_name_or_path is not None:
        return
    kinds: tuple[Any, Any] = (EmotionResNetConfig, EmotionFeatureExtractor)
    if config.encoder_name_or_path is not None:
        kinds = (EmotionTransformerConfig, EmotionTransformerFeatureExtractor)
    for setting, kind in zip(("model", "feature_extractor"), kinds, strict=True):
        parameters = inspect.signature(kind.__init__).parameters
        known = sorted(parameters.keys() - NOT_SETTINGS)
        unknown = sorted(set(getattr(config, setting)) - set(known))
        if unknown:
            raise ValueError(f"Unknown setting {setting}.{unknown[0]}, expected {known}")


def check_stage(stage: StageConfig, config: ClassifierConfig) -> None:
    """Refuse a stage that could only fail after those before it were trained.

    Raises:
        ValueError: Unknown emotions, or corpora that the run has not.
    """
    if stage.emotions not in STAGE_EMOTIONS:
        raise ValueError(
            f"Bad emotions '{stage.emotions}' of stage '{stage.name}', "
            f"expected one of {list(STAGE_EMOTIONS)}"
        )
    check_train_encoder(stage.train_encoder, config.encoder_name_or_path)
    frozen = config.encoder_name_or_path is not None and stage.train_encoder == FROZEN
    if frozen and stage.augmentation != AugmentationConfig():
        raise ValueError(
            f"Got augmentation in stage '{stage.name}' of a frozen encoder, where it has no effect:"
            " expected copies and degradation"
        )
    unknown = sorted(set(stage.corpora) - set(config.corpora))
    if unknown:
        raise ValueError(f"Stage '{stage.name}' names {unknown}, expected {sorted(config.corpora)}")


def build_run(config: ClassifierConfig, accelerator: Accelerator) -> ClassifierRun:
    """Load the corpora, their features and the model."""
    # The caches of `datasets` are written by one process and read by the others.
    with accelerator.main_process_first():
        corpora = load_corpora(config)
        model = build_model(config, corpora.labels)
        features = build_features(config, corpora, model)
    run = ClassifierRun(
        config=config, accelerator=accelerator, corpora=corpora, features=features, model=model
    )
    # What cannot be trained is better refused now than after a stage.
    for stage, settings in enumerate(config.stages):
        if config.encoder_name_or_path is not None:
            check_depth(settings.train_encoder, max(model.config.layers))
        train_loader(config, corpora, features, stage, model.config.num_labels)
    return run


def build_model(config: ClassifierConfig, labels: Sequence[str]) -> PreTrainedModel:
    """New heads on a pretrained encoder, a pretrained classifier, or an EmotionResNet.

    Only the last has heads for all labels of the corpora while it trains.
    """
    if config.encoder_name_or_path is not None:
        return EmotionTransformerForAudioClassification.from_encoder(
            config.encoder_name_or_path, **_label_maps(EMOTIONS), **config.model
        )
    if config.model_name_or_path is None:
        settings = EmotionResNetConfig(**config.model, **_label_maps(labels))
        model = EmotionResNetForAudioClassification(settings)
        return _with_memory_format(model, torch.channels_last)
    settings = AutoConfig.from_pretrained(
        config.model_name_or_path, **_label_maps(EMOTIONS), **config.model
    )
    # In full precision whatever the checkpoint holds: small updates would be rounded away.
    return AutoModelForAudioClassification.from_pretrained(
        config.model_name_or_path,
        config=settings,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
    )


def build_features(config: ClassifierConfig, corpora: Corpora, model: Any) -> Features:
    """Frames of a frozen encoder, mels, or waveforms, with statistics of the training speakers."""
    features: MelFeatures | HiddenStateFeatures
    if config.encoder_name_or_path is not None:
        features = frozen_features(config, corpora, model)
    elif config.model_name_or_path is None:
        extractor = EmotionFeatureExtractor(**config.feature_extractor)
        features = MelFeatures(corpora.dataset, extractor, config.crop_seconds, config.statistics)
    else:
        of_model = AutoFeatureExtractor.from_pretrained(config.model_name_or_path)
        return WaveformFeatures(corpora.dataset, of_model, config.crop_seconds)
    features.fit_statistics(corpora.fold.train)
    return features


def frozen_features(config: ClassifierConfig, corpora: Corpora, model: Any) -> HiddenStateFeatures:
    """What the present encoder hears in every recording, and in degraded copies of them."""
    assert config.encoder_name_or_path is not None
    extractor = EmotionTransformerFeatureExtractor.from_encoder(
        config.encoder_name_or_path, **config.feature_extractor
    )
    return HiddenStateFeatures(
        corpora.dataset,
        model,
        extractor,
        config.crop_seconds,
        config.statistics,
        config.copies,
        config.degradation,
    )


def live_features(run: ClassifierRun) -> EncoderFeatures:
    """Recordings for an encoder that changes as it trains."""
    assert isinstance(run.features, (HiddenStateFeatures, EncoderFeatures))
    extractor, config = run.features.feature_extractor, run.config
    return EncoderFeatures(run.corpora.dataset, extractor, config.crop_seconds, config.degradation)


def validation_scores(
    run: ClassifierRun, rows: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Mean loss over rows; WA and UA of each corpus, as means over corpora, and its UA alone."""
    targets = run.corpora.targets[rows]
    corpora = np.asarray(run.corpora.dataset["corpus"])[rows]
    hit = probabilities.argmax(axis=1) == targets
    accuracies, recalls = {}, {}
    for corpus in np.unique(corpora).tolist():
        own = corpora == corpus
        present = np.unique(targets[own])
        accuracies[corpus] = hit[own].mean()
        recalls[corpus] = np.mean([hit[own & (targets == emotion)].mean() for emotion in present])
    chosen = probabilities[np.arange(len(rows)), targets]
    return {
        "validation_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "validation_WA": float(np.mean(list(accuracies.values()))),
        "validation_UA": float(np.mean(list(recalls.values()))),
        **{f"{corpus}_UA": float(recall) for corpus, recall in recalls.items()},
    }


@torch.no_grad()
def predict(run: ClassifierRun, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the six emotions for whole recordings.

    Returns:
        Row numbers `(n,)` in rising order and probabilities `(n, 6)`, on every process.
    """
    if not rows:
        return np.zeros(0, dtype=int), np.zeros((0, len(EMOTIONS)), dtype=np.float32)
    loader = run.accelerator.prepare_data_loader(
        evaluation_loader(run.config, run.features, rows), device_placement=True
    )
    training = run.model.training
    run.model.eval()
    numbers, probabilities = [], []
    for batch in loader:
        row = batch.pop("row")
        logits = run.model(**batch).logits[:, : len(EMOTIONS)].float()
        row, logits = run.accelerator.gather_for_metrics((row, logits))
        numbers.append(row.cpu())
        probabilities.append(F.softmax(logits, dim=-1).cpu())
    run.model.train(training)
    order = torch.cat(numbers).argsort()
    return torch.cat(numbers)[order].numpy(), torch.cat(probabilities)[order].numpy()


def save_weights(run: ClassifierRun, file: Path) -> None:
    """Save all weights under a temporary name and move them."""
    temporary = file.with_name(f".{file.name}.tmp")
    # Copies, since safetensors refuses tensors that share memory.
    state = {name: value.clone() for name, value in _contiguous_state(run.bare_model).items()}
    save_file(state, temporary)
    os.replace(temporary, file)


def test(run: ClassifierRun) -> None:
    """Test the model on the held-out rows; write the folder for the Hub and the results."""
    if run.progress.stage == 0:
        load_saved(run)
    elif isinstance(run.bare_model, EmotionResNetForAudioClassification):
        run.model = run.bare_model.select_emotions(EMOTIONS)
    run.model = run.accelerator.prepare_model(run.bare_model, evaluation_mode=True)
    settings = run.bare_model.config
    if run.progress.stage and run.corpora.fold.validation and hasattr(settings, TEMPERATURE):
        settings.score_temperature *= fit_temperature(run)
    rows, probabilities = predict(run, run.corpora.fold.test)
    if run.accelerator.is_main_process:
        write_results(run, rows, probabilities)
    run.accelerator.wait_for_everyone()


def fit_temperature(run: ClassifierRun) -> float:
    """What logits have to be divided by for scores to be probabilities (Guo et al. 2017).

    The one under which what validation speakers said is most likely.
    """
    rows, probabilities = predict(run, run.corpora.fold.validation)
    logits = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    targets = torch.from_numpy(run.corpora.targets[rows])

    def loss(logarithm: float) -> float:
        return F.cross_entropy(logits / np.exp(logarithm), targets).item()

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def load_saved(run: ClassifierRun) -> None:
    """Take the model of an earlier run, and the statistics that were saved with it."""
    folder = run.folder / "model"
    run.model = AutoModelForAudioClassification.from_pretrained(folder)
    if isinstance(run.features, MelFeatures):
        run.features.feature_extractor = EmotionFeatureExtractor.from_pretrained(folder)
        run.features.take_statistics()
    elif isinstance(run.features, HiddenStateFeatures):
        # Its encoder may have been trained, and hear something else.
        run.features = frozen_features(run.config, run.corpora, run.model)


def write_results(run: ClassifierRun, rows: np.ndarray, probabilities: np.ndarray) -> None:
    """Predictions, records, plots and the model's folder."""
    write_json(run.folder / "predictions.json", prediction_rows(run, rows, probabilities))
    records = test_records(run, rows, probabilities)
    write_json(run.folder / "metrics.json", records)
    for record in records:
        print(f"{record['corpus']}: WA {record['metrics']['WA']:.3f}", end=", ")
        print(f"UA {record['metrics']['UA']:.3f} on unseen test recordings")
        draw_plots(run, record)
    if run.progress.history:
        plot_history(run.progress.history, run.folder / "plots" / "history.png")
    export(run, records)


def prediction_rows(
    run: ClassifierRun, rows: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """What the model said about each test recording."""
    columns = run.corpora.dataset.select_columns(["corpus", "file", "speaker"])
    return [
        {
            **columns[int(row)],
            "emotion": run.corpora.labels[run.corpora.targets[row]],
            "probabilities": [round(float(p), 6) for p in values],
        }
        for row, values in zip(rows, probabilities, strict=True)
    ]


def test_records(
    run: ClassifierRun, rows: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """One record per corpus tested, in the schema of `results/`."""
    corpora = np.asarray(run.corpora.dataset["corpus"])[rows]
    speakers = np.asarray(run.corpora.dataset["speaker"])[rows]
    records = []
    for corpus in np.unique(corpora):
        of_corpus = corpora == corpus
        metrics = recognition_metrics(
            probabilities[of_corpus].argmax(axis=1),
            run.corpora.targets[rows][of_corpus],
            probabilities=probabilities[of_corpus],
            speakers=speakers[of_corpus].tolist(),
        )
        record = make_record(
            task="recognition",
            corpus=str(corpus),
            protocol=run.config.protocol,
            system=system_name(run.config),
            metrics=metrics,
            provenance=provenance(run.config.seed, time.monotonic() - run.started),
        )
        records.append(dict(record))
    return records


def system_name(config: ClassifierConfig) -> str:
    """How results call this model: by its kind, and by its corpora unless it has those reported."""
    others = [] if set(config.corpora) == REPORTED_CORPORA else sorted(config.corpora)
    return "-".join([system_kind(config), *others])


def system_kind(config: ClassifierConfig) -> str:
    """What is trained, on whatever corpora."""
    if config.model_name_or_path is not None:
        return Path(config.model_name_or_path).name
    return "emotion-resnet" if config.encoder_name_or_path is None else "emotion-transformer"


def draw_plots(run: ClassifierRun, record: dict[str, Any]) -> None:
    """Confusion, per-emotion scores and reliability of one corpus."""
    folder, corpus, metrics = run.folder / "plots", record["corpus"], record["metrics"]
    title = f"{corpus}, {record['protocol'].replace('_', ' ')}"
    plot_confusion(metrics["confusion_matrix"], EMOTIONS, folder / f"{corpus}_confusion.png", title)
    plot_per_emotion(
        {record["system"]: metrics["per_emotion"]}, folder / f"{corpus}_per_emotion.png"
    )
    plot_reliability(metrics, folder / f"{corpus}_reliability.png", title)


def export(run: ClassifierRun, records: Sequence[dict[str, Any]]) -> None:
    """Write the folder that goes to the Hub, under a temporary name, and move it."""
    temporary, folder = run.folder / ".model.tmp", run.folder / "model"
    model = _with_memory_format(run.bare_model.cpu(), torch.contiguous_format)
    extractor: Any = run.features.feature_extractor  # type: ignore[attr-defined]
    model.config.trained_on = trained_on(run.config)
    EmotionClassificationPipeline(model=model, feature_extractor=extractor).save_pretrained(
        temporary
    )
    if run.config.half_precision:
        halve_weights(temporary)
    build_card(run.config, records).save(temporary / "README.md")
    replace_folder(temporary, folder)


def build_card(config: ClassifierConfig, records: Sequence[Mapping[str, Any]]) -> ModelCard:
    """The card of a model, with `records` of its run or, if nobody was tested, of its recipe.

    Raises:
        FileNotFoundError: The folder of those records is not there.
    """
    return model_card(
        model_name=config.hub_model_id or Path(config.output_dir).name,
        corpora=list(config.corpora),
        records=records or recipe_records(config),
        config_summary=config_summary(config),
        base_model=_hub_id(config.model_name_or_path or config.encoder_name_or_path),
        of_recipe=config.protocol == EVERYBODY,
    )


def recipe_records(config: ClassifierConfig) -> list[Record]:
    """Records of this recipe on people and corpora that it had not heard, if they are asked for.

    Raises:
        FileNotFoundError: The folder of records is not there.
        ValueError: It holds something else.
    """
    if config.protocol != EVERYBODY or config.card_records is None:
        return []
    records = [r for r in read_records(config.card_records) if speaks_for(r, config)]
    for record in records:
        record["system"] = system_name(config)
    # Those of its own corpora first.
    return sorted(records, key=lambda record: record["corpus"] not in config.corpora)


def speaks_for(record: Record, config: ClassifierConfig) -> bool:
    """Whether a record is of a model of this kind that was trained on the same corpora.

    The reported folds of `cross_corpus` were trained on all but the corpus that they test.
    """
    if record["task"] != "recognition":
        return False
    if record["protocol"] != "cross_corpus":
        return record["system"] == system_name(config)
    trained = REPORTED_CORPORA - {record["corpus"]}
    return record["system"] == system_kind(config) and set(config.corpora) == trained


def trained_on(config: ClassifierConfig) -> dict[str, Any]:
    """On whom the model was trained, kept in its configuration, for whatever stands on it."""
    names = ("protocol", "fold", "seed", "train_on_validation")
    return {"corpora": sorted(config.corpora), **{name: getattr(config, name) for name in names}}


def config_summary(config: ClassifierConfig) -> dict[str, Any]:
    """What a reader of the card wants to know of the settings; no paths."""
    fold = {"fold": config.fold, "trained on validation speakers": config.train_on_validation}
    return {
        "protocol": config.protocol,
        **({} if config.protocol == EVERYBODY else fold),
        "seed": config.seed,
        **({"weights": "kept in half precision"} if config.half_precision else {}),
        "stages": ", ".join(f"{s.name} ({s.epochs} epochs, {s.emotions})" for s in config.stages),
        "batch size": config.batch_size * config.gradient_accumulation_steps,
        "learning rate": ", ".join(f"{s.learning_rate:g}" for s in config.stages),
    }


def _hub_id(name_or_path: str | None) -> str | None:
    """The name of a pretrained model on the Hub; a folder means nothing to a reader of the card."""
    return None if name_or_path is None or Path(name_or_path).exists() else name_or_path


def _label_maps(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }


def _with_memory_format(model: Any, memory_format: torch.memory_format) -> PreTrainedModel:
    """Channels last is a third faster on CPUs and on tensor cores; files are contiguous."""
    return model.to(memory_format=memory_format)


def _contiguous_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in model.state_dict().items()}


if __name__ == "__main__":
    main()
