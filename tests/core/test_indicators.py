"""Indicators against values by hand, and against what follows from their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from equipoise.core import indicators

STAIRS = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
sets = st.integers(1, 4).flatmap(
    lambda m: arrays(float, st.tuples(st.integers(1, 8), st.just(m)), elements=st.floats(0, 1))
)


def test_the_volume_of_three_steps_below_four_is_six():
    """3 columns of width 1 below (4, 4): heights 1, 2 and 3."""
    assert indicators.hypervolume(STAIRS, np.array([4.0, 4.0])) == 6.0


def test_the_volume_of_a_box_is_the_product_of_its_sides():
    assert indicators.hypervolume(np.array([[1.0, 2.0, 3.0]]), np.array([3.0, 5.0, 7.0])) == 2 * 3 * 4
    assert indicators.hypervolume(np.array([[3.0], [5.0]]), np.array([7.0])) == 4.0


def test_points_beyond_the_reference_add_nothing():
    with_more = np.concatenate([STAIRS, [[0.0, 9.0], [4.0, 0.0]]])
    assert indicators.hypervolume(with_more, np.array([4.0, 4.0])) == 6.0
    assert indicators.hypervolume(STAIRS, np.array([1.0, 1.0])) == 0.0
    assert indicators.hypervolume(np.zeros((0, 2)), np.array([1.0, 1.0])) == 0.0


def test_a_reference_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\); points have 2"):
        indicators.hypervolume(STAIRS, np.ones(3))
    with pytest.raises(ValueError, match="give numbers"):
        indicators.hypervolume(STAIRS, np.array([np.nan, 4.0]))
    with pytest.raises(ValueError, match="no exact volume in 11"):
        indicators.hypervolume(np.zeros((2, 11)), np.ones(11))


def test_the_usual_reference_is_a_tenth_of_the_range_beyond_the_worst():
    assert indicators.beyond(np.array([[0.0, 10.0], [2.0, 30.0]])).tolist() == [2.2, 32.0]
    assert indicators.beyond(np.array([[-4.0, 0.0]])).tolist() == [-3.6, 0.1]
    with pytest.raises(ValueError, match="empty"):
        indicators.beyond(np.zeros((0, 2)))


def test_of_equal_points_the_first_is_kept():
    points = np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 1.0], [1.0, 2.0]])
    assert indicators.nondominated(points).tolist() == [True, True, False, False]
    assert indicators.nondominated(np.array([[2.0], [1.0], [1.0]])).tolist() == [False, True, False]
    assert indicators.nondominated(np.zeros((0, 3))).tolist() == []


@given(sets)
def test_the_non_dominated_are_those_that_no_other_is_as_good_as(points):
    kept = indicators.nondominated(points)
    for i, point in enumerate(points):
        others = [j for j in range(len(points)) if j != i and (points[j] <= point).all()]
        strictly = [j for j in others if (points[j] < point).any() or j < i]
        assert kept[i] == (not strictly)


@given(sets)
def test_the_volume_is_that_of_the_non_dominated(points):
    reference = np.full(points.shape[1], 1.5)
    kept = points[indicators.nondominated(points)]
    whole = indicators.hypervolume(points, reference)
    assert whole == pytest.approx(indicators.hypervolume(kept, reference))
    assert 0.5 ** points.shape[1] - 1e-12 <= whole <= 1.5 ** points.shape[1] + 1e-12


def test_igd_plus_counts_only_what_is_worse():
    """Ishibuchi et al. 2015: of (.5, .5) against (0, 1) only the first coordinate is worse, by .5; against
    (1, 0) only the second."""
    known = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert indicators.igd_plus(np.array([[0.5, 0.5]]), known) == 0.5
    assert indicators.igd_plus(np.array([[0.0, 0.0]]), known) == 0.0
    assert indicators.igd_plus(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]])) == 5.0


def test_epsilon_is_the_largest_lag_behind_the_known_front():
    """Zitzler et al. 2003: (1, 1) lags behind (0, .5) by 1 and .5; a better set lags by less than 0."""
    assert indicators.epsilon(np.array([[1.0, 1.0]]), np.array([[0.0, 0.5]])) == 1.0
    assert indicators.epsilon(STAIRS - 0.25, STAIRS) == -0.25


def test_coverage_is_the_share_of_known_points_with_a_near_one():
    known = np.array([[0.0, 10.0], [0.5, 5.0], [1.0, 0.0]])
    near = np.array([[0.01, 10.1], [0.5, 5.3]])
    assert indicators.coverage(near, known, 0.02) == pytest.approx(1 / 3)
    assert indicators.coverage(near, known, 0.04) == pytest.approx(2 / 3)


def test_no_points_are_as_far_as_can_be_from_a_known_front():
    none = np.zeros((0, 2))
    assert indicators.igd_plus(none, STAIRS) == float("inf")
    assert indicators.epsilon(none, STAIRS) == float("inf")
    assert indicators.coverage(none, STAIRS, 0.1) == 0.0


@pytest.mark.parametrize(
    "measure", [indicators.igd_plus, indicators.epsilon, lambda p, k: indicators.coverage(p, k, 0.1)]
)
@pytest.mark.parametrize("known", [np.zeros((0, 2)), np.zeros((2, 3)), np.zeros(2)])
def test_a_known_front_that_does_not_fit_is_refused(measure, known):
    with pytest.raises(ValueError, match="the known front has shape"):
        measure(STAIRS, known)


def test_what_two_of_three_runs_attain_is_where_two_of_them_meet():
    """Fonseca et al. 2011: both {(0, 1), (1, 0)} and {(.5, .5)} attain (.5, 1) and (1, .5)."""
    runs = [np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.5, 0.5]]), np.array([[2.0, 2.0]])]
    median, all_of_them = indicators.attainment(runs, [50.0, 100.0])
    assert sorted(map(tuple, median)) == [(0.5, 1.0), (1.0, 0.5)]
    assert all_of_them.tolist() == [[2.0, 2.0]]
