import datasets
import numpy as np
import pytest
import torch
from toy_enhancer import STRIDE, make_extractor

from datasets_scripts import EMOTIONS, Fold
from modeling.modeling_emotion_shift import active_frames
from training.config import DiffusionConfig
from training.data import Corpora, load_corpora
from training.features import MelFeatures
from training.pairs import Pairs, align_pairs, content_envelope, warp

ANGER = EMOTIONS.index("anger")
# Frames of silence before and after 160 frames of speech.
SILENT, SPOKEN = 40, 160


@pytest.fixture(scope="module")
def corpora(toy_spec):
    datasets.disable_progress_bars()
    return load_corpora(DiffusionConfig(corpora={"toy_emotions": toy_spec}))


@pytest.fixture(scope="module")
def log_mels(corpora):
    return MelFeatures(corpora.dataset, make_extractor(), crop_seconds=1.0).log_mels


@pytest.fixture(scope="module")
def pairs(corpora, log_mels):
    return align_pairs(corpora, log_mels, corpora.fold.train, STRIDE)


def people(rows):
    """Recordings by corpus, speaker, sentence and emotion."""
    names = ("corpus", "speaker", "sentence", "emotion")
    table = {n: list(values) for n, values in zip(names, zip(*rows, strict=True), strict=True)}
    columns = dict.fromkeys(names[:3], datasets.Value("string"))
    features = datasets.Features({**columns, "emotion": datasets.ClassLabel(names=list(EMOTIONS))})
    everybody = tuple(range(len(rows)))
    fold = Fold("everybody", "toy", 0, "everybody", everybody, (), ())
    return Corpora(datasets.Dataset.from_dict(table, features=features), list(EMOTIONS), fold)


def speech(times, seed=0):
    """Log-mel `(len(times), 80)` of made-up sounds between silences, at times in frames."""
    sounds = np.random.default_rng(seed).normal(-4, 1.5, (SPOKEN // 8, 20)).repeat(4, axis=1)
    knots = SILENT + 4 + 8 * np.arange(len(sounds))
    mel = np.stack([np.interp(times, knots, band) for band in sounds.T], axis=1)
    silent = (times < SILENT) | (times >= SILENT + SPOKEN)
    mel[silent] = -11.0
    return mel.astype(np.float32)


def align(one, other, stride=STRIDE):
    """Of two renditions of a sentence."""
    two = people([("toy", "1", "a", "neutral"), ("toy", "1", "a", "anger")])
    return align_pairs(two, [one, other], [0, 1], stride).alignments


class TestAlignment:
    @pytest.mark.parametrize("slower", [0.7, 1.0, 1.4])
    def test_positions_follow_a_stretch(self, slower):
        source = speech(np.arange(2 * SILENT + SPOKEN))
        target = speech(np.arange(round(slower * len(source))) / slower)
        aligned = align(source, target)
        middles = np.arange(len(source) // STRIDE) * STRIDE + (STRIDE - 1) / 2
        spoken = (middles > SILENT + 4) & (middles < SILENT + SPOKEN - 4)
        there = (slower * middles - (STRIDE - 1) / 2) / STRIDE
        found = aligned[0, 1].positions
        assert found.shape == aligned[0, 1].log_tempo.shape == middles.shape
        # A latent is 46 ms.
        assert np.abs(found - there)[spoken].max() < 1
        assert (np.diff(found) >= 0).all()
        inside = (middles > SILENT + 24) & (middles < SILENT + SPOKEN - 24)
        np.testing.assert_allclose(aligned[0, 1].log_tempo[inside], -np.log(slower), atol=0.12)
        back = aligned[1, 0].log_tempo
        assert np.mean(back[back != 0]) == pytest.approx(np.log(slower), abs=0.08)

    def test_what_is_said_alike_is_at_the_same_place(self):
        sound = speech(np.arange(2 * SILENT + SPOKEN))
        path = align(sound, sound)[0, 1]
        # Neither at the end of a latent nor at its beginning.
        np.testing.assert_allclose(path.positions, np.arange(len(sound) // STRIDE), atol=0.1)
        np.testing.assert_allclose(path.log_tempo, 0, atol=0.02)

    def test_tempo_is_that_of_the_place(self):
        """The second half takes 1.6 times as long."""
        middle = SILENT + SPOKEN // 2
        source = speech(np.arange(2 * SILENT + SPOKEN))
        late = middle + np.arange(round(1.6 * SPOKEN / 2)) / 1.6
        end = SILENT + SPOKEN + np.arange(SILENT)
        target = speech(np.concatenate([np.arange(middle), late, end]))
        log_tempo = align(source, target)[0, 1].log_tempo
        quarter = SPOKEN // 4 // STRIDE
        first = SILENT // STRIDE + np.arange(quarter)
        assert np.mean(log_tempo[first]) == pytest.approx(0, abs=0.1)
        assert np.mean(log_tempo[first + 3 * quarter]) == pytest.approx(-np.log(1.6), abs=0.12)

    def test_no_tempo_outside_speech(self):
        source = speech(np.arange(2 * SILENT + SPOKEN))
        target = speech(np.arange(round(1.4 * len(source))) / 1.4)
        log_tempo = align(source, target)[0, 1].log_tempo
        assert (log_tempo[: SILENT // STRIDE] == 0).all()
        assert (log_tempo[(SILENT + SPOKEN) // STRIDE :] == 0).all()
        assert (log_tempo[SILENT // STRIDE + 1 : (SILENT + SPOKEN) // STRIDE - 1] < -0.1).all()

    def test_tempo_is_at_most_doubled(self):
        source = speech(np.arange(2 * SILENT + SPOKEN))
        target = speech(np.arange(4 * len(source)) / 4)
        aligned = align(source, target)
        assert aligned[0, 1].log_tempo.min() == pytest.approx(-0.7, abs=1e-4)
        assert aligned[1, 0].log_tempo.max() == pytest.approx(0.7, abs=1e-4)

    @pytest.mark.parametrize("frames", [STRIDE, 7])
    def test_shortest_and_silent_recordings_are_aligned(self, frames):
        sound = speech(np.arange(2 * SILENT + SPOKEN))
        for short in (sound[SILENT + 5 :][:frames], sound[:frames]):
            for (source, _), path in align(sound, short).items():
                length = (len(sound), frames)[source] // STRIDE
                assert path.positions.shape == path.log_tempo.shape == (length,)
                assert np.isfinite([path.positions, path.log_tempo]).all()

    def test_toy_voices_that_take_longer_are_slower(self, pairs, log_mels):
        spans = [np.flatnonzero(active_frames(torch.from_numpy(mel)).numpy()) for mel in log_mels]
        durations = [np.log(span[-1] - span[0]) for span in spans]
        heard, expected = [], []
        for (source, target), path in pairs.alignments.items():
            last = len(log_mels[target]) / STRIDE
            assert (np.diff(path.positions) >= 0).all()
            assert -1 < path.positions[0] <= path.positions[-1] < last
            heard.append(path.log_tempo[path.log_tempo != 0].mean())
            expected.append(durations[source] - durations[target])
        assert np.corrcoef(heard, expected)[0, 1] > 0.9
        assert np.polyfit(expected, heard, 1)[0] == pytest.approx(1, abs=0.3)


class TestWho:
    def test_same_speaker_and_sentence_of_one_split_with_every_other_emotion(self, pairs, corpora):
        columns = corpora.dataset.select_columns(["speaker", "sentence"])[:]
        train = corpora.fold.train
        assert {row for pair in pairs.alignments for row in pair} == set(train)
        for source, target in pairs.alignments:
            assert source != target
            for values in columns.values():
                assert values[source] == values[target]
        for row in train:
            others = set(range(len(EMOTIONS))) - {int(corpora.targets[row])}
            assert set(pairs.targets[row]) == others
            for emotion, targets in pairs.targets[row].items():
                assert all(corpora.targets[target] == emotion for target in targets)
                assert all((row, target) in pairs.alignments for target in targets)

    def test_nobody_else(self):
        mel = speech(np.arange(2 * SILENT + SPOKEN))
        rows = [
            ("toy", "1", "a", "neutral"),
            ("toy", "1", "a", "anger"),
            ("toy", "1", "b", "anger"),  # Another sentence.
            ("toy", "2", "a", "anger"),  # Another speaker.
            ("emodb", "1", "a", "anger"),  # Another corpus, where names mean others.
            ("toy", "1", None, "anger"),  # Nobody knows what they say.
            ("toy", "1", None, "neutral"),
            ("toy", "1", "a", "anger"),
            ("toy", "1", "a", "fear"),  # Not among those who are asked for.
        ]
        found = align_pairs(people(rows), [mel] * len(rows), range(8), STRIDE)
        assert set(found.alignments) == {(0, 1), (1, 0), (0, 7), (7, 0), (1, 7), (7, 1)}
        assert found.targets[0] == {ANGER: [1, 7]}
        assert found.targets[1] == {0: [0], ANGER: [7]}
        assert all(found.targets[row] == {} for row in range(2, 7))
        assert set(found.targets) == set(range(8))


class TestDraw:
    PAIRS = Pairs({}, {0: {ANGER: [1, 2], 0: [3], 5: [4]}, 1: {ANGER: [0]}, 2: {0: [3]}, 3: {}})

    def shares(self, row, own_probability, count=2000):
        generator = np.random.default_rng(0)
        drawn = [self.PAIRS.draw(row, ANGER, own_probability, generator) for _ in range(count)]
        return {target: drawn.count(target) / count for target in set(drawn)}

    def test_own_emotion_as_often_as_asked_and_the_others_alike(self):
        expected = {1: 0.15, 2: 0.15, 3: 0.35, 4: 0.35}
        assert self.shares(0, 0.3) == pytest.approx(expected, abs=0.04)
        assert set(self.shares(0, 0.0)) == {3, 4}
        assert set(self.shares(0, 1.0)) == {1, 2}

    def test_what_there_is_where_there_is_only_one(self):
        assert self.shares(1, 0.0) == {0: 1.0}
        assert self.shares(2, 1.0) == {3: 1.0}

    @pytest.mark.parametrize("row", [3, 99])
    def test_nothing_where_nothing_is_aligned(self, row):
        assert self.shares(row, 0.5) == {None: 1.0}


class TestWarp:
    ROWS = np.stack([np.arange(5.0), [0.0, 0.0, 4.0, 0.0, 0.0]])

    def test_follows_straight_lines_between_latents(self):
        warped = warp(self.ROWS, np.array([0.0, 0.5, 1.75, 2.0, 2.5, 4.0, 4.0]))
        np.testing.assert_allclose(warped[0], [0, 0.5, 1.75, 2, 2.5, 4, 4])
        np.testing.assert_allclose(warped[1], [0, 0, 3, 4, 2, 0, 0])

    def test_holds_the_ends(self):
        np.testing.assert_allclose(warp(self.ROWS, np.array([-0.3, 4.2, 9.0]))[0], [0, 4, 4])

    def test_of_one_latent_is_that_one(self):
        np.testing.assert_allclose(warp(self.ROWS[:, 2:3], np.array([0.0, 0.7])), [[2, 2], [4, 4]])


class TestContent:
    """The envelope that is aligned: words, and nothing of the emotion's loudness."""

    @pytest.fixture
    def log_mel(self, log_mels, corpora):
        return torch.from_numpy(log_mels[corpora.fold.train[0]])

    def test_level_and_colour_do_not_matter(self, log_mel):
        envelope = content_envelope(log_mel)
        louder = log_mel + np.log(2)
        torch.testing.assert_close(content_envelope(louder), envelope, atol=1e-3, rtol=1e-3)
        brighter = log_mel + torch.linspace(-1, 1, 80)
        torch.testing.assert_close(content_envelope(brighter), envelope, atol=1e-3, rtol=1e-3)

    def test_liveliness_does_not_matter(self, log_mel):
        """Except in bands that hardly move, which are left quiet."""
        mean = log_mel.mean(dim=0)
        one, other = (content_envelope(mean + by * (log_mel - mean)) for by in (1.0, 1.5))
        moving = one.std(dim=0) > 0.99
        assert moving.sum() >= 10
        torch.testing.assert_close(one[:, moving], other[:, moving], atol=1e-3, rtol=1e-3)

    def test_follows_the_words(self, log_mels, corpora):
        """Renditions of a sentence are more alike than sentences of one voice and emotion."""
        columns = corpora.dataset.select_columns(["speaker", "sentence"])[:]
        train = [row for row in corpora.fold.train if columns["speaker"][row] == "05"]

        def profile(row):
            envelope = content_envelope(torch.from_numpy(log_mels[row]))
            stretched = torch.nn.functional.interpolate(envelope.T[None], 64, mode="linear")
            return stretched.flatten()

        profiles = {row: profile(row) for row in train}
        same, other = [], []
        for one in train:
            for two in train:
                if one < two:
                    alike = torch.corrcoef(torch.stack([profiles[one], profiles[two]]))[0, 1]
                    equal = columns["sentence"][one] == columns["sentence"][two]
                    (same if equal else other).append(float(alike))
        assert np.mean(same) > np.mean(other) + 0.2

    def test_silence_is_silent(self):
        silence = torch.full((50, 80), -11.5)
        assert content_envelope(silence).abs().max() < 1e-3
