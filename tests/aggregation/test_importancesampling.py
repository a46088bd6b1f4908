import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import equipoise
from equipoise.aggregation import ImportanceSampling


def digits_bundle(count: int = 200, steps: int = 60) -> tuple[equipoise.Bundle, torch.Tensor]:
    """The gradients of real samples at a model trained for a while, and the bound of each."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:count], dtype=torch.float32) / 16, torch.tensor(labels[:count])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    bundle = equipoise.sample_gradients(model, nn.functional.cross_entropy, x, y)
    return bundle, ImportanceSampling.last_layer(model(x), y)


def test_probabilities_by_hand():
    """Lu et al. 2023: p = t |g| / sum |g| + (1 - t) / n; lengths 1, 1, 2 and t = 1/2."""
    sampler = ImportanceSampling(3)
    sampler.observe([0, 1, 2], torch.tensor([1.0, 1.0, 2.0]))
    assert sampler.refresh(0.5).tolist() == pytest.approx([7 / 24, 7 / 24, 10 / 24])
    assert sampler.refresh(0.0).tolist() == pytest.approx([1 / 3] * 3)
    assert sampler.refresh(1.0).tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_an_item_seen_again_in_a_round_counts_with_the_mean_of_both():
    """As the authors' code does for each sample of an epoch; a new round starts afresh."""
    sampler = ImportanceSampling(["a", "b"])
    sampler.observe(["a", "b", "a"], torch.tensor([1.0, 1.0, 5.0]))
    assert sampler.lengths.tolist() == [3.0, 1.0]
    sampler.refresh(1.0)
    sampler.observe(["a"], torch.tensor([1.0]))
    assert sampler.refresh(1.0).tolist() == [0.5, 0.5]


def test_who_was_never_seen_counts_as_the_mean():
    sampler = ImportanceSampling(3)
    sampler.observe([0, 1], torch.tensor([1.0, 3.0]))
    assert sampler.refresh(1.0).tolist() == pytest.approx([1 / 6, 3 / 6, 2 / 6])


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_the_weighted_draw_is_unbiased_on_real_gradients(trust: float):
    """Each index's probability times the weight that its draws carry: exact, once every index was drawn."""
    bundle, bound = digits_bundle(40)
    sampler = ImportanceSampling(40)
    sampler.observe(range(40), bound)
    p, drawn = sampler.refresh(trust), sampler.draw(20_000)
    weights = torch.full((40,), torch.nan, dtype=torch.float64).scatter(0, drawn.indices, drawn.weights)
    expected, mean = bundle.combine(p * weights), bundle.combine(torch.full((40,), 1 / 40))
    for block in expected:
        torch.testing.assert_close(expected[block], mean[block], rtol=1e-5, atol=1e-8)


def test_the_variance_is_what_the_draws_have():
    bundle, bound = digits_bundle(60)
    sampler = ImportanceSampling(60)
    sampler.observe(range(60), bound)
    sampler.refresh(0.8)
    gramian = bundle.gramian()
    drawn = sampler.draw(40_000)
    counts = torch.full((60,), 1 / 60, dtype=torch.float64)
    middle = gramian @ counts
    squares = drawn.weights**2 * gramian.diagonal()[drawn.indices]
    errors = squares - 2 * drawn.weights * middle[drawn.indices] + counts @ middle
    spread = float(errors.std()) / 200
    assert float(errors.mean()) == pytest.approx(sampler.variance(gramian), abs=5 * spread)


def test_real_gradients_have_less_variance_by_their_lengths():
    """The claim of the paper on one real bundle: lengths < the bound of the last layer < uniform."""
    bundle, bound = digits_bundle()
    gramian, found = bundle.gramian(), {}
    for name, lengths in (
        ("lengths", bundle.norms()),
        ("bound", bound),
        ("uniform", torch.ones(len(bundle))),
    ):
        sampler = ImportanceSampling(len(bundle))
        sampler.observe(range(len(bundle)), lengths)
        sampler.refresh(1.0)
        found[name] = sampler.variance(gramian)
    assert found["lengths"] < found["bound"] < found["uniform"]
    assert found["bound"] < 0.8 * found["uniform"]


def test_no_probabilities_have_less_variance_than_those_of_the_lengths():
    """The optimum is (mean of |g_i|)^2 - |mean|^2, by Cauchy and Schwarz."""
    bundle, _ = digits_bundle(50)
    gramian, norms = bundle.gramian(), bundle.norms()
    sampler = ImportanceSampling(50)
    sampler.observe(range(50), norms)
    sampler.refresh(1.0)
    least = float(norms.mean() ** 2 - gramian.mean())
    assert sampler.variance(gramian) == pytest.approx(least)
    for seed in range(20):
        other = ImportanceSampling(50)
        noise = torch.rand(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        other.observe(range(50), norms * (0.5 + noise))
        other.refresh(1.0)
        assert other.variance(gramian) >= least


def test_the_last_layer_bound_is_the_gradient_by_the_logits():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 3, 2, 1, 1])
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    found = ImportanceSampling.last_layer(logits, labels)
    torch.testing.assert_close(found, gradient.norm(dim=1))
    assert not found.requires_grad


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e300])
def test_lengths_of_any_size_give_the_same_draws(scale: float):
    lengths = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    sampler = ImportanceSampling(3)
    sampler.observe([0, 1, 2], scale * lengths)
    assert sampler.refresh(1.0).tolist() == pytest.approx((lengths / 8).tolist())


def test_all_zero_lengths_are_uniform_and_a_zero_is_not_drawn():
    sampler = ImportanceSampling(2)
    sampler.observe([0, 1], torch.zeros(2))
    assert sampler.refresh(1.0).tolist() == [0.5, 0.5]
    sampler.observe([0, 1], torch.tensor([0.0, 1.0]))
    sampler.refresh(1.0)
    assert set(sampler.draw(100).indices.tolist()) == {1}
    assert sampler.variance(torch.tensor([[0.0, 0.0], [0.0, 4.0]])) == pytest.approx(0.0)
    assert sampler.variance(torch.eye(2)) == float("inf")


def test_draws_follow_the_probabilities_and_their_own_generator():
    sampler = ImportanceSampling(["a", "b"], generator=torch.Generator().manual_seed(3))
    sampler.observe(["a", "b"], torch.tensor([3.0, 1.0]))
    sampler.refresh(1.0)
    state = torch.get_rng_state()
    drawn = sampler.draw(4000)
    assert torch.equal(state, torch.get_rng_state())
    assert drawn.names.count("a") / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(zip(drawn.names, drawn.weights.tolist(), strict=True)) == {("a", 1 / 1.5), ("b", 2.0)}


def test_saved_and_loaded_it_draws_on_alike():
    sampler, other = ImportanceSampling(4), ImportanceSampling(4)
    sampler.observe([0, 2], torch.tensor([1.0, 4.0]))
    sampler.refresh(0.7)
    sampler.draw(5)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(sampler.draw(20).indices, other.draw(20).indices)


def test_refusals():
    for items in (0, [], ["a", "a"], "ab"):
        with pytest.raises(ValueError, match="items is"):
            ImportanceSampling(items)
    sampler = ImportanceSampling(["near", "far"])
    with pytest.raises(ValueError, match="no item is called 'nera'; nearest: near"):
        sampler.observe(["nera"], torch.ones(1))
    with pytest.raises(ValueError, match="there is no item 2"):
        sampler.observe([2], torch.ones(1))
    with pytest.raises(ValueError, match="the gradient of 'far' has length nan"):
        sampler.observe(["far"], torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match="2 lengths for 1 items"):
        sampler.observe(["far"], torch.ones(2))
    with pytest.raises(ValueError, match="trust is 2"):
        sampler.refresh(2.0)
    with pytest.raises(ValueError, match="draw at least one"):
        sampler.draw(0)
    with pytest.raises(ValueError, match="there are 2 items"):
        sampler.variance(torch.eye(3))
