"""RankOne: what is selected, the best approximation of one model, and the tuning of k numbers alone."""

import pytest
import torch
from tests.merging.matrices import check_averages_the_rest, check_hard_inputs, combined, drawn
from torch import nn
from torch.nn.utils import parametrize

from equipoise.merging import (
    RankOne,
    SingularValues,
    merge,
    rank_one_components,
    tune_singular_values,
)


def test_the_strongest_components_of_all_models_are_summed():
    """Algorithm 1 of the paper, lines 1 to 13."""
    deltas = drawn((6, 9))
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    pool = sorted(
        ((s[j], torch.outer(u[:, j], v[j])) for u, s, v in parts for j in range(6)),
        key=lambda pair: -float(pair[0]),
    )
    for density, kept in ((0.5, 3), (1.0, 6), (0.01, 1)):
        right = torch.stack([value * component for value, component in pool[:kept]]).sum(0)
        torch.testing.assert_close(combined(RankOne(density=density), deltas), right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_model_is_approximated_best(dtype):
    """Eckart and Young: no matrix of rank k is nearer; at full rank it is the model itself."""
    deltas = drawn((8, 12), 1, dtype)
    torch.testing.assert_close(combined(RankOne(density=1), deltas), deltas[0])
    error = (combined(RankOne(density=0.25), deltas) - deltas[0]).norm()
    torch.testing.assert_close(error, torch.linalg.svdvals(deltas[0])[2:].norm())


def test_weights_turn_the_choice():
    """A source that is not trusted gives nothing where others have components enough."""
    deltas = drawn((5, 5), 2)
    found = combined(RankOne(weight=[1, 1e-9], density=1), deltas)
    torch.testing.assert_close(found, deltas[0])


def test_hard_inputs_and_the_rest():
    check_hard_inputs(RankOne(kernels=True, density=1))
    check_averages_the_rest(RankOne())
    with pytest.raises(ValueError, match="density is 0"):
        RankOne(density=0)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def merged_network(rule):
    base, sources = network(0), {name: network(i) for i, name in enumerate("abc", 1)}
    states = {name: source.state_dict() for name, source in sources.items()}
    base.load_state_dict(merge(states, base.state_dict(), method=rule))
    return base, rank_one_components(states, network(0).state_dict(), rule)


def test_components_are_those_of_the_merged_task_vector():
    rule = RankOne(density=0.6, scale=0.5)
    model, components = merged_network(rule)
    start = network(0).state_dict()
    assert list(components) == ["0.weight", "2.weight"]
    for name, (left, values, right) in components.items():
        torch.testing.assert_close(start[name] + left * values @ right, model.state_dict()[name])
        torch.testing.assert_close(left.T @ left, torch.eye(len(values)))
        torch.testing.assert_close(right @ right.T, torch.eye(len(values)))


def test_fewer_components_are_the_largest():
    rule = RankOne(density=1)
    states = {name: network(i).state_dict() for i, name in enumerate("abc", 1)}
    some, rest = (rank_one_components(states, network(0).state_dict(), rule, keep) for keep in (2, None))
    for name, (left, values, right) in some.items():
        assert left.shape[1] == len(values) == len(right) == 2
        torch.testing.assert_close(values, rest[name].values[:2])


def test_only_k_numbers_of_each_matrix_are_trained():
    model, components = merged_network(RankOne(density=0.6))
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    before = model(inputs)
    fixed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    numbers = tune_singular_values(model, components)
    torch.testing.assert_close(model(inputs), before)
    assert [len(one) for one in numbers] == [3, 2]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert [id(one) for one in trained] == [id(one) for one in numbers]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    for path, name in ((0, "0.weight"), (2, "2.weight")):
        layer = model[path]
        assert isinstance(layer, nn.Module)
        parametrize.remove_parametrizations(layer, "weight")
        left, _, right = components[name]
        change = layer.get_parameter("weight") - fixed[name]
        strengths = left.T @ change @ right.T
        assert strengths.diagonal().abs().min() > 0
        torch.testing.assert_close(left * strengths.diagonal() @ right, change, atol=1e-6, rtol=0)
    assert torch.equal(model.state_dict()["0.bias"], fixed["0.bias"])


def test_a_kernel_keeps_its_shape():
    layer = nn.Conv2d(3, 4, 2)
    deltas = {n: {"weight": layer.weight.detach() + drawn((4, 3, 2, 2), 1)[0].float()} for n in "ab"}
    rule = RankOne(density=0.5, kernels=True)
    found = rank_one_components(deltas, {"weight": layer.weight.detach()}, rule)
    assert SingularValues(found["weight"])(layer.weight).shape == layer.weight.shape


def test_components_that_fit_no_weight_are_refused():
    model, components = merged_network(RankOne())
    with pytest.raises(ValueError, match=r"'0.wieght'; nearest: 0.weight"):
        tune_singular_values(model, {"0.wieght": components["0.weight"]})
    with pytest.raises(
        ValueError, match=r"'2.weight' are of a matrix \(5, 6\), the weight has shape \(4, 5\)"
    ):
        tune_singular_values(model, {"2.weight": components["0.weight"]})


class Tied(nn.Module):
    """Embeddings that are the head too."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(self.tokens(x))


@pytest.mark.parametrize("name", ["tokens.weight", "head.weight"])
def test_a_tied_weight_stays_tied(name):
    torch.manual_seed(0)
    model, given = Tied(), torch.arange(6)
    weight = model.tokens.weight.detach().clone()
    found = rank_one_components([{"w": weight}], {"w": torch.zeros(6, 4)}, RankOne(density=0.5))["w"]
    before = model(given)
    (numbers,) = tune_singular_values(model, {name: found})
    torch.testing.assert_close(model(given), before)
    assert [id(one) for one in model.parameters() if one.requires_grad] == [id(numbers)]
    with torch.no_grad():
        numbers.mul_(2)
    torch.testing.assert_close(model.tokens.weight, weight + found.left * found.values @ found.right)
    assert torch.equal(model.tokens.weight, model.head.weight)


def test_a_tied_weight_under_two_names_is_refused():
    model = Tied()
    found = rank_one_components([model.state_dict()], {n: t * 0 for n, t in model.state_dict().items()})
    with pytest.raises(ValueError, match=r"'tokens.weight' and 'head.weight' are one tied weight"):
        tune_singular_values(model, found)
