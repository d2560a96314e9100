"""An enhancer of toy size: every real class, no weight that is zero or one."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from toy_components import randomize

from modeling import (
    EmotionDenoiser,
    EmotionFeatureExtractor,
    EmotionResNetConfig,
    EmotionResNetForAudioClassification,
    EmotionShift,
    MelVocoder,
)

EMOTIONS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust")
STYLE_SIZE, LATENT_CHANNELS, STRIDE = 16, 2, 4


def get_dummy_components():
    """What `EmotionEnhancementPipeline` is made of."""
    config = EmotionResNetConfig(embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1))
    return {
        "vae": make_vae(),
        "denoiser": make_denoiser(),
        "scheduler": DDPMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            clip_sample=False,
            rescale_betas_zero_snr=True,
        ),
        "classifier": randomize(EmotionResNetForAudioClassification(config)).eval(),
        "feature_extractor": make_extractor(),
        "vocoder": MelVocoder(num_iterations=4),
        "shift": make_shift(),
    }


def make_vae():
    """Bands and frames shrink by 4; the latents are scaled by what is not 1."""
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        mid_block_add_attention=False,
        scaling_factor=0.7,
    )
    return randomize(vae).eval()


def make_denoiser(latent_channels=LATENT_CHANNELS):
    """Sees noisy rows and those of the source, style by attention, and what it is told."""
    denoiser = EmotionDenoiser(
        EMOTIONS,
        ["emodb", "ravdess"],
        latent_channels=latent_channels,
        latent_bands=80 // STRIDE,
        unet_settings={
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
        },
        style_settings={"hidden_size": STYLE_SIZE, "num_tokens": 3, "num_heads": 2},
    )
    return randomize(denoiser).eval()


def make_extractor():
    """With the statistics of two corpora."""
    extractor = EmotionFeatureExtractor()
    extractor.set_statistics(np.linspace(-6, -4, 80), np.linspace(1, 2, 80), corpus="emodb")
    extractor.set_statistics(-2.0, 1.5, corpus="ravdess")
    return extractor


def make_shift():
    """Anger is higher, faster and brighter, sadness the opposite, in both corpora."""
    shift = EmotionShift(EMOTIONS, ["emodb", "ravdess"])
    for emotion, sign in (("anger", 1), ("sadness", -1)):
        place = EMOTIONS.index(emotion)
        shift.pitch[:, place] = 0.3 * sign
        shift.pitch_range[:, place] = 0.2 * sign
        shift.duration[:, place] = -0.2 * sign
        shift.bands[:, place] = torch.linspace(-0.5, 0.5, 80) * sign
    return shift
