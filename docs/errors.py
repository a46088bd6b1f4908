"""The page of mistakes, each really made, with what is said about it: docs/errors.md.

    python -m docs.errors

A mistake is a function of docs/mistakes/ that makes it in an empty folder; the code shown is its own.
"""

import inspect
import re
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import torch
from docs.mistakes import commands, files, losses, rules, training
from docs.mistakes.making import GROUPS, ROOT, Refused

from equipoise.core.atomic import write

PAGE = ROOT / "docs" / "errors.md"
WIDTH = 96
ORDER = (
    losses.LOSSES,
    losses.GRAPHS,
    rules.RULES,
    rules.OPTIONS,
    commands.NAMES,
    commands.COMMANDS,
    commands.PROBLEMS,
    files.MODELS,
    files.TABLES,
    files.DISKS,
)


@dataclass(frozen=True)
class Mistake:
    """A mistake with what was shown of it and what was said."""

    title: str
    shown: str
    said: str

    def text(self) -> str:
        """Its part of the page."""
        language = "console" if self.shown.startswith("$") else "python"
        said = "\n".join(map(_wrapped, self.said.splitlines()))
        return f"### {self.title}\n\n```{language}\n{self.shown}\n```\n\n```text\n{said}\n```\n"


def made(function: Callable[[], object]) -> Mistake:
    """Make a mistake in an empty folder, and note what is said.

    Raises AssertionError where nothing is.
    """
    title = inspect.getdoc(function) or ""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        try:
            function()
        except Refused as refused:
            return Mistake(title, refused.shown, plain(str(refused), folder))
        except Exception as error:
            notes = getattr(error, "__notes__", ())
            said = "\n".join([f"{type(error).__name__}: {error}", *notes])
            return Mistake(title, code(function), plain(said, folder))
    raise AssertionError(f"nothing was said about: {title}")


def code(function: Callable[[], object]) -> str:
    """What a function does, without its docstring."""
    lines = inspect.getsource(function).splitlines()
    first = next(i for i, line in enumerate(lines) if line.endswith('"""')) + 1
    return textwrap.dedent("\n".join(lines[first:])).strip()


def plain(said: str, folder: str) -> str:
    """Without the folders of this machine and the numbers of processes and addresses."""
    for place in (str(Path(folder).resolve()), folder, str(ROOT)):
        said = said.replace(f"{place}/", "").replace(place, ".")
    said = re.sub(r"\.\d+\.part", ".part", said)
    said = re.sub(r"0x[0-9a-f]+", "0x...", said)
    return "\n".join(line.rstrip() for line in said.expandtabs(4).strip().splitlines())


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return "\n".join(
        textwrap.wrap(line, WIDTH, break_on_hyphens=False, break_long_words=False, subsequent_indent=indent)
    )


def part(group: str) -> str:
    """One group of the page, its mistakes made."""
    return "\n".join([f"## {group}\n", *(made(function).text() for function in GROUPS[group])])


def page(parts: dict[str, str]) -> str:
    """The page from its groups."""
    count = sum(map(len, GROUPS.values()))
    top = f"""\
# Mistakes and their messages

{count} mistakes, each really made, and what is said about it. A message says what was received, what is at
fault by name, and what to do. An error in Python is shown by its last line, without the traceback. The
command prints one line and exits with 1, or with 2 and its usage where the words typed do not fit;
`EQUIPOISE_DEBUG=1` shows the traceback. `python -m docs.errors` writes this page.

In what follows

```python
{training.SHOWN}
```
"""
    return "\n".join([top, *(parts[group] for group in ORDER)])


if __name__ == "__main__":
    write(PAGE, page({group: part(group) for group in ORDER}))
