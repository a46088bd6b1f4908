import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.core.gramians import directions, spoilt

from equipoise.core.averse import averse
from equipoise.core.qp import dual_cone

CERTIFIED = 1e-9  # where the directions are in general position
CANCELLED = 1e-4  # where nearly opposite rows leave a combination that is mostly rounding

RADII = st.sampled_from([0.1, 0.5, 1.0, 2.0])


def gap(rows, c, weights):
    """How far the least gain is below the bound at the dual point that the weights hold: from the rows."""
    mean = rows.mean(0)
    moved = weights - 1 / len(rows)
    dual = moved / moved.sum()
    bound = dual @ rows @ mean + c * mean.norm() * (dual @ rows).norm()
    return float((bound - (rows @ (weights @ rows)).min()) / mean.norm() / rows.norm(dim=1).max())


@given(directions(), RADII, st.integers(-24, 24))
def test_the_residual_is_small_whatever_the_directions(rows, c, exponent):
    found = averse(rows @ rows.T * 10.0**exponent, c)
    assert 0 <= found.residual <= CANCELLED
    assert bool((found.value >= 0).all())


@pytest.mark.parametrize("c", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("m", [2, 3, 8, 32, 128])
def test_the_residual_is_the_duality_gap(m, c):
    """Liu et al. 2021, equation 3 and its dual: no direction of the ball gains more than the bound."""
    rows = spoilt(m, m, "plain", seed=m)
    found = averse(rows @ rows.T, c)
    assert found.residual <= CERTIFIED
    assert gap(rows, c, found.value) <= CERTIFIED
    outside = (found.value @ rows - rows.mean(0)).norm() / rows.mean(0).norm() - c
    assert float(outside) <= CERTIFIED


def test_a_residual_tells_a_worse_answer_from_the_best():
    """The same bound, for weights that were moved a little."""
    rows = spoilt(3, 3, "plain", seed=1)
    best = averse(rows @ rows.T, 0.5).value
    moved = best - 1 / 3
    other = torch.full((3,), float(moved.sum()) / 3, dtype=torch.float64)
    assert gap(rows, 0.5, best) < 1e-9
    assert gap(rows, 0.5, 1 / 3 + 0.9 * moved + 0.1 * other) > 1e-4


def test_without_a_radius_or_a_mean_the_weights_are_uniform_and_certain():
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    for found in (averse(gramian, 0.5), averse(gramian * 0, 0.5), averse(gramian + torch.eye(2), 0.0)):
        assert found.value.tolist() == [0.5, 0.5]
        assert found.residual == 0


def test_where_nothing_is_gained_by_all_the_nearest_harmless_direction_has_no_gap():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.5, 1.0]], dtype=torch.float64)
    found = averse(rows @ rows.T, 2.0)
    harmless = dual_cone(rows @ rows.T, torch.full((1, 4), 0.25)).value[0]
    torch.testing.assert_close(found.value @ rows, harmless @ rows, rtol=1e-9, atol=1e-9)
    assert found.residual <= CERTIFIED
