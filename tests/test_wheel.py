"""Wheel and source distribution: what is in them, how large they are, the same bytes whoever builds them."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import missing

ROOT = Path(__file__).parent.parent
PARTS = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "src", "tests", "evidence")
LIMIT = 5 * 2**18
"""Bytes of a wheel: a MiB and a quarter, for nine rooms."""


def copied(folder: Path, mode: int, time: int) -> Path:
    """The sources elsewhere, of other times and rights."""
    folder.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source, folder / name)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (time, time))
    return folder


def built(folder: Path, out: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution of some sources."""
    run = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out)],
        cwd=folder,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if find_spec("hatchling") is None:
        missing("the package hatchling is not installed")
    place = tmp_path_factory.mktemp("built")
    return built(copied(place / "sources", 0o644, 1_600_000_000), place / "out")


@pytest.fixture(scope="module")
def unpacked(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(folder)
    return folder


def test_other_folders_times_and_rights_give_the_same_bytes(distributions, tmp_path):
    again = built(copied(tmp_path / "elsewhere", 0o664, 1_500_000_000), tmp_path / "out")
    for first, second in zip(distributions, again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_source_distribution_builds_the_same_wheel(distributions, tmp_path):
    wheel, source = distributions
    with tarfile.open(source) as packed:
        packed.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert built(folder, tmp_path / "out")[0].read_bytes() == wheel.read_bytes()


def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith("equipoise-")}
    source = ROOT / "src"
    whole = {
        path.relative_to(source).as_posix() for path in (source / "equipoise").rglob("*") if path.is_file()
    }
    assert names == {name for name in whole if "__pycache__" not in name and not name.endswith(".pyc")}
    assert {
        "equipoise/py.typed",
        "equipoise/study/page/report.html",
        "equipoise/study/page/report.css",
        "equipoise/study/page/report.js",
        "equipoise/problems/template.py.txt",
        "equipoise/problems/federationtemplate.py.txt",
    } <= names
    assert not [name for name in names if Path(name).name.startswith("test_") or "evidence" in name]


def test_the_wheel_is_small(distributions):
    assert distributions[0].stat().st_size < LIMIT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--version",), "equipoise "),
        (("list", "aggregation"), "UPGrad"),
        (("show", "UPGrad"), "UPGrad"),
        (("init", "problem.py"), "wrote problem.py"),
    ],
    ids=["version", "list", "show", "init"],
)
def test_the_wheel_runs_from_where_it_was_unpacked(unpacked, tmp_path, words, said):
    program = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r}); import equipoise; "
        f"assert equipoise.__file__.startswith({str(unpacked)!r}), equipoise.__file__; "
        f"from equipoise.cli.main import main; main({list(words)!r})"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert said in run.stdout + run.stderr
