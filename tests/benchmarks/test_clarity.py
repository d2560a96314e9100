import numpy as np
import pytest
from scipy import stats

from benchmarks import clarity


def table(**columns):
    size = len(next(iter(columns.values())))
    emotions = np.repeat("anger", size)
    common = {"emotion": emotions, "aimed": emotions, "fold": np.repeat("0", size)}
    return {**common, **{name: np.asarray(list(column)) for name, column in columns.items()}}


def test_gain_is_that_of_each_recording_over_itself():
    """One judge hears one recording more of A and two of B, the other loses as many as it gains."""
    heard = np.array(["anger", "fear", "anger", "fear", "fear", "fear"])
    before = table(speaker="AAABBB", **{"opensmile-svm": heard, "emotion-tdnn": heard})
    svm, tdnn = heard.copy(), heard.copy()
    svm[[1, 3, 4]], tdnn[[0, 1]] = "anger", ["fear", "anger"]
    after = table(speaker="AAABBB", **{"opensmile-svm": svm, "emotion-tdnn": tdnn})
    found = clarity.panel_clarity(before, after)
    assert [found[name] for name in ("WA", "UA", "target_WA")] == pytest.approx([7 / 12] * 3)
    assert [found["gain_WA"], found["gain_UA"]] == pytest.approx([1 / 4] * 2)
    # A gains 1/6 and B 1/3 of three recordings each.
    half = stats.t.ppf(0.975, 1) * np.std([1 / 6, 1 / 3], ddof=1) / np.sqrt(2)
    expected = [max(1 / 4 - half, -1), min(1 / 4 + half, 1)]
    assert found["gain_WA_ci95"] == pytest.approx(expected)
    assert found["gain_by_emotion"] == {"anger": pytest.approx(1 / 4)}
    assert clarity.panel_clarity(before, before)["gain_WA_ci95"] == [0, 0]
    one = {name: column[:1] for name, column in before.items()}
    assert clarity.panel_clarity(one, one)["gain_WA_ci95"] == [0, 0]


def test_a_method_is_compared_with_another_by_how_often_their_target_is_heard():
    """Whatever the speaker's own emotion: these recordings are converted from fear."""
    columns = {"speaker": "AABB", "emotion": ["fear"] * 4, "aimed": ["anger", "sadness"] * 2}
    heard = {name: np.array(["fear"] * 4) for name in ("opensmile-svm", "emotion-tdnn")}
    before = table(**columns, **heard)
    # One judge hears three of four targets, the other none.
    after = table(**columns, **heard | {"opensmile-svm": np.array(["anger", "sadness"] * 2)})
    after["opensmile-svm"][3] = "fear"
    found = clarity.target_gain(before, after)
    assert found["gain"] == pytest.approx(3 / 8)
    low, high = found["gain_ci95"]
    assert low < found["gain"] < high
    # What is lost one way is gained the other.
    assert clarity.target_gain(after, before)["gain"] == pytest.approx(-3 / 8)
    assert clarity.target_gain(after, after) == {"gain": 0, "gain_ci95": [0, 0]}


def test_recordings_that_share_an_enhancer_count_as_one_witness():
    """Two folds of many speakers each: what differs is the fold."""
    generator = np.random.default_rng(0)
    values = np.repeat([0.1, 0.3], 50) + generator.normal(0, 0.01, 100)
    weights, nothing = np.full(100, 0.01), np.zeros(100)
    folds, speakers = np.repeat(["0", "1"], 50), np.arange(100) // 5
    low, high = clarity.interval(values, weights, folds, nothing)
    assert high - low > 5 * np.ptp(clarity.interval(values, weights, speakers, nothing))
    assert low < 0.1 < 0.3 < high


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(8), 10)
    inside = 0
    for _ in range(400):
        values = generator.normal(0.2, 0.1, 8)[clusters] + generator.normal(0, 0.1, 80)
        low, high = clarity.interval(values, np.full(80, 1 / 80), clusters, np.zeros(80))
        inside += low <= 0.2 <= high
    assert 0.92 < inside / 400 < 0.98


def test_every_emotion_weighs_the_same_in_the_mean_of_recalls():
    classes = np.array(["fear"] * 9 + ["anger"])
    right = np.array([1.0] * 9 + [0.0])
    assert clarity.balanced(classes) @ right == pytest.approx(0.5)


def test_votes_of_every_recording_are_kept(tmp_path):
    clips = {"corpus": ["toy", "other"], "file": ["a", "b"], "speaker": ["A", "B"]}
    report = {"fold": "toy_0", "clips": {**clips, "row": [0, 1], "emotion-tdnn": ["fear", "anger"]}}
    name = clarity.write_votes(tmp_path, "class-shift", "toy", {"enhanced": [report]})
    assert (tmp_path / name).read_text().splitlines() == [
        "data,file,speaker,emotion-tdnn,fold",
        "enhanced,a,A,fear,toy_0",
    ]
