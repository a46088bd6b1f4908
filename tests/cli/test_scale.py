"""`equipoise scale`: from a table of thirty runs to a mixture, and what it refuses."""

import contextlib
import csv
import io
import json
from types import SimpleNamespace

import pytest
from tests.cli.command import equipoise as process
from tests.scaling.test_optimum import invented

from equipoise.cli.main import main


def equipoise(*arguments, code=0):
    """The command in this process, which has imported what it needs; the first test starts one of its own."""
    said, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as end,
    ):
        main(list(arguments))
    assert (end.value.code or 0) == code, f"{said.getvalue()}\n{errors.getvalue()}"
    return SimpleNamespace(stdout=said.getvalue(), stderr=errors.getvalue())


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Thirty runs of three sources with a little noise, as a file."""
    runs, path = invented(noise=0.003, count=30), tmp_path_factory.mktemp("runs") / "runs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "p.a", "p.b", "p.c", "loss.a", "loss.b", "loss.c"])
        for seed, ratios, losses in zip(runs.seed, runs.features.p, runs.losses, strict=True):
            writer.writerow([seed, *ratios, *losses])
    return path


def test_laws_are_compared_and_the_best_one_chooses_a_mixture(table):
    said = json.loads(process("scale", "compare", str(table), "--weights", "c=3", "--json").stdout)
    laws = [row["law"] for row in said["comparison"]["laws"]]
    assert laws[0] == said["law"]
    assert laws.index("FamilyLaw") < laws.index("LinearMixing")
    assert sum(said["p"].values()) == pytest.approx(1)
    assert said["sentence"].startswith("Take this mixture")


def test_a_law_is_fitted_saved_and_asked(table, tmp_path):
    out = tmp_path / "law.json"
    said = json.loads(
        equipoise("scale", "fit", str(table), "--law", "family-law", "--out", str(out), "--json").stdout
    )
    assert said["losses"]["a"]["coefficients"]["gamma"] == pytest.approx(0.07, abs=0.01)
    assert json.loads(out.read_text(encoding="utf-8"))["law"] == "FamilyLaw"
    told = equipoise(
        "scale", "predict", str(table), "--law", "OwnTokens", "--p", "a=0.5,b=0.3,c=0.2", "--json"
    ).stdout
    low, high = json.loads(told)["a"]["bounds"]
    assert low < json.loads(told)["a"]["loss"] < high


def test_a_gain_below_the_error_of_the_law_ends_with_code_3(table):
    said = equipoise("scale", "optimum", str(table), "--law", "linear-mixing", code=3)
    assert "exceeds the gain" in said.stderr


def test_a_saved_law_is_asked_and_a_report_written(table, tmp_path):
    law, page = tmp_path / "law.json", tmp_path / "report.html"
    equipoise("scale", "fit", str(table), "--law", "family-law", "--out", str(law), "--html", str(page))
    assert page.stat().st_size > 1e6
    said = json.loads(equipoise("scale", "optimum", str(law), "--weights", "c=3", "--json").stdout)
    assert said["law"] == "FamilyLaw"
    told = equipoise("scale", "fit", str(law), code=2).stderr.replace("│", " ")
    assert "is fitted already" in " ".join(told.split())


def test_a_budget_is_spent(table, tmp_path):
    with table.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    path = tmp_path / "budget.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*header, "D"], *([*row, 1e6 + 1e3 * i] for i, row in enumerate(rows))])
    asked = (
        "scale",
        "optimum",
        str(path),
        "--law",
        "own-tokens",
        "--costs",
        "a=1,b=2,c=4",
        "--budget",
        "1e6",
    )
    said = json.loads(equipoise(*asked, "--json").stdout)
    assert sum(said["money"].values()) == pytest.approx(1e6)


MODEL = """
import torch

def make(width):
    return torch.nn.Sequential(
        torch.nn.Linear(6, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU(),
        torch.nn.Linear(width, 3))

def batches():
    drawn = torch.Generator().manual_seed(0)
    for _ in range(4):
        x = torch.randn(32, 6, generator=drawn)
        yield x, x[:, :3].argmax(1)
"""


def test_a_model_is_checked_at_several_widths(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL, encoding="utf-8")
    given = ("scale", "mup-check", f"{path}:make", "--widths", "32,256", "--lr", "0.001")
    said = json.loads(equipoise(*given, "--json").stdout)
    assert said["muP"]["ok"]
    assert said["standard"]["faults"]
    told = equipoise("scale", "mup-check", f"{path}:build", code=2).stderr.replace("│", " ")
    assert "has no function 'build'" in " ".join(told.split())


def test_a_plan_is_a_table_to_run():
    rows = list(
        csv.DictReader(equipoise("scale", "plan", "--sources", "en,de", "--budget", "6").stdout.splitlines())
    )
    assert len(rows) == 6
    assert float(rows[0]["p.en"]) == 0.5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("scale", "fit"), "fit takes a table of runs"),
        (("scale", "plan"), "plan takes --sources"),
        (("scale", "plan", "--sources", "a,b", "--budget", "6.5"), "a whole number of runs"),
        (("scale", "optimum", "TABLE", "--costs", "a=1"), "--costs and --budget go together"),
        (("scale", "optimum", "TABLE", "--costs", "a=1", "--budget", "9", "--caps", "a=1"), "do not go with"),
        (("scale", "fit", "TABLE", "--html", "page.txt"), "does not end in .html"),
        (("scale", "fit", "TABLE", "--law", "chinchila"), "nearest: Chinchilla"),
        (("scale", "optimum", "TABLE", "--minimise", "tchebychef"), "nearest: Tchebycheff"),
        (("scale", "optimum", "TABLE", "--law", "familylaw", "--weights", "c"), "'c' is not NAME=NUMBER"),
    ],
)
def test_what_is_not_understood_is_told(table, arguments, told):
    given = [str(table) if word == "TABLE" else word for word in arguments]
    assert told in " ".join(equipoise(*given, code=2).stderr.split())
