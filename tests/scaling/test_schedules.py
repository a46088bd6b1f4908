"""Schedules: the ratios of the papers, and what they learn from."""

import itertools
import json

import numpy as np
import pytest
import torch

from equipoise.scaling import (
    Alternate,
    Anneal,
    DoGE,
    DoReMi,
    GradientNorm,
    Knapsack,
    Stages,
    Static,
    Temperature,
    UniMax,
    knapsack,
)
from equipoise.scaling.knapsack import told, with_spare

EVERY = {
    "Static": lambda: Static({"a": 1, "b": 3}),
    "Temperature": lambda: Temperature({"a": 1e6, "b": 1e3}),
    "UniMax": lambda: UniMax({"a": 900, "b": 10}, budget=100),
    "Anneal": lambda: Anneal({"a": 1}, {"b": 1}),
    "Stages": lambda: Stages([(1, "a"), (1, {"a": 1, "b": 1})]),
    "Alternate": lambda: Alternate(["a", "b"]),
    "DoReMi": lambda: DoReMi(["a", "b"]),
    "DoGE": lambda: DoGE(["a", "b"]),
    "GradientNorm": lambda: GradientNorm(["a", "b"]),
    "Knapsack": lambda: Knapsack(["a", "b"], budget=12),
}


@pytest.fixture(scope="module")
def held(vectors_folder):
    return json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EVERY)
def test_ratios_are_on_the_simplex_at_every_step(name):
    schedule = EVERY[name]()
    for step in range(20):
        p = schedule.ratios(step, 20)
        assert p.shape == (2,)
        assert (p >= 0).all()
        assert p.sum() == pytest.approx(1)


def named(values):
    return {str(place): value for place, value in enumerate(values)}


def test_temperature_and_unimax_are_those_of_the_papers(held):
    case = held["temperature_sampling"]
    for T, p in case["cases"]:
        np.testing.assert_allclose(Temperature(named(case["n"]), T=T).ratios(0), p, atol=1e-9)
    for one in held["unimax"]["cases"]:
        made = UniMax(named(one["n"]), budget=one["budget"], epochs=one["epochs"])
        np.testing.assert_allclose(made.ratios(0), one["p"], atol=1e-9)


def test_a_budget_that_cannot_be_spent_is_said(held):
    assert UniMax({"a": 10, "b": 10}, budget=100, epochs=2).used == pytest.approx(0.4)


def test_a_high_temperature_makes_all_equal():
    sizes = {"a": 1e12, "b": 1.0}
    np.testing.assert_allclose(Temperature(sizes, T=float("inf")).ratios(0), [0.5, 0.5])


def test_one_mirror_step_of_doremi_is_that_of_the_authors(held):
    case = held["doremi_step"]
    schedule = DoReMi(
        ("a", "b", "c"), eta=case["eta"], eps=case["eps"], first=dict(zip("abc", case["w"], strict=True))
    )
    schedule.observe(dict(zip("abc", case["score"], strict=True)))
    np.testing.assert_allclose(schedule.ratios(0), case["w_new"], atol=1e-9)


def test_excess_is_cut_off_token_by_token():
    """Xie et al. 2023: max(excess, 0) of each token, so that a mean of 0 still counts."""
    schedule = DoReMi(("a", "b"), eps=0.0)
    schedule.observe({"a": torch.tensor([1.0, -1.0]), "b": torch.tensor([0.0, 0.0])})
    assert schedule.ratios(0)[0] == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_doge_is_a_row_sum_of_the_gramian(held):
    case = held["doge_step"]
    schedule = DoGE(("a", "b", "c"), mu=case["mu"])
    schedule.w = np.array(case["w"])
    gramian = torch.tensor(case["gramian"])
    np.testing.assert_allclose(schedule.scores(gramian, lr=case["lr"]), case["score"], atol=1e-9)
    schedule.observe(gramian, lr=case["lr"])
    np.testing.assert_allclose(schedule.ratios(0), case["w_new"], atol=1e-9)


def test_doge_for_a_target_follows_its_gradient_alone():
    schedule = DoGE(("a", "b", "goal"), target="goal")
    schedule.observe(torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [0.5, -0.5, 1.0]]), lr=0.1)
    p = schedule.ratios(0)
    assert p[0] > p[1]
    assert p[2] == 0


def test_stages_come_one_after_the_other_and_begin_anew():
    order = Stages([(0.8, "high"), (0.2, {"high": 1, "low": 3})])
    anew = [step for step in range(10) if order.begins_anew(step, 10)]
    assert anew == [8]
    assert order.ratios(7, 10).tolist() == [1, 0]
    assert order.ratios(8, 10).tolist() == [0.25, 0.75]
    assert not Stages([(1, "a"), (1, "b")], restart_optimizer=False).begins_anew(5, 10)


def test_a_schedule_may_be_a_stage():
    learned = DoReMi(("a", "b"))
    order = Stages([(1, learned), (1, {"b": 1})])
    learned.observe({"a": 2.0})
    assert order.ratios(0, 4)[0] > 0.8
    again = Stages([(1, DoReMi(("a", "b"))), (1, {"b": 1})])
    again.load_state_dict(order.state_dict())
    np.testing.assert_array_equal(again.ratios(0, 4), order.ratios(0, 4))


def test_annealing_ends_where_it_should():
    for shape in ("linear", "cosine", "geometric"):
        made = Anneal({"a": 3, "b": 1}, {"a": 1, "b": 3}, shape=shape)
        np.testing.assert_allclose(made.ratios(0, 11), [0.75, 0.25])
        np.testing.assert_allclose(made.ratios(5, 11), [0.5, 0.5])
        np.testing.assert_allclose(made.ratios(10, 11), [0.25, 0.75])


def test_drawing_by_gradient_norm_keeps_the_mean():
    schedule = GradientNorm(("a", "b", "c"), trust=1.0)
    schedule.observe({"a": 1.0, "b": 2.0, "c": 5.0})
    p = schedule.ratios(0)
    np.testing.assert_allclose(p, [1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_allclose(p * schedule.factors(p), np.full(3, 1 / 3))
    schedule.observe(torch.diag(torch.tensor([25.0, 4.0, 1.0])))
    np.testing.assert_allclose(schedule.ratios(0), [5 / 8, 2 / 8, 1 / 8])


def best_value(rates, budget, least, most):
    """By trying everything."""
    room = range(least, most + 1)
    every = (counts for counts in itertools.product(room, repeat=len(rates)) if sum(counts) == budget)
    return max(sum(map(told, counts, rates)) for counts in every)


def test_the_knapsack_is_exact(held):
    case = held["knapsack_rollouts"]
    counts = knapsack(case["p"], case["B"])
    assert counts.tolist() == case["n"]
    assert sum(map(told, counts, case["p"])) == pytest.approx(case["value"], rel=1e-9)
    draws = np.random.default_rng(0)
    for _ in range(25):
        rates = draws.random(4).round(2)
        counts = knapsack(rates, 14, least=1, most=6)
        assert counts.sum() == 14
        assert sum(map(told, counts, rates)) == pytest.approx(best_value(rates, 14, 1, 6), rel=1e-12)


def test_tries_that_gain_nothing_are_dealt_evenly():
    assert knapsack([0.0, 1.0, 0.0], 12).tolist() == [4, 4, 4]


def test_a_knapsack_follows_what_is_seen():
    schedule = Knapsack(("easy", "hard"), budget=16)
    assert schedule.deal == {"easy": 8, "hard": 8}
    schedule.observe({"easy": 1.0, "hard": 0.1})
    assert schedule.deal == {"easy": 2, "hard": 14}


def test_what_can_be_spared_goes_to_prompts_where_nothing_has_succeeded():
    rates = np.array([0.0, 0.5, 0.0, 0.5])
    assert with_spare(rates, 40).tolist() == [16, 4, 16, 4]
    assert knapsack(rates, 40).tolist() == [2, 18, 2, 18]
    assert with_spare(np.array([1.0, 0.5]), 20).tolist() == [16, 4]
    assert with_spare(np.array([0.5, 0.5]), 20).tolist() == [10, 10]
    assert with_spare(np.zeros(3), 12).tolist() == [4, 4, 4]
    assert with_spare(np.zeros(3), 12, most=4).tolist() == [4, 4, 4]
    assert Knapsack(("a", "b"), budget=8, sure=None).deal == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: Static({"a": -1.0, "b": 2.0}), "the ratio of 'a' is -1.0"),
        (lambda: Static({"a": 1.0}), "two or more"),
        (lambda: Static({"a": 0.0, "b": 0.0}), "all 0"),
        (lambda: Temperature({"a": 1.0, "b": 0.0}), "sizes"),
        (lambda: Temperature({"a": 1.0, "b": 2.0}, T=0.0), "T is 0.0"),
        (lambda: Stages([]), "no stages"),
        (lambda: Stages([(1, "a"), (0, "b")]), "the share of stage 1"),
        (lambda: Stages([(1, "a"), (1, "b")]).ratios(0), "number of steps"),
        (lambda: Anneal({"a": 1}, {"b": 1}, shape="geometric"), "share no objective"),
        (lambda: Alternate({"a": 0, "b": 1}), "the turn of 'a'"),
        (lambda: DoReMi("ab"), "two or more"),
        (lambda: DoReMi(("a", "b"), eps=1.0), "eps"),
        (lambda: DoReMi(("a", "b")).observe({"c": 1.0}), "'c'"),
        (lambda: DoReMi(("a", "b")).observe({"a": float("nan")}), "the excess of 'a'"),
        (lambda: DoGE(("a", "b"), target="c"), "'c'"),
        (lambda: DoGE(("a", "b")).observe(torch.ones(3, 3), lr=1.0), "2 objectives"),
        (lambda: DoGE(("a", "b")).observe(torch.full((2, 2), torch.nan), lr=1.0), "of 'a' is not finite"),
        (lambda: GradientNorm(("a", "b"), trust=2.0), "trust"),
        (lambda: knapsack([0.5, 1.5], 10), "rate 1 is 1.5"),
        (lambda: knapsack([0.5, 0.5], 3), "give 4 to"),
        (lambda: Knapsack(("a", "b"), budget=8, sure=1.0), "sure is 1.0"),
        (lambda: Knapsack(("a", "b"), budget=8).observe({"a": 2.0}), "the rate of 'a'"),
    ],
)
def test_bad_input_is_told_by_name(fault, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        fault()


@pytest.mark.parametrize("name", ["DoReMi", "DoGE", "GradientNorm", "Knapsack"])
def test_what_was_learned_is_in_the_state(name):
    schedule, again = EVERY[name](), EVERY[name]()
    told_of = {
        "DoReMi": lambda: schedule.observe({"a": 1.0, "b": 0.2}),
        "DoGE": lambda: schedule.observe(torch.tensor([[2.0, 1.0], [1.0, 3.0]]), lr=0.1),
        "GradientNorm": lambda: schedule.observe({"a": 1.0, "b": 9.0}),
        "Knapsack": lambda: schedule.observe({"a": 0.9, "b": 0.4}),
    }
    told_of[name]()
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    np.testing.assert_array_equal(again.ratios(0), schedule.ratios(0))
