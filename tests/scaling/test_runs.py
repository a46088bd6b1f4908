import numpy as np
import pytest

from equipoise.scaling.chinchilla import Chinchilla
from equipoise.scaling.compare import usual
from equipoise.scaling.familylaw import FamilyLaw
from equipoise.scaling.runs import Runs


def test_a_table_from_a_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "run,seed,N,D,p.en,p.de,loss.en,loss.de\nx,0,1e6,1e8,0.5,0.501,2.0,\ny,1,1e6,1e8,0.5,0.5,2.1,3\n"
    )
    runs = Runs.from_csv(path)
    assert (runs.objectives, runs.sources, runs.run, runs.seed) == (
        ("en", "de"),
        ("en", "de"),
        ("x", "y"),
        ("0", "1"),
    )
    assert runs.features.p.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert np.isnan(runs.loss("de")[0])
    assert runs.take([1]).loss("en").tolist() == [2.1]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, "the table has no rows"),
        ({"N": [1.0], "loss": [1.0, 2.0]}, "unlike lengths"),
        ({"N": ["x"], "loss": [1.0]}, "column 'N', row 1: 'x' is not a number"),
        ({"N": [0.0], "loss": [1.0]}, "column 'N', row 1: 0.0; it is a finite number above 0"),
        ({"N": [1.0], "loss": [-1.0]}, "column 'loss', row 1"),
        ({"N": [1.0]}, "no column 'loss'"),
        ({"p.a": [0.5], "p.b": [0.2], "loss": [1.0]}, "row 1: the ratios sum to 0.7, not to 1"),
        ({"p.a": [1.5], "p.b": [-0.5], "loss": [1.0]}, "column 'p.b', row 1: -0.5"),
    ],
)
def test_a_table_that_is_none_is_refused_by_column_and_row(columns, told):
    with pytest.raises(ValueError, match=told):
        Runs(columns)


def test_a_broken_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N,loss\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"runs\.csv, line 3: not 2 cells"):
        Runs.from_csv(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Runs.from_csv(tmp_path / "other.csv")


def fitted(**options):
    draws = np.random.default_rng(0)
    N, D = 10 ** draws.uniform(6, 9, 60), 10 ** draws.uniform(8, 11, 60)
    loss = (1.7 + 400 * N**-0.35 + 900 * D**-0.31) * np.exp(0.002 * draws.standard_normal(60))
    return Chinchilla().fit({"N": N, "D": D, "loss": loss}, **options)


def test_predictions_have_bounds_that_hold_the_truth():
    law = fitted(bootstrap=100)
    found = law.predict(N=[1e8, 1e9], D=1e10)
    truth = 1.7 + 400 * np.array([1e8, 1e9]) ** -0.35 + 900 * 1e10**-0.31
    assert ((found.low[:, 0] <= truth) & (truth <= found.high[:, 0])).all()
    assert law.holdout.what == "the largest D"
    assert law.holdout.overall < 0.01


def test_a_loss_is_inverted_and_one_out_of_reach_is_infinite():
    law = fitted(holdout="none")
    value = float(law.predict(N=1e8, D=3e9)["loss"][0])
    assert law.invert(value, "D", N=1e8)["loss"] == pytest.approx(3e9, rel=1e-6)
    assert law.invert(1.0, "D", N=1e8)["loss"] == float("inf")
    with pytest.raises(ValueError, match="solve is 'x'"):
        law.invert(2.0, "x", N=1e8)


def test_what_is_asked_about_must_be_there():
    law = fitted(holdout="none")
    with pytest.raises(ValueError, match="D is left out, and differs among the runs"):
        law.predict(N=1e8)
    with pytest.raises(ValueError, match="the runs had no mixture"):
        law.predict(N=1e8, D=1e9, p=[1.0])
    with pytest.raises(ValueError, match="no objective is called 'en'"):
        law.coefficients("en")
    p = np.array([0.2, 0.5, 0.8])
    mixed = FamilyLaw().fit({"p.a": p, "p.b": 1 - p, "loss.a": 2 * p**-0.1}, holdout="none")
    with pytest.raises(ValueError, match="no source is called 'c'"):
        mixed.predict(p={"c": 1.0})
    with pytest.raises(ValueError, match="ratios are 0 or more and sum to 1"):
        mixed.predict(p={"a": 0.4})
    with pytest.raises(ValueError, match="needs the column 'N'"):
        Chinchilla().fit({"D": [1.0, 2.0, 3.0], "loss": [3.0, 2.5, 2.2]}, holdout="none")


def test_what_was_found_is_written_whole(tmp_path):
    law = fitted(bootstrap=5)
    law.save(tmp_path / "law.json")
    assert '"law": "Chinchilla"' in (tmp_path / "law.json").read_text(encoding="utf-8")
    assert "held out, the largest D" in str(law)


def test_every_law_of_a_mixture_is_plain_json(tmp_path):
    p = np.linspace(0.1, 0.9, 12)
    runs = {"p.a": p, "p.b": 1 - p, "loss.a": 2 * p**-0.1, "loss.b": 2 * (1 - p) ** -0.2}
    for law in usual(Runs(runs)):
        law.fit(runs).save(tmp_path / f"{law.name}.json")
        assert f'"law": "{law.name}"' in (tmp_path / f"{law.name}.json").read_text(encoding="utf-8")


def test_a_small_table_is_fitted_whole():
    N = np.array([1e6, 1e7, 1e8, 1e9])
    law = Chinchilla().fit({"N": N, "D": N[::-1], "loss": [3.0, 2.5, 2.4, 2.9]})
    assert law.holdout is None


def test_what_the_runs_do_not_tell_is_said():
    """Losses that fall as one power, with nothing irreducible."""
    N = np.geomspace(1e6, 1e9, 20)
    D = np.geomspace(1e11, 1e8, 20)
    law = Chinchilla().fit({"N": N, "D": D, "loss": 50 * N**-0.2 + 30 * D**-0.2}, holdout="none")
    assert any(flag.startswith("loss: E is not identified") for flag in law.flags())
