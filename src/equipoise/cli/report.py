"""`equipoise report`: the report of a run folder."""

import json
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.fronts import report_fronts


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, finished or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict and table as JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also write the front as a picture.")
    ] = None,
) -> None:
    """Write the report of a run folder again, and print where it lies."""
    from equipoise.study.advice import kept
    from equipoise.study.picture import save_picture
    from equipoise.study.report import summary, write_report
    from equipoise.study.store import Store, load_run

    if Store(folder).specification().solvers:
        if picture is not None:
            raise typer.BadParameter("--picture draws the rules of a run; this folder holds fronts")
        return report_fronts(folder, as_json)
    run = load_run(folder)
    if picture is not None:
        save_picture(run, picture)
    path, found = write_report(run, kept(run)), summary(run)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    trials = found["trials"]
    if trials["ended"] < trials["planned"]:
        typer.echo(f"not finished: {trials['ended']} of {trials['planned']} trials have ended", err=True)
    for words in (found["verdict"]["sentence"], *found["cautions"]):
        typer.echo(words, err=True)
    typer.echo(path)
