"""`equipoise federate init`: what it writes, and what it leaves alone."""

import ast
import tomllib
from pathlib import Path

import pytest

from equipoise.cli.federateapp import write_app
from equipoise.cli.main import main


def test_the_app_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "Our Clinics-2"
    with pytest.raises(SystemExit) as ended:
        main(["federate", "init", str(folder)])
    assert ended.value.code == 0
    assert "README.md" in capsys.readouterr().out
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "our-clinics-2"
    app = project["tool"]["flwr"]["app"]
    for component in app["components"].values():
        module, _, name = component.partition(":")
        tree = ast.parse((folder / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        targets = [
            t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
        ]
        assert name in targets
    texts = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    for key in app["config"]:
        assert f'config["{key}"]' in texts, f"{key} is offered and not used"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for command in ("flwr run . local", "flower-superlink", "flower-supernode", "FLWR_TELEMETRY_ENABLED=0"):
        assert command in readme
    assert "{" not in readme.replace("{}", "")


def test_what_server_and_clients_share_follows_the_configuration(tmp_path: Path):
    write_app(tmp_path / "app")
    told = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text(encoding="utf-8"))
    config = told["tool"]["flwr"]["app"]["config"] | {
        "options": "client_count=4 split=classes",
        "algorithm": "FedProx:mu=0.5",
        "seed": 3,
    }
    space: dict = {}
    exec((tmp_path / "app" / "app" / "parts.py").read_text(encoding="utf-8"), space)
    parts = space["parts"](config)
    assert len(parts.federation.clients) == 4
    assert parts.federation.split == "classes"
    assert parts.algorithm.client.mu == 0.5
    assert (parts.seed, parts.local.batch_size) == (3, 32)


def test_a_file_that_exists_is_left_as_it_is_and_nothing_is_written(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"README\.md exists already"):
        write_app(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_whose_name_makes_no_package_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="begin with a letter"):
        write_app(tmp_path / "2026")
    assert not (tmp_path / "2026").exists()
