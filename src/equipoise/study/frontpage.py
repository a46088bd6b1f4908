"""The page of a study of fronts: which solver covers the trade-offs best, and at what cost."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from equipoise.core import frontplot, palette
from equipoise.core.atomic import write
from equipoise.study import wording
from equipoise.study.analysis import Spread
from equipoise.study.figures import blank
from equipoise.study.fronts import WITHIN, Fronts, Row
from equipoise.study.parts import figure, file_name, section, terms
from equipoise.study.report import assemble, plain
from equipoise.study.table import Cell, Column, table

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")


def write_page(found: Fronts) -> Path:
    """Write into the folder `report.html`, and `front.safetensors`, the best solver's front of all seeds."""
    found.best().save(found.folder / "front.safetensors")
    path = found.folder / "report.html"
    name = file_name(found.specification.problem)
    body = "\n".join((_heading(found), _picture(found), _table(found), _failed(found), _method(found)))
    write(path, assemble(name, body, {"fronts": plain(_figure(found))}))
    return path


def sentence(found: Fronts) -> str:
    """What was found, in a sentence."""
    best, *others = found.rows
    share = wording.spread(wording.percent(best.hypervolume), 1)
    if best.hypervolume.mean == 0:
        return "No solver came near: no solution lies in the box around the reference front."
    if not others:
        return f"{best.solver}: it dominates {share} per cent of the box, for {best.gradients:,} gradients."
    second = f"{others[0].solver} {wording.spread(wording.percent(others[0].hypervolume), 1)}"
    if found.leads():
        return f"{best.solver} dominates more than any other: {share} per cent of the box, {second}."
    return (
        f"No solver is ahead beyond chance: of the box {best.solver} dominates {share} per cent, {second}; "
        "more seeds may tell them apart."
    )


def cautions(found: Fronts) -> list[str]:
    """What to keep in mind with it: learning rates at an end of the grid, and solvers that failed."""
    said = [
        f"{row.solver}'s best learning rate, {row.learning_rate:g}, is the {row.edge} tried: widen "
        "--learning-rates before you rely on this."
        for row in found.rows
        if row.edge
    ]
    return said + [
        f"{row.solver} failed on {wording.count(row.failed, 'seed')}." for row in found.rows if row.failed
    ]


def _heading(found: Fronts) -> str:
    asked = found.specification
    head, _, tail = sentence(found).partition(": ")
    facts = {
        "Objectives": ", ".join(asked.objectives),
        "Solvers": f"{len(asked.solvers)}",
        "Learning rates": ", ".join(f"{rate:g}" for rate in asked.learning_rates),
        "Seeds": f"{len(asked.seeds)}",
        "Gradients": f"at most {max(row.gradients for row in found.rows):,} for each front",
        "Fronts": f"{found.ended:,} of {found.planned:,}, {len(found.failures) or 'none'} failed",
    }
    return f"""<header>
<p class="kicker">Equipoise report: {escape(file_name(asked.problem))}</p>
<h1 id="verdict"><strong>{escape(head)}</strong>
{escape(tail[:1].upper() + tail[1:])}</h1>
{"".join(f'<p class="notice">{escape(words)}</p>' for words in cautions(found))}
{terms(facts, "facts")}
</header>"""


def _picture(found: Fronts) -> str:
    two = len(found.specification.objectives) == 2
    caption = (
        "The solutions of every seed that no other of the same front dominates, at the learning rate that "
        "validation data chose; lower and further to the left is better."
        if two
        else "The solutions of the solver that validation data chose, over all seeds, without dominated ones."
    )
    return section("The fronts", figure("fronts", "Fronts", caption))


def _figure(found: Fronts) -> go.Figure:
    names = found.specification.objectives
    if len(names) != 2:
        return frontplot.figure(found.best())
    drawn = blank(height=520)
    for i, row in enumerate(found.rows):
        points = [front.nondominated().points for front in row.fronts.values()]
        drawn.add_scatter(
            x=[value for one in points for value in one[:, 0].tolist()],
            y=[value for one in points for value in one[:, 1].tolist()],
            name=escape(row.solver),
            mode="markers",
            marker={
                "color": palette.SERIES[i % len(palette.SERIES)],
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "size": 8,
                "opacity": 0.75,
            },
            hovertemplate=f"<b>{escape(row.solver)}</b><br>%{{x:.4g}}, %{{y:.4g}}<extra></extra>",
        )
    if found.known is not None:
        x, y = found.known.T.tolist()
        line = {"color": palette.INK, "size": 2}
        drawn.add_scatter(x=x, y=y, name="the known front", mode="markers", marker=line, hoverinfo="skip")
    drawn.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.08})
    drawn.update_xaxes(title_text=escape(names[0]), automargin=True)
    drawn.update_yaxes(title_text=escape(names[1]), automargin=True)
    return drawn


def _table(found: Fronts) -> str:
    columns = (
        Column("Solver", numeric=False),
        Column("Hypervolume", "per cent of the box"),
        Column("IGD+", "lower is better", first="ascending"),
        Column("Coverage", f"per cent, within {WITHIN:g}"),
        Column("KKT gap", "0 is weakly stationary", first="ascending"),
        Column("Solutions", "non-dominated"),
        Column("Gradients"),
        Column("Seconds"),
        Column("Learning rate"),
    )
    rows = [("leader" if i == 0 else "rule", _cells(row)) for i, row in enumerate(found.rows)]
    return section("Every solver", table("Fronts compared", columns, rows))


def _cells(row: Row) -> tuple[Cell, ...]:
    def cell(value: Spread | None, places: int) -> Cell:
        return Cell(wording.spread(value, places), None if value is None else value.mean)

    edge = f"{row.edge} tried" if row.edge else ""
    return (
        Cell(row.solver, row.solver),
        cell(wording.percent(row.hypervolume), 1),
        cell(row.igd_plus, 3),
        cell(wording.percent(row.coverage), 0),
        cell(row.gap, 3),
        cell(row.solutions, 1),
        Cell(f"{row.gradients:,}", row.gradients),
        Cell(f"{row.seconds:.1f}", row.seconds),
        Cell(f"{row.learning_rate:g}", row.learning_rate, small=edge),
    )


def _failed(found: Fronts) -> str:
    if not found.failures:
        return ""
    items = "".join(f"<li>{escape(r.trial.name)}: {escape(str(r.failed))}</li>" for r in found.failures)
    return section("Failed fronts", f"<ul>{items}</ul>")


def _method(found: Fronts) -> str:
    against = (
        "the known front in closed form"
        if found.known is not None
        else "the non-dominated points of all solvers and seeds together"
    )
    words = f"""Every solver could spend the same number of gradients, backward passes from one loss or a
weighted sum, at every learning rate and on the same seeds; the rate with the largest mean hypervolume on
validation data was kept. The points are on {found.specification.judged} data (an analytic function has one
kind). The reference is {against}: the box reaches from its best values to a tenth of its range beyond its
worst. A solver is ahead of others when the paired differences of its volume lie above zero, by an interval at
95% that is widened for all pairs of solvers. The KKT gap of a solution is the length of the min-norm point of
its gradients over that of their mean, averaged over solutions: near 0 no direction lowers all losses, which a
bad solution at a border may satisfy too."""
    return section("How fronts are compared", f'<p class="prose">{words}</p>')
