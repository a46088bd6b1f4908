"""The kit itself can fail: each rule of `broken` breaks one promise, and the check for it must say so."""

import sys

import pytest
import torch
from scipy.optimize import nnls
from tests.testing.broken import CAUGHT, SHAPES, ones

from equipoise.core.card import GUARANTEES, OF_SCORES, Card, parse_guarantee
from equipoise.core.rule import Draws, GramianRule, RowRule, Scalarizer
from equipoise.testing import checks, conform, library


@pytest.mark.parametrize(("check", "kind", "card"), CAUGHT)
def test_a_broken_promise_is_caught(check, kind, card):
    found = {str(c): c for c in checks(card)}[check]
    with pytest.raises(AssertionError):
        found(kind, card)


@pytest.mark.parametrize(("check", "kind", "card"), CAUGHT[::12])
def test_conform_names_the_check_that_failed(check, kind, card):
    with pytest.raises(AssertionError, match=rf"{card.name} fails \d+ of \d+ checks:(.|\n)*\n  {check}: "):
        conform(kind, card)


class HonestMean(GramianRule):
    def forward(self, gramian, *, preference=None):
        return ones(gramian) / len(gramian) if preference is None else preference


class HonestToss(Draws, GramianRule):
    def forward(self, gramian):
        return torch.rand(len(gramian), generator=self.draws(), dtype=torch.float64)


class HonestSum(Scalarizer):
    def forward(self, losses):
        return losses.sum()


class HonestRows(RowRule):
    def forward(self, rows):
        return rows.sum(0)


@pytest.mark.parametrize(
    ("kind", "guarantees"),
    [
        (HonestMean, ("PERMUTATION", "HOMOGENEOUS(1)", "LINEAR_IN_ROW_SCALE", "SIMPLEX", "PREFERENCE")),
        (HonestToss, ("HOMOGENEOUS(1)", "NON_NEGATIVE", "RANDOM")),
        (HonestSum, ("PERMUTATION", "CONVEX", "NON_NEGATIVE", "STRONGLY_STATIONARY")),
        (HonestRows, ("PERMUTATION", "HOMOGENEOUS(1)", "LINEAR_IN_ROW_SCALE")),
    ],
)
def test_a_rule_that_keeps_its_promises_passes(kind, guarantees):
    shape = next(s for s, base in SHAPES.items() if issubclass(kind, base))
    conform(kind, Card(name=kind.__name__, shape=shape, summary="", guarantees=guarantees, single="itself"))


def test_every_guarantee_has_a_check():
    """A guarantee that nothing checks would be a word on a card."""
    for name in set(GUARANTEES) - set(OF_SCORES):
        promised = [
            check.promise
            for shape in SHAPES
            for check in checks(Card(name="X", shape=shape, summary="", guarantees=(name,)))
        ]
        assert parse_guarantee(name)[0] in promised, name


def test_every_check_is_broken_by_some_rule():
    """But one: no rule can break what the engine refuses before it asks the rule."""
    everything = tuple(GUARANTEES)
    names = {
        str(check)
        for shape in SHAPES
        for check in checks(Card(name="X", shape=shape, summary="", guarantees=everything))
    }
    assert names - {case.values[0] for case in CAUGHT} == {"nonfinite_is_named"}


def test_checks_say_what_must_hold():
    card = Card(name="X", shape="gramian", summary="", guarantees=("SIMPLEX",))
    assert {str(c): c.summary for c in checks(card)}[
        "simplex"
    ] == "The weights are not negative and sum to one."


def test_the_library_is_what_it_says():
    for directions in library():
        rank, m = int(torch.linalg.matrix_rank(directions.rows)), len(directions.rows)
        if directions.independent:
            assert rank == m, directions.name
        elif directions.name != "one direction":
            assert rank < m, directions.name


@pytest.mark.parametrize("directions", library(), ids=str)
def test_stationary_directions_are_those_that_a_positive_combination_cancels(directions):
    """v = 1 + z with z >= 0 scales to any strictly positive v, so the residual of the best z decides."""
    rows = directions.rows / directions.rows.norm(dim=1).max().clamp(min=1e-300)
    _, residual = nnls(rows.T.numpy(), -rows.sum(0).numpy())
    assert (residual < 1e-9) == directions.stationary


def test_conform_reports_a_crash_as_a_failure():
    class Crashes(GramianRule):
        def forward(self, gramian):
            raise RuntimeError("out of luck")

    card = Card(name="Crashes", shape="gramian", summary="", single="nothing")
    with pytest.raises(AssertionError, match="RuntimeError: out of luck"):
        conform(Crashes, card)


def test_without_hypothesis_the_kit_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    card = Card(name="HonestRows", shape="row", summary="", single="itself")
    drawn = next(check for check in checks(card) if str(check) == "drawn_directions")
    with pytest.raises(ImportError, match=r"pip install 'equipoise\[test\]'"):
        drawn(HonestRows, card)
