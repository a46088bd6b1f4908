"""Trackers: what they write is read back by the tracker's own means."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

import equipoise
from equipoise.aggregation import UPGrad
from equipoise.bridges import JSONLines, MLflow, TensorBoard, Tracker

NAMES = {
    "loss/left",
    "weight/right",
    "norm/left",
    "cosine/left:right",
    "conflict/share",
    "layer/0/worst_cosine",
}


def step(observers, value=0.0):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2))
    out = net(torch.ones(1, 3))
    losses = {"left": (out[0, 0] - 1 - value).square(), "right": (out[0, 0] + out[0, 1] + 1).square()}
    return equipoise.backward(losses, UPGrad(), parameters=net, observers=observers)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_have_the_scalars_of_each_step(tmp_path):
    path = tmp_path / "new" / "steps.jsonl"
    with JSONLines(path) as log:
        seen = [step(log, value) for value in (0.0, 1.0)]
        log.stepped(seen[1], {"left": 0.25})
    found = lines(path)
    assert [record["step"] for record in found] == [0, 1, 1]
    assert found[2] == {"step": 1, "equipoise/loss_after/left": 0.25}
    told = {f"equipoise/{name}": value for name, value in equipoise.scalars(seen[1]).items()}
    assert found[1] == {"step": 1, **told}
    assert {f"equipoise/{name}" for name in NAMES} <= told.keys()


def test_json_lines_of_a_run_that_was_killed_go_on_with_each_step_once(tmp_path):
    path = tmp_path / "steps.jsonl"
    log = JSONLines(path)
    for value in range(4):
        step(log, value)
    with path.open("a") as file:
        file.write('{"step": 4, "equipo')
    again = JSONLines(path, layers=False)
    again.load_state_dict({"number": 2})
    step(again, 7.0)
    again.close()
    assert [record["step"] for record in lines(path)] == [0, 1, 2]
    assert "equipoise/layer/0/share" not in lines(path)[-1]


def test_json_lines_refuse_a_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\nworld\n")
    with pytest.raises(ValueError, match=r"notes\.txt, line 1, is no step"):
        step(JSONLines(path, number=3))
    assert path.read_text() == "hello\nworld\n"


def test_what_is_not_finite_is_null(tmp_path):
    log = JSONLines(tmp_path / "steps.jsonl")
    log.log({"a": float("nan"), "b": float("-inf"), "c": 1.0}, 0)
    assert lines(tmp_path / "steps.jsonl") == [{"step": 0, "a": None, "b": None, "c": 1.0}]


def test_one_step_of_so_many_is_written(tmp_path):
    with JSONLines(tmp_path / "steps.jsonl", every=3) as log:
        for _ in range(7):
            log.stepped(step(log), {"left": 0.0})
    assert [record["step"] for record in lines(tmp_path / "steps.jsonl")] == [0, 0, 3, 3, 6, 6]


def test_tensorboard_is_read_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoard(tmp_path) as log:
        seen = [step(log, value) for value in (0.0, 1.0, 2.0)]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {f"equipoise/{name}" for name in NAMES} <= set(events.Tags()["scalars"])
    found = events.Scalars("equipoise/loss/left")
    assert [(one.step, one.value) for one in found] == [
        (number, pytest.approx(float(one.losses[0]))) for number, one in enumerate(seen)
    ]


def test_mlflow_is_read_back_from_its_sqlite_store(tmp_path):
    import mlflow

    store = f"sqlite:///{tmp_path}/runs.db"
    with MLflow(tracking_uri=store, experiment="conflict", run_name="first") as log:
        seen = [step(log, value) for value in (0.0, 1.0)]
        log.log({"equipoise/loss/a~b": 3.0}, 1)
    client = mlflow.MlflowClient(tracking_uri=store)
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert {f"equipoise/{name}" for name in NAMES} <= run.data.metrics.keys()
    history = client.get_metric_history(log.run_id, "equipoise/weight/right")
    assert [(one.step, one.value) for one in history] == [
        (number, pytest.approx(float(one.weights[1]))) for number, one in enumerate(seen)
    ]
    assert run.data.metrics["equipoise/loss/a_b"] == 3.0
    assert run.data.tags["equipoise.renamed"] == "equipoise/loss/a_b = equipoise/loss/a~b"


def in_process(program, folder, **variables):
    """What a program prints that runs in an interpreter and a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def records(content, block=32768):
    """The records of a run's file: a log of LevelDB's form, here of whole records in one block."""
    assert content[:4] == b":W&B"
    assert len(content) < block
    place = 7
    while place < len(content):
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        assert kind == 1
        yield content[place + 7 : place + 7 + length]
        place += 7 + length


def test_wandb_is_offline_and_read_back(tmp_path):
    in_process(
        """
        from equipoise.bridges import Wandb
        with Wandb(project="conflict") as log:
            log.log({"equipoise/loss/left": 0.5}, 0)
            log.log({"equipoise/loss/left": 0.25}, 1)
        """,
        tmp_path,
        WANDB_DIR=str(tmp_path),
    )
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for data in records(record.read_bytes()):
        one = Record()
        one.ParseFromString(data)
        if one.WhichOneof("record_type") == "history":
            found.append({"".join(item.nested_key) or item.key: item.value_json for item in one.history.item})
    assert [(row["equipoise/step"], row["equipoise/loss/left"]) for row in found] == [
        ("0", "0.5"),
        ("1", "0.25"),
    ]


def test_trackio_is_read_back(tmp_path):
    printed = in_process(
        """
        from equipoise.bridges import Trackio
        with Trackio("conflict", name="first") as log:
            log.log({"equipoise/loss/left": 0.5}, 0)
            log.log({"equipoise/loss/left": 0.25}, 1)
        from trackio.sqlite_storage import SQLiteStorage
        rows = SQLiteStorage.get_logs("conflict", "first")
        print("rows", [(row["step"], row["equipoise/loss/left"]) for row in rows])
        """,
        tmp_path,
        TRACKIO_DIR=str(tmp_path / "kept"),
    )
    assert "rows [(0, 0.5), (1, 0.25)]" in printed


def test_packages_are_imported_when_asked_for():
    program = """
        import sys
        import equipoise.bridges
        from equipoise.bridges import JSONLines
        heavy = {"mlflow", "wandb", "trackio", "tensorboard", "lightning", "transformers"}
        print(sorted(heavy & sys.modules.keys()))
        """
    assert in_process(program, ".").strip() == "[]"


@pytest.mark.parametrize(
    ("name", "package"), [("MLflow", "mlflow"), ("Wandb", "wandb"), ("TensorBoard", "tensorboard")]
)
def test_a_missing_package_names_the_extra(monkeypatch, tmp_path, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    made = {"MLflow": MLflow, "TensorBoard": lambda: TensorBoard(tmp_path)}
    made["Wandb"] = lambda: equipoise.bridges.Wandb()
    with pytest.raises(ImportError, match=r"pip install 'equipoise\[trackers\]'"):
        made[name]()


def test_options_out_of_range_and_a_closed_tracker_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every is 0"):
        JSONLines(tmp_path / "a", every=0)
    log = JSONLines(tmp_path / "a")
    log.close()
    log.close()
    with pytest.raises(ValueError, match="JSONLines was closed"):
        step(log)
    assert issubclass(JSONLines, Tracker)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        step(JSONLines(tmp_path / "file" / "steps.jsonl"))
