"""`equipoise advise`: a short study of one's own problem, and what to do about it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli import complete
from equipoise.cli.arguments import builds, command_line, numbers, pairs


def advise(
    context: typer.Context,
    problem: Annotated[
        str,
        typer.Argument(
            help="A built-in problem, or a Python file that defines one.", autocompletion=complete.problems
        ),
    ],
    steps: Annotated[int, typer.Option(min=2, help="Steps of each training.")] = 200,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds, the same for every rule.")] = 5,
    rules: Annotated[
        str,
        typer.Option(
            help="Rules to try, as a,b,c; Mean is always among them.", autocompletion=complete.rules
        ),
    ] = "all",
    learning_rates: Annotated[
        str | None, typer.Option(help="Grid for every rule, as a,b,c; default the problem's.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set an option of the problem; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; default one for each CPU.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default runs/PROBLEM-advice.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON.")] = False,
) -> None:
    """Try every rule for a few steps on a problem, and say which to use, who loses and who conflicts where.

    Test data are not looked at. Killed or interrupted, the same command goes on where it stopped.
    """
    from equipoise.problems.registry import ProblemError
    from equipoise.study.advice import advise as find
    from equipoise.study.report import summary, write_report
    from equipoise.study.runner import run_study
    from equipoise.study.specification import specify

    folder = out or Path("runs") / f"{Path(problem).stem}-advice"
    try:
        specification = specify(
            problem,
            rules=rules,
            seeds=seeds,
            epochs=1,
            steps=steps,
            judged="validation",
            learning_rates=None if learning_rates is None else numbers(learning_rates),
            options=pairs(options or ()),
        )
    except ProblemError as error:
        if options and builds(problem):
            raise typer.BadParameter(str(error)) from error
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    command = command_line(context)
    try:
        run = run_study(
            specification, folder, workers=workers, command=command, talk="quiet" if quiet else "auto"
        )
        found = find(run)
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; what is done is kept in {folder}. To go on: {command}", err=True)
        raise typer.Exit(1) from None
    path = write_report(run, advice=found)
    if as_json:
        typer.echo(json.dumps({**summary(run), "advice": found.to_json()}, indent=2, allow_nan=False))
        return
    for sentence in found.sentences:
        typer.echo(sentence)
    failed = [result.failed for result in run.trials if result.failed is not None]
    if failed:
        typer.echo(f"{len(failed)} of {run.planned} trials failed, the first with: {failed[0]}", err=True)
    typer.echo(f"All of it rests on {steps} steps and validation data; `equipoise run` trains to the end.")
    typer.echo(f"report: {path}")
    if len(failed) == len(run.trials):
        raise typer.Exit(1)
