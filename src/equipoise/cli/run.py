"""`equipoise run`: train one problem with every rule, and say which to use."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli import complete
from equipoise.cli.arguments import builds, command_line, numbers, pairs
from equipoise.cli.fronts import report_fronts


class EngineName(StrEnum):
    """Where trials run."""

    local = "local"
    ray = "ray"


class Private(StrEnum):
    """What the parameters of a single objective get."""

    own = "own"
    weighted = "weighted"


def run(
    context: typer.Context,
    problem: Annotated[
        str,
        typer.Argument(
            help="A built-in problem, or a Python file that defines one.", autocompletion=complete.problems
        ),
    ],
    rules: Annotated[
        str,
        typer.Option(
            help="Rules to compare, as a,b,c; Mean is always among them.", autocompletion=complete.rules
        ),
    ] = "all",
    front: Annotated[
        str,
        typer.Option(
            metavar="SOLVERS",
            help="Trace the front by these solvers, as a,b,c or all, and compare no rules.",
            autocompletion=complete.solvers,
        ),
    ] = "",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Gradients for each front; default as many as eleven trainings take."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Solutions of each front; default the solver's.")
    ] = None,
    preferences: Annotated[
        int,
        typer.Option(
            min=1, help="Preferences for each rule that takes one, spread evenly; 1 is the uniform."
        ),
    ] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for each configuration.")] = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; default the problem's.")
    ] = None,
    learning_rates: Annotated[
        str | None, typer.Option(help="Grid for every rule, as a,b,c; default the problem's.")
    ] = None,
    private: Annotated[
        Private,
        typer.Option(
            help="Gradient of parameters that one objective alone reaches: its own, or times its weight."
        ),
    ] = Private.own,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set an option of the problem; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; default one for each CPU. Changes no result.")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Worker processes here, or tasks on a Ray cluster.")] = (
        EngineName.local
    ),
    address: Annotated[
        str | None, typer.Option(help="An existing Ray cluster: auto or HOST:PORT; default a local one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/PROBLEM.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict and table as JSON.")] = False,
) -> None:
    """Train one problem with every rule, on equal terms, and report which rule to use; or trace its front.

    Killed or interrupted, the same command goes on where it stopped.
    """
    from equipoise.problems.registry import ProblemError
    from equipoise.study.runner import run_study
    from equipoise.study.specification import specify

    if not front and (budget is not None or points is not None):
        raise typer.BadParameter("--budget and --points are for fronts; name solvers with --front")
    if front and (rules != "all" or preferences != 1 or private is not Private.own):
        raise typer.BadParameter("--rules, --preferences and --private are for rules; --front compares none")
    folder = out or Path("runs") / f"{Path(problem).stem}{'-front' if front else ''}"
    command = command_line(context)
    try:
        specification = specify(
            problem,
            rules=rules,
            preferences=preferences,
            seeds=seeds,
            epochs=epochs,
            learning_rates=None if learning_rates is None else numbers(learning_rates),
            private=private.value,
            solvers=front,
            budget=budget,
            points=points,
            options=pairs(options or ()),
        )
    except ProblemError as error:
        if options and builds(problem):  # so it is the options that it refuses
            raise typer.BadParameter(str(error)) from error
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        finished = run_study(
            specification,
            folder,
            workers=workers,
            engine=engine.value,
            address=address,
            command=command,
            talk="quiet" if quiet else "auto",
        )
        report_fronts(folder, as_json) if front else _report(finished, as_json)
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; what is done is kept in {folder}. To go on: {command}", err=True)
        raise typer.Exit(1) from None


def _report(finished: Any, as_json: bool) -> None:
    from equipoise.study.report import summary, write_report

    path, found = write_report(finished), summary(finished)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        typer.echo(found["verdict"]["sentence"])
        typer.echo(f"report: {path}")
        for caution in found["cautions"]:
            typer.echo(caution, err=True)
    failed = [result.failed for result in finished.trials if result.failed is not None]
    if failed:
        typer.echo(f"{len(failed)} of {finished.planned} trials failed; the report says why", err=True)
    if len(failed) == len(finished.trials):
        typer.echo(f"every trial failed, the first with: {failed[0]}", err=True)
        raise typer.Exit(1)
