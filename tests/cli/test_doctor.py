"""`equipoise doctor` says what is there and what is missing."""

import json
import subprocess
import sys

import torch
from tests.cli.command import equipoise

from equipoise import __version__
from equipoise.cli.doctor import page, requirements
from equipoise.problems.data import FILES


def test_it_tells_versions_devices_extras_and_data(tmp_path):
    found = json.loads(equipoise("doctor", "--json", environment={"EQUIPOISE_DATA": str(tmp_path)}).stdout)
    assert found["equipoise"] == __version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["devices"][0].startswith("cpu")
    assert {"federated", "hf", "lightning", "ray", "trackers"} <= found["extras"].keys()
    assert not {"dev", "test", "peers"} & found["extras"].keys()
    assert found["broken"] == []
    assert all(
        found["data"][name] == f"missing: {tmp_path / folder / file}"
        for name, (folder, file) in FILES.items()
    )


def test_data_that_are_there_are_found(tmp_path):
    folder, file = FILES["sarcos"]
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_bytes(b"")
    said = equipoise("doctor", environment={"EQUIPOISE_DATA": str(tmp_path)}).stdout
    assert f"sarcos: {tmp_path / folder / file}" in said
    assert "adult: missing: " in said
    assert "digits-pairs, digits-clients: ship with scikit-learn" in said


def test_a_missing_extra_says_how_to_install_it():
    base, extras = requirements()
    assert "flwr" in extras["federated"]
    machine = {"equipoise": "1", "python": "3", "system": "s", "cpus": 1, "memory_gb": 1.0}
    found = {
        "packages": {**base, "scipy": None},
        "extras": {"federated": {"flwr": None}},
        "broken": ["scipy"],
    }
    facts = {**machine, **found, "threads": {}, "devices": [], "data": {}}
    said = page(facts)
    assert "without flwr: pip install 'equipoise[federated]'" in said
    assert "scipy MISSING" in said
    assert "Required and missing: scipy" in said


def test_a_base_that_does_not_import_is_told_with_all_else():
    program = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from equipoise.cli.main import main; main(['doctor'])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"equipoise {__version__}" in run.stdout
    assert "Extras" in run.stdout
    assert "no device" in run.stdout
    assert "Required and missing: torch (does not import: " in run.stdout
    assert "numpy (does not import: " in run.stdout


def test_it_imports_no_extra():
    program = (
        "import sys; from equipoise.cli.doctor import examined; examined()\n"
        "print({'ray', 'transformers', 'lightning', 'mlflow'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
