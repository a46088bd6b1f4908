"""`equipoise init` writes a problem, or a federation, that runs as it is."""

import subprocess
import sys

import pytest
import torch

from equipoise import backward
from equipoise.aggregation import Mean
from equipoise.cli.main import main
from equipoise.problems.registry import federation, problem


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture
def written(tmp_path, capsys):
    path = tmp_path / "problem.py"
    assert call("init", str(path)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"equipoise run {path}" in captured.err
    return path


@pytest.fixture
def written_federation(tmp_path, capsys):
    path = tmp_path / "federation.py"
    assert call("init", str(path), "--federation") == 0
    assert f"equipoise federate {path}" in capsys.readouterr().err
    return path


def test_template_trains(written):
    data = problem(written)
    data.prepare()
    torch.manual_seed(0)
    model, rule, generator = data.model(), Mean(), torch.Generator().manual_seed(0)
    optimizer = data.optimizer(model.parameters(), data.learning_rates[1])
    first = data.losses(model, next(iter(data.batches("validation", None))))
    for _ in range(3):
        for batch in data.batches("train", generator):
            step = backward(data.losses(model, batch), rule)
            optimizer.step()
            optimizer.zero_grad()
            rule.update(step)
    last = data.losses(model, next(iter(data.batches("validation", None))))
    for name in data.objectives:
        assert last[name].item() < first[name].item()
    with torch.no_grad():
        found = data.evaluate(model.eval(), "test")
    assert found["digit"] > 0.2  # ten digits: chance is 0.1
    assert 0 < found["image"] < 0.2


def test_template_splits_are_disjoint_and_whole(written):
    data = problem(written)
    sizes = {s: sum(len(y) for _, y in data.batches(s, None)) for s in ("train", "validation", "test")}
    assert sum(sizes.values()) == 1797
    assert min(sizes.values()) == 360
    first, second = (
        torch.cat([x for x, _ in data.batches("train", torch.Generator().manual_seed(seed))])
        for seed in (1, 1)
    )
    assert torch.equal(first, second)


def test_template_has_options(written):
    assert problem(written, code="5").model().classifier.in_features == 5
    with pytest.raises(ValueError, match="nearest: code"):
        problem(written, cod=5)


def averaged(found, model, split, measure):
    return {c: measure(model, found.examples(c, split)).mean().item() for c in found.clients}


def test_federation_template_trains(written_federation):
    found = federation(written_federation)
    found.prepare()
    torch.manual_seed(0)
    model = found.model()
    first = averaged(found, model, "validation", found.losses)
    for _ in range(100):
        losses = [found.losses(model, found.examples(client, "train")).mean() for client in found.clients]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(found.learning_rate * gradient)
    last = averaged(found, model, "validation", found.losses)
    assert all(last[client] < first[client] for client in found.clients)
    right = averaged(found, model, "test", found.scores)
    assert min(right.values()) > 0.8


def test_clients_of_the_federation_template_hold_all_cases_once_and_differ(written_federation):
    found = federation(written_federation, clinics="3")
    assert found.clients == ("clinic-0", "clinic-1", "clinic-2")
    held = [found.examples(c, split)[0] for c in found.clients for split in ("train", "validation", "test")]
    assert len(torch.cat(held)) == len(torch.cat(held).unique(dim=0)) == 569
    radius = [found.examples(client, "train")[0][:, 0] for client in found.clients]
    assert radius[0].max() <= radius[1].min() <= radius[1].max() <= radius[2].min()
    assert found.label_counts("clinic-2").tolist()[1] > found.label_counts("clinic-0").tolist()[1]


@pytest.mark.parametrize("template", ["written", "written_federation"])
def test_template_is_clean(template, request):
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--line-length",
            "110",
            "--select",
            "E,F,B,UP",
            request.getfixturevalue(template),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named ruff" in checked.stderr:
        pytest.skip("ruff is not installed")
    assert checked.returncode == 0, checked.stdout


def test_init_leaves_what_exists_alone(tmp_path, capsys):
    path = tmp_path / "problem.py"
    path.write_text("mine")
    assert call("init", str(path)) == 1
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_init_names_the_file_by_its_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("init") == call("init", "--federation") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["federation.py", "problem.py"]


def test_init_takes_python_files_only(tmp_path, capsys):
    assert call("init", str(tmp_path / "problem.txt")) == 2
    assert "ends in .py" in capsys.readouterr().err


def test_init_into_a_folder_that_is_not_there_fails(tmp_path):
    assert call("init", str(tmp_path / "nowhere" / "problem.py")) == 1
