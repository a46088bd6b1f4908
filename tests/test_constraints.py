"""constraints.txt serves a machine with a CPU build at hand and one that downloads alike."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ACCELERATOR = re.compile(r"nvidia-|cuda-|triton")  # the registry's build of torch pins its own


def pins() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in LINES)}


def direct() -> list[Requirement]:
    """What the package and the extras that its tests use ask for."""
    extras = PROJECT["optional-dependencies"]
    names = ("test", "docs", "dev", "federated", "examples", "lightning", "ray", "trackers")
    texts = [text for name in names for text in extras[name]]
    texts += PROJECT["dependencies"]
    return [r for r in map(Requirement, texts) if r.name != "equipoise"]


def test_every_line_is_one_public_version():
    """No local version (`+cpu`), no address, no file, no range."""
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.!]*", line)] == []


def test_torch_is_the_release_of_the_file_at_hand():
    assert pins()["torch"] == "2.13.0"


@pytest.mark.parametrize("needed", ["typer<0.21", "rich<15", "protobuf<7", "packaging<26", "ray==2.55.1"])
def test_flower_can_join(needed: str):
    """What flwr 1.41 holds back."""
    requirement = Requirement(needed)
    assert requirement.specifier.contains(pins()[requirement.name])


def test_every_direct_requirement_is_pinned_within_its_range():
    outside = [
        str(r) for r in direct() if not r.specifier.contains(pins().get(canonicalize_name(r.name), "0"))
    ]
    assert outside == []


def test_a_library_sets_no_upper_bound_on_what_it_builds_upon():
    bounded = [text for text in PROJECT["dependencies"] if "<" in text or "==" in text or "~=" in text]
    assert bounded == []


def test_everything_that_these_requirements_bring_is_pinned():
    """The tree of requirements, as the installed packages state it."""
    queue, seen = direct(), set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                texts = requires(name) or []
            except PackageNotFoundError:
                continue
            queue += [
                r
                for r in map(Requirement, texts)
                if (r.marker is None or r.marker.evaluate({"extra": extra})) and not ACCELERATOR.match(r.name)
            ]
    assert {name for name, _ in seen} - set(pins()) == set()
