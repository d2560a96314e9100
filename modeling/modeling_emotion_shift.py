"""What an emotion does to a voice on average, applied to one recording: no network, no noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from .change import Change
from .prosody import Prosody, extract_prosody
from .psola import FACTOR_RANGE

# Bands within so many nepers (35 dB) of the loudest frame belong to speech.
ACTIVE_RANGE = 4.0
# What a voice can do.
RANGE_FACTORS = (0.5, 2.0)
# How far to go, for bands and for prosody, where nobody chose.
FACTORS = {"own": (0.7, 0.7), "other": (1.5, 1.5)}
EFFECTS = ("bands", "pitch", "pitch_range", "duration")


class EmotionShift(ModelMixin, ConfigMixin):
    r"""Moves bands, pitch, range and tempo by the mean effect of an emotion (or between two).

    The trivial method with the same information as the diffusion model, and the control that it has
    to beat. Effects are fitted on training speakers by `training.shift`, for each corpus; for
    recordings of unknown origin the mean over corpora is taken.

    * Towards the emotion that a recording carries already: `factor * effect(emotion)`, which makes
      it clearer.
    * Towards another one: `factor * (effect(emotion) - effect(source))`.

    Args:
        emotions: Names, in the order of the classifier's labels.
        corpora: Names of the corpora that the effects were fitted on.
        num_mel_bins: Mel bands.
        own_factors: How far to go towards the own emotion, for bands and for prosody, by corpus;
            the mean over corpora for one that is not named here, `FACTORS` without any.
        other_factors: How far to go towards another one, likewise.
        towards_mean: Whether `bands` are the means of an emotion, which the recording's own mean is
            moved towards, and not offsets that everybody gets alike.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        emotions: Sequence[str],
        corpora: Sequence[str],
        num_mel_bins: int = 80,
        own_factors: Mapping[str, Sequence[float]] | None = None,
        other_factors: Mapping[str, Sequence[float]] | None = None,
        towards_mean: bool = False,
    ) -> None:
        super().__init__()
        if not emotions or len(set(emotions)) < len(emotions):
            raise ValueError(f"Bad emotions {list(emotions)}, expected one or more different ones")
        if not corpora or len(set(corpora)) < len(corpora):
            raise ValueError(f"Bad corpora {list(corpora)}, expected one or more different ones")
        size = (len(corpora), len(emotions))
        self.register_buffer("bands", torch.zeros(*size, num_mel_bins))
        for name in EFFECTS[1:]:
            self.register_buffer(name, torch.zeros(size))

    def effect(self, name: str, emotion: str, corpus: str | None = None) -> torch.Tensor:
        """The effect of an emotion on one of `EFFECTS`.

        Args:
            name: `"bands"` (nepers), `"pitch"` (natural log of Hz), `"pitch_range"` (natural log of
                the deviation of log F0) or `"duration"` (natural log).
            emotion: One of `config.emotions`.
            corpus: Whose effects; the mean over corpora when it is not named or not known.

        Raises:
            ValueError: An unknown emotion.
        """
        emotions, corpora = list(self.config.emotions), list(self.config.corpora)
        if emotion not in emotions:
            raise ValueError(f"Bad emotion {emotion!r}, expected one of {emotions}")
        effects = getattr(self, name)[:, emotions.index(emotion)].float()
        return effects[corpora.index(corpus)] if corpus in corpora else effects.mean(dim=0)

    def factors(
        self, emotion: str, source: str | None = None, corpus: str | None = None
    ) -> tuple[float, float]:
        """How far to go for bands and for prosody, towards the own emotion or another one."""
        use = "own" if source is None or source == emotion else "other"
        given = self.config[f"{use}_factors"] or {"": FACTORS[use]}
        pairs = [given[corpus]] if corpus in given else list(given.values())
        bands, prosody = np.mean(pairs, axis=0).tolist()
        return bands, prosody

    def forward(
        self,
        log_mel: torch.Tensor,
        prosody: Prosody,
        emotion: str,
        source: str | None = None,
        corpus: str | None = None,
        factors: tuple[float, float] | None = None,
    ) -> Change:
        """How to move a recording towards an emotion.

        Args:
            log_mel: Natural logarithms of its mel magnitudes `(frames, n_mels)`.
            prosody: Its pitch, on the same frames.
            emotion: Where to.
            source: The emotion that it carries; the same when not given.
            corpus: Whose effects; the mean over corpora when not given.
            factors: How far, for bands and for prosody; those of the configuration by default.

        Raises:
            ValueError: An unknown emotion.
        """
        own = source is None or source == emotion
        of_bands, of_prosody = factors or self.factors(emotion, source, corpus)

        def change(name: str) -> torch.Tensor:
            target = self.effect(name, emotion, corpus)
            return target if own else target - self.effect(name, str(source), corpus)

        if self.config.towards_mean:
            mean = log_mel[active_frames(log_mel)].mean(dim=0)
            bands = self.effect("bands", emotion, corpus) - mean
        else:
            bands = change("bands")
        pitch, pitch_range, duration = (
            of_prosody * float(change(name)) for name in ("pitch", "pitch_range", "duration")
        )
        frames = len(log_mel)
        return Change(
            (of_bands * bands.to(log_mel)).expand(frames, -1),
            pitch_factors(prosody, pitch, pitch_range),
            np.full(frames, np.clip(np.exp(-duration), *FACTOR_RANGE)),
        )

    def move(
        self,
        waveform: np.ndarray,
        log_mel: torch.Tensor,
        vocoder: Any,
        emotion: str,
        source: str | None = None,
        corpus: str | None = None,
        factors: tuple[float, float] | None = None,
        prosody: Prosody | None = None,
    ) -> np.ndarray:
        """A recording moved towards an emotion, at the level that it had.

        Args:
            waveform: Mono `(samples,)` float32 at the vocoder's rate.
            log_mel: Its log-mel `(frames, n_mels)`.
            vocoder: `MelVocoder`, which moves the recording's own waveform (`"psola"`).
            emotion: Where to.
            source: The emotion that it carries; the same when not given.
            corpus: Whose effects; the mean over corpora when not given.
            factors: How far, for bands and for prosody; those of the configuration by default.
            prosody: Its pitch, if that is known.

        Returns:
            Mono samples at the same rate, as many as the tempo asks for.

        Raises:
            ValueError: An unknown emotion.
        """
        hop, rate = vocoder.config.hop_length, vocoder.config.sampling_rate
        prosody = prosody or extract_prosody(waveform, rate, hop)
        moved = self(log_mel, prosody, emotion, source, corpus, factors)
        sound = vocoder(
            log_mel + moved.log_mel,
            torch.from_numpy(waveform),
            method="psola",
            pitch_factor=moved.pitch_factor,
            tempo_factor=moved.tempo_factor,
            prosody=prosody,
        )
        return vocoder.match_level(sound.cpu().numpy(), waveform)


def pitch_factors(prosody: Prosody, pitch: float, pitch_range: float) -> np.ndarray:
    """What F0 is multiplied with, `(frames,)`, 1 where nothing is voiced.

    Args:
        prosody: Of the recording.
        pitch: Added to log F0.
        pitch_range: Natural logarithm of what the distance of log F0 from its mean is multiplied
            with.
    """
    if not prosody.voiced.any():
        return np.ones(len(prosody.log_f0), np.float32)
    mean = prosody.log_f0[prosody.voiced].mean()
    widening = float(np.clip(np.exp(pitch_range), *RANGE_FACTORS)) - 1
    moved = pitch + widening * (prosody.log_f0 - mean)
    return np.clip(np.exp(moved), *FACTOR_RANGE).astype(np.float32)


def active_frames(log_mel: torch.Tensor) -> torch.Tensor:
    """Which of `(frames, n_mels)` hold speech, `(frames,)` bool; at least the loudest does."""
    level = log_mel.exp().sum(dim=1).log()
    return level >= level.max() - ACTIVE_RANGE
