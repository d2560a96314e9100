"""Test the classic baseline, openSMILE features and an SVM, on the folds of the network.

    python -m benchmarks.opensmile_svm --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --protocols speaker_independent paper cross_corpus --output results/opensmile_svm.json

Features are the 6373 functionals of ComParE 2016 (Schuller et al. 2016), computed by openSMILE
(Eyben et al. 2010) from the mono recording at its own rate. They are standardised with the
statistics of the training rows, for an SVM with an RBF kernel, C = 5 and balanced class weights.
Who trains and who is tested, and in which conditions, is said in `benchmarks.baseline`.

Across corpora the target lies so far from the statistics of the source that the SVM names hardly
more than one emotion. It is at chance there, and taking the mean of the target away (calibration)
changes little: its deviations are others, too.
"""

import sys
from collections.abc import Sequence

import numpy as np

from .baseline import Baseline, baseline_parser, needs_baselines, parse_options, run_baseline

with needs_baselines():
    import opensmile
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

SYSTEM = "opensmile-compare2016-svm"
NUM_FEATURES = 6373
# openSMILE casts to 16 bit without a limit: full scale itself would wrap around.
FULL_SCALE = 1 - 2**-15


def main(arguments: Sequence[str] | None = None) -> None:
    """Extract the features of all corpora, then run the protocols and write their records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = baseline_parser("benchmarks.opensmile_svm", __doc__, "results/opensmile_svm.json")
    run_baseline(opensmile_svm(), parse_options(parser, arguments), arguments)


def opensmile_svm() -> Baseline:
    """ComParE 2016 in front of the SVM."""
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)

    def compute(wave: np.ndarray, rate: int) -> np.ndarray:
        return smile.process_signal(np.clip(wave, -1, FULL_SCALE), rate).to_numpy()

    return Baseline(
        system=SYSTEM,
        module="benchmarks.opensmile_svm",
        title="ComParE 2016",
        version=opensmile.__version__,
        shape=(1, NUM_FEATURES),
        compute=compute,
        build=build_svm,
    )


def build_svm() -> Pipeline:
    """The classifier of the baseline, not fitted: `fit(features, labels)`, `predict(features)`.

    It gives no probabilities: those of an SVM come from a second, cross-validated fit whose
    largest one may contradict the prediction.
    """
    return make_pipeline(StandardScaler(), SVC(C=5, kernel="rbf", class_weight="balanced"))


if __name__ == "__main__":
    main()
