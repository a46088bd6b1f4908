"""`equipoise init`: write a problem or federation file to start from."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from equipoise.core.atomic import write


def init(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="The Python file to write; default problem.py, or federation.py with --federation."
        ),
    ] = None,
    federation: Annotated[
        bool, typer.Option("--federation", help="A federation: clients with data of their own.")
    ] = False,
) -> None:
    """Write a commented problem or federation that runs as it is; a file that exists is left alone."""
    kind, template, verb = (
        ("federation", "federationtemplate.py.txt", "federate")
        if federation
        else ("problem", "template.py.txt", "run")
    )
    path = path or Path(f"{kind}.py")
    if path.suffix != ".py":
        raise typer.BadParameter(f"{path} is not a Python file; a {kind}'s name ends in .py")
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already and was left as it is; name another file")
    text = files("equipoise.problems").joinpath(template).read_text(encoding="utf-8")
    write(path, text)
    typer.echo(f"wrote {path}; to run it: equipoise {verb} {path}", err=True)
