"""PMGDA: its linear program against a direct solution, its prediction, and where it ends."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from equipoise.core.directions import inverted
from equipoise.pareto import PMGDA
from equipoise.pareto.landscapes import named
from equipoise.pareto.pmgda import ray_weights


def drawn(m, seed):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(m, 6)) * random.uniform(0.1, 5, size=(m, 1))
    unit = random.dirichlet(np.ones(m))
    return directions, random.uniform(0.1, 2, m), unit / np.linalg.norm(unit)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 4), st.integers(0, 100_000))
def test_the_correction_is_the_program_of_the_paper(m, seed):
    """max t with g_i'd >= t and grad h'd >= sigma |grad h|, d in the hull of the unit gradients, as
    `solve_pmgda` of LibMOON states it, here by HiGHS over the explicit directions."""
    directions, losses, unit = drawn(m, seed)
    beside = losses - (losses @ unit) * unit
    steepest = beside / np.linalg.norm(beside) @ directions
    rows = np.vstack([directions, steepest])
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rates = rows @ units.T
    upper = np.vstack([np.c_[-rates[:m], np.ones(m)], np.append(-rates[m], 0.0)])
    sides = np.append(np.zeros(m), -0.8 * np.linalg.norm(steepest))
    bounds = [(0, None)] * (m + 1) + [(None, None)]
    total = np.append(np.ones(m + 1), 0.0)[None]
    wanted = linprog(-np.eye(m + 2)[-1], A_ub=upper, b_ub=sides, A_eq=total, b_eq=[1.0], bounds=bounds)
    parts = (torch.from_numpy(part) for part in (directions @ directions.T, losses, unit))
    step = ray_weights(*parts, tolerance=1e-9).numpy() @ directions
    assert (directions @ step).min() == pytest.approx(-wanted.fun, abs=1e-7)
    assert step @ steepest >= 0.8 * np.linalg.norm(steepest) - 1e-7


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 4), st.integers(0, 100_000))
def test_the_prediction_stays_on_the_ray_and_hurts_no_objective(m, seed):
    """The dual of the paper: min |sum w_i g_i + v grad h| is orthogonal to grad h, and a common descent
    direction among those that are."""
    directions, losses, unit = drawn(m, seed)
    beside = losses - (losses @ unit) * unit
    steepest = beside / np.linalg.norm(beside) @ directions
    parts = (torch.from_numpy(part) for part in (directions @ directions.T, losses, unit))
    step = ray_weights(*parts, tolerance=10.0).numpy() @ directions
    assert step @ steepest == pytest.approx(0, abs=1e-8 * np.linalg.norm(steepest))
    assert (directions @ step).min() >= step @ step - 1e-8


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_size_of_the_losses_does_not_turn_the_step(scale):
    directions, losses, unit = drawn(3, 1)
    gramian = torch.from_numpy(directions @ directions.T)
    losses, unit = torch.from_numpy(losses), torch.from_numpy(unit)
    for tolerance in (1e-9, 10.0):
        small = ray_weights(gramian, losses, unit, tolerance=tolerance)
        other = ray_weights(gramian * scale**2, losses * scale, unit, tolerance=tolerance)
        torch.testing.assert_close(other / other.norm(), small / small.norm(), atol=1e-6, rtol=1e-6)


def test_where_nothing_changes_the_distance_it_is_mgda():
    """Two equal directions, losses off the ray (1, 1): grad h is zero."""
    ones, unit = torch.ones(2, 2, dtype=torch.float64), torch.full((2,), 0.5**0.5, dtype=torch.float64)
    assert ray_weights(ones, torch.tensor([2.0, 1.0]), unit).tolist() == [0.5, 0.5]
    assert bool(ray_weights(0 * ones, torch.tensor([2.0, 1.0]), unit).isfinite().all())
    assert bool(ray_weights(ones, torch.zeros(2), unit).isfinite().all())


def test_solutions_end_on_their_rays_of_a_concave_front():
    landscape = named("vlmop2")
    front = PMGDA(points=5).trace(landscape, budget=2000, learning_rate=0.1, gaps=False)
    cosines = torch.nn.functional.cosine_similarity(front.points, inverted(front.weights), dim=1)
    assert float(cosines.min()) > 0.995
    assert front.igd_plus(landscape.front(100)) < 0.06


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"sigma is 1\.5"):
        PMGDA(sigma=1.5)
    with pytest.raises(ValueError, match="tolerance is -1"):
        PMGDA(tolerance=-1)
