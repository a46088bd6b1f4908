import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from equipoise.aggregation import GeometricMedian
from equipoise.aggregation.geometricmedian import least_distances


def median(rows: Tensor, preference: Tensor | None = None) -> Tensor:
    return GeometricMedian()(rows @ rows.T, preference=preference) @ rows


def total(rows: Tensor, point: Tensor, preference: Tensor) -> float:
    return float(preference @ (rows - point).norm(dim=1))


def drawn(m: int, k: int, seed: int) -> Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_fermat_point_of_a_triangle():
    """From it all sides of (0, 0), (4, 0), (1, 3) are seen under 120 degrees (Torricelli)."""
    rows = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    units = torch.nn.functional.normalize(rows - median(rows), dim=1)
    assert (units @ units.T)[*torch.triu_indices(3, 3, 1)].tolist() == pytest.approx([-0.5] * 3, abs=1e-8)


def test_the_crossing_of_the_diagonals_of_a_convex_quadrilateral():
    """Known since Fagnano: for the corners (0,0), (4,0), (5,3), (0,2) the diagonals meet at (20, 12) / 11."""
    rows = torch.tensor([[0.0, 0.0], [4.0, 0.0], [5.0, 3.0], [0.0, 2.0]], dtype=torch.float64)
    assert median(rows).tolist() == pytest.approx([20 / 11, 12 / 11], abs=1e-8)


def test_an_angle_of_120_degrees_or_more_is_itself_the_answer():
    """The limit at a direction: off by less than the smoothing, with nearly all weight on it."""
    rows = torch.tensor([[0.0, 1.0], [1.0, 1.0], [-math.cos(0.9), 1 + math.sin(0.9)]], dtype=torch.float64)
    weights = GeometricMedian()(rows @ rows.T)
    assert float(weights[0]) > 1 - 1e-5
    assert (weights @ rows).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "low rank", "one far", "copies", "uneven", "lengths"])
def test_the_optimality_condition_holds_and_scipy_finds_nothing_better(kind):
    for seed in range(25):
        m = 3 + seed % 9
        rows, preference = drawn(m, 5, seed), torch.full((m,), 1 / m, dtype=torch.float64)
        match kind:
            case "low rank":
                rows = drawn(m, 2, seed) @ drawn(2, 5, seed + 1)
            case "one far":
                rows[0] *= 1e6
            case "copies":
                rows[m // 2 :] = rows[0].clone()
            case "uneven":
                preference = drawn(m, 1, seed).flatten().square()
                preference /= preference.sum()
            case "lengths":
                rows *= 10 ** torch.linspace(-3, 3, m, dtype=torch.float64)[:, None]
        found = least_distances(rows @ rows.T, preference, 1e-6)
        # with lengths of 1e6 the smoothing is 1e-12 of the largest, and a few ulps of it are 1e-4
        assert found.residual <= (1e-4 if kind in ("one far", "lengths") else 1e-9)
        point = found.value @ rows
        size = total(rows, preference @ rows, preference)
        slack = 1e-6 * size  # more than the smoothing costs
        start = point.numpy() + 0.01 * size * drawn(1, 5, seed + 2)[0].numpy()
        other = minimize(
            lambda v, rows=rows, p=preference: total(rows, torch.from_numpy(v), p),
            start,
            method="Nelder-Mead",
        )
        assert total(rows, point, preference) <= other.fun + slack


def test_less_than_half_of_the_directions_cannot_carry_it_away():
    honest = drawn(5, 8, 0)
    at_rest = median(honest)
    for far in (1e2, 1e4, 1e6):
        lies = far * drawn(1, 8, 1).expand(4, 8)
        assert float((median(torch.cat([honest, lies])) - at_rest).norm()) < 20


def test_where_half_lies_on_either_side_of_a_line_the_middle_is_taken():
    rows = torch.tensor([[0.0], [1.0], [3.0], [100.0]], dtype=torch.float64)
    assert median(rows).tolist() == pytest.approx([2.0])
    assert GeometricMedian()(rows[1:3] @ rows[1:3].T).tolist() == pytest.approx([0.5, 0.5])


def test_a_preference_of_two_is_the_direction_twice():
    rows = drawn(4, 6, 3)
    twice = torch.cat([rows, rows[:1]])
    preference = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64) / 5
    torch.testing.assert_close(median(rows, preference), median(twice), rtol=1e-8, atol=1e-8)


def test_a_large_smoothing_is_the_mean():
    """Where nu exceeds all distances h is a square, whose minimum is the mean."""
    rows = drawn(5, 6, 4)
    weights = GeometricMedian(smoothing=1e3)(rows @ rows.T)
    assert weights.tolist() == pytest.approx([0.2] * 5)


def test_nan_stays():
    rows = drawn(4, 6, 5)
    rows[1, 2] = torch.nan
    assert bool(GeometricMedian()(rows @ rows.T).isnan().all())


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.nan])
def test_a_smoothing_that_is_no_length_is_refused(smoothing):
    with pytest.raises(ValueError, match="smoothing is"):
        GeometricMedian(smoothing=smoothing)


@pytest.mark.parametrize("far", [1e4, 1e6, 1e8, 1e9, 1e12])
def test_one_that_is_far_off_does_not_carry_the_others_away(far):
    """The median of 0.9, 1, 1.05, 1.1 and a number beyond them is 1.05, to what the Gramian shows of it."""
    rows = torch.tensor([[1.0], [1.1], [0.9], [1.05], [far]], dtype=torch.float64)
    assert median(rows).tolist() == pytest.approx([1.05], abs=1e-3 if far <= 1e9 else 0.1)


def test_a_majority_at_one_point_is_the_answer_however_far_the_others_are():
    rows = torch.tensor([[1.0, 2.0]] * 3 + [[1e9, 0.0], [0.0, -1e9]], dtype=torch.float64)
    found = median(rows)
    assert found.tolist() == pytest.approx([1.0, 2.0], abs=100.0)
    near = torch.tensor([[1.0, 2.0]] * 3 + [[50.0, 0.0], [0.0, -50.0]], dtype=torch.float64)
    assert median(near).tolist() == pytest.approx([1.0, 2.0], abs=1e-4)
