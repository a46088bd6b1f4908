"""Pictures of a front, in the colours of the reports, as one page that needs no other file.

Names come from the user's problem and are escaped: plotly reads a little HTML in its texts.
"""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from equipoise.core import palette
from equipoise.core.atomic import write
from equipoise.core.front import Front
from equipoise.core.indicators import nondominated
from equipoise.core.selection import pseudo_weights, scaled

Array = np.ndarray
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
FAINTNESS = 0.3  # opacity of a dominated solution
SCALE = [[0.0, palette.BASELINE], [0.5, "#8b8f94"], [1.0, palette.LEADER]]
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def figure(front: Front) -> go.Figure:
    """One loss as a line, two as a plane, three as a space, more as parallel axes, each scaled to its range.

    Non-dominated solutions are full and framed, the others faint. The colour is the preference for the first
    loss, or, where the front has no weights, how much a solution favours it. Hovering shows a
    solution's place, losses and weights. Raises ValueError for an empty front.
    """
    if not len(front):
        raise ValueError("the front is empty; there is nothing to draw")
    points = front.points.numpy()
    kept = nondominated(points)
    shares = pseudo_weights(points) if front.weights is None else front.weights.numpy()
    ends = _ends(shares[:, 0])
    told = [_about(front, place, bool(kept[place])) for place in range(len(front))]
    drawn = go.Figure(layout=_layout(front, ends))
    match points.shape[1]:
        case 1:
            _flat(drawn, np.column_stack([np.arange(len(points)), points[:, 0]]), kept, shares[:, 0], told)
        case 2:
            _stairs(drawn, points[kept])
            _flat(drawn, points, kept, shares[:, 0], told)
        case 3:
            _space(drawn, points, kept, shares[:, 0], told)
        case _:
            _parallel(drawn, front, kept, np.interp(shares[:, 0], ends, (0, 1)), told)
    return drawn


def write_figure(drawn: go.Figure, path: Path) -> None:
    """Write a figure as a page of its own, plotly.js inside, atomically.

    Raises ValueError where the name does not end in .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a picture of a front is written as HTML, and {path.name} does not end in .html")
    body = drawn.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    title = escape(str(drawn.layout.meta or "Front"))
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<style>body {{ margin: 1rem; background: {palette.PAPER}; }}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    write(path, page)


def _flat(drawn: go.Figure, points: Array, kept: Array, shares: Array, told: list[str]) -> None:
    for some, style in _groups(kept, shares):
        drawn.add_scatter(
            x=points[some, 0], y=points[some, 1], mode="markers", marker=style, **_hover(told, some)
        )


def _space(drawn: go.Figure, points: Array, kept: Array, shares: Array, told: list[str]) -> None:
    for some, style in _groups(kept, shares):
        x, y, z = points[some].T
        # In a space, plotly draws frames in one width for all.
        style = {**style, "size": 5, "line": {"width": 1, "color": palette.INK if kept[some][0] else "white"}}
        drawn.add_scatter3d(x=x, y=y, z=z, mode="markers", marker=style, **_hover(told, some))


def _parallel(drawn: go.Figure, front: Front, kept: Array, shares: Array, told: list[str]) -> None:
    points = front.points.numpy()
    height = scaled(points)
    for place in np.argsort(kept, kind="stable"):  # the non-dominated on top
        drawn.add_scatter(
            x=list(range(len(front.names))),
            y=height[place],
            mode="lines+markers",
            line={"color": _colour(float(shares[place])), "width": 1.6 if kept[place] else 1},
            marker={"size": 5},
            opacity=1.0 if kept[place] else FAINTNESS,
            text=[told[place]] * len(front.names),
            hovertemplate="%{text}<extra></extra>",
        )
    # One empty trace brings the bar of colours, which lines have none of.
    drawn.add_scatter(x=[None], y=[None], mode="markers", marker=_marker(np.array([0.5])), hoverinfo="skip")
    ends = zip(front.names, points.min(0), points.max(0), strict=True)
    labels = [f"{escape(name)}<br>{low:.4g} to {high:.4g}" for name, low, high in ends]
    drawn.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, title_text="")
    drawn.update_yaxes(title_text="", tickvals=[0, 1], ticktext=["best", "worst"], range=[-0.05, 1.05])


def _stairs(drawn: go.Figure, points: Array) -> None:
    """The edge of what the non-dominated solutions dominate."""
    if len(points) > 1:
        x, y = points[np.lexsort(points.T[::-1])].T
        line = {"color": palette.FAINT, "width": 1, "dash": "dot", "shape": "hv"}
        drawn.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip")


def _groups(kept: Array, shares: Array) -> list[tuple[Array, dict[str, Any]]]:
    """The places of the dominated solutions, then of the others, each with its marker."""
    frames = {"width": 1, "color": palette.INK}
    looks = [(~kept, {"opacity": FAINTNESS, "size": 7}), (kept, {"size": 10, "line": frames})]
    return [(np.flatnonzero(some), _marker(shares[some]) | look) for some, look in looks if some.any()]


def _marker(shares: Array) -> dict[str, Any]:
    return {"color": shares, "coloraxis": "coloraxis"}


def _hover(told: list[str], some: Array) -> dict[str, Any]:
    return {"text": [told[place] for place in some], "hovertemplate": "%{text}<extra></extra>"}


def _about(front: Front, place: int, kept: bool) -> str:
    lines = [f"<b>place {place}</b> ({'non-dominated' if kept else 'dominated'})"]
    weights = [None] * len(front.names) if front.weights is None else front.weights[place].tolist()
    for name, loss, weight in zip(front.names, front.points[place].tolist(), weights, strict=True):
        lines.append(f"{escape(name)}: {loss:.5g}" + ("" if weight is None else f", preference {weight:.3g}"))
    return "<br>".join(lines)


def _colour(share: float) -> str:
    """The colour of a share from 0 to 1, between those of the scale."""
    places = [place for place, _ in SCALE]
    parts = [[int(code[i : i + 2], 16) for _, code in SCALE] for i in (1, 3, 5)]
    red, green, blue = (round(float(np.interp(share, places, part))) for part in parts)
    return f"rgb({red},{green},{blue})"


def _ends(shares: Array) -> tuple[float, float]:
    """The range of the colours: from 0 to 1 where all shares are alike."""
    low, high = float(shares.min()), float(shares.max())
    return (low, high) if high > low else (0.0, 1.0)


def _layout(front: Front, ends: tuple[float, float]) -> dict[str, Any]:
    names = [escape(name) for name in front.names]
    axis = {"gridcolor": palette.GRID, "linecolor": palette.FAINT, "zeroline": False}

    def titled(name: str, **more: Any) -> dict[str, Any]:
        return {**axis, "title": {"text": name, "font": {"size": 13}}, **more}

    first, second = ("place", names[0]) if len(names) == 1 else names[:2]
    colour = "favours" if front.weights is None else "preference for"
    bar = {"title": {"text": f"{colour} {names[0]}", "side": "right"}, "thickness": 12, "outlinewidth": 0}
    solver = str(front.record.get("solver", "front"))
    return {
        "template": go.layout.Template(),
        "meta": f"{solver}: {', '.join(front.names)}",
        "height": 560,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "font": {"family": FONT, "size": 12, "color": palette.MUTED},
        "paper_bgcolor": palette.PAPER,
        "plot_bgcolor": palette.PAPER,
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
        "coloraxis": {"colorscale": SCALE, "cmin": ends[0], "cmax": ends[1], "colorbar": bar},
        "xaxis": titled(first, automargin=True),
        "yaxis": titled(second, automargin=True),
        "scene": dict(zip(("xaxis", "yaxis", "zaxis"), map(titled, names), strict=False)),
    }
