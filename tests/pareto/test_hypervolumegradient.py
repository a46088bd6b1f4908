"""HypervolumeGradient: the exact gradient of the volume, the authors' layers, and the spread it reaches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core.indicators import hypervolume, nondominated
from equipoise.pareto import HypervolumeGradient
from equipoise.pareto.hypervolumegradient import growth, layered_growth
from equipoise.pareto.landscapes import named

CORNER = np.array([4.0, 4.0])


def test_of_two_losses_it_is_the_step_to_the_next_solution():
    """Sorted by f1: d HV / d f1_i = f2_(i-1) - f2_i and d HV / d f2_i = f1_(i+1) - f1_i, to the reference."""
    points = np.array([[0.5, 3.0], [1.0, 2.5], [3.0, 1.0]])
    assert growth(points, CORNER).tolist() == [[1.0, 0.5], [0.5, 2.0], [1.5, 1.0]]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_it_is_the_derivative_of_the_volume(m, n, seed):
    points = np.random.default_rng(seed).uniform(0, 1, size=(n, m))
    points = points[nondominated(points)]
    reference = np.full(m, 1.5)
    found, step = growth(points, reference), 1e-6
    for i in range(len(points)):
        for j in range(m):
            moved = points.copy()
            moved[i, j] -= step
            gained = (hypervolume(moved, reference) - hypervolume(points, reference)) / step
            assert found[i, j] == pytest.approx(gained, abs=1e-4)


def test_equal_solutions_move_as_one_would():
    points = np.array([[0.5, 3.0], [1.0, 2.5], [3.0, 1.0]])
    twice = growth(np.vstack([points, points[1:2]]), CORNER)
    assert twice[3].tolist() == twice[1].tolist() == [0.5, 2.0]
    np.testing.assert_allclose(layered_growth(np.ones((3, 2))), 0.5**0.5)


def test_what_is_dominated_has_a_volume_of_its_own_layer():
    """`HvMaximization.compute_weights`: front after front, each against the same reference 1.1 max f."""
    points = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 3.0]])
    first = np.array([[3.3 - 2.0, 1.0], [1.0, 2.2 - 2.0]])
    third = np.array([3.3 - 3.0, 2.2 - 2.0])
    wanted = [first[0] / np.linalg.norm(first[0]), first[1] / np.linalg.norm(first[1])]
    found = layered_growth(points)
    assert found[0].tolist() == pytest.approx(wanted[0].tolist())
    assert found[1].tolist() == pytest.approx(wanted[1].tolist())
    assert found[2].tolist() == pytest.approx((third / np.linalg.norm(third)).tolist())


def test_a_reference_reaches_at_least_as_far_as_given():
    points = np.array([[1.0, 2.0], [2.0, 1.0]])
    far = layered_growth(points, np.array([10.0, 10.0]))
    assert far[0].tolist() == pytest.approx((np.array([8.0, 1.0]) / 65**0.5).tolist())
    assert layered_growth(points, np.zeros(2)).tolist() == layered_growth(points).tolist()
    below = layered_growth(points - 5)  # losses below zero have a reference above the worst of them, too
    assert (below > 0).all()


def test_the_swarm_spreads_over_a_concave_front():
    """The volume comes within a few hundredths of what as many evenly spread points of the front have."""
    landscape = named("vlmop2")
    solver = HypervolumeGradient(points=8)
    front = solver.trace(landscape, budget=2400, learning_rate=0.1, gaps=False)
    even = landscape.front(8)
    reference = [1.1, 1.1]
    wanted = hypervolume(even.numpy(), np.array(reference))
    assert front.hypervolume(reference) > 0.97 * wanted
    assert len(front.nondominated()) == 8


def test_a_swarm_that_shrinks_keeps_its_ends_apart():
    """Against a reference that shrinks with the swarm (one that never counts) it collapses to an end."""
    landscape, options = named("zdt2"), {"budget": 1000, "learning_rate": 0.03, "gaps": False}
    front = HypervolumeGradient(points=10).trace(landscape, **options)
    alike = HypervolumeGradient(points=10, reference=[-9.0, -9.0]).trace(landscape, **options)
    known = landscape.front(100).numpy()
    whole, reference = hypervolume(known, np.array([1.1, 1.1])), [1.1, 1.1]
    assert front.hypervolume(reference) > 0.65 * whole > 1.5 * alike.hypervolume(reference)


def test_the_volume_of_three_losses_grows():
    landscape, solver = named("dtlz2"), HypervolumeGradient(points=6)
    first = solver.trace(landscape, budget=6, learning_rate=0.03, gaps=False)
    front = solver.trace(landscape, budget=1200, learning_rate=0.03, gaps=False)
    reference = [2.0, 2.0, 2.0]
    assert front.hypervolume(reference) > 1.5 * first.hypervolume(reference)
    assert float((front.points.norm(dim=1) - 1).abs().mean()) < 0.1


def test_a_reference_of_another_size_is_refused():
    with pytest.raises(ValueError, match="reference has 3 entries but there are 2 objectives: f1, f2"):
        HypervolumeGradient(reference=[1, 1, 1]).trace(named("zdt1"), budget=100, learning_rate=0.1)
    assert torch.is_grad_enabled()
