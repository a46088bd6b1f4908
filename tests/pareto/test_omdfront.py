"""OMDFront: the best of all iterates for each preference."""

import pytest
import torch

from equipoise.pareto import OMDFront, PreferenceSweep
from equipoise.pareto.landscapes import named
from equipoise.scalarization import OMDTchebycheff


def worst(front):
    return (front.points * front.weights).amax(1)


def test_every_preference_is_served_at_least_as_well_as_by_the_runs_own_iterates():
    """Whatever a run of its own ends with is among the candidates, less the last step."""
    landscape, budget = named("vlmop2"), 500
    options = {"budget": budget, "learning_rate": 0.3, "gaps": False}
    shared = OMDFront(points=5, memory=0.0).trace(landscape, **options)
    alone = PreferenceSweep(points=5, rule=OMDTchebycheff()).trace(landscape, **options)
    torch.testing.assert_close(shared.weights, alone.weights)
    assert bool((worst(shared) <= worst(alone) + 0.02).all())
    assert float(worst(shared).sum()) < float(worst(alone).sum())


def test_no_solution_serves_another_preference_better_than_its_own():
    front = OMDFront(points=6).trace(named("zdt2"), budget=600, learning_rate=0.03, gaps=False)
    table = (front.points[:, None] * front.weights[None]).amax(2)  # solutions, preferences
    assert bool((table.diagonal() <= table.amin(0) + 1e-12).all())


def test_it_covers_a_concave_front():
    """Liu et al. 2026: Tchebycheff by mirror descent reaches what no weighting does."""
    landscape = named("vlmop2")
    front = OMDFront(points=10).trace(landscape, budget=1200, learning_rate=0.3, gaps=False)
    linear = PreferenceSweep(points=10, rule="Linear").trace(
        landscape, budget=1200, learning_rate=0.3, gaps=False
    )
    known = landscape.front(200)
    assert front.igd_plus(known) < 0.25 * linear.igd_plus(known)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="memory is 1"):
        OMDFront(memory=1)
    with pytest.raises(ValueError, match="step_size is 0"):
        OMDFront(step_size=0)
