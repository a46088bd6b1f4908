import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from equipoise.core.boundedqp import bounded_min_norm
from equipoise.core.qp import min_norm


def hard(kind, m, draw):
    """Rows: independent, fewer dimensions than rows, copies and opposites, one zero."""
    rows = draw.normal(size=(m, max(m // 2, 1) if kind == "flat" else m + 2))
    if kind == "copies" and m > 2:
        rows[1], rows[2] = rows[0], -rows[0]
    if kind == "zero":
        rows[0] = 0
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


@pytest.mark.parametrize("kind", ["full", "flat", "copies", "zero"])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_no_weights_within_the_bounds_are_better(kind, epsilon):
    draw = np.random.default_rng(0)
    for m in (1, 2, 3, 7, 12):
        rows = hard(kind, m, draw)
        gramian, mean = rows @ rows.T, np.full(m, 1 / m)
        low, high = np.maximum(mean - epsilon, 0), np.minimum(mean + epsilon, 1)
        found = bounded_min_norm(torch.from_numpy(gramian), torch.from_numpy(low), torch.from_numpy(high))
        weights = found.value.numpy()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert (weights >= low - 1e-15).all()
        assert (weights <= high + 1e-15).all()
        assert found.residual < 1e-12
        peer = minimize(
            lambda w, g=gramian: w @ g @ w,
            mean,
            jac=lambda w, g=gramian: 2 * g @ w,
            bounds=list(zip(low, high, strict=True)),
            constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert weights @ gramian @ weights <= peer.fun + 1e-12


def test_without_bounds_it_is_the_min_norm_point():
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 20)))
    gramian = rows @ rows.T
    found = bounded_min_norm(gramian, torch.zeros(8), torch.ones(8))
    torch.testing.assert_close(found.value, min_norm(gramian).value, rtol=1e-9, atol=1e-12)


def test_bounds_of_their_own_for_each_weight():
    low = torch.tensor([0.0, 0.3, 0.1], dtype=torch.float64)
    high = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    found = bounded_min_norm(torch.diag(torch.tensor([1.0, 100.0, 10.0])), low, high).value
    torch.testing.assert_close(found, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("size", [1e-24, 1e24])
def test_the_answer_does_not_see_the_size(size):
    rows = torch.from_numpy(hard("full", 6, np.random.default_rng(2)))
    low, high = torch.full((6,), 0.05), torch.full((6,), 0.3)
    one, other = (bounded_min_norm(scale * rows @ rows.T, low, high).value for scale in (1.0, size))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_two_hundred_directions_are_solved_exactly():
    rows = torch.from_numpy(np.random.default_rng(3).normal(size=(200, 60)))
    found = bounded_min_norm(rows @ rows.T, torch.zeros(200), torch.full((200,), 0.02))
    assert found.residual < 1e-12


def test_nothing_but_zeros_gives_weights_within_the_bounds():
    found = bounded_min_norm(torch.zeros(2, 2), torch.tensor([0.0, 0.6]), torch.ones(2)).value
    assert found.sum() == pytest.approx(1)
    assert found[1] >= 0.6


@pytest.mark.parametrize(
    ("low", "high"), [([0.6, 0.6], [1.0, 1.0]), ([0.0, 0.0], [0.4, 0.4]), ([0.5, 0.9], [1.0, 0.5])]
)
def test_bounds_that_nothing_satisfies_are_refused(low, high):
    with pytest.raises(ValueError, match="no weights of sum 1"):
        bounded_min_norm(torch.eye(2), torch.tensor(low), torch.tensor(high))
