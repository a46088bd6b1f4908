import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from tests.core.gramians import SHAPES, directions, spoilt

from equipoise.core.nonnegative import active_set, nonnegative
from equipoise.core.qp import dual_cone, min_norm

KKT = 1e-9  # what the solvers promise
OPPOSITE = torch.tensor([[4.0, -4.0], [-4.0, 4.0]], dtype=torch.float64)


def dual_violation(gramian, targets, weights):
    """max |min(v - u, Gv)| on unit rows, relative to the weights: computed apart from the solver."""
    norms = gramian.diagonal().sqrt()
    divisor = torch.where(norms > 0, norms, 1.0)
    worst = torch.minimum((weights - targets) * norms, weights @ gramian / divisor).abs().amax(1)
    size = (weights * norms).abs().amax(1)
    return float((worst / torch.where(size > 0, size, 1.0)).max())


def simplex_violation(gramian, weights):
    """How far any direction reaches less than the min-norm point does, relative to what it adds up."""
    norms = gramian.diagonal().sqrt()
    gains = gramian @ weights
    lengths = weights * norms
    slack = (gains - weights @ gains) / torch.where(norms > 0, norms, 1.0)
    size = lengths.max()
    return float(torch.minimum(lengths, slack).abs().max() / (size if size > 0 else 1.0))


@given(directions(), st.integers(-24, 24))
def test_dual_cone_meets_the_optimality_conditions(rows, exponent):
    gramian = rows @ rows.T * 10.0**exponent
    m = len(gramian)
    targets = torch.cat([torch.eye(m, dtype=torch.float64), torch.full((1, m), 1 / m, dtype=torch.float64)])
    weights, residual = dual_cone(gramian, targets)
    assert residual <= KKT
    assert dual_violation(gramian, targets, weights) <= 2 * KKT
    assert (weights >= targets).all()


@given(directions(), st.integers(-24, 24))
def test_min_norm_meets_the_optimality_conditions(rows, exponent):
    gramian = rows @ rows.T * 10.0**exponent
    weights, residual = min_norm(gramian)
    assert residual <= KKT
    assert simplex_violation(gramian, weights) <= 2 * KKT
    assert float(weights.min()) >= 0
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("m", [128, 256])
@pytest.mark.parametrize("shape", ["plain", "duplicate", "uneven"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_large_problems_meet_the_optimality_conditions(m, shape, share):
    rows = spoilt(m, int(share * m), shape, seed=m)
    gramian = rows @ rows.T
    targets = torch.eye(m, dtype=torch.float64)[:: m // 8] / m
    weights, residual = dual_cone(gramian, targets)
    assert max(residual, dual_violation(gramian, targets, weights) / 2) <= KKT
    weights, residual = min_norm(gramian)
    assert max(residual, simplex_violation(gramian, weights) / 2) <= KKT


@pytest.mark.parametrize("m", [2, 3, 8, 32])
@pytest.mark.parametrize("rank", [1, 2, 5, 32])
def test_the_answers_are_those_of_nonnegative_least_squares(m, rank):
    """The projections J'v and J'w are unique, whatever the rank; NNLS finds them from the rows."""
    rows = spoilt(m, min(rank, m), "plain", seed=m + rank).numpy()
    gramian = torch.from_numpy(rows @ rows.T)
    found = dual_cone(gramian, torch.eye(m, dtype=torch.float64)).value.numpy() @ rows
    wanted = np.stack([rows[i] + nnls(rows.T, -rows[i])[0] @ rows for i in range(m)])
    np.testing.assert_allclose(found, wanted, atol=1e-8 * np.abs(rows).max())
    combination = nnls(np.vstack([rows.T, np.ones((1, m))]), np.append(np.zeros(rows.shape[1]), 1.0))[0]
    wanted = combination / combination.sum() @ rows
    np.testing.assert_allclose(min_norm(gramian).value.numpy() @ rows, wanted, atol=1e-8 * np.abs(rows).max())


@given(directions(sizes=(2,)))
def test_the_closed_forms_for_two_are_what_the_general_solver_finds(rows):
    """A third, zero or orthogonal, direction changes nothing and takes the general way."""
    gramian = rows @ rows.T
    third = torch.zeros(3, 3, dtype=torch.float64)
    third[:2, :2] = gramian
    two = dual_cone(gramian, torch.eye(2, dtype=torch.float64)).value @ rows
    three = dual_cone(third, torch.eye(3, dtype=torch.float64)).value[:2, :2] @ rows
    torch.testing.assert_close(two, three, atol=1e-7 * float(rows.abs().max()), rtol=1e-7)


def test_min_norm_of_two_is_the_foot_of_the_perpendicular():
    """Désidéri 2012: w1 = clip((g2 - g1).g2 / |g1 - g2|^2, 0, 1)."""
    one, two = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])
    first = float((two - one) @ two / (one - two).square().sum())
    rows = torch.stack([one, two])
    assert min_norm(rows @ rows.T).value.tolist() == pytest.approx([first, 1 - first])
    assert first == pytest.approx(0.4)


@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 1e3, 1e6])
def test_the_ratio_of_the_norms_does_not_reach_the_dual_cone(ratio):
    """v' = Dv solves the same problem on unit rows: the weights only take the ratio up."""
    rows = spoilt(3, 3, "plain", seed=4)
    scale = torch.tensor([1.0, ratio, 1.0], dtype=torch.float64)
    even = dual_cone(rows @ rows.T, torch.eye(3, dtype=torch.float64)).value
    uneven = dual_cone(rows @ rows.T * torch.outer(scale, scale), torch.eye(3, dtype=torch.float64)).value
    torch.testing.assert_close(uneven * scale / scale[:, None], even, rtol=1e-9, atol=1e-12)
    assert not torch.equal(even, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("m", [1, 2, 3, 8])
def test_nothing_conflicts_in_an_all_zero_gramian(m):
    gramian = torch.zeros(m, m, dtype=torch.float64)
    targets = torch.eye(m, dtype=torch.float64)
    assert torch.equal(dual_cone(gramian, targets).value, targets)
    assert min_norm(gramian).value.tolist() == pytest.approx([1 / m] * m)


def test_zero_rows_share_the_min_norm_weight():
    assert min_norm(torch.diag(torch.tensor([4.0, 0.0, 1.0, 0.0]))).value.tolist() == [0, 0.5, 0, 0.5]
    assert min_norm(torch.diag(torch.tensor([4.0, 0.0]))).value.tolist() == [0, 1]


def test_exact_opposites_cancel():
    assert min_norm(OPPOSITE).value.tolist() == [0.5, 0.5]
    assert dual_cone(OPPOSITE, torch.eye(2)).value.tolist() == [[1, 1], [1, 1]]
    gramian = torch.block_diag(OPPOSITE, torch.ones(1, 1, dtype=torch.float64))
    projected = dual_cone(gramian, torch.full((1, 3), 1 / 3, dtype=torch.float64)).value[0]
    assert float(projected @ gramian @ projected) == pytest.approx(1 / 9, rel=1e-9)


def test_duplicates_share_their_weight_evenly():
    rows = torch.tensor([[2.0, 0.0], [2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert min_norm(rows @ rows.T).value.tolist() == pytest.approx([0.2, 0.2, 0.6], abs=1e-9)
    raised = dual_cone(rows @ rows.T, torch.tensor([[0.0, 0.0, 1.0]])).value[0]
    assert raised.tolist() == pytest.approx([0.25, 0.25, 1.0], abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("m", [2, 8, 32])
def test_float32_noise_makes_no_solver_fail(shape, m):
    """Gramians accumulated in float32 are slightly indefinite where the rank is not full."""
    rows = spoilt(m, max(m // 2, 1), shape, seed=m).to(torch.float32)
    gramian = (rows @ rows.T).to(torch.float64)
    exact = rows.to(torch.float64)
    weights, residual = min_norm(gramian)
    assert residual <= KKT
    best = exact.T @ min_norm(exact @ exact.T).value
    assert float((exact.T @ weights).norm() - best.norm()) <= 2e-3 * float(exact.norm(dim=1).max())
    raised, residual = dual_cone(gramian, torch.eye(m))
    assert residual <= KKT
    assert bool(raised.isfinite().all())


def test_the_order_of_the_rows_orders_the_weights_and_nothing_else():
    """Also where the Gramian is singular and the solution is one of many."""
    rows = spoilt(8, 3, "plain", seed=0)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    gramian = rows @ rows.T
    permuted = gramian[order][:, order]
    torch.testing.assert_close(min_norm(permuted).value, min_norm(gramian).value[order], atol=1e-7, rtol=0)
    targets = torch.full((1, 8), 1 / 8, dtype=torch.float64)
    torch.testing.assert_close(
        dual_cone(permuted, targets).value[0], dual_cone(gramian, targets).value[0][order], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("seed", range(10))
def test_the_active_set_agrees_with_the_pivoting(seed):
    """What programs fall back on, from no free variable and from all of them."""
    rows = spoilt(12, 12, "plain", seed).numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    matrix, linear = unit @ unit.T, unit @ unit[0] - 0.3
    floor = np.array([np.linalg.eigvalsh(matrix)[0]])
    wanted = nonnegative(matrix[None], linear[None, None], floor)[0]
    starts = np.stack([np.zeros(12), np.ones(12)])
    found = active_set(matrix[None], np.stack([linear, linear]), starts)
    np.testing.assert_allclose(found, np.concatenate([wanted, wanted]), atol=1e-9 * (1 + wanted.max()))


@pytest.mark.parametrize("m", [1, 2, 3, 8, 32])
def test_a_stack_of_gramians_has_the_answers_of_each(m):
    """Whatever is hard about one of them: what is singular, zero or indefinite stays its own affair."""
    rows = torch.zeros(24, m, max(m + 1, 3), dtype=torch.float64)
    for i, padded in enumerate(rows):
        drawn = spoilt(m, max(m - i % 3, 1), SHAPES[i % len(SHAPES)], seed=i)
        padded[:, : drawn.shape[1]] = drawn
    gramians = rows @ rows.mT
    gramians[5] = gramians[5].float().double()
    targets = torch.cat([torch.eye(m, dtype=torch.float64), torch.full((1, m), 1 / m, dtype=torch.float64)])
    weights, residual = min_norm(gramians)
    raised, other = dual_cone(gramians, targets)
    assert weights.shape == (24, m)
    assert raised.shape == (24, m + 1, m)
    assert max(residual, other) <= KKT
    torch.testing.assert_close(dual_cone(gramians, targets.expand(24, -1, -1)).value, raised, rtol=0, atol=0)
    for i, gramian in enumerate(gramians):
        size = float(rows[i].abs().max())
        torch.testing.assert_close(
            weights[i] @ rows[i], min_norm(gramian).value @ rows[i], atol=1e-8 * size, rtol=0
        )
        alone = dual_cone(gramian, targets).value
        torch.testing.assert_close(raised[i] @ rows[i], alone @ rows[i], atol=1e-8 * size, rtol=0)
        torch.testing.assert_close(raised[i], alone, atol=1e-5, rtol=1e-5)


def test_an_empty_stack_has_no_answers():
    empty = torch.empty(0, 3, 3, dtype=torch.float64)
    assert min_norm(empty).value.shape == (0, 3)
    assert dual_cone(empty, torch.eye(3)).value.shape == (0, 3, 3)
    assert min_norm(empty[:, :2, :2]).value.shape == (0, 2)


def test_targets_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"targets must be \(n, 2\).*\(1, 3\)"):
        dual_cone(OPPOSITE, torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"targets must be \(n, 2\) or \(5, n, 2\).*\(4, 1, 2\)"):
        dual_cone(OPPOSITE.expand(5, 2, 2), torch.ones(4, 1, 2))
