import pytest
import torch
from toy_enhancer import EMOTIONS, LATENT_CHANNELS, make_denoiser

from modeling import EmotionDenoiser
from modeling.modeling_emotion_denoiser import CLARITY_UNSAID, CLEAR, UNCLEAR

ROWS, LENGTH, NO_EMOTION = LATENT_CHANNELS * 20 + 2, 12, len(EMOTIONS)
TARGETS = torch.arange(NO_EMOTION)


@pytest.fixture(scope="module")
def denoiser():
    return make_denoiser().requires_grad_(False)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def told(denoiser, target=TARGETS, carried=0, corpus=0, clarity=CLEAR, intensity=1.0):
    """Conditions for each target; what else is told is the same for all."""
    others = (torch.full_like(target, value) for value in (carried, corpus, clarity))
    return denoiser.conditions(target, *others, intensity)


def unsaid(denoiser, **settings):
    return told(denoiser, torch.full_like(TARGETS, NO_EMOTION), clarity=CLARITY_UNSAID, **settings)


def inputs(denoiser, batch=2, timestep=500):
    """Everything but the conditions, different for each of the batch."""
    return {
        "noisy": normal(batch, ROWS, LENGTH),
        "timestep": torch.tensor(timestep),
        "source": normal(batch, ROWS, LENGTH, seed=1),
        "style": denoiser.style_encoder(normal(batch, 30, 80, seed=2)),
    }


class TestConditions:
    @pytest.mark.parametrize("clarity", [CLARITY_UNSAID, UNCLEAR, CLEAR])
    def test_intensity_zero_is_unsaid_whatever_the_target(self, denoiser, clarity):
        nothing = told(denoiser, clarity=clarity, carried=3, corpus=1, intensity=0.0)
        torch.testing.assert_close(nothing, unsaid(denoiser, carried=3, corpus=1))

    def test_intensity_two_is_twice_as_far(self, denoiser):
        start = unsaid(denoiser)
        once, twice = (told(denoiser, intensity=i) - start for i in (1.0, 2.0))
        torch.testing.assert_close(twice, 2 * once)

    def test_every_target_is_another(self, denoiser):
        vectors = torch.cat([told(denoiser), unsaid(denoiser)[:1]])
        assert torch.pdist(vectors).min() > 0.1

    @pytest.mark.parametrize("name", ["carried", "corpus", "clarity"])
    def test_all_else_is_heard(self, denoiser, name):
        one, other = (told(denoiser, **{name: value}) for value in (0, 1))
        assert (one - other).abs().amax(dim=1).min() > 0.1

    def test_a_corpus_that_nothing_was_trained_on_is_as_good_as_unsaid(self, denoiser):
        known = [denoiser.corpus_index(name) for name in ("emodb", "ravdess")]
        assert known == [0, 1]
        assert denoiser.corpus_index("somebody's") == denoiser.corpus_index(None) == 2

    def test_emotions_by_name(self, denoiser):
        assert [denoiser.emotion_index(name) for name in EMOTIONS] == TARGETS.tolist()
        assert denoiser.emotion_index(None) == NO_EMOTION
        with pytest.raises(ValueError, match=r"Bad emotion 'boredom', expected one of \['neutral'"):
            denoiser.emotion_index("boredom")


class TestForward:
    @pytest.mark.parametrize("length", [1, 7, LENGTH])
    def test_rows_of_any_length(self, denoiser, length):
        given = inputs(denoiser)
        given |= {name: given[name][..., :length] for name in ("noisy", "source")}
        rows = denoiser(**given, conditions=told(denoiser)[:2])
        assert rows.shape == (2, ROWS, length)
        assert rows.isfinite().all()

    def test_batch_equals_one_by_one(self, denoiser):
        given, conditions = inputs(denoiser), told(denoiser)[[3, 2]]
        together = denoiser(**given, conditions=conditions)
        for i in range(2):
            own = {n: v if n == "timestep" else v[i : i + 1] for n, v in given.items()}
            alone = denoiser(**own, conditions=conditions[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)

    def test_everything_that_is_given_is_heard(self, denoiser):
        given = inputs(denoiser) | {"conditions": told(denoiser)[[3, 2]]}
        before = denoiser(**given)
        for name, value in given.items():
            changed = torch.tensor(20) if name == "timestep" else value.flip(0)
            after = denoiser(**given | {name: changed})
            assert (after - before).abs().mean() > 1e-3, name

    def test_every_weight_is_trained(self):
        denoiser = make_denoiser()
        given = inputs(denoiser, batch=NO_EMOTION)
        said = (told(denoiser, carried=c, corpus=c % 3, clarity=c % 3) for c in range(7))
        said = sum(said) + unsaid(denoiser)
        denoiser(**given, conditions=said).square().sum().backward()
        # Of a kernel every place: over time alone none looks up or down, where nothing is.
        grads = {n: p.grad.abs() for n, p in denoiser.named_parameters()}
        places = {n: g.sum(dim=(0, 1)) if g.ndim == 4 else g.sum() for n, g in grads.items()}
        assert [name for name, place in places.items() if not (place > 0).all()] == []


def test_style_tokens_are_as_wide_as_the_conditions():
    narrow = EmotionDenoiser(**settings(style_settings={"hidden_size": 24, "num_heads": 2}))
    assert narrow.style_encoder(normal(1, 30, 80)).shape == (1, 8, 24)
    assert told(narrow).shape == (NO_EMOTION, 24)
    assert narrow(**inputs(narrow), conditions=told(narrow)[:2]).shape == (2, ROWS, LENGTH)


def settings(**changes):
    """Of a toy denoiser, with others instead."""
    ours = {n: v for n, v in make_denoiser().config.items() if not n.startswith("_")}
    return ours | changes


@pytest.mark.parametrize("emotions", [(), ("anger", "anger")])
def test_no_or_equal_emotions_are_refused(emotions):
    with pytest.raises(ValueError, match="Bad emotions .*expected one or more different ones"):
        EmotionDenoiser(**settings(emotions=emotions))


def test_saved_and_loaded_is_the_same(denoiser, tmp_path):
    denoiser.save_pretrained(tmp_path)
    loaded = EmotionDenoiser.from_pretrained(tmp_path)
    assert loaded.emotions == list(EMOTIONS)
    assert loaded.corpus_index("ravdess") == 1
    given, conditions = inputs(denoiser), told(denoiser, intensity=1.3)[:2]
    expected = denoiser(**given, conditions=conditions)
    given["style"] = loaded.style_encoder(normal(2, 30, 80, seed=2))
    torch.testing.assert_close(
        loaded(**given, conditions=told(loaded, intensity=1.3)[:2]), expected
    )
