"""Mixtures: the closed form of the family law, limits and caps, and what is claimed of a gain."""

import json

import numpy as np
import pytest
from tests.scaling.test_laws import pile

from equipoise.scalarization import LogSum, Tchebycheff
from equipoise.scaling.compare import compare
from equipoise.scaling.effectivedata import EffectiveData
from equipoise.scaling.familylaw import FamilyLaw
from equipoise.scaling.independence import independence
from equipoise.scaling.mixturefront import front
from equipoise.scaling.optimum import optimum
from equipoise.scaling.proposed import proposed
from equipoise.scaling.runs import Runs

C, GAMMA = np.array([2.1, 2.4, 1.9]), np.array([0.07, 0.1, 0.15])


def invented(noise=0.0, seeds=3, count=24, names="abc"):
    """Runs of the family law, the first `seeds` of equal ratios."""
    draws = np.random.default_rng(1)
    rows = proposed(names, count, seeds=seeds)
    p = np.array([[row[f"p.{name}"] for name in names] for row in rows])
    losses = C * p**-GAMMA * np.exp(noise * draws.standard_normal(p.shape))
    columns = {"seed": [row["seed"] for row in rows], "D": np.full(count, 1e8)}
    return Runs(
        {
            **columns,
            **{f"p.{n}": p[:, i] for i, n in enumerate(names)},
            **{f"loss.{n}": losses[:, i] for i, n in enumerate(names)},
            **{f"U.{n}": np.full(count, size) for n, size in zip(names, (1e8, 1e8, 1e7), strict=True)},
        }
    )


def test_it_is_the_closed_form_of_the_family_law(vectors_folder):
    held = json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))["family_law_optimum"]
    for case in held["cases"]:
        w, c, gamma = (np.array(case[key]) for key in ("w", "c", "gamma"))
        names = "abcde"[: len(w)]
        p = np.random.default_rng(0).dirichlet(np.ones(len(w)) * 3, 30)
        columns = {f"p.{n}": p[:, i] for i, n in enumerate(names)}
        losses = {f"loss.{n}": c[i] * p[:, i] ** -gamma[i] for i, n in enumerate(names)}
        law = FamilyLaw().fit(columns | losses, holdout="none")
        found = optimum(law, dict(zip(names, w, strict=True)))
        np.testing.assert_allclose(list(found.p.values()), case["p"], atol=2e-4)
        assert found.value == pytest.approx(case["value"] / w.sum(), rel=1e-6)


def test_without_repeats_no_gain_is_claimed_and_with_them_it_is_weighed():
    law = FamilyLaw().fit(invented(seeds=1), holdout="mixtures")
    quiet = optimum(law, {"c": 5.0})
    assert quiet.noise is None
    assert not quiet.claimed
    assert "no gain is claimed" in quiet.sentence()
    law = FamilyLaw().fit(invented(noise=1e-4), holdout="mixtures", bootstrap=20)
    sure = optimum(law, {"c": 20.0})
    assert sure.over_uniform > 0.01
    assert sure.over_weights > 0
    assert sure.intervals["c"][0] <= sure.p["c"] <= sure.intervals["c"][1]
    loud = optimum(FamilyLaw().fit(invented(noise=0.05)), {"c": 1.2})
    assert not loud.claimed
    assert loud.sentence().startswith("Stay with")


def test_caps_epochs_and_limits_hold():
    law = FamilyLaw().fit(invented(), holdout="none")
    free = optimum(law, {"c": 4.0})
    assert free.p["c"] > 0.4
    capped = optimum(law, {"c": 4.0}, caps={"c": 0.3})
    assert capped.p["c"] == pytest.approx(0.3)
    assert capped.bound == ("c at most 0.3",)
    assert optimum(law, {"c": 4.0}, D=1e8, epochs=2.0).p["c"] <= 0.2 + 1e-9
    limit = 1.01 * law.predict(p=[1 / 3] * 3)["a"][0]
    held = optimum(law, {"c": 4.0}, limits={"a": limit})
    assert held.losses["a"] == pytest.approx(limit, rel=1e-5)
    with pytest.raises(ValueError, match="no mixture meets the limits: a <= 1"):
        optimum(law, limits={"a": 1.0})
    with pytest.raises(ValueError, match=r"caps allow 0\.6"):
        optimum(law, caps={name: 0.2 for name in "abc"})


def test_the_worst_loss_and_a_scalarizer_of_the_library():
    """Where all can be level, the optimum of the worst weighted loss has them level."""
    law = FamilyLaw().fit(invented(), holdout="none")
    found = optimum(law, minimise="worst")
    assert np.ptp(list(found.losses.values())) < 1e-4
    same = optimum(law, minimise=lambda losses: float(np.log(losses).sum()))
    other = optimum(law, minimise=LogSum())
    np.testing.assert_allclose(list(same.p.values()), list(other.p.values()), atol=1e-3)
    assert optimum(law, minimise=Tchebycheff()).value <= max(found.losses.values())


def test_noise_and_doubt_are_in_the_units_of_what_is_minimised():
    """Of a hundred times the mean loss they are a hundred times those of the mean."""
    law = FamilyLaw().fit(invented(noise=0.003), holdout="mixtures")
    plain = optimum(law, refits=0)
    larger = optimum(law, minimise=lambda losses: 100 * float(losses.mean()), refits=0)
    assert larger.noise == pytest.approx(100 * plain.noise, rel=1e-3)
    assert larger.doubt == pytest.approx(100 * plain.doubt, rel=1e-3)


def test_the_front_trades_one_loss_for_another():
    law = FamilyLaw().fit(invented(), holdout="none")
    two = front(law, 8)
    assert len(two.points) == 8
    assert len(two.nondominated().points) == 8


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": {"d": 1.0}}, "no objective is called 'd'"),
        ({"weights": {"a": -1.0}}, "the weight of 'a' is -1"),
        ({"weights": {"a": 0.0, "b": 0.0, "c": 0.0}}, "all weights are 0"),
        ({"caps": {"x": 0.1}}, "no source is called 'x'"),
        ({"minimise": "mean"}, "minimise is 'mean'"),
        ({"limits": {"a": float("nan")}}, "limits"),
    ],
)
def test_options_out_of_range_are_refused(options, told):
    law = FamilyLaw().fit(invented(), holdout="none")
    with pytest.raises(ValueError, match=told):
        optimum(law, **options)


def test_composition_is_told_from_noise():
    quiet = independence(invented(noise=0.003, count=40))
    assert quiet["all"].degrees[1] == 6
    runs = invented(noise=0.003, count=30)
    x = runs.features
    transfer = np.exp(-0.3 * np.roll(x.p, 1, axis=1))
    runs.losses = runs.losses * transfer
    told = independence(runs)["all"]
    assert told.F > quiet["all"].F
    assert told.p < 0.01
    with pytest.raises(ValueError, match="two seeds"):
        independence(invented(seeds=1))


def test_runs_are_proposed_for_a_budget():
    rows = proposed(("en", "de", "tr"), 20)
    assert len(rows) == 20
    assert [row["seed"] for row in rows[:3]] == [0, 1, 2]
    for row in rows:
        ratios = [row[f"p.{name}"] for name in ("en", "de", "tr")]
        assert sum(ratios) == pytest.approx(1)
        assert min(ratios) > 0.015
    with pytest.raises(ValueError, match="budget is 4"):
        proposed(("en", "de", "tr"), 4)


def test_laws_are_compared_and_the_cheap_hypothesis_stands_beside(data_folder):
    """On the runs of RegMix the law of effective data foretells more than the linear one."""
    runs = pile(data_folder, "train_{}_1m", 64)
    keep = runs.objectives[:3]
    losses = {f"loss.{name}": runs.loss(name) for name in keep}
    table = Runs({**{f"p.{n}": runs.features.p[:, i] for i, n in enumerate(runs.sources)}, **losses})
    found = compare(table)
    order = [row.law.name for row in found.rows]
    assert order.index("EffectiveData") < order.index("LinearMixing")
    assert found.cheap.law.name == "FamilyLaw"
    assert "FamilyLaw" in found.sentence()
    assert "unknown: no repeats" in str(found)


def test_independence_does_not_look_at_runs_without_the_own_source():
    p = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]])
    table = {f"p.{name}": p[:, i] for i, name in enumerate("abc")}
    losses = np.array([2.0, 2.01, 2.03, 3.1, 11.8])
    found = independence({**table, "seed": [0, 1, 0, 0, 0], "loss.a": losses})
    assert found["a"].degrees == (1, 1)
    assert found["a"].composition < 0.02


def test_a_law_that_cannot_be_fitted_says_why():
    runs = Runs(
        {"p.a": [0.2, 0.5, 0.8, 0.4], "p.b": [0.8, 0.5, 0.2, 0.6], "loss.other": [2.0, 2.1, 2.3, 2.2]}
    )
    found = compare(runs, laws=[FamilyLaw(), EffectiveData()])
    assert found.rows[-1].law.name == "FamilyLaw"
    assert "'other' is none of a, b" in found.rows[-1].fault
