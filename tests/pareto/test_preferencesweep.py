"""PreferenceSweep: what weights find on convex and on concave fronts, and warm starts."""

import pytest
import torch

from equipoise.pareto import PreferenceSweep
from equipoise.pareto.landscapes import named
from equipoise.scalarization import OMDTchebycheff, SmoothTchebycheff, UncertaintyWeighting


def test_the_linear_sweep_finds_the_points_that_weights_define_on_a_convex_front():
    """On f2 = 1 - sqrt(f1), weights (p, 1 - p) are least where f1 = ((1 - p) / 2p)^2, or at its end 1."""
    landscape = named("zdt1", d=3)
    front = PreferenceSweep(points=5, rule="Linear").trace(
        landscape, budget=3000, learning_rate=0.01, gaps=False
    )
    assert front.weights is not None
    for (p, q), (first, _) in zip(front.weights.tolist()[1:-1], front.points.tolist()[1:-1], strict=True):
        assert first == pytest.approx(min((q / (2 * p)) ** 2, 1.0), abs=0.03)


def test_on_a_concave_front_the_linear_sweep_ends_at_its_ends_and_the_default_does_not():
    landscape = named("vlmop2")
    options = {"budget": 2000, "learning_rate": 0.3, "gaps": False}
    ends = landscape.front(2)
    linear = PreferenceSweep(points=7, rule="linear").trace(landscape, **options)
    assert torch.cdist(linear.points, ends).min(1).values.max() < 0.02
    smooth = PreferenceSweep(points=7).trace(landscape, **options)
    assert (torch.cdist(smooth.points, ends).min(1).values > 0.1).sum() >= 3


def test_the_tchebycheff_sweep_ends_where_the_preference_asks():
    """Bowman 1976: the least of max p_i f_i has p_1 f_1 = p_2 f_2 on this front."""
    front = PreferenceSweep(points=5, rule="Tchebycheff").trace(
        named("vlmop2"), budget=2000, learning_rate=0.1, gaps=False
    )
    assert front.weights is not None
    weighed = front.points * front.weights
    middle = weighed[1:-1]
    torch.testing.assert_close(middle[:, 0], middle[:, 1], atol=0.03, rtol=0)


def test_warm_starts_help_where_a_start_lies_far():
    landscape = named("zdt1")
    options = {"budget": 300, "learning_rate": 0.02, "gaps": False}
    warm = PreferenceSweep(points=10).trace(landscape, **options)
    cold = PreferenceSweep(points=10, warm=False).trace(landscape, **options)
    known = landscape.front(100)
    assert warm.igd_plus(known) < 0.5 * cold.igd_plus(known)


def test_a_rule_with_state_begins_anew_for_each_preference_and_stays_as_it_was():
    rule = OMDTchebycheff(step_size=5.0)
    PreferenceSweep(points=3, rule=rule).trace(named("vlmop2"), budget=30, learning_rate=0.1, gaps=False)
    assert rule.objectives == ()


def test_rules_are_found_by_name_or_refused():
    assert isinstance(PreferenceSweep().rule, SmoothTchebycheff)
    with pytest.raises(ValueError, match="nearest: Tchebycheff"):
        PreferenceSweep(rule="Chebycheff")
    with pytest.raises(ValueError, match="takes no preference"):
        PreferenceSweep(rule=UncertaintyWeighting(objectives=["f1", "f2"]))
