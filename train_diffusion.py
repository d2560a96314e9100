"""Train the enhancer: an autoencoder of mel-spectrograms, then the denoiser of its latents.

    accelerate launch train_diffusion.py --config configs/diffusion.yaml \\
        corpora.emodb=/data/emodb corpora.ravdess=/data/ravdess \\
        classifier=outputs/classifier/model fold=0

Two processes without a GPU:

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train_diffusion.py ...

The classifier must have been trained on the same fold, so that no component has heard the people
who are tested. The output folder receives `model/` (what goes to the Hub), `history.json`,
`samples/` and `checkpoints/`, from which `--resume` continues as if nothing had happened.
"""

import argparse
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
)
from torch import nn
from torch.utils.data import DataLoader

from datasets_scripts import EMOTIONS
from datasets_scripts.hub import push_folder
from evaluation import plot_losses, plot_pitch
from modeling import (
    EmotionDenoiser,
    EmotionFeatureExtractor,
    EmotionResNetConfig,
    EmotionResNetForAudioClassification,
    EmotionShift,
    MelVocoder,
    Prosody,
    extract_prosody,
)
from modeling.voice_rows import PROSODY_ROWS
from pipelines import EmotionEnhancementPipeline
from training.config import DiffusionConfig, DiffusionStageConfig, load_config
from training.data import Batch, Corpora, check_batch_size, load_corpora
from training.enhancer_card import STAGES, write_enhancer_card
from training.features import MelFeatures
from training.latents import (
    TIMESTEP_QUARTERS,
    AutoencoderExamples,
    DenoiserExamples,
    bucket_loader,
    encode_recordings,
    latent_stride,
    validation_batches,
    voices_of,
)
from training.loop import Run, train
from training.pairs import align_pairs
from training.prosodies import load_prosodies
from training.run import (
    add_run_arguments,
    as_plain,
    build_accelerator,
    check_folder,
    check_run_settings,
    claim_folder,
    hub_options,
)
from training.shift import fit_class_shift, load_voices
from training.state import halve_weights, replace_folder

# What must agree between the runs of the recogniser and of the enhancer.
SHARED_SETTINGS = ("protocol", "fold", "seed")


class Autoencoder(nn.Module):
    """The autoencoder and its loss."""

    def __init__(self, vae: AutoencoderKL, delta_weight: float, kl_weight: float) -> None:
        super().__init__()
        self.vae = vae
        self.delta_weight = delta_weight
        self.kl_weight = kl_weight

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Losses `(batch,)` of features `(batch, frames, n_mels)` under the posterior's noise."""
        image = features.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(image).latent_dist
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = posterior.kl() / posterior.mean[0].numel()
        return _distance(decoded, image, self.delta_weight) + self.kl_weight * divergence


class DenoiserLoss(nn.Module):
    """The denoiser with the conditions of a batch."""

    def __init__(self, denoiser: EmotionDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What the scheduler's prediction type asks for, `(batch, rows, length)`."""
        told = [batch[name] for name in ("target", "carried", "corpus", "clarity")]
        return self.denoiser(
            noisy,
            batch["timestep"],
            batch["source"],
            self.denoiser.style_encoder(batch["style"], batch["style_mask"]),
            self.denoiser.conditions(*told),
        )


@dataclass(kw_only=True)
class DiffusionRun(Run):
    """An enhancer in training.

    Args:
        corpora: Every recording, and who trains, validates and tests.
        features: The recordings as spectrograms.
        prosodies: How recordings of the six emotions are said, by row.
        classifier: The recogniser of the saved pipeline.
        vae: The autoencoder.
        scheduler: The schedule of noise.
        validation: Rows and batches of the validation recordings of the current stage.
    """

    config: DiffusionConfig
    corpora: Corpora
    features: MelFeatures
    prosodies: dict[int, Prosody]
    classifier: EmotionResNetForAudioClassification
    vae: AutoencoderKL
    scheduler: DDPMScheduler
    validation: list[tuple[list[int], Batch]] = field(default_factory=list)

    @property
    def stages(self) -> Sequence[tuple[str, DiffusionStageConfig]]:
        """Name and settings of both stages."""
        return [(name, getattr(self.config, name)) for name in STAGES]

    @property
    def in_autoencoder(self) -> bool:
        """Whether the autoencoder is trained now."""
        return self.stage_name == "autoencoder"

    def build_stage(self) -> tuple[nn.Module, DataLoader[Any]]:
        """A new network and its batches."""
        build = build_autoencoder_stage if self.in_autoencoder else build_denoiser_stage
        model, loader = build(self)
        return model.to(memory_format=torch.channels_last), loader  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss of a batch."""
        return losses_of(self, batch).mean()

    def validate(self) -> dict[str, float]:
        """Mean loss on fixed noise and timesteps, and by quarter of the schedule."""
        return validation_losses(self)

    def after_evaluation(self, improved: bool) -> None:
        """Show what the denoiser does by now."""
        if not self.in_autoencoder and self.accelerator.is_main_process and self.validation:
            write_samples(self)

    def finish_stage(self) -> None:
        """Go on with the averaged weights."""
        self.average.swap(self.bare_model)
        if self.in_autoencoder:
            self.vae = self.bare_model.vae.eval()
            set_scale(self)
            if self.accelerator.is_main_process:
                temporary = self.folder / ".vae.tmp"
                self.vae.save_pretrained(temporary)
                replace_folder(temporary, self.folder / "vae")
        self.accelerator.wait_for_everyone()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both stages, save and, if asked, push."""
    options = parse_arguments(arguments)
    config = load_config(DiffusionConfig, options.config, options.overrides)
    config = dataclasses.replace(config, **hub_options(options))
    check_config(config)
    accelerator = build_accelerator(config)
    check_folder(config, options, "model/model_index.json")
    set_seed(config.seed)
    run = build_run(config, accelerator)
    claim_folder(config, accelerator, options.overwrite, "emotion-enhancement")
    train(run, resume=options.resume)
    if accelerator.is_main_process:
        export(run)
    accelerator.wait_for_everyone()
    if config.push_to_hub and config.hub_model_id is not None and accelerator.is_main_process:
        push_folder(run.folder / "model", config.hub_model_id)
    accelerator.end_training()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line: settings files, overrides and what to do with an existing folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_run_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    options.config = options.config or [Path(__file__).parent / "configs" / "diffusion.yaml"]
    return options


def check_config(config: DiffusionConfig) -> None:
    """Refuse, before anything is computed, settings that would fail later.

    Raises:
        ValueError: No classifier, or one of another fold; whatever `check_run_settings` refuses.
        FileNotFoundError: The classifier is not there.
    """
    check_run_settings(config)
    if config.classifier is None:
        raise ValueError("Got no classifier, expected the folder of one trained on this fold")
    try:
        settings = EmotionResNetConfig.from_pretrained(config.classifier)
    except OSError as error:
        raise FileNotFoundError(
            f"No classifier in '{config.classifier}', expected a folder made by "
            "train_classifier.py, or the id of such a model on the Hub"
        ) from error
    check_same_people(config, getattr(settings, "trained_on", None))


def check_same_people(config: DiffusionConfig, theirs: Mapping[str, Any] | None) -> None:
    """Refuse a classifier that may have been trained on those whom this run tests on.

    Raises:
        ValueError: Its run had another protocol, fold, seed or corpora.
    """
    if theirs is None:
        warnings.warn(
            f"'{config.classifier}' does not say on whom it was trained: cannot know whether the "
            "classifier was trained on test speakers",
            stacklevel=2,
        )
        return
    ours = as_plain(config)
    differ = [name for name in SHARED_SETTINGS if theirs[name] != ours[name]]
    differ += ["train_on_validation"] if theirs.get("train_on_validation") else []
    differ += ["corpora"] if set(theirs["corpora"]) != set(ours["corpora"]) else []
    if differ:
        raise ValueError(
            f"The classifier '{config.classifier}' was trained with other {differ}, expected "
            f"{ {name: ours.get(name, False) for name in differ} }"
        )


def build_run(config: DiffusionConfig, accelerator: Accelerator) -> DiffusionRun:
    """Load the corpora, their features, the classifier, and make new networks."""
    assert config.classifier is not None
    extractor = EmotionFeatureExtractor.from_pretrained(config.classifier)
    classifier = EmotionResNetForAudioClassification.from_pretrained(config.classifier)
    # The caches of `datasets` are written by one process and read by the others.
    with accelerator.main_process_first():
        corpora = load_corpora(config)
        features = MelFeatures(corpora.dataset, extractor, config.denoiser.crop_seconds)
    vae = build_vae(config)
    # Better refused now than after all that takes long.
    check_lengths(corpora, features, latent_stride(vae))
    check_batch_size(config, corpora.six_emotions_train_rows)
    rows = [*corpora.six_emotions_train_rows, *corpora.fold.validation]
    with accelerator.main_process_first():
        prosodies = load_prosodies(corpora.dataset, rows, extractor)
    scheduler = DDPMScheduler(clip_sample=False, **config.scheduler)
    return DiffusionRun(
        config=config,
        accelerator=accelerator,
        corpora=corpora,
        features=features,
        prosodies=prosodies,
        classifier=classifier.eval(),
        vae=vae,
        scheduler=scheduler,
    )


def check_lengths(corpora: Corpora, features: MelFeatures, stride: int) -> None:
    """Refuse recordings that would have no latent.

    Raises:
        ValueError: A recording shorter than `stride` frames; names the first.
    """
    short = [row for row, mel in enumerate(features.log_mels) if len(mel) < stride]
    if short:
        file, frames = corpora.dataset[short[0]]["file"], len(features.log_mels[short[0]])
        raise ValueError(
            f"{len(short)} recordings are too short, '{file}' has {frames} frames, expected at "
            f"least {stride}: take them out of the corpus"
        )


def build_vae(config: DiffusionConfig) -> AutoencoderKL:
    """A new autoencoder of one channel."""
    levels = len(config.vae.get("block_out_channels", (64,)))
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **config.vae,
    )


def build_denoiser(run: DiffusionRun) -> EmotionDenoiser:
    """A new denoiser for the latents of the run's autoencoder."""
    bins = run.features.feature_extractor.feature_size
    return EmotionDenoiser(
        list(EMOTIONS),
        list(run.config.corpora),
        run.vae.config.latent_channels,
        bins // latent_stride(run.vae),
        run.config.unet,
        {"num_mel_bins": bins, **run.config.style_encoder},
    )


def build_autoencoder_stage(run: DiffusionRun) -> tuple[Autoencoder, DataLoader[Any]]:
    """The autoencoder and its batches."""
    set_seed(run.config.seed)
    training = AutoencoderExamples(run.features, run.config, run.vae)
    validation = AutoencoderExamples(run.features, run.config, run.vae, training=False)
    model = Autoencoder(run.vae, run.config.delta_weight, run.config.kl_weight)
    # It is told nothing: recordings of other emotions than the six are as good as any.
    return model, build_batches(run, training, validation, run.corpora.fold.train)


def build_denoiser_stage(run: DiffusionRun) -> tuple[DenoiserLoss, DataLoader[Any]]:
    """The denoiser and its batches: pairs of recordings in the latents of the autoencoder."""
    run.vae = AutoencoderKL.from_pretrained(run.folder / "vae").to(run.accelerator.device)
    # A folder of somebody's machine means nothing to whoever loads the model.
    run.vae.register_to_config(_name_or_path="")
    run.vae.eval().requires_grad_(False)
    set_seed(run.config.seed + 1)
    denoiser = build_denoiser(run)
    rows = run.corpora.six_emotions_train_rows
    training = denoiser_examples(run, denoiser, rows, training=True)
    validation = denoiser_examples(run, denoiser, run.corpora.fold.validation, training=False)
    return DenoiserLoss(denoiser), build_batches(run, training, validation, rows)


def denoiser_examples(
    run: DiffusionRun, denoiser: EmotionDenoiser, rows: Sequence[int], training: bool
) -> DenoiserExamples:
    """Examples of some rows, which are in pairs with nobody else."""
    stride = latent_stride(run.vae)
    return DenoiserExamples(
        run.features,
        run.corpora,
        voices_of(run.vae, run.features, run.prosodies, rows),
        align_pairs(run.corpora, run.features.log_mels, rows, stride),
        denoiser,
        run.config,
        stride,
        run.scheduler.config.num_train_timesteps,
        training=training,
    )


def target(run: DiffusionRun, row: int) -> int:
    """Index of a row's emotion."""
    return int(run.corpora.targets[row])


def build_batches(
    run: DiffusionRun, training: Any, validation: Any, rows: Sequence[int]
) -> DataLoader[Any]:
    """Batches of `rows` for the current stage; those of validation are left in `run`."""
    stage, stride = getattr(run.config, run.stage_name), latent_stride(run.vae)
    # Every process computes all of validation: it is short, and so there is nothing to gather.
    run.validation = list(
        validation_batches(validation, run.config, stage, run.corpora, run.features, stride)
    )
    return bucket_loader(
        training, run.config, stage, run.progress.stage, run.corpora, rows, run.features, stride
    )


def losses_of(run: DiffusionRun, batch: Batch) -> torch.Tensor:
    """Loss of each example `(batch,)` in the current stage."""
    if run.in_autoencoder:
        return run.model(**batch)
    scheduler, timestep = run.scheduler, batch["timestep"]
    noisy = scheduler.add_noise(batch["latents"], batch["noise"], timestep)
    wanted = wanted_prediction(scheduler, batch)
    errors = (run.model(noisy, batch) - wanted).square().mean(dim=2)
    return mean_of_rows(errors, run.config.prosody_weight)


def mean_of_rows(errors: torch.Tensor, prosody_weight: float) -> torch.Tensor:
    """Mean `(batch,)` of the errors of rows `(batch, rows)`; pitch and tempo weigh so much each."""
    weights = torch.ones(errors.shape[1]).to(errors)
    weights[-PROSODY_ROWS:] = prosody_weight
    return errors @ (weights / weights.sum())


def wanted_prediction(scheduler: DDPMScheduler, batch: Batch) -> torch.Tensor:
    """The noise, the rows or the velocity, as the scheduler's prediction type says."""
    if scheduler.config.prediction_type == "epsilon":
        return batch["noise"]
    if scheduler.config.prediction_type == "sample":
        return batch["latents"]
    return scheduler.get_velocity(batch["latents"], batch["noise"], batch["timestep"])


@torch.no_grad()
def validation_losses(run: DiffusionRun) -> dict[str, float]:
    """Mean loss on fixed noise and timesteps, and by quarter of the schedule for the denoiser.

    Nothing where everybody trains.
    """
    training = run.model.training
    run.model.eval()
    losses, quarters = [], []
    for rows, batch in run.validation:
        batch = {name: value.to(run.accelerator.device) for name, value in batch.items()}
        losses.append(losses_of(run, batch).float().cpu())
        quarters.append(torch.tensor(rows) % TIMESTEP_QUARTERS)
    run.model.train(training)
    if not losses:
        return {}
    loss, quarter = torch.cat(losses), torch.cat(quarters)
    scores = {"validation_loss": loss.mean().item()}
    if not run.in_autoencoder:
        for i in quarter.unique().tolist():
            scores[f"validation_loss_quarter_{i + 1}"] = loss[quarter == i].mean().item()
    return scores


def write_samples(run: DiffusionRun) -> None:
    """A picture and sounds of one validation recording, said with each emotion."""
    pipe = build_pipeline(run)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = sampler(run)
    row = run.corpora.fold.validation[0]
    audio, source = run.corpora.dataset[row]["audio"], EMOTIONS[target(run, row)]
    corpus = run.corpora.dataset[row]["corpus"]
    made = pipe(
        [audio] * len(EMOTIONS),
        emotion=EMOTIONS,
        source_emotion=source,
        # A corpus that the classifier has not heard is sound of unknown origin, as in training.
        corpus=corpus if corpus in pipe.feature_extractor.corpus_statistics else None,
        method="diffusion",
        rerank=False,
        num_noises=1,
        generator=torch.Generator().manual_seed(run.config.seed),
    )
    folder = run.folder / "samples"
    folder.mkdir(exist_ok=True)
    sounds = {}
    hop, rate = run.features.feature_extractor.hop_length, made.sampling_rate
    recorded = ("recorded", run.features.log_mels[row], run.prosodies[row].f0)
    for name, mel, sound in zip(EMOTIONS, made.log_mels, made.audios, strict=True):
        f0 = extract_prosody(sound, rate, hop).f0
        sounds[name] = [recorded, (f"said with {name}", mel.numpy(), f0)]
        soundfile.write(folder / f"{name}.wav", sound, rate)
    plot_pitch(sounds, folder / f"step-{run.progress.total_step:06d}.png", rate, hop)


def sampler(run: DiffusionRun) -> DPMSolverMultistepScheduler:
    """What a saved pipeline steps with: fewer steps than in training are enough."""
    return DPMSolverMultistepScheduler.from_config(run.scheduler.config)


def set_scale(run: DiffusionRun) -> None:
    """Measure the deviation of the training latents, which diffusion wants to be 1."""
    latents = encode_recordings(run.vae, run.features, run.corpora.fold.train)
    power = [latent.square().mean().item() for _, latent in latents]
    run.vae.register_to_config(scaling_factor=float(np.mean(power) ** -0.5))


def build_pipeline(run: DiffusionRun) -> EmotionEnhancementPipeline:
    """The pipeline of the run's present networks."""
    extractor, denoiser = run.features.feature_extractor, run.bare_model.denoiser
    vocoder = MelVocoder(
        extractor.sampling_rate,
        extractor.n_fft,
        extractor.hop_length,
        extractor.feature_size,
        extractor.fmin,
        extractor.fmax,
    )
    return EmotionEnhancementPipeline(
        run.vae,
        denoiser,
        run.scheduler,
        run.classifier,
        extractor,
        vocoder.to(run.accelerator.device),
    )


def fit_shift(run: DiffusionRun) -> EmotionShift:
    """The mean effects of emotions on the training speakers."""
    assert run.config.shift is not None
    features, rows = run.features, run.corpora.six_emotions_train_rows
    voices = load_voices(run.corpora.dataset, rows, features.log_mels, run.prosodies)
    settings = dict(run.config.shift)
    for name in {"own_factors", "other_factors"} & set(settings):
        # For corpora that train nothing here they were chosen with other effects than these.
        chosen = settings[name] or {}
        settings[name] = {c: chosen[c] for c in run.config.corpora if c in chosen} or None
    return fit_class_shift(voices, EMOTIONS, **settings)


def export(run: DiffusionRun) -> None:
    """Write the folder that goes to the Hub, under a temporary name, and move it."""
    temporary = run.folder / ".model.tmp"
    pipe = build_pipeline(run).to("cpu")
    if run.config.shift is not None:
        pipe.register_modules(shift=fit_shift(run))
    pipe.scheduler = sampler(run)
    for module in (run.vae, run.bare_model):
        module.to(memory_format=torch.contiguous_format)
    pipe.save_pretrained(temporary)
    if run.config.half_precision:
        # What was not trained is small, and as exact as it can be.
        for name, part in pipe.components.items():
            if isinstance(part, nn.Module) and next(part.parameters(), None) is not None:
                halve_weights(temporary / name)
    # Nobody has heard it yet: `benchmarks.enhancement` adds what judges say.
    write_enhancer_card(temporary, run.config, run.progress.history)
    replace_folder(temporary, run.folder / "model")
    plot_losses(run.progress.history, run.folder / "plots" / "losses.png")


def _distance(decoded: torch.Tensor, image: torch.Tensor, delta_weight: float) -> torch.Tensor:
    """Mean absolute error of images, and of the slopes between their neighbours, `(batch,)`."""
    error = (decoded - image).abs().mean(dim=(1, 2, 3))
    slopes = (F.l1_loss(d, i, reduction="none") for d, i in _slopes(decoded, image))
    return error + delta_weight * sum(slope.mean(dim=(1, 2, 3)) for slope in slopes)


def _slopes(*images: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(image.diff(dim=dim) for image in images) for dim in (2, 3)]


if __name__ == "__main__":
    main()
