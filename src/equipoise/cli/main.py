"""The command `equipoise`: finds its verbs, and turns errors into one line and an exit code.

A verb is a file of this folder that defines a function of the file's name (`list_` for `list`). Only
the verb that was asked for is imported, so that help and `list` answer at once.
"""

import ast
import errno
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from equipoise import __version__
from equipoise.core.errors import unknown

FOLDER = Path(__file__).parent


@cache
def verbs() -> dict[str, tuple[str, str]]:
    """Each verb with the name of its function and the first line of that function's docstring."""
    names = (path.stem for path in sorted(FOLDER.glob("*.py")))
    return {name: found for name in names if (found := _verb(name)) is not None}


@cache
def _verb(name: str) -> tuple[str, str] | None:
    """What `verbs` has of one verb, from its file alone; None where there is none of this name."""
    path = FOLDER / f"{name}.py"
    if not name.isidentifier() or name == "main" or not path.is_file():
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.rstrip("_") == name:
            return node.name, (ast.get_docstring(node) or "").partition("\n")[0]
    return None


def _function(verb: str, name: str) -> Callable[..., Any]:
    return getattr(import_module(f"equipoise.cli.{verb}"), name)


class Verb(TyperCommand):
    """A verb whose help shows brackets as they are; typer escapes them in plain text too."""

    def get_help(self, ctx: Any) -> str:
        return super().get_help(ctx).replace("\\[", "[")


class Verbs(TyperGroup):
    """The group of all verbs, each imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(verbs())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in that carries the verb's help; `resolve_command` gives the verb itself."""
        found = _verb(cmd_name)
        return None if found is None else TyperCommand(cmd_name, help=found[1], rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        found = _verb(name)
        if found is None:
            return ctx.fail(unknown("verb", name, verbs()))
        verb = typer.Typer(add_completion=False, rich_markup_mode=None)
        verb.command(name, cls=Verb)(_function(name, found[0]))
        return name, typer.main.get_command(verb), args[1:]


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"equipoise {__version__}")
        raise typer.Exit()


@app.callback()
def equipoise(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train one model under many objectives that disagree."""


WAYS_ON = {
    errno.ENOTDIR: "a part of this path is a file: choose another",
    errno.EACCES: "choose what may be read and written, or have it permitted",
    errno.EROFS: "choose a folder that may be written",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "free some space, or choose another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
}
"""What to do about an error of the system."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line, with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename is not None else ""
        way_on = WAYS_ON.get(error.errno or 0)
        return f"{about}{error.strerror}" + (f"; {way_on}" if way_on else "")
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: Iterable[str] | None = None) -> NoReturn:
    """Run the command line: exit code 0 done, 1 failed, 2 usage."""
    try:
        typer.main.get_command(app)(
            args=None if arguments is None else list(arguments), prog_name="equipoise"
        )
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("EQUIPOISE_DEBUG") == "1":
            raise
        typer.echo(f"equipoise: {one_line(error)}", err=True)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
