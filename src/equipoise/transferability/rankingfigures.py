"""Figures of a ranking: places, truth, orders, agreement and seconds.

Names come from the user's files and are escaped: plotly reads a little HTML in its texts.
"""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.core.page import SCALE, blank
from equipoise.transferability.rankingtext import number, plain

if TYPE_CHECKING:
    from equipoise.transferability.ranking import Column, Ranking

ROW = 24  # pixels of a row of a figure
LONGEST = 18  # characters of a name on an axis; all of it is seen on hovering
FIGURES = 30  # columns beyond which a map shows no figures in its cells
SHADES = [[0.0, palette.LEADER], [0.5, palette.HIGH], [1.0, palette.MIDDLE]]


def figures(found: "Ranking") -> list[tuple[str, str, str, go.Figure]]:
    """Name, title, note and figure of everything that can be drawn."""
    columns = [column for column in found.columns if column.values]
    halves = found.column().halves
    told = (
        "" if halves is None else f"The bars are the 5th to 95th percentile over {len(halves)} half-samples. "
    )
    drawn = [
        (
            "places",
            f"The ranking by {found.by}",
            f"1 is the best place. {told}Beside it, the places that the plain baselines give.",
            _places(found),
        )
    ]
    if found.truth:
        drawn.append(
            (
                "truth",
                "Against the true accuracies",
                "Each column scaled to its own range; a good one rises from the left to the right.",
                _scatter(found),
            )
        )
    if len(columns) > 1:
        drawn += [
            (
                "orders",
                "The place of every model by every column",
                "1 is the best; models are in the order of the column that decides.",
                _orders(found, columns),
            ),
            (
                "agreement",
                "Agreement of columns",
                "Weighted Kendall tau: 1 is the same order, -1 the reverse; the top counts most.",
                _agreement(found, columns),
            ),
        ]
    timed = [(column.name, sum(column.seconds.values())) for column in columns if column.seconds]
    if timed:
        if any(found.shared.values()):
            timed.append(("shared pass", sum(found.shared.values())))
        drawn.append(
            (
                "seconds",
                "Seconds by column",
                "For all models once, without half-samples. Columns share one pass over the features.",
                _seconds(timed),
            )
        )
    return drawn


def _places(found: "Ranking") -> go.Figure:
    order = found.order()
    places, shares = found.places(), found.firsts()
    figure = blank(110 + ROW * max(3, len(order)))
    baseline = plain(found)
    beside = [c for c in found.columns if c.kind == "probe" and c.values and c.name != found.by]
    if baseline is not None and baseline not in beside:
        beside.insert(0, baseline)
    for column, symbol in zip(beside, ("square", "diamond", "triangle-up", "cross"), strict=False):
        mark = {
            "color": palette.BASELINE if column is baseline else palette.FAINT,
            "symbol": symbol,
            "size": 8,
        }
        at = column.places()
        figure.add_scatter(
            x=[at.get(name) for name in order],
            y=[escape(name) for name in order],
            name=escape(short(column.name)),
            mode="markers",
            marker=mark,
            customdata=[escape(name) for name in order],
            hovertemplate=f"<b>%{{customdata}}</b><br>{escape(column.name)}: place %{{x:g}}<extra></extra>",
        )
    at = found.column().places()
    ends = [places.get(name, (at[name], at[name])) for name in order]
    values = [
        f"{found.by} {number(found.column().values[name])}"
        + (f"<br>first in {shares[name]:.0%} of half-samples" if shares else "")
        for name in order
    ]
    figure.add_scatter(
        x=[at[name] for name in order],
        y=[escape(name) for name in order],
        name=escape(short(found.by)),
        mode="markers",
        marker={"color": palette.LEADER, "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(high - at[name], 0) for name, (_, high) in zip(order, ends, strict=True)],
            "arrayminus": [max(at[name] - low, 0) for name, (low, _) in zip(order, ends, strict=True)],
            "color": palette.LEADER,
            "thickness": 1.5,
            "width": 0,
        },
        text=[escape(text).replace("&lt;br&gt;", "<br>") for text in values],
        customdata=[escape(name) for name in order],
        hovertemplate="<b>%{customdata}</b><br>%{text}<extra></extra>",
    )
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    figure.update_xaxes(title_text="place", range=[0.5, len(order) + 0.5], zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, **_ticks(order))
    return figure


def _scatter(found: "Ranking") -> go.Figure:
    figure = blank(460)
    baseline = plain(found)
    probes = [column for column in found.columns if column.kind == "probe"]
    shown = {column.name: column for column in (found.column(), baseline, *probes) if column is not None}
    names = [name for name in found.names if name in found.truth]
    for i, column in enumerate(shown.values()):
        known = [name for name in names if name in column.values]
        if len(known) < 2:
            continue
        raw = np.array([column.values[name] for name in known])
        spread = np.ptp(raw) or 1.0
        tau = found.tau(column.name)
        label = escape(short(column.name)) + ("" if tau is None else f", tau {tau:.2f}")
        figure.add_scatter(
            x=((raw - raw.min()) / spread).tolist(),
            y=[found.truth[name] for name in known],
            name=label,
            mode="markers",
            visible=True if i < 2 else "legendonly",
            marker={
                "color": (palette.LEADER, palette.BASELINE)[i] if i < 2 else palette.SERIES[i % 8],
                "symbol": ("circle", "square", "diamond", "triangle-up", "cross")[i % 5],
                "size": 10,
                "opacity": 0.85,
            },
            text=[f"<b>{escape(n)}</b><br>{escape(column.name)} {number(column.values[n])}" for n in known],
            hovertemplate="%{text}<br>accuracy %{y:.4g}<extra></extra>",
        )
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    figure.update_xaxes(title_text="value, from the least to the greatest", zeroline=False)
    figure.update_yaxes(title_text="true accuracy", automargin=True, zeroline=False)
    return figure


def _orders(found: "Ranking", columns: Sequence["Column"]) -> go.Figure:
    order = [*found.order(), *(name for name in found.names if name not in found.column().values)]
    placed = [column.places() for column in columns]
    places = [[column.get(name) for column in placed] for name in order]
    figure = blank(150 + ROW * max(3, len(order)))
    _heat(
        figure,
        [column.name for column in columns],
        order,
        places,
        (1, max(2, len(order))),
        SHADES,
        ".3~g",
        "place",
    )
    return figure


def _agreement(found: "Ranking", columns: Sequence["Column"]) -> go.Figure:
    names = [column.name for column in columns]
    kept = [i for i, column in enumerate(found.columns) if column.values]
    every = found.agreement()
    taus = [[every[i][j] for j in kept] for i in kept]
    figure = blank(150 + ROW * max(3, len(names)))
    _heat(figure, names, names, taus, (-1, 1), SCALE, ".2f", "tau")
    return figure


def _heat(
    figure: go.Figure,
    across: Sequence[str],
    down: Sequence[str],
    values: Sequence[Sequence[float | None]],
    limits: tuple[float, float],
    scale: Any,
    form: str,
    label: str,
) -> None:
    figure.add_heatmap(
        x=[escape(name) for name in across],
        y=[escape(name) for name in down],
        z=values,
        customdata=[[(escape(row), escape(column)) for column in across] for row in down],
        zmin=limits[0],
        zmax=limits[1],
        colorscale=scale,
        colorbar={"thickness": 12, "outlinewidth": 0},
        texttemplate=f"%{{z:{form}}}" if len(across) <= FIGURES else None,
        textfont={"size": 10},
        hovertemplate=f"%{{customdata[0]}}<br>%{{customdata[1]}}<br>{label} %{{z:{form}}}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, **_ticks(down))
    figure.update_xaxes(side="top", showgrid=False, tickangle=-50, **_ticks(across))


def _seconds(timed: Sequence[tuple[str, float]]) -> go.Figure:
    rows = sorted(timed, key=lambda row: row[1])
    figure = blank(90 + ROW * max(3, len(rows)))
    figure.add_bar(
        x=[max(seconds, 1e-6) for _, seconds in rows],
        y=[escape(name) for name, _ in rows],
        orientation="h",
        marker={"color": palette.HIGH},
        customdata=[escape(name) for name, _ in rows],
        hovertemplate="<b>%{customdata}</b> %{x:.3g} s<extra></extra>",
    )
    figure.update_xaxes(type="log", title_text="seconds")
    figure.update_yaxes(showgrid=False, **_ticks([name for name, _ in rows]))
    return figure


def short(name: str) -> str:
    """A name that leaves room for the figure: of a long one the beginning and the end.

    >>> short("resnet50-imagenet21k-step-000900")
    'resnet50-i…-000900'
    """
    return name if len(name) <= LONGEST else f"{name[:10]}…{name[11 - LONGEST :]}"


def _ticks(names: Sequence[str]) -> dict[str, Any]:
    """An axis of names, one tick each."""
    return {
        "type": "category",
        "automargin": True,
        "tickmode": "array",
        "tickvals": [escape(name) for name in names],
        "ticktext": [escape(short(name)) for name in names],
    }
