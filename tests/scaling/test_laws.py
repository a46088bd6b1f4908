"""The laws against values of published fits and of other implementations, and against themselves."""

import csv
import json

import numpy as np
import pytest

from equipoise.scaling.chinchilla import Chinchilla, compute_optimal
from equipoise.scaling.cmr import CMR, critical_ratio
from equipoise.scaling.cpt import CPT
from equipoise.scaling.dcpt import DCPT
from equipoise.scaling.doublepower import DoublePower
from equipoise.scaling.downstream import Downstream
from equipoise.scaling.effectivedata import EffectiveData
from equipoise.scaling.exponentialmixing import ExponentialMixing
from equipoise.scaling.familylaw import FamilyLaw, family_optimum
from equipoise.scaling.form import refitted
from equipoise.scaling.kaplan import Kaplan
from equipoise.scaling.linearmixing import LinearMixing
from equipoise.scaling.losstoloss import LossToLoss
from equipoise.scaling.owntokens import OwnTokens
from equipoise.scaling.repeateddata import RepeatedData, effective, saturated
from equipoise.scaling.residualtrees import ResidualTrees
from equipoise.scaling.runs import Features, Runs
from equipoise.scaling.utility import Utility, utility

DRAWS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def vectors(vectors_folder):
    return json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))


def pile(data_folder, part, rows=None):
    """The published runs of RegMix, every loss with the source of its name: a `Runs`."""
    tables = []
    for name in (f"regmix_{part.format('mixture')}", f"regmix_{part.format('pile_loss')}"):
        with (data_folder / "scaling_runs" / f"{name}.csv").open(encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        tables.append((header[1:], np.array(lines, dtype=float)[:rows, 1:]))
    (sources, p), (losses, values) = tables
    columns = {f"p.{s.removeprefix('train_the_pile_')}": p[:, i] for i, s in enumerate(sources)}
    kinds = {
        f"loss.{s.split('the_pile_')[1].removesuffix('_val_loss')}": values[:, i]
        for i, s in enumerate(losses)
    }
    return Runs(columns | kinds)


def test_the_published_refit_of_chinchilla_to_the_stated_digits(vectors):
    held = vectors["chinchilla_refit"]
    law = Chinchilla().fit({"N": held["N"], "D": held["D"], "loss": held["L"]}, highest=5, holdout="none")
    assert (len(law.used["loss"].rows), law.used["loss"].delta) == (240, 1e-3)
    found = law.coefficients()
    for name, value in held["expected"].items():
        if name != "objective":
            assert found[name] == pytest.approx(value, rel=1e-6), name
    assert law.singles["loss"].objective == pytest.approx(held["expected"]["objective"], rel=1e-10)
    whole = Chinchilla().fit({"N": held["N"], "D": held["D"], "loss": held["L"]}, holdout="none")
    for name in ("alpha", "beta", "E"):
        assert whole.coefficients()[name] == pytest.approx(held["all_245_points"][name], abs=1e-5)


def test_refits_spread_as_the_published_bootstrap_does(vectors):
    held = vectors["chinchilla_refit"]
    runs = {"N": held["N"], "D": held["D"], "loss": held["L"]}
    spread = Chinchilla().fit(runs, highest=5, holdout="none", bootstrap=200).spread()
    for name in ("E", "A", "alpha", "beta"):  # that of B has a heavy tail
        assert spread[name] == pytest.approx(held["bootstrap_sd_400 (ours)"][name], rel=0.25), name


def test_compute_is_shared_out_as_in_equation_4(vectors):
    held = vectors["compute_optimal"]
    for case in held["cases"]:
        a, b, alpha, beta = case["A,B,alpha,beta"]
        found = compute_optimal({"A": a, "B": b, "alpha": alpha, "beta": beta}, case["C"])
        assert found["N"] == pytest.approx(case["N"], rel=held["rtol"])
        assert found["D"] == pytest.approx(case["D"], rel=held["rtol"])


def test_kaplan(vectors):
    held = vectors["kaplan"]
    c = held["constants (from memory)"]
    form, theta = Kaplan().form(Features(1), -1), [c["aN"], c["aD"], c["Nc"], c["Dc"]]
    for n, d, value in held["cases"]:
        x = Features(1, N=np.array([n]), D=np.array([d]))
        assert form.predict(np.array([theta]), x)[0, 0] == pytest.approx(value, rel=held["rtol"])


def test_the_optimum_of_the_family_law(vectors):
    held = vectors["family_law_optimum"]
    for case in held["cases"]:
        w, c, gamma = (np.array(case[key]) for key in ("w", "c", "gamma"))
        found = family_optimum(w, c, gamma)
        np.testing.assert_allclose(found, case["p"], atol=held["atol"])
        assert (w * c * found**-gamma).sum() == pytest.approx(case["value"], rel=1e-9)


def test_repeated_tokens_count_less(vectors):
    held = vectors["repeat_effective_data"]
    for U, D, R, value in [(case[0], case[1], case[2], case[3]) for case in held["cases"]]:
        assert float(effective(np.array(D), np.array(U), np.array(R))) == pytest.approx(
            value, rel=held["rtol"]
        )


def test_dcpt(vectors):
    held = vectors["dcpt_law"]
    for (n, d, r), (E, A, alpha, B, eta, beta, C, eps, gamma), value in held["cases"]:
        x = Features(1, N=np.array([n]), D=np.array([d]), p=np.array([[r, 1 - r]]), sources=("new", "old"))
        theta = np.array([[E, A, B, C, alpha, eta, beta, eps, gamma]])
        assert DCPT().form(x, 0).predict(theta, x)[0, 0] == pytest.approx(value, rel=held["rtol"])


def test_the_critical_ratio_and_its_loss(vectors):
    held = vectors["cmr_law"]
    for a, s, b, percent in held["table5"].values():
        assert round(100 * critical_ratio(100, a, s, b), 1) == percent
    ratios = np.array(held["table2_domain_loss_at_R"])
    for losses in held["table2"].values():
        runs = Runs({"p.new": ratios[:4], "p.old": 1 - ratios[:4], "loss.new": losses[:4]})
        law = CMR().fit(runs, holdout="none")
        found = law.predict(p={"new": ratios[4], "old": 1 - ratios[4]})["new"][0]
        assert found == pytest.approx(losses[4], rel=0.003)


def test_exponential_mixing_predicts_as_least_squares_do(vectors):
    for case in vectors["exp_mixing_law_2mix"]["cases"]:
        x, y = np.array(case["x"]), np.array(case["y"])
        runs = Runs({"p.own": x, "p.other": 1 - x, "loss.own": y})
        law = ExponentialMixing(delta=0.1).fit(runs, holdout="none")
        worst = np.abs(law.predict(p=np.stack([x, 1 - x], 1))["own"] - y).max()
        assert worst <= 1.05 * case["max_abs_err"] + 1e-3


def test_utility_keeps_the_irreducible_part_out_of_the_epochs(vectors):
    held = vectors["qqt_utility"]
    for case in held["cases"]:
        a, b, c, d = case["a,b,c,d"]
        found = utility(case["seen"] / 1e5, case["per_epoch"] / 1e5, a, b, c, d)
        assert float(found) == pytest.approx(case["value"], rel=held["rtol"])


@pytest.mark.parametrize("count", [64, 128])
def test_effective_data_on_the_runs_of_regmix(vectors, data_folder, count):
    """At most the error of an earlier fit of the same law, to the mean of 13 losses."""
    wanted = vectors["regmix_prediction"]["expected"][f"effective_data n={count}"]["MAPE_%"]
    law = EffectiveData().fit(pile(data_folder, "train_{}_1m", count), holdout="none")
    errors = law.errors(pile(data_folder, "test_{}_1m"))
    found = 100 * np.mean([np.abs(part).mean() for part in errors.values()])
    assert found <= 1.1 * wanted


TRUE = {
    "Chinchilla": (Chinchilla(), {"E": 1.8, "A": 400.0, "B": 900.0, "alpha": 0.35, "beta": 0.31}),
    "CPT": (CPT(), {"E": 1.5, "A": 30.0, "B": 40.0, "alpha": 0.25, "beta": 0.2, "gamma": 0.05}),
    "FamilyLaw": (FamilyLaw(), {"E": 1.2, "A": 20.0, "B": 30.0, "alpha": 0.2, "beta": 0.25, "gamma": 0.08}),
    "OwnTokens": (OwnTokens(), {"E": 1.2, "B": 30.0, "A": 20.0, "beta": 0.25, "alpha": 0.2}),
    "DCPT": (
        DCPT(),
        dict(E=1.2, A=12.0, B=14.0, C=0.3, alpha=0.3, eta=0.4, beta=0.25, eps=0.05, gamma=0.3),
    ),
    "DoublePower": (
        DoublePower(), {"M": 1.0, "K": 0.8, "R": 0.1, "Q": 0.001, "alpha": 0.2, "beta": 2.0, "gamma": 0.6}
    ),
}  # fmt: skip


def table(count=160, sources=3):
    """Features of invented runs."""
    draws = np.random.default_rng(3)
    return {
        "N": 10 ** draws.uniform(6, 9, count),
        "D": 10 ** draws.uniform(8, 11, count),
        **{
            f"p.{name}": part
            for name, part in zip("abc", draws.dirichlet(np.ones(sources) * 2, count).T, strict=True)
        },
    }


@pytest.mark.parametrize("name", TRUE)
def test_what_a_law_made_it_finds_again(name):
    """Losses without noise: predictions elsewhere to a thousandth, and coefficients that are identified."""
    law, theta = TRUE[name]
    columns = table()
    x = Runs({**columns, "loss.a": np.ones(160)}).features
    form = law.form(x, 0)
    vector = np.array([[theta[key] for key in form.names]])
    losses = form.predict(vector, x)[0]
    found = law.fit({**columns, "loss.a": losses}, holdout="largest")
    assert found.holdout.overall < 1e-3
    np.testing.assert_allclose(found.predicted(x)["a"], losses, rtol=1e-3)
    if name in ("Chinchilla", "OwnTokens"):
        for key, value in theta.items():
            assert found.coefficients()[key] == pytest.approx(value, rel=1e-3), key


@pytest.mark.parametrize(
    "form",
    [
        *[law.form(Runs({**table(20), "loss.a": np.ones(20)}).features, 0) for law, _ in TRUE.values()],
        Kaplan().form(Features(1), 0),
        RepeatedData().form(Features(1), 0),
        CMR().form(Features(1), 0),
        LossToLoss().form(Features(1, other={"other_loss": np.array([2.0])}), 0),
        Downstream().form(Features(1), 0),
        EffectiveData().form(Runs({**table(20), "loss.a": np.ones(20)}).features, 0),
        ExponentialMixing().form(Runs({**table(20), "loss.a": np.ones(20)}).features, 0),
    ],
    ids=lambda form: type(form).__name__,
)
def test_derivatives_are_those_of_differences(form):
    columns = table(20)
    more = {"U": columns["D"] / np.linspace(0.5, 8, 20), "other_loss": np.linspace(2.1, 4, 20)}
    x = Runs({**columns, **more, "loss.a": np.ones(20)}).features
    start = form.starts(x, np.linspace(2.0, 3.0, 20))[:3]
    u = form.encoded(np.concatenate([np.full((len(start), len(form.amplitudes)), 0.7), start], 1))
    value, slopes = form.value(u, x)
    for place in range(u.shape[1]):
        step = np.zeros_like(u)
        step[:, place] = 1e-6
        difference = (form.value(u + step, x)[0] - form.value(u - step, x)[0]) / 2e-6
        np.testing.assert_allclose(
            slopes[:, :, place], difference, rtol=1e-4, atol=1e-6 * np.abs(value).max()
        )


def test_linear_and_residual_laws_predict_what_they_should(data_folder):
    runs = pile(data_folder, "train_{}_1m", 128)
    test = pile(data_folder, "test_{}_1m")
    found = {}
    for law in (LinearMixing(), EffectiveData(), ResidualTrees()):
        errors = law.fit(runs, holdout="none").errors(test)
        found[law.name] = np.mean([np.abs(part).mean() for part in errors.values()])
    assert found["ResidualTrees"] < found["EffectiveData"] < found["LinearMixing"]


def test_an_amplitude_of_zero_is_found_and_refits_do_not_depend_on_the_others():
    """Runs without an irreducible loss: E comes to 0, where its logarithm alone would only creep."""
    draws = np.random.default_rng(0)
    p = draws.dirichlet(np.ones(4), 60)
    loss = (p @ [1.0, 0.3, 0.05, 0.5]) ** -0.3 * np.exp(0.003 * draws.standard_normal(60))
    columns = {f"p.{name}": p[:, i] for i, name in enumerate("abcd")}
    law = EffectiveData().fit({**columns, "loss.a": loss}, holdout="none")
    single, x = law.singles["a"], law.runs.features
    assert single.coefficients["E"] == 0
    assert single.coefficients["beta"] == pytest.approx(0.3, abs=0.01)
    weights = draws.integers(0, 3, (3, 60)).astype(float)
    together = refitted(single.form, x, loss, single.theta, weights, delta=1e-2)
    alone = [refitted(single.form, x, loss, single.theta, row[None], delta=1e-2)[0] for row in weights]
    np.testing.assert_allclose(
        single.form.predict(together, x), single.form.predict(np.array(alone), x), rtol=1e-6
    )


def test_loss_to_loss_and_downstream_find_their_own():
    other = np.linspace(2.2, 4.0, 30)
    runs = {"other_loss": other, "loss": 0.9 * (other - 1.5) ** 1.3 + 0.4}
    law = LossToLoss().fit(runs, holdout="none")
    np.testing.assert_allclose(law.predicted(law.runs.features)["loss"], runs["loss"], rtol=1e-3)
    tokens = np.geomspace(1e7, 1e10, 24)
    score = (1.0 + 0.2 * np.log(tokens)) ** 2.0
    law = Downstream().fit({"D": tokens, "loss": score}, holdout="none")
    np.testing.assert_allclose(law.predicted(law.runs.features)["loss"], score, rtol=1e-4)
    law = Downstream(score=False).fit({"D": tokens, "loss": 1.1 + 50 * tokens**-0.3}, holdout="none")
    assert law.coefficients()["alpha"] == pytest.approx(0.3, rel=1e-3)


def test_utility_finds_its_own():
    seen, pool = np.geomspace(1e6, 3e8, 30), np.full(30, 2e7)
    loss = utility(seen / 1e6, pool / 1e6, 0.5, -0.2, 3.0, 0.3)
    law = Utility().fit({"D": seen, "U": pool, "loss": loss}, holdout="none")
    np.testing.assert_allclose(law.predicted(law.runs.features)["loss"], loss, rtol=1e-3)


def test_repeated_tokens_saturate_as_in_the_transcription_of_atlas(vectors_folder):
    case = json.loads((vectors_folder / "scaling.json").read_text(encoding="utf-8"))["atlas_saturation"]
    for D, U, rate, expected in case["cases"]:
        assert float(saturated(np.array(D), np.array(U), rate)) == pytest.approx(expected, rel=1e-12)
    one = case["D_eff_case"]
    D, U, tau = (np.array(one[key]) for key in ("D", "U", "tau"))
    assert tau @ saturated(D, U, one["lambda"]) == pytest.approx(one["D_eff"], rel=1e-12)


def test_effective_data_counts_repeated_tokens_less_where_asked():
    """Runs that follow the saturating law are fitted by it, and not by the plain one."""
    draws = np.random.default_rng(0)
    p, D = draws.dirichlet(np.ones(2), 40), draws.uniform(1e7, 1e8, 40)
    U = np.array([5e6, 1e9])
    seen = saturated(p * D[:, None], U, 1 / 4.0) / 1e6
    loss = 0.5 + (seen @ [1.0, 0.1]) ** -0.3
    runs = {"D": D, "p.a": p[:, 0], "p.b": p[:, 1], "U.a": np.full(40, U[0]), "U.b": np.full(40, U[1])}
    runs["loss.a"] = loss
    errors = {
        repetitions: EffectiveData(repetitions=repetitions).fit(runs, holdout="mixtures").holdout.overall
        for repetitions in (None, 4.0)
    }
    assert errors[4.0] < 1e-3 < errors[None]
    with pytest.raises(ValueError, match="repetitions is 0"):
        EffectiveData(repetitions=0)
    with pytest.raises(ValueError, match="EffectiveData needs the column 'U'"):
        EffectiveData(repetitions=4.0).fit({k: v for k, v in runs.items() if not k.startswith("U")})
