"""`equipoise federate`: many clients, one model."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli import complete
from equipoise.cli.arguments import command_line, pairs

if TYPE_CHECKING:
    from equipoise.federated import Finished, Local, Participation

INIT = "init"


class EngineName(StrEnum):
    """What carries the messages."""

    local = "local"
    flower = "flower"


class Batching(StrEnum):
    """How clients of this process are trained."""

    auto = "auto"
    batched = "batched"
    loop = "loop"


def federate(
    context: typer.Context,
    problem: Annotated[
        str,
        typer.Argument(
            help="A built-in federation, a Python file that defines one, or init for a Flower app.",
            autocompletion=complete.federations,
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="With init: where the app is written.")
    ] = None,
    algorithm: Annotated[
        str,
        typer.Option(
            help="Systems to run, as a,b,c, with options as FedProx:mu=0.1; rules of the library too. "
            "`equipoise list federated` has them.",
            autocompletion=complete.systems,
        ),
    ] = "FedAvg",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each system, from seed 0.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of a client over its data in a round.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Local steps in a round, in place of epochs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=0, help="Examples of a local step; 0 for all.")] = 32,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the local steps; default the federation's.")
    ] = None,
    momentum: Annotated[float, typer.Option(help="Of the local steps.")] = 0.0,
    count: Annotated[int | None, typer.Option(min=1, help="Clients asked in a round; default all.")] = None,
    dropout: Annotated[float, typer.Option(help="Probability that a client never answers.")] = 0.0,
    effort: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Share of its steps that a client does, drawn from this.")
    ] = "1,1",
    engine: Annotated[
        EngineName,
        typer.Option(help="This process, or Flower's own simulation with a process for each client."),
    ] = EngineName.local,
    batching: Annotated[
        Batching, typer.Option(help="Clients together, one after the other, or what a trial finds faster.")
    ] = Batching.auto,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set an option of the federation; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/PROBLEM.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the standings as JSON.")] = False,
) -> None:
    """Train one model with many clients, and report who is served badly: by one system, or by several.

    Killed or interrupted, the same command goes on where it stopped. `federate init DIR` writes an app
    that runs with `flwr run`.
    """
    if problem == INIT:
        from equipoise.cli.federateapp import write_app

        if folder is None:
            raise typer.BadParameter("init needs the folder of the app: equipoise federate init DIR")
        write_app(folder)
        typer.echo(f"wrote {folder}; its README.md says how to run it")
        return
    if folder is not None:
        raise typer.BadParameter(f"{folder}: a folder is named with --out; the second argument is for init")
    systems = [name.strip() for name in algorithm.split(",") if name.strip()]
    place = out or Path("runs") / Path(problem).stem
    asked = _Asked(
        problem,
        pairs(options or ()),
        rounds,
        _local(problem, options, epochs, steps, batch_size, learning_rate, momentum),
        _participation(count, dropout, effort),
        engine,
        batching,
        place,
    )
    command = command_line(context)
    from equipoise.federated.named import algorithm as named

    try:
        for system in systems:
            named(system)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    runs: dict[str, list[Finished]] = {}
    try:
        with _progress(len(systems) * seeds * rounds, quiet) as tick:
            for system in systems:
                runs[system] = [asked.run(system, seed, tick) for seed in range(seeds)]
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; what is done is kept in {place}. To go on: {command}", err=True)
        raise typer.Exit(1) from None
    _report(runs, asked, command, as_json)


@dataclass(frozen=True)
class _Asked:
    """What every run of the command has in common."""

    problem: str
    options: dict[str, str]
    rounds: int
    local: "Local"
    participation: "Participation"
    engine: EngineName
    batching: Batching
    folder: Path

    def run(self, system: str, seed: int, tick: Callable[[str], None]) -> "Finished":
        """One system with one seed."""
        from equipoise.federated import federate as train
        from equipoise.federated.named import algorithm
        from equipoise.problems import federation

        where = self.folder / system.replace(":", "-").replace("/", "-") / f"seed-{seed}"
        shared: dict[str, Any] = {
            "rounds": self.rounds,
            "local": self.local,
            "participation": self.participation,
            "seed": seed,
            "out": where,
            "told": lambda record: tick(f"{system}, seed {seed}"),
        }
        if self.engine is EngineName.flower:
            from equipoise.bridges.flower import run_on_flower

            return run_on_flower(self.problem, self.options, system, **shared)
        found = federation(self.problem, **self.options)
        return train(found, algorithm(system), batching=self.batching.value, **shared)


def _local(
    problem: str,
    options: list[str] | None,
    epochs: int,
    steps: int | None,
    batch_size: int,
    learning_rate: float | None,
    momentum: float,
) -> "Local":
    from equipoise.federated import Local
    from equipoise.problems import federation

    found = federation(problem, **pairs(options or ()))
    try:
        return Local(
            epochs=epochs,
            steps=steps,
            batch_size=batch_size or None,
            learning_rate=found.learning_rate if learning_rate is None else learning_rate,
            momentum=momentum,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _participation(count: int | None, dropout: float, effort: str) -> "Participation":
    from equipoise.federated import Participation

    try:
        low, high = (float(word) for word in effort.split(","))
    except ValueError:
        raise typer.BadParameter(f"--effort {effort!r} is no pair of numbers such as 0.5,1") from None
    try:
        return Participation(count=count, dropout=dropout, effort=(low, high))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _report(runs: dict[str, list[Any]], asked: _Asked, command: str, as_json: bool) -> None:
    from equipoise.core.atomic import write
    from equipoise.federated.report import summary
    from equipoise.federated.reportpage import page
    from equipoise.problems import federation

    metric = federation(asked.problem, **asked.options).metric
    found, path = summary(runs, metric), asked.folder / "report.html"
    clients = len(next(iter(runs.values()))[0].history[0].asked)
    title = f"{Path(asked.problem).stem} with {clients} clients a round"
    write(path, page(title, runs, metric, watch="validation", command=command))
    write(asked.folder / "standings.json", json.dumps(found, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        typer.echo(found["sentence"])
        typer.echo(f"report: {path}")


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal's error stream that is told of rounds; nothing elsewhere."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda words: bar.update(task, advance=1, description=words)
