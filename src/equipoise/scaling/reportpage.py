"""write_report: the law, the mixture and everything that speaks for or against it, as one page."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.core.atomic import write
from equipoise.core.page import TABLES, document, section
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.optimum import weights_of
from equipoise.scaling.reportfigures import figures

if TYPE_CHECKING:
    from equipoise.scaling.compare import Comparison
    from equipoise.scaling.optimum import Mixture

LONG = 40
"""Rows of a table beyond which it is folded."""
STYLE = f"{TABLES}\nth:first-child, td:first-child {{ text-align: left; }}\n"


def write_report(
    path: str | Path,
    law: FittedLaw,
    mixture: "Mixture | None" = None,
    *,
    comparison: "Comparison | None" = None,
    weights: Mapping[str, float] | None = None,
    N: float | None = None,
    D: float | None = None,
) -> None:
    """Write an HTML page that needs no other file, atomically.

    mixture: what `optimum` gave for the same weights, N and D. comparison: what `compare` gave.

    Raises ValueError where the name does not end in .html, and as `optimum` does.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a report is written as HTML, and {path.name} does not end in .html")
    write(path, page(law, mixture, comparison, weights, N, D))


def page(
    law: FittedLaw,
    mixture: "Mixture | None",
    comparison: "Comparison | None",
    weights: Mapping[str, float] | None,
    N: float | None,
    D: float | None,
) -> str:
    """The whole page as text."""
    lead = _lead(law) if mixture is None else mixture.sentence()
    held = law.holdout
    judged = "" if held is None else f" Held out, {held.what}: {100 * held.overall:.2f}% mean error."
    facts = f"{law.law.name} on {len(law.runs)} runs, {len(law.objectives)} losses.{judged}"
    body = [
        '<p class="kicker">How much of each</p>' if mixture else '<p class="kicker">A law of losses</p>',
        f"<h1><strong>{escape(lead)}</strong>\n{escape(facts)}</h1>",
    ]
    if comparison is not None:
        body.append(f"<p>{escape(comparison.sentence())}</p>")
    body += [f"<p>{escape(flag)}.</p>" for flag in law.flags()]
    if mixture is not None:
        body.append(_table(_mixture_rows(mixture)))
    body += [section(*figure) for figure in figures(law, mixture, comparison, weights_of(law, weights), N, D)]
    rows = _coefficient_rows(law)
    table = f"<details{'' if len(rows) > LONG else ' open'}><summary>All {len(rows) - 1}</summary>"
    body.append(f"<h2>Every coefficient</h2>\n{table}{_table(rows)}</details>")
    return document(lead, body, STYLE)


def _lead(law: FittedLaw) -> str:
    if len(law.objectives) > 1:
        return f"{law.law.name}, {len(law.objectives)} losses"
    parts = [f"{name} {value:.4g}" for name, value in law.coefficients().items()]
    return f"{law.law.name}: {', '.join(parts[:6])}"


def _mixture_rows(mixture: "Mixture") -> list[list[str]]:
    rows = [["source", "ratio", "95% of refits", "loss"]]
    for name, ratio in mixture.p.items():
        low, high = mixture.intervals.get(name, (None, None))
        within = "" if low is None else f"{low:.3f} to {high:.3f}"
        loss = f"{mixture.losses[name]:.4g}" if name in mixture.losses else ""
        rows.append([name, f"{ratio:.3f}", within, loss])
    return rows


def _coefficient_rows(law: FittedLaw) -> list[list[str]]:
    rows = [["loss", "coefficient", "value", "sd over refits"]]
    for objective in law.objectives:
        spread = law.spread(objective)
        for name, value in law.coefficients(objective).items():
            rows.append([objective, name, f"{value:.5g}", f"{spread[name]:.2g}" if name in spread else ""])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows[1:])
    head = f"<thead><tr>{cells(rows[0], 'th')}</tr></thead>"
    return f'<div class="box"><table>{head}<tbody>\n{body}\n</tbody></table></div>'
