"""spend: what a budget buys."""

import numpy as np
import pytest

from equipoise.scaling import EffectiveData, OwnTokens, Runs, spend


def labels(worth, noise=1e-4):
    """Runs of L = (n_cheap + worth n_good)^-0.3 in millions of examples, with one repeat of every third."""
    draws = np.random.default_rng(0)
    share, D = np.meshgrid([0.05, 0.2, 0.4, 0.6, 0.8, 0.95], np.geomspace(1e5, 1e7, 5))
    share, D = (np.concatenate([part.ravel(), part.ravel()[::3]]) for part in (share, D))
    loss = (D / 1e6 * (share + worth * (1 - share))) ** -0.3 * np.exp(noise * draws.standard_normal(len(D)))
    return Runs({"D": D, "p.cheap": share, "p.good": 1 - share, "loss.error": loss})


def test_where_one_kind_replaces_the_other_the_cheaper_worth_is_bought_alone():
    """Linear amounts: all goes to the kind with most worth for a price."""
    law = EffectiveData().fit(labels(worth=5.0), holdout="none")
    dear = spend(law, {"cheap": 1.0, "good": 10.0}, 1e6)
    assert dear.amounts["cheap"] == pytest.approx(1e6, rel=2e-3)
    assert dear.best_alone == "cheap"
    assert not dear.claimed
    assert "Buy cheap alone" in dear.sentence()
    fair = spend(law, {"cheap": 1.0, "good": 2.0}, 1e6)
    assert fair.amounts["good"] == pytest.approx(5e5, rel=2e-3)
    assert fair.best_alone == "good"


def test_the_money_is_spent_and_no_more():
    law = EffectiveData().fit(labels(worth=5.0), holdout="none")
    found = spend(law, {"cheap": 1.0, "good": 3.0}, 2e6)
    assert sum(found.money.values()) == pytest.approx(2e6)
    assert found.money["good"] == pytest.approx(3 * found.amounts["good"])


def test_where_each_kind_has_a_loss_of_its_own_the_budget_is_shared():
    """Two losses B n_i^-b with prices c: n_i ~ c_i^(-1 / (1 + b))."""
    draws = np.random.default_rng(0)
    p, D = draws.uniform(0.1, 0.9, 40), np.geomspace(1e4, 1e6, 40)
    runs = {"D": D, "p.sft": p, "p.preference": 1 - p}
    runs |= {"loss.sft": 5 * (p * D) ** -0.2, "loss.preference": 5 * ((1 - p) * D) ** -0.2}
    found = spend(OwnTokens().fit(runs, holdout="none"), {"sft": 8.0, "preference": 1.0}, 1e5)
    ratio = found.amounts["sft"] / found.amounts["preference"]
    assert ratio == pytest.approx(8 ** (-1 / 1.2), rel=5e-3)
    assert found.mixture.noise is None
    assert "no gain is claimed" in found.sentence()
    assert found.plain()["claimed"] is False


def test_bad_input_is_told_by_name():
    law = EffectiveData().fit(labels(worth=5.0), holdout="none")
    with pytest.raises(ValueError, match="costs lack 'good'"):
        spend(law, {"cheap": 1.0}, 1e6)
    with pytest.raises(ValueError, match="no source is called 'best'"):
        spend(law, {"cheap": 1.0, "good": 1.0, "best": 2.0}, 1e6)
    with pytest.raises(ValueError, match=r"costs\[good\] is 0"):
        spend(law, {"cheap": 1.0, "good": 0}, 1e6)
    with pytest.raises(ValueError, match="budget is -1"):
        spend(law, {"cheap": 1.0, "good": 1.0}, -1)
