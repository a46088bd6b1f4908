import subprocess
import sys

import pytest

from equipoise.core.atomic import write, write_as, writing


def test_a_file_appears_whole(tmp_path):
    write(tmp_path / "a.txt", "first")
    write(tmp_path / "a.txt", b"second")
    assert (tmp_path / "a.txt").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def fail_half_way(path):
    with writing(path) as file:
        file.write(b"half")
        raise RuntimeError("stop")


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    write(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write(target, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from equipoise.core.atomic import writing\n"
        "with writing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    assert target.read_text() == "old"


def unwanted():
    raise AssertionError("a form was made that nobody asked for")


@pytest.mark.parametrize(("name", "wanted"), [("a.html", ".html"), ("a.HTM", ".html"), ("a.json", ".json")])
def test_the_ending_says_which_form_is_written(tmp_path, name, wanted):
    forms = {".html": unwanted, ".json": unwanted, wanted: lambda: "asked for"}
    write_as(str(tmp_path / name), "a ranking", forms)
    assert (tmp_path / name).read_text() == "asked for"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("endings", "said"),
    [([".html", ".svg", ".json"], r"\.html, \.svg or \.json"), ([".json"], r"written as \.json")],
)
def test_another_ending_is_refused_before_anything_is_made(tmp_path, endings, said):
    with pytest.raises(ValueError, match=rf"a ranking is .*{said}, and .*a\.txt ends otherwise"):
        write_as(tmp_path / "a.txt", "a ranking", dict.fromkeys(endings, unwanted))
    assert not [*tmp_path.iterdir()]
