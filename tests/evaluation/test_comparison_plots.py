import numpy as np
import pytest
from PIL import Image

from evaluation import make_record, plot_calibration, plot_robustness, provenance
from evaluation.comparison_plots import plot_comparisons
from evaluation.conditions import CONDITIONS

MADE_BY = provenance(seed=0, seconds=1.0)
CALIBRATED = [f"calibrated_{by}_{n}" for by in ("room", "speaker_neutral") for n in (5, 50)]


def record(condition, wa=0.8, ua=0.7, system="emotion-resnet", corpus="emodb"):
    return make_record(
        task="recognition",
        corpus=corpus,
        protocol="speaker_independent",
        system=system,
        condition=condition,
        metrics={"WA": wa, "UA": ua},
        provenance=MADE_BY,
    )


def records(wa=0.8, ua=0.7):
    """Two systems on two corpora in all conditions; one figure can be changed."""
    return [
        record(condition, *scores, system, corpus)
        for corpus in ("emodb", "ravdess")
        for system in ("emotion-resnet", "whisper-logistic-regression")
        for condition in (*CONDITIONS, *CALIBRATED)
        for scores in [(wa, ua) if condition in ("reverb", CALIBRATED[1]) else (0.8, 0.7)]
    ]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("plot", [plot_robustness, plot_calibration])
def test_plots_are_small_and_show_their_data(plot, tmp_path):
    path = plot(records(), tmp_path / "plots" / "one.png")
    other = plot(records(wa=0.4, ua=0.3), tmp_path / "plots" / "two.png")
    assert path.stat().st_size < 300_000
    assert min(pixels(path).shape[:2]) > 250
    assert pixels(path).shape != pixels(other).shape or (pixels(path) != pixels(other)).any()


def test_only_what_was_measured_is_drawn(tmp_path):
    plot_comparisons([record("as_recorded")], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    plot_comparisons([record("calibrated_room_5")], tmp_path / "some")
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["calibration.png"]
    # A system that was not tested in a condition of another leaves a gap.
    gaps = [record("as_recorded"), record("reverb", system="svm")]
    assert plot_robustness(gaps, tmp_path / "gaps.png").exists()
    for plot in (plot_robustness, plot_calibration):
        with pytest.raises(ValueError, match="Bad records, expected some"):
            plot([record("as_recorded")], tmp_path / "a.png")
