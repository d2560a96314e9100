import copy

import pytest
import torch
from torch import nn

from training.state import Average


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def train(model, average, steps=30):
    """Weights that jump about, and data whose mean wanders: what an average smooths."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        batch = torch.randn(16, 3, generator=torch.Generator().manual_seed(step)) + step
        optimizer.zero_grad()
        (model(batch) - 1).square().mean().backward()
        optimizer.step()
        average.update(model)


def values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def trained():
    model, average = network().train(), Average()
    average.start(model, decay=0.8)
    train(model, average)
    return model, average


def test_statistics_of_batch_normalisation_are_averaged_like_the_weights(trained):
    model, average = trained
    latest = values(model)
    average.swap(model)
    # The mean of the data rises all the time: its average lags behind.
    for name in ("1.running_mean", "1.running_var", "0.weight"):
        assert not torch.allclose(model.state_dict()[name], latest[name]), name
    assert model.state_dict()["1.num_batches_tracked"] == 30


def test_average_is_the_exponential_one(trained):
    """After its warm-up the share of what a step brings is 1 - decay."""
    model, average = trained
    average.swap(model)
    before = values(model)
    average.swap(model)
    average.load_state_dict(average.state_dict() | {"n_averaged": torch.tensor(1000)})
    average.update(model)
    expected = 0.8 * before["1.running_mean"] + 0.2 * model.state_dict()["1.running_mean"]
    average.swap(model)
    torch.testing.assert_close(model.state_dict()["1.running_mean"], expected)


def test_swapping_twice_changes_nothing(trained):
    model, average = trained
    before, kept = values(model), copy.deepcopy(average.state_dict())
    average.swap(model)
    average.swap(model)
    for name, value in values(model).items():
        assert torch.equal(value, before[name])
    for name, value in average.state_dict().items():
        assert torch.equal(value, kept[name])


def test_weights_that_a_network_shares_are_swapped_once():
    layer, average = nn.Linear(2, 2), Average()
    model = nn.Sequential(layer, layer)
    average.start(model, decay=0.5)
    first = layer.weight.clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.swap(model)
    assert torch.equal(layer.weight, first)


def test_a_checkpoint_goes_on_as_if_nothing_had_happened(trained):
    model, average = trained
    resumed_model, resumed = copy.deepcopy(model), Average()
    resumed.start(network(), decay=0.8)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    train(model, average, steps=5)
    train(resumed_model, resumed, steps=5)
    for name, value in average.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_an_average_that_was_not_started_is_refused():
    with pytest.raises(RuntimeError, match=r"The average was not started, expected start\(\)"):
        Average().update(network())
