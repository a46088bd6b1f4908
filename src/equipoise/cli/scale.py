"""`equipoise scale`: how much of each, from small runs."""

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from equipoise.scaling import FittedLaw, Law, Runs

DOUBTFUL = 3
"""The exit code where the law's error on held-out runs exceeds the gain that it foretells."""


class What(StrEnum):
    """What is asked."""

    fit = "fit"
    compare = "compare"
    predict = "predict"
    optimum = "optimum"
    plan = "plan"


def scale(
    what: Annotated[What, typer.Argument(help="fit, compare, predict, optimum or plan.")],
    runs: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUNS.csv]",
            help="A table of runs: N, D, p.<source>, loss or loss.<objective>, and if any U.<source>, "
            "run, seed. plan takes none.",
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
    sources: Annotated[str | None, typer.Option(help="For plan: what is mixed, as en,de,tr.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="For plan: how many runs.")] = 20,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the law, or the plan, there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit laws of the loss to small runs, and choose a mixture with its uncertainty beside it.

    compare RUNS.csv ranks all laws by what they foretell of mixtures that they have not seen; optimum
    RUNS.csv takes the best, and prints the mixture, the gain over plain ones, and the noise between seeds.
    plan proposes which mixtures to run. Exit code 3: the law's error on held-out runs exceeds the gain that
    it foretells.
    """
    if what is What.plan:
        _plan(sources, budget, out)
        return
    if runs is None:
        raise typer.BadParameter(f"{what.value} takes a table of runs, RUNS.csv")
    from equipoise.scaling import Runs, compare, optimum

    table = Runs.from_csv(runs)
    if what is What.compare:
        found = compare(table)
        rows = [
            {
                "law": row.law.name,
                "error": None if row.fault else row.overall,
                "fault": row.fault,
                **{"losses": row.errors},
            }
            for row in found.rows
        ]
        _tell(str(found), {"laws": rows, "noise": found.noise, "sentence": found.sentence()}, as_json)
        if not table.sources:
            return
        law = found.best.name
    chosen = _law(law, table)
    fitted = chosen.fit(table, bootstrap=bootstrap, holdout=holdout, highest=highest)  # type: ignore[arg-type]
    if out is not None:
        fitted.save(out)
    if what is What.fit:
        _tell(str(fitted), fitted.plain(), as_json)
    elif what is What.predict:
        _predict(fitted, n, d, _pairs("p", p), as_json)
    else:
        if what is What.compare and (_varies(table, "N") or _varies(table, "D")) and n is None and d is None:
            n, d = _last(table, "N"), _last(table, "D")
        mixture = optimum(
            fitted,
            _pairs("weights", weights),
            N=n,
            D=d,
            minimise=_minimised(minimise),
            caps=_pairs("caps", caps),
            epochs=epochs,
            limits=_pairs("limits", limits),
        )
        plain = {"law": fitted.law.name, "p": mixture.p, "losses": mixture.losses, "gain": mixture.gain,
                 "noise": mixture.noise, "doubt": mixture.doubt, "intervals": mixture.intervals,
                 "sentence": mixture.sentence()}  # fmt: skip
        _tell(f"{fitted.law.name}\n{mixture}", plain, as_json)
        if mixture.within_doubt:
            typer.echo("the law's error on held-out runs exceeds the gain", err=True)
            raise typer.Exit(DOUBTFUL)


def _law(name: str | None, table: "Runs") -> "Law":
    from equipoise.core.card import cards
    from equipoise.core.errors import unknown
    from equipoise.scaling import compare

    if name is None:
        return compare(table).best
    known = {card.name.lower(): card.name for card in cards("scaling").values() if card.shape == "law"}
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in known:
        raise typer.BadParameter(unknown("law", name, known.values()))
    import equipoise.scaling

    return getattr(equipoise.scaling, known[plain])()


def _predict(
    fitted: "FittedLaw", n: float | None, d: float | None, p: dict[str, float] | None, as_json: bool
) -> None:
    found = fitted.predict(N=n, D=d, p=p)
    lines, plain = [], {}
    for place, name in enumerate(found.objectives):
        loss = float(found.losses[0, place])
        bounds = (
            None if found.low is None or found.high is None else (found.low[0, place], found.high[0, place])
        )
        lines.append(
            f"{name}: {loss:.4g}" + ("" if bounds is None else f"  ({bounds[0]:.4g} to {bounds[1]:.4g})")
        )
        plain[name] = {"loss": loss, "bounds": None if bounds is None else list(map(float, bounds))}
    _tell("\n".join(lines), plain, as_json)


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


def _minimised(name: str) -> Any:
    if name in ("sum", "worst"):
        return name
    import equipoise.scalarization
    from equipoise.core.card import cards
    from equipoise.core.errors import unknown

    known = {card.name.lower(): card.name for card in cards("scalarization").values()}
    if name.lower() not in known:
        raise typer.BadParameter(unknown("scalarisation", name, ["sum", "worst", *known.values()]))
    return getattr(equipoise.scalarization, known[name.lower()])()


def _pairs(option: str, text: str | None) -> dict[str, float] | None:
    """{"en": 0.7} of "en=0.7"."""
    if text is None:
        return None
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, sign, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            sign = ""
        if not sign:
            raise typer.BadParameter(f"--{option}: {part!r} is not NAME=NUMBER")
    return found


def _varies(table: "Runs", name: str) -> bool:
    column = getattr(table.features, name)
    return column is not None and bool(column.min() < column.max())


def _last(table: "Runs", name: str) -> float | None:
    column = getattr(table.features, name)
    return None if column is None else float(column.max())


def _tell(text: str, plain: Any, as_json: bool) -> None:
    typer.echo(json.dumps(plain, indent=1) if as_json else text)
