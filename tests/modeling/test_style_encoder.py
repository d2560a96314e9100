import pytest
import torch
from toy_components import randomize

from modeling import StyleEncoder

BANDS = 80


@pytest.fixture(scope="module")
def encoder():
    encoder = StyleEncoder(hidden_size=16, num_tokens=3, num_heads=2)
    return randomize(encoder).eval().requires_grad_(False)


def features(frames, seed=0):
    return torch.randn(frames, BANDS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 50, 63])
@pytest.mark.parametrize("content", [0.0, 50.0])
def test_padding_is_invisible(encoder, frames, content):
    """However much there is, and whatever it holds."""
    utterance = features(frames)
    alone = encoder(utterance[None])
    padded = torch.full((1, 64, BANDS), content)
    padded[0, :frames] = utterance
    mask = torch.zeros(1, 64)
    mask[0, :frames] = 1
    torch.testing.assert_close(encoder(padded, mask), alone, rtol=1e-4, atol=1e-4)


def test_batch_equals_one_by_one(encoder):
    utterances = [features(frames, seed) for seed, frames in enumerate((40, 7, 65))]
    batch = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    mask = torch.tensor([[float(i < len(u)) for i in range(65)] for u in utterances])
    for tokens, utterance in zip(encoder(batch, mask), utterances, strict=True):
        torch.testing.assert_close(tokens, encoder(utterance[None])[0], rtol=1e-4, atol=1e-4)


def test_tokens_differ_between_utterances_and_from_each_other(encoder):
    one, other = (encoder(features(60, seed)[None])[0] for seed in (0, 1))
    assert one.shape == (3, 16)
    assert (one - other).abs().amax(dim=1).min() > 0.05
    assert torch.pdist(one).min() > 0.05


def test_tokens_hear_every_part_of_an_utterance(encoder):
    utterance = features(64)[None].requires_grad_()
    encoder(utterance).square().sum().backward()
    assert (utterance.grad.abs().sum(dim=(0, 2)) > 0).all()


def test_every_weight_is_trained():
    encoder = randomize(StyleEncoder(hidden_size=16, num_tokens=3, num_heads=2))
    (encoder(features(30)[None]) ** 3).sum().backward()
    untouched = [name for name, p in encoder.named_parameters() if not p.grad.abs().sum() > 0]
    assert untouched == []


def test_saved_and_loaded_is_the_same(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = StyleEncoder.from_pretrained(tmp_path)
    utterance = features(33)[None]
    torch.testing.assert_close(loaded(utterance), encoder(utterance))
