"""How a mistake is noted, and how a command is run as a user runs it."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from equipoise.cli.main import main

ROOT = Path(__file__).parent.parent.parent
LIMIT = """import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""
"""A file cannot grow beyond so many bytes, as on a disk that has no more."""

POWERLESS = """import ctypes
header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, nothing) == 0
"""
"""The capabilities of root given up, so that the modes of files hold for it too; Linux alone has them."""

GROUPS: dict[str, list[Callable[[], object]]] = {}
"""The mistakes, by the group they stand in, in the order of the page."""


class Refused(Exception):
    """What a command line said, and what was done before and typed."""

    def __init__(self, shown: str, said: str) -> None:
        super().__init__(said)
        self.shown = shown


def mistake(group: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Note a function that makes a mistake in a group; its docstring is the title."""

    def note(function: Callable[[], object]) -> Callable[[], object]:
        GROUPS.setdefault(group, []).append(function)
        return function

    return note


def command(
    *words: str,
    files: Mapping[str, str] | None = None,
    after: Sequence[str] = (),
    variables: Mapping[str, str | None] | None = None,
    first: str = "",
    shown: str = "",
) -> None:
    """Run `equipoise` with these words; raise what it said where it fails.

    files: name -> content, written and shown before. after: the words of a command that is run before and
    goes well. variables: of the environment, None for one that is unset. first: statements of Python that are
    run before the command, in a process of its own; without them the command runs in this one. shown: a line
    that says what was done before.
    """
    typed = [f"$ {shown}"] if shown else []
    for name, content in (files or {}).items():
        Path(name).write_text(content, encoding="utf-8")
        typed += [f"$ cat {name}", content.rstrip("\n")]
    if after:
        code, said = _here(after, {})
        assert code == 0, said
        typed.append(f"$ equipoise {' '.join(after)}")
    told = {name: value for name, value in (variables or {}).items() if value is not None}
    line = " ".join([*(f"{name}={value}" for name, value in told.items()), "equipoise", *words])
    code, said = _elsewhere(words, first) if first else _here(words, variables or {})
    if code != 0:
        raise Refused("\n".join([*typed, f"$ {line}"]), said)


def _here(words: Sequence[str], variables: Mapping[str, str | None]) -> tuple[int, str]:
    """The command in this process: its exit code, and what it wrote to the error stream."""
    before = dict(os.environ)
    os.environ.update({"COLUMNS": "100", "NO_COLOR": "1"})
    for name, value in variables.items():
        os.environ.pop(name, None)
        os.environ.update({} if value is None else {name: value})
    said, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            main(list(words))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        return code, errors.getvalue()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _elsewhere(words: Sequence[str], first: str) -> tuple[int, str]:
    """The same in a process of its own, after some statements."""
    program = f"{first}\nfrom equipoise.cli.main import main\nmain({list(words)!r})\n"
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr


def without(package: str) -> str:
    """Statements after which a package is not to be found, as where it was never installed."""
    return f"""import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
