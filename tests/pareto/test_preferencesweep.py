"""PreferenceSweep: what weights find on convex and on concave fronts, and warm starts."""

import pytest
import torch

from equipoise import scalarization
from equipoise.core.card import cards
from equipoise.core.directions import inverted, inwards, spread
from equipoise.core.front import Front
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


@pytest.mark.parametrize("name", ["zdt2", "dtlz2"])
def test_no_warm_start_is_stuck_at_an_end(name):
    """From end to end, as a path goes, all of ZDT2's stay at the first end, where slopes vanish."""
    landscape = named(name)
    front = PreferenceSweep(points=10, rule=SmoothTchebycheff(temperature=0.03)).trace(
        landscape, budget=1000, learning_rate=0.01, gaps=False
    )
    known = landscape.front(100)
    assert front.hypervolume([1.1] * known.shape[1]) > 0.5 * Front(landscape.names, known).hypervolume(
        [1.1] * known.shape[1]
    )
    assert len(front.nondominated()) >= 6


@pytest.mark.parametrize("rule", ["Tchebycheff", "ASF", "PBI"])
def test_what_a_preference_means_is_up_to_the_rule(rule):
    """ASF at p is Tchebycheff at 1/p: sweeps by both end on the same rays, and name the same weights."""
    options = {"budget": 1500, "learning_rate": 0.03, "gaps": False}
    front = PreferenceSweep(points=5, rule=rule).trace(named("vlmop2"), **options)
    assert front.weights is not None
    torch.testing.assert_close(front.weights, inverted(inwards(spread(2, 5))))
    cosines = torch.nn.functional.cosine_similarity(front.points, spread(2, 5), dim=1)
    assert float(cosines[1:-1].min()) > 0.98


@pytest.mark.parametrize("name", ["Linear", "LogSum", "COSMOS"])
def test_what_means_weights_is_spread_evenly(name):
    sweep = PreferenceSweep(points=5, rule=name)
    front = sweep.trace(named("vlmop2"), budget=5, learning_rate=0.1, gaps=False)
    assert torch.equal(front.weights, spread(2, 5))


def test_every_scalarisation_says_what_its_preference_means():
    """On the line f1 + f2 = 1, p = (.7, .3), what means proportions is least at f = p; weights favour f1 at
    the end, reciprocals at (.3, .7), or on that side (PNorm). Of COSMOS without its reward, which pulls the
    other way."""
    first = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    wish = torch.tensor([0.7, 0.3], dtype=torch.float64)
    room = cards("scalarization").items()
    known = {name for name, card in room if card.promises("PREFERENCE") and card.shape == "scalarizer"}
    assert len(known) >= 10
    for name in known:
        rule = getattr(scalarization, name)(**({"lambda_": 0.0} if name == "COSMOS" else {}))
        values = [float(rule(torch.stack([f, 1 - f]), preference=wish)) for f in first]
        best = float(first[values.index(min(values))])
        means = rule.preference_means
        assert (best > 0.5) == (means == "proportions"), name
        if means == "proportions":
            assert best == pytest.approx(0.7, abs=0.01)


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
