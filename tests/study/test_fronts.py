"""`equipoise run --front`: fronts traced, compared in one box, resumed, and shown."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.command import equipoise
from tests.study.command import TINY, kill, start, wait_until

from equipoise.core.front import Front
from equipoise.core.indicators import igd_plus, nondominated
from equipoise.pareto.landscapes import ZDT1
from equipoise.study.analysis import Spread
from equipoise.study.frontpage import sentence
from equipoise.study.fronts import Fronts, Row, gather
from equipoise.study.specification import specify
from equipoise.study.store import Store

ASKED = ("--front", "EPO,ParetoMTL", "--seeds", "2", "--budget", "160", "--points", "4", "--workers", "2")


def spread_of(values) -> Spread:
    found = Spread.of(values)
    assert found is not None
    return found


ONE = spread_of([0.5])
ROW = Row("A", 0.1, "", ONE, ONE, ONE, None, ONE, 100, 1.0, 0.5, 0, {0: 0.5}, {})
FOUND = Fronts(specify("zdt1", solvers="EPO"), Path(), (ROW,), (), np.zeros(2), np.ones(2), None, 1, 1)


@pytest.fixture(scope="module")
def analytic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zdt1")
    said = equipoise("run", "zdt1", "--out", str(folder), *ASKED, "--quiet", "--json").stdout
    return folder, json.loads(said)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wine")
    said = equipoise("run", str(TINY), "--out", str(folder), *ASKED, "--quiet", "--json").stdout
    return folder, json.loads(said)


def test_every_solver_is_measured_against_the_known_front(analytic):
    folder, found = analytic
    assert found["reference_front"] == "known"
    assert {row["solver"] for row in found["solvers"]} == {"EPO", "ParetoMTL"}
    known = ZDT1().front(500).numpy()
    scale = known.max(0) - known.min(0)
    for row in found["solvers"]:
        points = [(np.array(one["points"]) - known.min(0)) / scale for one in row["fronts"]]
        values = [igd_plus(one, (known - known.min(0)) / scale) for one in points]
        assert row["igd_plus"]["mean"] == pytest.approx(np.mean(values))
        assert row["gradients"] <= 160
        assert all(len(one["gaps"]) == len(one["points"]) for one in row["fronts"])
        assert all(0 <= gap <= 1 for one in row["fronts"] for gap in one["gaps"])
    assert folder.joinpath("front.safetensors").exists()


def test_solvers_are_ranked_by_the_share_of_the_box(analytic):
    _, found = analytic
    shares = [row["hypervolume"]["mean"] for row in found["solvers"]]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share < 1 for share in shares)
    box = np.array(found["reference"]) - np.array(found["ideal"])
    assert prod(box) == pytest.approx(1.1**2)


def test_the_learning_rate_is_chosen_on_validation_data_alone(trained):
    folder, _ = trained
    store = Store(folder)
    asked = store.specification()
    fronts = {r.trial: store.read_front(r.trial) for r in store.results()}
    assert len(fronts) == 2 * 2 * len(asked.learning_rates)
    apart = [not np.allclose(f.record["validation"], f.points.numpy()) for f in fronts.values()]
    assert all(apart), "validation and test points are the same"
    before = {row.solver: row.learning_rate for row in gather(folder).rows}
    trial, front = next(iter(fronts.items()))
    Front(front.names, front.points - 100, front.weights, front.solutions, front.record).save(
        store.trial_folder(trial) / "front.safetensors"
    )
    assert {row.solver: row.learning_rate for row in gather(folder).rows} == before
    front.save(store.trial_folder(trial) / "front.safetensors")


def test_the_solutions_are_models_of_the_problem(trained):
    folder, _ = trained
    front = Front.load(folder / "front.safetensors")
    problem = Store(folder).specification().build_problem()
    model = problem.model()
    picked = front.pick([0.5, 0.5])
    assert picked.solution is not None
    model.load_state_dict(picked.solution)
    with torch.no_grad():
        assert set(problem.evaluate(model.eval(), "test")) == set(front.names)


def test_the_page_shows_each_solver(analytic):
    folder, found = analytic
    page = (folder / "report.html").read_text(encoding="utf-8")
    figures = page.partition('id="figures">')[2].partition("</script>")[0]
    drawn = {trace["name"] for trace in json.loads(figures)["fronts"]["data"]}
    assert drawn == {"EPO", "ParetoMTL", "the known front"}
    assert found["solvers"][0]["solver"] in page.partition("<h1")[2].partition("</h1>")[0]
    assert "the known front in closed form" in page


def test_killed_and_called_again_no_front_is_traced_twice(tmp_path):
    out = tmp_path / "run"
    study = ("--front", "EPO,ParetoMTL", "--seeds", "3", "--budget", "400", "--points", "4", "--workers", "1")
    process = start(out, study=study)
    wait_until(lambda: len(list(out.glob("trials/*/done"))) >= 2)
    kill(process)
    first = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/front.safetensors")}
    equipoise("run", str(TINY), "--out", str(out), *study, "--quiet")
    assert len(list(out.glob("trials/*/done"))) == 2 * 3 * 2
    kept = {p for p in first if (p.parent / "done").exists()}
    assert sum(p.stat().st_mtime_ns == first[p] for p in kept) >= 2


def test_report_writes_the_page_of_fronts_again(analytic):
    folder, found = analytic
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    again = json.loads(equipoise("report", str(folder), "--json").stdout)
    assert again == found
    assert (folder / "report.html").read_bytes() == page


def test_the_front_that_is_kept_was_chosen_on_validation_data(trained):
    folder, _ = trained
    found, front = gather(folder), Front.load(folder / "front.safetensors")
    best = max(found.rows, key=lambda row: row.validation)
    assert front.record["solver"] == best.solver
    validation = np.array(front.record["validation"])
    assert len(validation) == len(front) == len(front.record["gaps"])
    assert nondominated(validation).all()


def made(shares: dict[str, list[float]]) -> Fronts:
    """Fronts with these volumes, seed by seed."""
    rows = [
        replace(ROW, solver=name, volumes=dict(enumerate(values)), hypervolume=spread_of(values))
        for name, values in shares.items()
    ]
    return replace(FOUND, rows=tuple(rows))


def test_a_leader_is_named_only_beyond_chance():
    far = made({"A": [0.6, 0.61, 0.62], "B": [0.5, 0.51, 0.515], "C": [0.4, 0.42, 0.41]})
    near = made({"A": [0.6, 0.5, 0.7], "B": [0.5, 0.6, 0.65]})
    one = made({"A": [0.6], "B": [0.5]})
    none = made({"A": [0.0, 0.0], "B": [0.0, 0.0]})
    assert far.leads()
    assert sentence(far).startswith("A dominates more than any other")
    for found in (near, one):
        assert not found.leads()
        assert sentence(found).startswith("No solver is ahead beyond chance")
    assert sentence(none).startswith("No solver came near")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zdt1", "--front", "EPO", "--rules", "MGDA"), "--front compares none"),
        (("zdt1",), "trace it by equipoise run zdt1 --front all"),
        (("zdt1", "--front", "EPA"), "EPO"),
        (("zdt1", "--budget", "100"), "name solvers with --front"),
        (("zdt1", "--front", "EPO", "--set", "d=3"), "no options"),
        (("zdt9", "--front", "EPO"), "zdt"),
    ],
)
def test_what_cannot_be_traced_is_refused(arguments, said, tmp_path):
    done = equipoise("run", *arguments, "--out", str(tmp_path / "run"), code=2)
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_budget_too_small_is_a_failed_front_and_says_why(tmp_path):
    asked = ("--front", "EPO", "--seeds", "1", "--budget", "3", "--quiet", "--out", str(tmp_path / "run"))
    done = equipoise("run", "zdt1", *asked, code=1)
    assert "budget of 3 gradients is too small" in done.stderr


def test_more_objectives_than_a_volume_can_have_are_refused(tmp_path):
    path = tmp_path / "many.py"
    text = TINY.read_text().replace('("grower", "colour")', 'tuple(f"o{i}" for i in range(11))', 1)
    path.write_text(
        text.replace(
            '"grower": Metric("accuracy", "higher"),',
            '**{f"o{i}": Metric("a", "lower") for i in range(11)},',
            1,
        ).replace('"colour": Metric("cross-entropy", "lower"),', "", 1)
    )
    with pytest.raises(ValueError, match="beyond 10 objectives"):
        specify(str(path), solvers="EPO")


def test_a_specification_of_fronts_has_no_rules():
    made = specify("dtlz2", solvers="all", seeds=2)
    assert made.rules == ()
    assert len(made.objectives) == 3
    assert {"EPO", "ParetoMTL"} <= set(made.solvers)
    assert type(made).from_toml(made.to_toml()) == made
