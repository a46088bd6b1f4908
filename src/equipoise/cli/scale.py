"""`equipoise scale`: how much of each, from small runs."""

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.mupcheck import mup_check
from equipoise.cli.scaleinput import amounts, known, largest, saved_law, table_of

if TYPE_CHECKING:
    from equipoise.scaling import FittedLaw

DOUBTFUL = 3
"""The exit code where the law's error on held-out runs exceeds the gain that it foretells, and where a model
under muP does not keep its sizes."""


class What(StrEnum):
    """What is asked."""

    fit = "fit"
    compare = "compare"
    predict = "predict"
    optimum = "optimum"
    plan = "plan"
    mup_check = "mup-check"


def scale(
    what: Annotated[What, typer.Argument(help="fit, compare, predict, optimum, plan or mup-check.")],
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUNS]",
            help="A CSV table of runs (N, D, p.<source>, loss or loss.<objective>, and if any U.<source>, "
            "run, seed), the folder of a study, or for predict and optimum a law that fit wrote. plan takes "
            "none; mup-check takes FILE.py:FUNCTION.",
        ),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(help="A law by name; `equipoise list scaling` has them. Default the best of all."),
    ] = None,
    holdout: Annotated[
        str, typer.Option(help="What the law is judged by first: largest (D, or N), mixtures, or none.")
    ] = "largest",
    highest: Annotated[int, typer.Option(min=0, help="How many of the highest losses to leave out.")] = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Refits to resampled runs, for intervals.")] = 100,
    n: Annotated[float | None, typer.Option("--N", help="Parameters, for predict and optimum.")] = None,
    d: Annotated[float | None, typer.Option("--D", help="Tokens, for predict and optimum.")] = None,
    p: Annotated[str | None, typer.Option(help="A mixture for predict, as en=0.7,de=0.3.")] = None,
    weights: Annotated[str | None, typer.Option(help="Importance of losses, as en=1,de=2.")] = None,
    minimise: Annotated[
        str, typer.Option(help="sum or worst of the weighted losses, or a scalarisation by name.")
    ] = "sum",
    caps: Annotated[str | None, typer.Option(help="Largest ratios, as en=0.5.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Largest number of epochs of a source, by its U.<source>.")
    ] = None,
    limits: Annotated[str | None, typer.Option(help="Largest predicted losses, as en=2.95.")] = None,
    costs: Annotated[
        str | None, typer.Option(help="For optimum: price of an example of each source, with --budget.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="For plan: how many runs, 20. With --costs: the money to spend.")
    ] = None,
    sources: Annotated[str | None, typer.Option(help="For plan: what is mixed, as en,de,tr.")] = None,
    widths: Annotated[str, typer.Option(help="For mup-check: the widths, the base first.")] = "32,64,128,256",
    lr: Annotated[float, typer.Option(help="For mup-check: a calm learning rate of the base.")] = 2e-3,
    steps: Annotated[int, typer.Option(min=1, help="For mup-check: steps before sizes are taken.")] = 4,
    optimizer: Annotated[str, typer.Option(help="For mup-check: adam or sgd.")] = "adam",
    transfer: Annotated[
        bool, typer.Option(help="For mup-check: sweep learning rates at each width too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the law, or the plan, there.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report with pictures there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit laws of the loss to small runs, and choose a mixture with its uncertainty beside it.

    compare RUNS.csv ranks all laws by what they foretell of mixtures that they have not seen; optimum
    RUNS.csv takes the best, and prints the mixture, the gain over plain ones, and the noise between seeds.
    plan proposes which mixtures to run. mup-check FILE.py:make sees whether settings hold at other widths.
    Exit code 3: the law's error on held-out runs exceeds the gain that it foretells.
    """
    if what is What.plan:
        if budget is not None and budget != int(budget):
            raise typer.BadParameter(f"--budget is {budget}; for plan it is a whole number of runs")
        _plan(sources, 20 if budget is None else int(budget), out)
        return
    if given is None:
        wanted = "FILE.py:FUNCTION" if what is What.mup_check else "a table of runs, RUNS.csv"
        raise typer.BadParameter(f"{what.value} takes {wanted}")
    if what is What.mup_check:
        checked = mup_check(given, widths, lr=lr, steps=steps, optimizer=optimizer, transfer=transfer)
        _tell([(checked.words, checked.plain)], as_json)
        if not checked.ok:
            raise typer.Exit(DOUBTFUL)
        return
    ratios, importance = amounts("p", p), amounts("weights", weights)
    tops, most, prices = amounts("caps", caps), amounts("limits", limits), amounts("costs", costs)
    if (prices is None) != (budget is None):
        raise typer.BadParameter("--costs and --budget go together")
    if prices is not None and (tops is not None or most is not None or epochs is not None):
        raise typer.BadParameter("--caps, --limits and --epochs do not go with --costs")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"--html: {html.name} does not end in .html")
    named = None if law is None else known("law", law.replace("-", "").replace("_", ""), "scaling", "law")
    rule = None
    if minimise not in ("sum", "worst"):
        rule = known("scalarisation", minimise, "scalarization", "scalarizer")
    import equipoise.scalarization
    import equipoise.scaling
    from equipoise.scaling import compare, optimum, spend, write_report

    told: list[tuple[str, dict[str, Any]]] = []
    fitted, found = saved_law(Path(given)), None
    if fitted is None:
        table = table_of(Path(given))
        found = compare(table) if what is What.compare or named is None else None
        chosen = found.best if found is not None else getattr(equipoise.scaling, named or "")()
        fitted = chosen.fit(table, bootstrap=bootstrap, holdout=holdout, highest=highest)  # type: ignore[arg-type]
    elif what in (What.fit, What.compare):
        raise typer.BadParameter(f"{what.value} takes runs; {given} is a law that is fitted already")
    if out is not None:
        fitted.save(out)
    if what is What.predict:
        _tell([_predicted(fitted, n, d, ratios)], as_json)
        return
    if what is What.compare and found is not None:
        told.append((str(found), {"comparison": found.plain()}))
    if what is What.fit:
        told.append((str(fitted), fitted.plain()))
    mixture, doubtful = None, False
    if what is not What.fit and fitted.runs.sources:
        # of what is not said, the largest that was run
        n = largest(fitted.runs, "N") if n is None else n
        d = largest(fitted.runs, "D") if d is None else d
        scalar = minimise if rule is None else getattr(equipoise.scalarization, rule)()
        if prices is not None and budget is not None:
            spent = spend(fitted, prices, budget, importance, N=n, minimise=scalar)
            mixture, words, plain = spent.mixture, str(spent), spent.plain()
            d = sum(spent.amounts.values())
        else:
            mixture = optimum(
                fitted, importance, N=n, D=d, minimise=scalar, caps=tops, epochs=epochs, limits=most
            )
            words, plain = str(mixture), mixture.plain()
        told.append((f"{fitted.law.name}\n{words}", {"law": fitted.law.name, **plain}))
        doubtful = mixture.within_doubt
    elif what is What.optimum:
        raise typer.BadParameter(f"the runs of {given} have no mixture, p.<source>; there is none to choose")
    if html is not None:
        write_report(html, fitted, mixture, comparison=found, weights=importance, N=n, D=d)
    _tell(told, as_json)
    if doubtful:
        typer.echo("the law's error on held-out runs exceeds the gain", err=True)
        raise typer.Exit(DOUBTFUL)


def _predicted(
    fitted: "FittedLaw", n: float | None, d: float | None, p: dict[str, float] | None
) -> tuple[str, dict[str, Any]]:
    """A prediction in words and as plain values."""
    found = fitted.predict(N=n, D=d, p=p)
    lines, plain = [], {}
    for place, name in enumerate(found.objectives):
        loss, bounds = float(found.losses[0, place]), None
        if found.low is not None and found.high is not None:
            bounds = [float(found.low[0, place]), float(found.high[0, place])]
        within = "" if bounds is None else f"  ({bounds[0]:.4g} to {bounds[1]:.4g})"
        lines.append(f"{name}: {loss:.4g}{within}")
        plain[name] = {"loss": loss, "bounds": bounds}
    return "\n".join(lines), plain


def _plan(sources: str | None, budget: int, out: Path | None) -> None:
    from equipoise.core.atomic import write
    from equipoise.scaling import proposed

    if not sources:
        raise typer.BadParameter("plan takes --sources, as en,de,tr")
    names = [name.strip() for name in sources.split(",") if name.strip()]
    rows = proposed(names, budget)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: round(value, 4) for key, value in row.items()} for row in rows])
    if out is None:
        typer.echo(text.getvalue(), nl=False)
    else:
        write(out, text.getvalue())


def _tell(told: list[tuple[str, dict[str, Any]]], as_json: bool) -> None:
    """What is to be said, in words or as one JSON object."""
    if as_json:
        typer.echo(json.dumps({key: value for _, plain in told for key, value in plain.items()}, indent=1))
    else:
        typer.echo("\n".join(words for words, _ in told))
