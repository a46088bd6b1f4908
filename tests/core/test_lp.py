"""Small linear programs against HiGHS, and where nothing is feasible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from equipoise.core import lp
from equipoise.core.lp import best_vertex


def program(m, extra, seed):
    random = np.random.default_rng(seed)
    rows = np.concatenate([np.eye(m), random.normal(size=(extra, m))])
    least = np.concatenate([np.zeros(m), random.normal(size=extra) - 0.5])
    return random.normal(size=m), rows, least, np.ones(m)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 10_000))
def test_every_program_over_the_simplex_is_solved_as_highs_does(m, extra, seed):
    gain, rows, least, total = program(m, extra, seed)
    found = best_vertex(gain, rows, least, total)
    wanted = linprog(-gain, A_ub=-rows, b_ub=-least, A_eq=total[None], b_eq=[1.0], bounds=(None, None))
    assert (found is not None) == wanted.success
    if found is not None:
        assert gain @ found == pytest.approx(-wanted.fun, abs=1e-7)
        assert (rows @ found >= least - 1e-7).all()
        assert found.sum() == pytest.approx(1)


def test_both_routes_agree(monkeypatch):
    gain, rows, least, total = program(4, 3, 1)
    tried = best_vertex(gain, rows, least, total)
    monkeypatch.setattr(lp, "MOST_BASES", 0)
    np.testing.assert_allclose(best_vertex(gain, rows, least, total), tried, atol=1e-9)


def test_what_asks_for_nothing_is_left_out():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    least = np.array([0.0, 0.0, -np.inf, -1.0])
    assert best_vertex(np.array([1.0, 0.0]), rows, least, np.ones(2)).tolist() == [1.0, 0.0]


def test_an_impossible_program_has_no_answer():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert best_vertex(np.ones(2), rows, np.array([0.0, 0.0, 1.0]), np.ones(2)) is None
    assert best_vertex(np.ones(2), rows[:2], np.array([0.8, 0.8]), np.ones(2)) is None


def test_too_few_constraints_are_refused():
    with pytest.raises(ValueError, match="0 constraints do not bound a program of 2"):
        best_vertex(np.ones(2), np.zeros((0, 2)), np.zeros(0), np.ones(2))
