"""A voice as the denoiser sees it: rows over time, of its spectrogram's latents and its prosody.

The first rows are the latents of the log-mel, channel by channel and band by band; below them stand
log F0 and tempo, both relative to the recording that is to be changed, so that they say how it is
changed, for a man and a woman alike.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d

from .change import Change
from .prosody import Prosody
from .psola import FACTOR_RANGE

PROSODY_ROWS = 2
# What counts as 1 in the rows of prosody, in natural logarithms: about its deviation.
PITCH_UNIT, TEMPO_UNIT = 0.25, 0.4
# A change is smoothed over so many frames and bands (deviations of Gaussians). What is finer than a
# syllable in the spectrum makes words, and would make others of them.
MEL_SMOOTHING, BAND_SMOOTHING, PITCH_SMOOTHING, TEMPO_SMOOTHING = 20.0, 2.0, 6.0, 15.0
# Frames within so many nepers (35 dB) of the loudest one speak; the edge is soft.
SPEECH_RANGE, SPEECH_EDGE, SMALLEST_WEIGHT = 4.0, 0.3, 1e-6
PAUSE_SMOOTHING = 3.0


def mean_log_f0(prosody: Prosody) -> float:
    """Natural logarithm of F0 in the mean of what is voiced; of all frames where nothing is."""
    return float(prosody.log_f0[prosody.voiced if prosody.voiced.any() else slice(None)].mean())


def join_rows(
    latents: torch.Tensor, log_f0: torch.Tensor, log_tempo: torch.Tensor, stride: int
) -> torch.Tensor:
    """Rows of one recording.

    Args:
        latents: `(channels, bands, length)`.
        log_f0: Natural logarithm of F0 less that of the recording to be changed, on frames of the
            mel, at least `length * stride` of them.
        log_tempo: Natural logarithm of how much faster it is said than in that recording.
        stride: Frames that make one of the latents.

    Returns:
        `(channels * bands + 2, length)`.
    """
    length = latents.shape[-1]
    prosody = torch.stack([log_f0 / PITCH_UNIT, log_tempo / TEMPO_UNIT])[:, : length * stride]
    return torch.cat([latents.flatten(0, 1), F.avg_pool1d(prosody.to(latents), stride)])


def split_rows(rows: torch.Tensor, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents `(batch, channels, bands, length)` and prosody `(batch, 2, length)` of rows."""
    latents, prosody = rows[:, :-PROSODY_ROWS], rows[:, -PROSODY_ROWS:]
    return latents.unflatten(1, (channels, -1)), prosody


def on_frames(prosody: torch.Tensor, frames: int) -> torch.Tensor:
    """Rows of prosody `(batch, 2, length)` as contours `(batch, 2, frames)`, in logarithms."""
    units = torch.tensor([PITCH_UNIT, TEMPO_UNIT]).to(prosody)
    return F.interpolate(prosody, frames, mode="linear") * units[:, None]


def smooth_change(change: torch.Tensor, log_mel: torch.Tensor) -> Change:
    """What is to be done to a recording.

    Frames count by how much they speak: what is changed in a pause, where the latents say nothing,
    is what is changed around it.

    Args:
        change: `(frames, n_mels + 2)`: of the log-mel, log F0 and log tempo.
        log_mel: Natural logarithms of the recording's mel magnitudes `(frames, n_mels)`.
    """
    values = change.float().cpu().numpy()
    level = log_mel.float().logsumexp(dim=1).cpu().numpy()
    speaking = 1 / (1 + np.exp(np.minimum(level.max() - SPEECH_RANGE - level, 30.0) / SPEECH_EDGE))
    mels = _smooth(values[:, :-PROSODY_ROWS], MEL_SMOOTHING, speaking)
    mels = gaussian_filter1d(mels, BAND_SMOOTHING, axis=1, mode="nearest")
    # Hum and noise of a pause are never lifted.
    mels = np.where(mels > 0, mels * gaussian_filter1d(speaking, PAUSE_SMOOTHING)[:, None], mels)
    pitch, tempo = (
        np.clip(np.exp(_smooth(values[:, [row]], smoothing, speaking)[:, 0]), *FACTOR_RANGE)
        for row, smoothing in ((-2, PITCH_SMOOTHING), (-1, TEMPO_SMOOTHING))
    )
    return Change(torch.from_numpy(mels.astype(np.float32)), pitch, tempo)


def _smooth(values: np.ndarray, smoothing: float, weights: np.ndarray) -> np.ndarray:
    """Weighted means `(frames, size)` of values nearby."""
    # Far from all speech there is still a mean, of whatever is there.
    weights = np.maximum(weights, SMALLEST_WEIGHT)[:, None]
    total = gaussian_filter1d(values * weights, smoothing, axis=0, mode="nearest", truncate=8)
    return total / gaussian_filter1d(weights, smoothing, axis=0, mode="nearest", truncate=8)
