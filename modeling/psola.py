"""Pitch and tempo of a recording's own waveform, moved period by period.

TD-PSOLA (Moulines & Charpentier 1990): the waveform is cut into grains of two periods around pitch
marks, which are put down again closer together or further apart, some twice and some not at all.
What was recorded stays what it is: with factors of 1 the recording itself comes back.
"""

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter1d

from .prosody import Prosody, checked_waveform

FACTOR_RANGE = (0.5, 2.0)
# Seconds between marks where there is no voice.
UNVOICED_PERIOD = 0.008
# How far from where F0 expects it the next mark may be, as a share of the period.
SEARCH = 0.2
# Grains that overlap less than that are not lifted: between them is little to lift.
SMALLEST_OVERLAP = 0.5


def psola(
    waveform: np.ndarray,
    sampling_rate: int,
    prosody: Prosody,
    pitch_factor: np.ndarray | float = 1.0,
    tempo_factor: np.ndarray | float = 1.0,
    hop_length: int = 256,
) -> np.ndarray:
    """Move pitch and tempo of a recording; the voice's timbre stays.

    Unvoiced sound has no pitch to move. Where it is stretched, every second copy of a grain runs
    backwards, so that no tone comes of the repetition.

    Args:
        waveform: Mono `(samples,)`, floating point.
        sampling_rate: In Hz.
        prosody: Of this recording, `extract_prosody(waveform, sampling_rate, hop_length)`.
        pitch_factor: What F0 is multiplied with, 0.5 to 2: a number, or one a frame `(frames,)`.
        tempo_factor: How much faster it gets, 0.5 to 2: a number, or one a frame of the source.
        hop_length: Samples between frames.

    Returns:
        Mono samples, float32: as many as the tempo asks for.

    Raises:
        ValueError: A waveform that is none, another number of frames, or factors out of range.
    """
    waveform = checked_waveform(waveform)
    frames = len(waveform) // hop_length + 1
    if len(prosody.log_f0) != frames:
        raise ValueError(f"Bad prosody of {len(prosody.log_f0)} frames, expected {frames}")
    pitch = _contour("pitch_factor", pitch_factor, frames)
    times = _output_times(_contour("tempo_factor", tempo_factor, frames), hop_length, len(waveform))
    marks, voiced = pitch_marks(waveform, sampling_rate, prosody, hop_length)
    factors = np.interp(marks / hop_length, np.arange(frames), pitch)
    steps = np.diff(marks) / np.where(voiced, factors, 1.0)[:-1]
    return _overlap_add(waveform, marks, voiced, steps, times).astype(np.float32)


def time_map(
    tempo_factor: np.ndarray | float, num_samples: int, hop_length: int = 256
) -> np.ndarray:
    """Where in the source each frame of the result is from.

    Args:
        tempo_factor: As `psola` takes it.
        num_samples: Of the source.
        hop_length: Samples between frames, of source and result.

    Returns:
        Frames of the source, fractional, one for each frame of the result.

    Raises:
        ValueError: Factors out of range.
    """
    frames = num_samples // hop_length + 1
    contour = _contour("tempo_factor", tempo_factor, frames)
    times = _output_times(contour, hop_length, num_samples)
    positions = np.arange(round(times[-1]) // hop_length + 1) * hop_length
    return np.interp(positions, times, np.arange(len(times))) / hop_length


def pitch_marks(
    waveform: np.ndarray, sampling_rate: int, prosody: Prosody, hop_length: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """One mark a period where there is a voice, evenly spaced ones elsewhere.

    Args:
        waveform: Mono `(samples,)`.
        sampling_rate: In Hz.
        prosody: Of this recording.
        hop_length: Samples between frames.

    Returns:
        Samples `(marks,)`, increasing, from 0 to the number of samples; and which of them are in a
        voice, `(marks,)` bool.
    """
    frames = np.arange(len(prosody.log_f0))
    periods = sampling_rate * np.exp(-prosody.log_f0.astype(np.float64))
    marks: list[int] = [0]
    voiced: list[bool] = [False]
    for first, last in _stretches(prosody.voiced):
        start = max(first * hop_length - hop_length // 2, marks[-1])
        stop = min(last * hop_length + hop_length // 2, len(waveform))
        walk = _walk(waveform, start, stop, periods, hop_length, frames)
        walk = [mark for mark in walk if mark > marks[-1] and mark < len(waveform)]
        if walk:
            _fill(marks, voiced, walk[0], sampling_rate)
            marks += walk
            voiced += [True] * len(walk)
    _fill(marks, voiced, len(waveform), sampling_rate)
    return np.array([*marks, len(waveform)]), np.array([*voiced, False])


def _fill(marks: list[int], voiced: list[bool], until: int, sampling_rate: int) -> None:
    """Evenly spaced marks from the last one to before `until`."""
    count = max(1, round((until - marks[-1]) / (UNVOICED_PERIOD * sampling_rate)))
    between = np.rint(np.linspace(marks[-1], until, count + 1)).astype(int)[1:-1].tolist()
    marks += between
    voiced += [False] * len(between)


def _stretches(voiced: np.ndarray) -> list[tuple[int, int]]:
    """First and last frame of each voiced stretch."""
    edges = np.diff(np.concatenate([[0], voiced.astype(int), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _walk(
    waveform: np.ndarray, start: int, stop: int, periods: np.ndarray, hop: int, frames: np.ndarray
) -> list[int]:
    """Marks of a voiced stretch: from its highest peak on, and back, period by period."""
    if stop - start < 2:
        return []
    part = waveform[start:stop]
    sign = 1 if part.max() >= -part.min() else -1
    first = start + int(np.argmax(sign * part))

    def steps(direction: int) -> list[int]:
        found: list[int] = []
        mark = first
        while True:
            period = float(np.interp(mark / hop, frames, periods))
            mark = _next(waveform, mark, direction, period)
            if not start <= mark < stop:
                return found
            found.append(mark)

    return [*steps(-1)[::-1], first, *steps(1)]


def _next(waveform: np.ndarray, mark: int, direction: int, period: float) -> int:
    """A period on, where the waveform is most like it is around the mark."""
    expected, reach, half = round(period), max(1, round(SEARCH * period)), round(period / 2)
    here = waveform[max(mark - half, 0) : mark + half]
    lags = direction * np.arange(expected - reach, expected + reach + 1)
    starts = max(mark - half, 0) + lags
    inside = (starts >= 0) & (starts + len(here) <= len(waveform))
    if not inside.any():
        return mark + direction * expected
    lags, starts = lags[inside], starts[inside]
    rows = np.lib.stride_tricks.sliding_window_view(
        waveform[starts.min() : starts.max() + len(here)], len(here)
    )[starts - starts.min()]
    likeness = rows @ here / np.sqrt((rows**2).sum(axis=1) * (here @ here) + 1e-20)
    # Of lags that are as good, that which F0 expects: it is smoother than a single period.
    likeness = likeness - 0.1 * np.abs(np.abs(lags) - period) / period
    return mark + int(lags[int(np.argmax(likeness))])


def _contour(name: str, factor: np.ndarray | float, frames: int) -> np.ndarray:
    """A factor of each frame, checked."""
    contour = np.asarray(factor, dtype=np.float64)
    if contour.ndim > 1 or (contour.ndim == 1 and len(contour) != frames):
        raise ValueError(
            f"Bad {name} of shape {contour.shape}, expected a number or ({frames},), one a frame"
        )
    low, high = FACTOR_RANGE
    if not ((contour >= low) & (contour <= high)).all():
        raise ValueError(f"Bad {name} {factor!r}, expected {low:g} to {high:g}")
    return np.broadcast_to(contour, frames)


def _output_times(tempo: np.ndarray, hop: int, num_samples: int) -> np.ndarray:
    """Place in the result of every sample of the source and of its end, `(samples + 1,)`."""
    at_samples = np.interp(np.arange(num_samples) / hop, np.arange(len(tempo)), tempo)
    return np.concatenate([[0.0], np.cumsum(1 / at_samples)])


def _overlap_add(
    waveform: np.ndarray,
    marks: np.ndarray,
    voiced: np.ndarray,
    steps: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """Grains put down step by step, each the one whose mark is nearest in the source."""
    length = max(1, round(times[-1]))
    margin = int(np.diff(marks).max(initial=1)) + 1
    total, weight = np.zeros(length + 2 * margin), np.zeros(length + 2 * margin)
    spline = spline_filter1d(waveform, order=3, mode="mirror")
    # Floating point both: `interp` would convert the whole arrays for each grain.
    middles, places = (marks[1:] + marks[:-1]) / 2, np.arange(len(times), dtype=float)
    position, last, backwards = 0.0, -1, False
    while position <= length:
        i = int(np.searchsorted(middles, np.interp(position, times, places)))
        backwards = i == last and not voiced[i] and not backwards
        offsets = _offsets(marks, i, position)
        window = _window(marks, i, offsets)
        sources = marks[i] + (-offsets if backwards else offsets)
        span = slice(first := round(position + offsets[0]) + margin, first + len(offsets))
        total[span] += window * _samples(waveform, spline, sources)
        weight[span] += window
        position, last = position + steps[min(i, len(steps) - 1)], i
    inside = slice(margin, margin + length)
    return total[inside] / np.maximum(weight[inside], SMALLEST_OVERLAP)


def _offsets(marks: np.ndarray, i: int, position: float) -> np.ndarray:
    """Distances from a mark, from the one before to the one after, of the result's samples."""
    left = marks[i] - marks[i - 1] if i else 0
    right = marks[i + 1] - marks[i] if i + 1 < len(marks) else 0
    return np.arange(np.ceil(position - left), max(np.ceil(position + right), 1)) - position


def _window(marks: np.ndarray, i: int, offsets: np.ndarray) -> np.ndarray:
    """Two halves of Hann windows that reach to the neighbours of a mark, 1 at the mark."""
    left = max(marks[i] - marks[i - 1], 1) if i else 1
    right = max(marks[i + 1] - marks[i], 1) if i + 1 < len(marks) else 1
    phase = np.clip(np.where(offsets < 0, offsets / left, offsets / right), -1, 1)
    return 0.5 * (1 + np.cos(np.pi * phase))


def _samples(waveform: np.ndarray, spline: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The waveform at any place: itself at samples, a cubic spline between them, 0 beyond."""
    if sources[0] == round(sources[0]):
        places = sources.astype(int)
        inside = (places >= 0) & (places < len(waveform))
        return np.where(inside, waveform[np.clip(places, 0, len(waveform) - 1)], 0.0)
    values = map_coordinates(spline, [sources], order=3, mode="mirror", prefilter=False)
    return np.where((sources >= 0) & (sources <= len(waveform) - 1), values, 0.0)
