"""Voice, words and sound of a fold's recordings, by models of others (`evaluation.quality`)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from evaluation.quality import QualityMeter
from pipelines.audio_inputs import read_recording

from .panel import Clips, Fold

# Whose words the recogniser knows.
ENGLISH = ("ravdess", "crema_d", "savee", "tess")
# Other recordings that a speaker is known by.
ENROLLED = 8


def quality_meter(fold: Fold, clips: Clips, asr: str, seed: int) -> QualityMeter:
    """A meter of one corpus's clips, for as much as can be measured of them.

    Speakers are known by up to eight recordings that are not among the clips, all speakers of the
    corpus are candidates; where there are none, the voice is not measured. Words are measured in
    English.

    Args:
        fold: Where the clips are from.
        clips: Recordings as they were.
        asr: Hub id or folder of the recogniser of words.
        seed: Decides by which recordings speakers are known.
    """
    enrolment = other_recordings(fold, clips, seed)
    known = set(clips.speakers) <= set(enrolment) and len(enrolment) > 1
    transcripts = None
    if set(clips.corpora) <= set(ENGLISH):
        transcripts = fold.corpora.dataset.select(clips.rows)["transcript"]
    return QualityMeter(
        clips.waves,
        fold.feature_extractor.sampling_rate,
        speakers=clips.speakers if known else None,
        enrolment=enrolment if known else None,
        transcripts=transcripts,
        asr=asr,
    )


def measure_quality(
    meter: QualityMeter, clips: Clips, waves: Sequence[np.ndarray]
) -> dict[str, float]:
    """What is left of the clips in waveforms `(samples,)` made of them, and their mean length.

    "length" is relative to the clips: 1 is as long.
    """
    lengths = [len(wave) / len(clip) for wave, clip in zip(waves, clips.waves, strict=True)]
    return {**meter.measure(waves).metrics, "length": float(np.mean(lengths))}


def other_recordings(fold: Fold, clips: Clips, seed: int) -> dict[str, list[np.ndarray]]:
    """Recordings of each speaker of the clips' corpus that are not among the clips."""
    dataset, rate = fold.corpora.dataset, fold.feature_extractor.sampling_rate
    columns = dataset.select_columns(["corpus", "speaker"])[:]
    rows: dict[str, list[int]] = defaultdict(list)
    asked = set(clips.rows)
    for row in np.random.default_rng(seed).permutation(len(dataset)).tolist():
        name = f"{columns['corpus'][row]} {columns['speaker'][row]}"
        if columns["corpus"][row] in clips.corpora and row not in asked:
            rows[name] = [*rows[name], row][:ENROLLED]
    return {
        name: [read_recording(dataset[row]["audio"], rate).numpy() for row in own]
        for name, own in rows.items()
    }
