"""`equipoise scale`: how much of each, from small runs."""

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from equipoise.scaling import FittedLaw, Runs

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
    ratios, importance = _amounts("p", p), _amounts("weights", weights)
    tops, most = _amounts("caps", caps), _amounts("limits", limits)
    named = None if law is None else _known("law", law.replace("-", "").replace("_", ""), "scaling", "law")
    rule = None
    if minimise not in ("sum", "worst"):
        rule = _known("scalarisation", minimise, "scalarization", "scalarizer")
    import equipoise.scalarization
    import equipoise.scaling
    from equipoise.scaling import Runs, compare, optimum

    table, told = Runs.from_csv(runs), []
    found = compare(table) if what is What.compare or named is None else None
    if what is What.compare and found is not None:
        told.append((str(found), {"comparison": found.plain()}))
        if not table.sources:
            _tell(told, as_json)
            return
    chosen = found.best if found is not None else getattr(equipoise.scaling, named or "")()
    fitted = chosen.fit(table, bootstrap=bootstrap, holdout=holdout, highest=highest)  # type: ignore[arg-type]
    if out is not None:
        fitted.save(out)
    if what is What.fit:
        _tell([(str(fitted), fitted.plain())], as_json)
        return
    if what is What.predict:
        _tell([_predicted(fitted, n, d, ratios)], as_json)
        return
    if what is What.compare:  # of what is not said, the largest that was run
        n, d = (_largest(table, name) if given is None else given for name, given in (("N", n), ("D", d)))
    mixture = optimum(
        fitted,
        importance,
        N=n,
        D=d,
        minimise=minimise if rule is None else getattr(equipoise.scalarization, rule)(),
        caps=tops,
        epochs=epochs,
        limits=most,
    )
    told.append((f"{fitted.law.name}\n{mixture}", {"law": fitted.law.name, **mixture.plain()}))
    _tell(told, as_json)
    if mixture.within_doubt:
        typer.echo("the law's error on held-out runs exceeds the gain", err=True)
        raise typer.Exit(DOUBTFUL)


def _known(kind: str, name: str, room: str, shape: str) -> str:
    """The name of a card of a room as it is written, whatever the case. Raises BadParameter."""
    from equipoise.core.card import cards
    from equipoise.core.errors import unknown

    known = {card.name.lower(): card.name for card in cards(room).values() if card.shape == shape}
    if name.lower() not in known:
        raise typer.BadParameter(unknown(kind, name, known.values()))
    return known[name.lower()]


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


def _amounts(option: str, text: str | None) -> dict[str, float] | None:
    """{"en": 0.7} of "en=0.7". Raises BadParameter."""
    if text is None:
        return None
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--{option}: {part!r} is not NAME=NUMBER") from None
    return found


def _largest(table: "Runs", name: str) -> float | None:
    column = getattr(table.features, name)
    return None if column is None else float(column.max())


def _tell(told: list[tuple[str, dict[str, Any]]], as_json: bool) -> None:
    """What is to be said, in words or as one JSON object."""
    if as_json:
        typer.echo(json.dumps({key: value for _, plain in told for key, value in plain.items()}, indent=1))
    else:
        typer.echo("\n".join(words for words, _ in told))
