"""Figures of the report, as plotly figures in the colours of the light page; the page maps the rest.

Names come from the user's problem and are escaped: plotly reads a little HTML in its texts.
"""

from html import escape
from math import ceil, floor, log10
from typing import Any

import numpy as np
import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.study.analysis import BASELINE, Analysis, weights_text
from equipoise.study.curves import Curve, curve, final_cosines, measures, weight_share
from equipoise.study.solutions import Point
from equipoise.study.verdict import points as in_points
from equipoise.study.wording import number

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
MOST_BANDS = 3  # objectives, beyond which bands of their weights would hide each other
FAINTNESS = 0.28  # opacity of a dominated solution
SYMBOLS = {"rule": "circle", "variant": "triangle-up", "fixed": "square"}


def comparisons(analysis: Analysis) -> go.Figure | None:
    """Each rule's gain over the baseline with its simultaneous interval, the best on top."""
    found = [c for c in analysis.verdict.comparisons if np.isfinite(c.spread)]
    if not found:
        return None
    colours = [palette.LEADER if c.rule == analysis.leader else palette.MUTED for c in found]
    figure = blank(height=90 + 23 * len(found))
    bar = {"type": "constant", "thickness": 1.5, "width": 0}
    for c, colour in zip(found, colours, strict=True):
        gain = f"{in_points(c.gain)} points ({in_points(c.low)} to {in_points(c.high)})"
        text = f"<b>{escape(c.rule)}</b><br>{gain}"
        figure.add_scatter(
            x=[100 * c.gain],
            y=[escape(c.rule)],
            error_x={"value": 100 * (c.high - c.gain), "color": colour, **bar},
            mode="markers",
            marker={"color": colour, "size": 9, "symbol": "circle" if c.eligible else "circle-open"},
            text=[f"{text}<br>{c.seeds} seeds{'' if c.eligible else ', failed on others'}"],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": palette.BASELINE, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title_text=f"points ahead of {BASELINE}", zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", automargin=True)
    figure.update_layout(margin={"l": 8, "r": 12, "t": 8, "b": 44})
    return figure


def front(analysis: Analysis) -> tuple[go.Figure, dict[str, Any]] | None:
    """Every solution, a trace for each rule, with what the page needs to change axes and highlights."""
    if not analysis.points:
        return None
    names = analysis.run.objectives
    second = min(1, len(names) - 1)
    traces: dict[tuple[str, str], list[Point]] = {}
    for point in analysis.points:
        traces.setdefault((point.kind, point.label), []).append(point)
    figure = blank(height=460)
    for (kind, label), found in traces.items():
        figure.add_scatter(
            x=[p.values[0] for p in found],
            y=[p.values[second] for p in found],
            mode="markers",
            name=escape(label),
            meta={"label": label, "kind": kind},
            marker={
                "color": _colour(label, kind, analysis.leader),
                "symbol": "diamond" if label == BASELINE else SYMBOLS[kind],
                "size": [9 if p.chosen else 6 for p in found],
                "opacity": [1.0 if p.front else FAINTNESS for p in found],
                "line": {"color": palette.INK, "width": [1.2 if p.front else 0 for p in found]},
            },
            text=[_about(analysis, p) for p in found],
            hovertemplate="%{text}<extra></extra>",
        )
    axes = [_axis(analysis, k) for k in range(len(names))]
    for axis, update in ((axes[0], figure.update_xaxes), (axes[second], figure.update_yaxes)):
        update(title_text=axis["title"], range=axis["range"], zeroline=False)
    steps = _staircase(analysis) if len(names) == 2 else None
    figure.add_scatter(
        x=steps[0] if steps else [],
        y=steps[1] if steps else [],
        mode="lines",
        line={"color": palette.INK, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        meta={"label": "", "kind": "line"},
    )
    figure.update_layout(shapes=_lines(axes[0]["reference"], axes[second]["reference"]), hovermode="closest")
    values = [[list(p.values) for p in found] for found in traces.values()]
    return figure, {"axes": axes, "values": values}


def conflict(analysis: Analysis, quantity: str) -> go.Figure | None:
    """`share` of conflicting pairs or `norm_ratio` over the steps, a line for each rule."""
    figure = blank(height=300)
    drawn: list[float] = []
    for rule in analysis.run.rules:
        line = curve(measures(analysis, rule), lambda look: getattr(look, quantity))
        if line is not None:
            drawn += [value for value in line.mean if value > 0]
            _line(figure, line, rule, _colour(rule, "rule", analysis.leader), emphasis=rule)
    if not figure.data:
        return None
    if quantity == "share" or not drawn:
        figure.update_yaxes(title_text="conflicting pairs", tickformat=".0%", range=[-0.03, 1.03])
    else:
        figure.update_yaxes(title_text="longest / shortest", type="log", **_log_ticks(drawn))
    figure.update_xaxes(title_text="step", rangemode="tozero")
    return figure


def weights(analysis: Analysis, rule: str) -> go.Figure | None:
    """The share of each objective in the total weight over the steps, with the range over seeds."""
    figure = blank(height=300)
    few = len(analysis.run.objectives) <= MOST_BANDS
    for k, name in enumerate(analysis.run.objectives):
        line = curve(measures(analysis, rule), weight_share(name))
        if line is not None:
            colour = palette.SERIES[k % len(palette.SERIES)]
            _line(figure, line, name, colour, dash=palette.DASHES[k % len(palette.DASHES)], band=few)
    if not figure.data:
        return None
    figure.update_yaxes(title_text="share of the weight", tickformat=".0%")
    figure.update_xaxes(title_text="step", rangemode="tozero")
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.25, "x": 0})
    return figure


def cosines(analysis: Analysis, rule: str) -> go.Figure | None:
    """The cosines between the objectives' directions at the last look."""
    matrix = final_cosines(measures(analysis, rule))
    if matrix is None:
        return None
    names = [escape(name) for name in analysis.run.objectives]
    if len(matrix) != len(names):
        return None
    shown = [[number(v, 2) for v in row] for row in matrix]
    figure = blank(height=max(250, 120 + 34 * len(names)))
    figure.add_heatmap(
        z=matrix,
        x=names,
        y=names,
        text=shown,
        texttemplate="%{text}" if len(names) <= 12 else None,
        textfont={"color": palette.INK},
        hovertemplate="%{y} and %{x}: %{text}<extra></extra>",
        colorscale=[[0, palette.LOW], [0.5, palette.MIDDLE], [1, palette.HIGH]],
        zmin=-1,
        zmax=1,
        xgap=2,
        ygap=2,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickvals": [-1, 0, 1]},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    figure.update_xaxes(showgrid=False, automargin=True)
    return figure


def _log_ticks(drawn: list[float]) -> dict[str, Any]:
    """Round labels over the range of the curves, the more for a decade the fewer decades there are."""
    low, high = log10(min(drawn)), log10(max(drawn))
    decades = high - low
    few, some, many = (1,), (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)
    steps = many if decades < 0.7 else some if decades < 3 else few
    ticks = [(log10(d) + k, d * 10.0**k) for k in range(floor(low) - 1, ceil(high) + 2) for d in steps]
    shown = [value for place, value in ticks if low - 0.4 <= place <= high + 0.4]
    return {"tickvals": shown, "ticktext": [f"{v:g}" for v in shown], "automargin": True}


def blank(height: int) -> go.Figure:
    """An empty figure in the look of the report."""
    axis = {
        "gridcolor": palette.GRID,
        "linecolor": palette.FAINT,
        "tickcolor": palette.FAINT,
        "zeroline": False,
        "title": {"font": {"size": 13}, "standoff": 8},
        "fixedrange": False,
    }
    layout = {
        "template": go.layout.Template(),
        "height": height,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "font": {"family": FONT, "size": 12, "color": palette.MUTED},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
        "xaxis": axis,
        "yaxis": axis,
    }
    return go.Figure(layout=layout)


def _colour(label: str, kind: str, leader: str | None) -> str:
    if kind == "fixed":
        return palette.FIXED
    if kind == "variant":
        return palette.FAINT
    return {BASELINE: palette.BASELINE, leader: palette.LEADER}.get(label, palette.FAINT)


def _line(
    figure: go.Figure, line: Curve, name: str, colour: str, *, dash: str = "solid", band: bool = False,
    emphasis: str | None = None,
) -> None:  # fmt: skip
    if band and line.low != line.high:
        figure.add_scatter(
            x=[*line.steps, *reversed(line.steps)],
            y=[*line.high, *reversed(line.low)],
            fill="toself",
            fillcolor=colour,
            opacity=0.15,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
    strong = emphasis is None or colour != palette.FAINT
    figure.add_scatter(
        x=list(line.steps),
        y=list(line.mean),
        mode="lines",
        name=escape(name),
        line={"color": colour, "width": 2.2 if strong else 1, "dash": dash},
        meta={"label": name},
        hovertemplate=f"<b>{escape(name)}</b>, step %{{x}}: %{{y:.3g}}<extra></extra>",
    )


def _about(analysis: Analysis, point: Point) -> str:
    run = analysis.run
    facts = [f"learning rate {point.learning_rate:g}", f"seed {point.seed}"]
    if point.weights is not None:
        facts.append(f"{'weights' if point.kind == 'fixed' else 'preference'} {weights_text(point.weights)}")
    values = [
        f"{escape(name)}: {value:.4g} {escape(run.metrics[name].name)}"
        for name, value in zip(run.objectives, point.values, strict=True)
    ]
    state = "non-dominated" if point.front else "dominated"
    return "<br>".join([f"<b>{escape(point.label)}</b> ({state})", ", ".join(facts), *values])


def _axis(analysis: Analysis, k: int) -> dict[str, Any]:
    """Title, range and single-task reference of one objective; better is always right and up."""
    run = analysis.run
    name = run.objectives[k]
    metric, alone = run.metrics[name], None
    if name not in analysis.yardstick.missing:
        alone = analysis.yardstick.reference[name]
    found = [p.values[k] for p in analysis.points if p.chosen]
    found += [] if alone is None else [alone]
    low, high = min(found), max(found)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    limits = [low - pad, high + pad]
    return {
        "name": name,
        "title": f"{escape(name)}: {escape(metric.name)} ({metric.better} is better)",
        "range": limits if metric.better == "higher" else limits[::-1],
        "reference": alone,
    }


def _lines(x: float | None, y: float | None) -> list[dict[str, Any]]:
    style = {"line": {"color": palette.FAINT, "width": 1, "dash": "dash"}, "layer": "below", "type": "line"}
    upright = {**style, "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
    level = {**style, "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return [line for line, at in ((upright, x), (level, y)) if at is not None]


def _staircase(analysis: Analysis) -> tuple[list[float], list[float]] | None:
    """The edge of the region that the non-dominated solutions of two objectives dominate: from each
    solution, with the first objective improving, across to the next one's second, then along it."""
    best = sorted({p.values for p in analysis.points if p.front})
    if len(best) < 2:
        return None
    if analysis.yardstick.signs[analysis.run.objectives[0]] < 0:
        best.reverse()
    x, y = [best[0][0]], [best[0][1]]
    for across, along in best[1:]:
        x += [x[-1], across]
        y += [along, along]
    return x, y
