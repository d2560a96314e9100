import pytest
import torch
from toy_enhancer import EMOTIONS, make_emotion_encoder

from modeling import EmotionEncoder

VECTOR_DIM = 12
ANGER = EMOTIONS.index("anger")
NO_EMOTION = len(EMOTIONS)


@pytest.fixture(scope="module")
def encoder():
    return make_emotion_encoder(VECTOR_DIM).requires_grad_(False)


@pytest.fixture
def vectors():
    return torch.randn(len(EMOTIONS), VECTOR_DIM, generator=torch.Generator().manual_seed(2))


def every_emotion():
    return torch.arange(len(EMOTIONS))


def nothing(encoder, count=1):
    return encoder(torch.full((count,), NO_EMOTION))


class TestIntensity:
    def test_zero_is_no_emotion_whichever_was_named_and_heard(self, encoder, vectors):
        embedded = encoder(every_emotion(), vectors, 0.0)
        torch.testing.assert_close(embedded, nothing(encoder, len(EMOTIONS)))

    def test_one_is_the_emotion(self, encoder, vectors):
        embedded = encoder(every_emotion(), vectors, 1.0)
        torch.testing.assert_close(embedded, encoder(every_emotion(), vectors))
        distances = torch.cdist(embedded, torch.cat([embedded, nothing(encoder)]))
        distances.fill_diagonal_(torch.inf)
        assert distances.min() > 0.1

    def test_two_is_twice_as_far(self, encoder, vectors):
        start = nothing(encoder)
        once, twice = (encoder(every_emotion(), vectors, i) - start for i in (1.0, 2.0))
        torch.testing.assert_close(twice, 2 * once)

    def test_every_recording_may_have_its_own(self, encoder, vectors):
        intensities = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
        together = encoder(every_emotion(), vectors, intensities)
        for i, intensity in enumerate(intensities.tolist()):
            alone = encoder(torch.tensor([i]), vectors[i : i + 1], intensity)
            torch.testing.assert_close(together[i : i + 1], alone)


class TestVectors:
    def test_what_was_heard_changes_the_embedding(self, encoder, vectors):
        one, other = (encoder(torch.tensor([ANGER]), vectors[i : i + 1]) for i in (0, 1))
        assert (one - other).abs().max() > 0.1

    def test_nan_is_not_heard(self, encoder, vectors):
        heard = vectors.clone()
        heard[2] = torch.nan
        embedded = encoder(every_emotion(), heard)
        assert embedded.isfinite().all()
        torch.testing.assert_close(embedded[2], encoder(every_emotion())[2])
        torch.testing.assert_close(embedded[3], encoder(every_emotion(), vectors)[3])

    def test_nan_teaches_the_projection_nothing(self):
        encoder = make_emotion_encoder(VECTOR_DIM)
        unheard = torch.full((1, VECTOR_DIM), torch.nan)
        encoder(torch.tensor([ANGER]), unheard).sum().backward()
        assert encoder.projection.weight.grad.abs().sum() == 0
        assert encoder.embedding.weight.grad.isfinite().all()

    def test_scale_of_the_recogniser_does_not_matter(self, vectors):
        """Vectors are measured in deviations of the training speakers."""
        training = torch.randn(30, VECTOR_DIM, generator=torch.Generator().manual_seed(3))
        labels = torch.arange(30) % len(EMOTIONS)
        encoders = [make_emotion_encoder(VECTOR_DIM).requires_grad_(False) for _ in range(2)]
        encoders[0].set_prototypes(training, labels)
        encoders[1].set_prototypes(100 * training + 7, labels)
        given = (vectors, 100 * vectors + 7)
        one, other = (e(every_emotion(), v) for e, v in zip(encoders, given, strict=True))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


class TestPrototypes:
    def test_are_the_means_of_each_emotion(self):
        vectors = torch.randn(13, VECTOR_DIM, generator=torch.Generator().manual_seed(4))
        labels = torch.tensor([0, 1, 2, 3, 4, 5, 0, 0, 3, 3, 3, 5, 5])
        encoder = make_emotion_encoder(VECTOR_DIM)
        encoder.set_prototypes(vectors, labels)
        torch.testing.assert_close(encoder.prototypes[0], vectors[[0, 6, 7]].mean(dim=0))
        torch.testing.assert_close(encoder.prototypes[4], vectors[4])

    def test_a_constant_dimension_stays_finite(self, vectors):
        encoder = make_emotion_encoder(VECTOR_DIM)
        vectors[:, 0] = 3.0
        encoder.set_prototypes(vectors, every_emotion())
        assert encoder(every_emotion(), encoder.prototypes).isfinite().all()

    def test_missing_emotions_are_named(self, vectors):
        labels = torch.tensor([0, 1, 2, 3, 2, 1])
        with pytest.raises(ValueError, match=r"No vectors of \['fear', 'disgust'\], expected some"):
            make_emotion_encoder(VECTOR_DIM).set_prototypes(vectors, labels)

    def test_vectors_of_another_recogniser_are_refused(self):
        with pytest.raises(ValueError, match=r"shape \(6, 11\), expected \(n, 12\)"):
            make_emotion_encoder(VECTOR_DIM).set_prototypes(torch.ones(6, 11), every_emotion())

    def test_nothing_is_stored_when_refused(self, vectors):
        encoder = make_emotion_encoder(VECTOR_DIM)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        with pytest.raises(ValueError, match="No vectors of"):
            encoder.set_prototypes(vectors, torch.zeros(len(vectors)))
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_unknown_emotion_lists_the_known_ones(encoder):
    with pytest.raises(ValueError, match=r"Bad emotion 'boredom', expected one of \['neutral', .*"):
        encoder.index("boredom")


@pytest.mark.parametrize("emotions", [(), ("anger", "anger")])
def test_no_or_equal_emotions_are_refused(emotions):
    with pytest.raises(ValueError, match="Bad emotions .*expected one or more different ones"):
        EmotionEncoder(emotions)


def test_saved_and_loaded_is_the_same(encoder, vectors, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = EmotionEncoder.from_pretrained(tmp_path)
    assert [loaded.index(name) for name in EMOTIONS] == list(range(len(EMOTIONS)))
    torch.testing.assert_close(loaded.prototypes, encoder.prototypes)
    expected = encoder(every_emotion(), vectors, 1.3)
    torch.testing.assert_close(loaded(every_emotion(), vectors, 1.3), expected)
