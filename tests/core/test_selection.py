"""The choice of one solution, by hand and under changes that must not alter it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from equipoise.core import selection

BENT = np.array([[0.0, 1.0], [0.2, 0.25], [0.7, 0.2], [1.0, 0.0]])
WAYS = ("tchebycheff", "asf", "weighted", "pseudo")
sets = arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.integers(0, 8).map(float))


def test_pseudo_weights_are_relative_distances_from_the_worst():
    """Deb 2001, section 8.6: w_i = ((max_i - f_i) / (max_i - min_i)) / the sum of these."""
    points = np.array([[0.0, 4.0], [1.0, 1.0], [2.0, 0.0]])
    assert selection.pseudo_weights(points).tolist() == [[1.0, 0.0], [0.5 / 1.25, 0.75 / 1.25], [0.0, 1.0]]


def test_without_a_difference_all_losses_weigh_the_same():
    assert selection.pseudo_weights(np.full((2, 4), 7.0)).tolist() == [[0.25] * 4] * 2
    one_flat = selection.pseudo_weights(np.array([[0.0, 5.0], [1.0, 5.0]]))
    assert one_flat.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_the_knee_bulges_most_below_the_line_between_the_ends():
    assert selection.knee(BENT) == 1
    hollow = np.array([[0.0, 1.0], [0.8, 0.9], [0.5, 0.45], [1.0, 0.0]])
    assert selection.knee(hollow) == 2


def test_the_knee_of_one_point_is_that_point():
    assert selection.knee(np.array([[3.0, 4.0]])) == 0
    assert selection.knee(np.array([[3.0], [2.0]])) == 1


def test_each_way_by_hand():
    """At (.9, .1): weighted sums .1, .205, .65, .9; greatest losses over the preference 10, 2.5, 2, 1.11."""
    preference = np.array([0.9, 0.1])
    assert selection.compromise(BENT, preference, "weighted") == 0
    assert selection.compromise(BENT, preference, "tchebycheff") == 0
    assert selection.compromise(BENT, preference, "asf") == 3
    assert selection.compromise(BENT, preference, "pseudo") == 0


def test_all_weight_on_one_loss_gives_its_best_solution():
    """And of those that are equal in it, the one that is better in the others."""
    points = np.array([[0.0, 1.0], [0.0, 0.5], [1.0, 0.0]])
    for way in ("tchebycheff", "weighted"):
        assert selection.compromise(points, np.array([1.0, 0.0]), way) == 1


@given(sets, st.sampled_from(WAYS), st.integers(0, 3))
def test_the_choice_does_not_depend_on_the_units_of_the_losses(points, way, rolled):
    preference = np.roll(np.arange(1.0, points.shape[1] + 1), rolled)
    preference /= preference.sum()
    units = 2.0 ** np.arange(-2 * points.shape[1], 0, 2) * 2.0**30
    chosen = selection.compromise(points, preference, way)
    assert selection.compromise(points * units + 3 * units, preference, way) == chosen
    assert selection.knee(points * units) == selection.knee(points)


@given(sets, st.sampled_from(("tchebycheff", "weighted")))
def test_a_choice_is_never_dominated(points, way):
    preference = np.full(points.shape[1], 1 / points.shape[1])
    chosen = points[selection.compromise(points, preference, way)]
    assert not ((points <= chosen).all(1) & (points < chosen).any(1)).any()


@pytest.mark.parametrize("shape", [(0, 2), (0, 1)])
def test_no_points_have_no_weights(shape):
    assert selection.pseudo_weights(np.zeros(shape)).shape == shape
