"""Saved laws, the influence of runs, and the report."""

import csv
import json

import numpy as np
import pytest
from tests.scaling.test_optimum import invented

from equipoise.scaling import (
    Chinchilla,
    EffectiveData,
    FamilyLaw,
    LinearMixing,
    ResidualTrees,
    Utility,
    compare,
    influence,
    load_law,
    optimum,
    utility,
    write_report,
)
from equipoise.scaling.runs import Runs


@pytest.fixture(scope="module")
def runs():
    return invented(noise=0.003, count=30)


@pytest.mark.parametrize(
    "made", [FamilyLaw(), EffectiveData(), LinearMixing(), ResidualTrees(law=FamilyLaw())]
)
def test_a_saved_law_says_the_same(made, runs, tmp_path):
    law = made.fit(runs, bootstrap=5)
    law.save(tmp_path / "law.json")
    again = load_law(tmp_path / "law.json")
    assert again.law == made
    assert str(again) == str(law)
    p = {"a": 0.2, "b": 0.3, "c": 0.5}
    for name in law.objectives:
        np.testing.assert_allclose(again.predict(D=1e8, p=p)[name], law.predict(D=1e8, p=p)[name])
    assert again.runs.seed_sd() == law.runs.seed_sd()


def test_a_saved_law_keeps_its_intervals_and_missing_losses(runs, tmp_path):
    columns = runs.columns()
    columns["loss.a"][3] = ""
    law = FamilyLaw().fit(columns, bootstrap=10)
    law.save(tmp_path / "law.json")
    again = load_law(tmp_path / "law.json")
    found, first = again.predict(D=1e8, p=[0.2, 0.3, 0.5]), law.predict(D=1e8, p=[0.2, 0.3, 0.5])
    np.testing.assert_allclose(found.low, first.low)
    assert len(again.used["a"].rows) == 29


def test_a_law_of_a_pool_is_saved(tmp_path):
    seen = np.geomspace(1e5, 2e6, 12)
    loss = utility(seen / 1e5, np.full(12, 2.0), 0.05, -0.2, 3.0, 0.3)
    law = Utility().fit({"D": seen, "U": np.full(12, 2e5), "loss": loss}, holdout="none")
    law.save(tmp_path / "law.json")
    assert load_law(tmp_path / "law.json").coefficients() == law.coefficients()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "equipoise law 1"}', '{"format": "other"}'])
def test_what_is_no_saved_law_is_told_by_its_name(text, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.json holds no law"):
        load_law(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        load_law(tmp_path / "none.json")


def test_a_law_that_there_is_not_is_told(runs, tmp_path):
    path = tmp_path / "law.json"
    FamilyLaw().fit(runs).save(path)
    held = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**held, "law": "FamilyLow"}), encoding="utf-8")
    with pytest.raises(ValueError, match="nearest: FamilyLaw"):
        load_law(path)


def test_the_points_that_besiroglu_dropped_say_most_of_beta(data_folder):
    """Besiroglu et al. 2024: the five highest losses move beta from .37 to .45."""
    path = data_folder / "scaling_runs" / "chinchilla_svg_extracted.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    N = np.array([float(row["Model Size"]) for row in rows])
    C = np.array([float(row["Training FLOP"]) for row in rows])
    runs = Runs({"N": N, "D": C / (6 * N), "loss": [float(row["loss"]) for row in rows]})
    found = influence(Chinchilla().fit(runs, holdout="none"))["loss"]
    highest = {str(row) for row in np.argsort(-runs.loss("loss"))[:5]}
    order = np.argsort(-np.abs(found.coefficients["beta"]))
    assert len({found.runs[place] for place in order[:8]} & highest) >= 3
    assert found.most(1)[0][1] == found.moved.max()
    assert "without a run" in str(found)


def test_leaving_out_a_run_is_a_fit_to_the_rest(runs):
    law = FamilyLaw(delta=0.01).fit(runs, holdout="none")
    found = influence(law, ["a"])["a"]
    place = found.runs.index("7")
    rest = FamilyLaw(delta=0.01).fit(runs.take([i for i in range(30) if i != 7]), holdout="none")
    for name, value in rest.coefficients("a").items():
        change = value - law.coefficients("a")[name]
        assert found.coefficients[name][place] == pytest.approx(change, rel=1e-3, abs=1e-8)


def test_a_fitted_law_has_the_verbs_itself(runs):
    law = FamilyLaw().fit(runs)
    assert law.optimum({"c": 3.0}).p == optimum(law, {"c": 3.0}).p
    assert len(law.front(5)) == 5
    assert "a: without a run the predictions move by" in law.report()
    assert LinearMixing().fit(runs).report().startswith("LinearMixing")


def test_trees_have_no_influence(runs):
    with pytest.raises(ValueError, match="no form of few numbers"):
        influence(LinearMixing().fit(runs))


@pytest.mark.parametrize("names", ["abc", "abcd"])
def test_a_report_stands_alone(names, tmp_path):
    p = np.random.default_rng(0).dirichlet(np.ones(len(names)) * 2, 16)
    losses = np.array([2.1, 2.4, 1.9, 2.0])[: len(names)] * p**-0.1
    table = {f"p.{n}": p[:, i] for i, n in enumerate(names)}
    table |= {f"loss.{n}": losses[:, i] for i, n in enumerate(names)}
    compared = compare(table, laws=[FamilyLaw(), LinearMixing()])
    law = FamilyLaw().fit(table, bootstrap=10)
    path = tmp_path / "report.html"
    write_report(path, law, optimum(law), comparison=compared)
    text = path.read_text(encoding="utf-8")
    for part in ("told", "ratios", "simplex", "noise", "front", "errors", "influence"):
        assert f'id="{part}"' in text
    assert "no gain is claimed" in text


def test_a_report_of_a_law_without_a_mixture(tmp_path):
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5)))
    law = Chinchilla().fit({"N": N, "D": D, "loss": 1.7 + 400 / N**0.34 + 410 / D**0.28}, bootstrap=5)
    write_report(tmp_path / "law.html", law)
    assert 'id="tokens"' in (tmp_path / "law.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"law\.txt does not end in \.html"):
        write_report(tmp_path / "law.txt", law)


def test_names_in_a_report_are_escaped(tmp_path):
    p = np.linspace(0.1, 0.9, 9)
    odd = "<script>alert(1)</script>"
    table = {"p.a": p, f"p.{odd}": 1 - p, "loss.a": 2 * p**-0.1, f"loss.{odd}": 2 * (1 - p) ** -0.1}
    law = FamilyLaw().fit(table)
    write_report(tmp_path / "odd.html", law, optimum(law))
    text = (tmp_path / "odd.html").read_text(encoding="utf-8")
    assert odd not in text.replace("\\u003c", "<").split("</head>")[1]
