"""Figures of a fitted law: what it foretells, how well, over which mixtures, and what is noise.

Names come from the user's table and are escaped: plotly reads a little HTML in its texts.
"""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.core.frontplot import figure as front_figure
from equipoise.core.page import SCALE, blank
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.influence import influence
from equipoise.scaling.mixturefront import front
from equipoise.scaling.mixturetask import Task
from equipoise.scaling.runs import Array
from equipoise.scaling.single import FormSingle

if TYPE_CHECKING:
    from equipoise.scaling.compare import Comparison
    from equipoise.scaling.optimum import Mixture

Drawn = tuple[str, str, str, go.Figure]
MOST = 8
"""Losses that are drawn one by one."""
ROW = 26
"""Pixels of a row of bars."""


def figures(
    law: FittedLaw,
    mixture: "Mixture | None",
    comparison: "Comparison | None",
    weights: Array,
    N: float | None,
    D: float | None,
) -> list[Drawn]:
    """Name, title, note and figure of everything that can be drawn."""
    drawn = [
        (
            "told",
            "Foretold and observed",
            "A dot for each run and loss, of those that the law was fitted to; the nearer to the line, the "
            "better.",
            _told(law),
        )
    ]
    if mixture is not None:
        task = Task(law, weights, N, D)
        drawn += [
            (
                "ratios",
                "Each loss over its own ratio",
                "The others in the proportions of the recommended mixture. Bands: 95% of the refits; dots "
                "are runs of the same size and length.",
                _over_ratio(law, mixture, N, D),
            ),
            (
                "simplex",
                "The mixtures",
                "Colour is the weighted loss that the law foretells, blue where it is low. The star, or "
                "thick line, is the recommended mixture, the cross equal ratios.",
                _simplex(task, mixture),
            ),
            (
                "noise",
                "The gain, the noise, and the error of the law",
                "A gain counts where it is longer than the noise of a comparison of two runs, 2.8 standard "
                "deviations of a seed, and than what the law errs by on held-out runs.",
                _noise(mixture),
            ),
        ]
        if len(law.objectives) > 1:
            kept = front(law, 21 if len(law.objectives) < 4 else 9, N=N, D=D)
            note = "Losses of the best mixtures under many weights; what one gains another pays."
            drawn.append(("front", "The trade-offs that remain", note, front_figure(kept)))
    elif law.runs.features.D is not None:
        note = "A line for each of some sizes; bands hold 95% of the refits."
        drawn.append(("tokens", "The loss over tokens", note, _over_tokens(law)))
    if comparison is not None:
        note = f"The mean error on held-out {comparison.what}, {comparison.folds} folds; the least is best."
        drawn.append(("errors", "Held-out errors of all laws", note, _errors(comparison)))
    if any(isinstance(single, FormSingle) for single in law.singles.values()):
        note = "By how much all predictions move, on average, where a run is left out: the longest bars."
        drawn.append(("influence", "The runs that say most", note, _influence(law)))
    return drawn


def _told(law: FittedLaw) -> go.Figure:
    drawn, ends = blank(460), []
    for place, (name, used) in enumerate(law.used.items()):
        y = law.runs.loss(name)[used.rows]
        found = law.singles[name].predict(law.runs.features.take(used.rows))
        ends += [y.min(), y.max()]
        drawn.add_scatter(
            x=y,
            y=found,
            mode="markers",
            name=escape(name),
            marker={"color": _colour(place), "size": 6, "opacity": 0.7},
            text=[escape(law.runs.run[row]) for row in used.rows],
            hovertemplate="%{text}: observed %{x:.4g}, foretold %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    line = {"color": palette.FAINT, "width": 1, "dash": "dot"}
    drawn.add_scatter(x=[min(ends), max(ends)], y=[min(ends), max(ends)], mode="lines", line=line,
                      showlegend=False, hoverinfo="skip")  # fmt: skip
    drawn.update_xaxes(title_text="observed")
    drawn.update_yaxes(title_text="foretold")
    return drawn


def _over_ratio(law: FittedLaw, mixture: "Mixture", N: float | None, D: float | None) -> go.Figure:
    drawn, sources = blank(460), law.runs.sources
    best = np.array([mixture.p[name] for name in sources])
    shares = np.linspace(0.02, 0.98, 60)
    same = _same(law, N, D)
    owned = [name for name in law.objectives if name in sources][:MOST]
    for place, name in enumerate(owned):
        own = sources.index(name)
        rest = np.where(np.arange(len(best)) == own, 0.0, np.maximum(best, 1e-4))
        p = (1 - shares)[:, None] * rest / rest.sum()
        p[:, own] = shares
        found = law.predict(N, D, p)
        column = law.objectives.index(name)
        low, high = (None if part is None else part[:, column] for part in (found.low, found.high))
        _band(drawn, shares, found.losses[:, column], low, high, escape(name), place)
        rows = [row for row in law.used[name].rows if same[row]]
        assert law.runs.features.p is not None
        drawn.add_scatter(
            x=law.runs.features.p[rows, own],
            y=law.runs.loss(name)[rows],
            mode="markers",
            marker={"color": _colour(place), "size": 6},
            showlegend=False,
            text=[escape(law.runs.run[row]) for row in rows],
            hovertemplate="%{text}: %{x:.3f}, %{y:.4g}<extra></extra>",
        )
    drawn.update_xaxes(title_text="own ratio", range=[0, 1])
    drawn.update_yaxes(title_text="loss")
    return drawn


def _over_tokens(law: FittedLaw) -> go.Figure:
    drawn, x = blank(460), law.runs.features
    assert x.D is not None
    tokens = np.geomspace(x.D.min(), 3 * x.D.max(), 60)
    sizes = [None] if x.N is None else np.unique(np.quantile(x.N, [0, 0.25, 0.5, 0.75, 1], method="nearest"))
    name = law.objectives[0]
    for place, size in enumerate(sizes):
        others = {key: float(column[0]) for key, column in x.other.items()}
        found = law.predict(size, tokens, None, **others)
        low, high = (None if part is None else part[:, 0] for part in (found.low, found.high))
        label = escape(name) if size is None else f"N {size:.3g}"
        _band(drawn, tokens, found.losses[:, 0], low, high, label, place)
        rows = [row for row in law.used[name].rows if x.N is None or x.N[row] == size]
        marker = {"color": _colour(place), "size": 6}
        drawn.add_scatter(x=x.D[rows], y=law.runs.loss(name)[rows], mode="markers", marker=marker,
                          showlegend=False)  # fmt: skip
    drawn.update_xaxes(title_text="tokens D", type="log")
    drawn.update_yaxes(title_text="loss", type="log")
    return drawn


def _simplex(task: Task, mixture: "Mixture") -> go.Figure:
    sources = task.law.runs.sources
    best = np.array([mixture.p[name] for name in sources])
    k, names = len(sources), [escape(name) for name in sources]
    draws = np.random.default_rng(0).dirichlet(np.ones(k), 1500 if k == 3 else 150)
    values = task.values(np.maximum(draws, 1e-3))
    if k == 2:
        share = np.linspace(0.02, 0.98, 80)
        drawn = blank(420)
        _band(drawn, share, task.values(np.stack([share, 1 - share], 1)), None, None, "weighted loss", 0)
        star = {"symbol": "star", "size": 14, "color": palette.BASELINE}
        drawn.add_scatter(x=[best[0]], y=[mixture.value], mode="markers", marker=star, name="recommended")
        drawn.update_xaxes(title_text=f"ratio of {names[0]}", range=[0, 1])
        drawn.update_yaxes(title_text="weighted loss")
        return drawn
    ends = {"cmin": float(values.min()), "cmax": float(np.quantile(values, 0.9))}
    bar = {"title": {"text": "weighted loss", "side": "right"}, "thickness": 12, "outlinewidth": 0}
    scale = [[1 - place, colour] for place, colour in reversed(SCALE)]
    drawn = blank(520)
    if k == 3:
        marker = {"color": values, "colorscale": scale, "size": 6, "colorbar": bar, **ends}
        drawn.add_scatterternary(
            a=draws[:, 0], b=draws[:, 1], c=draws[:, 2], mode="markers", marker=marker, showlegend=False,
            text=[f"{value:.4g}" for value in values], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        for p, symbol, label in ((np.full(3, 1 / 3), "x", "equal ratios"), (best, "star", "recommended")):
            look = {"symbol": symbol, "size": 14, "color": palette.INK}
            drawn.add_scatterternary(a=[p[0]], b=[p[1]], c=[p[2]], mode="markers", marker=look, name=label)
        axes = dict(
            zip(("aaxis", "baxis", "caxis"), ({"title": {"text": name}} for name in names), strict=True)
        )
        legend = {"orientation": "h", "y": -0.12}
        drawn.update_layout(ternary={"sum": 1, "bgcolor": palette.PAPER, **axes}, legend=legend, margin_t=40)
        return drawn
    held = task.law.runs.features.p
    assert held is not None
    shown = held[np.linspace(0, len(held) - 1, min(len(held), 60)).astype(int)]
    for p, label, colour, width in (
        *((row, "", palette.FAINT, 1) for row in shown),
        (np.full(k, 1 / k), "equal ratios", palette.FIXED, 2),
        (best, "recommended", palette.BASELINE, 4),
    ):
        line = {"color": colour, "width": width}
        drawn.add_scatter(x=names, y=p, mode="lines", line=line, name=label, showlegend=bool(label),
                          opacity=1.0 if label else 0.5)  # fmt: skip
    drawn.update_yaxes(title_text="ratio", rangemode="tozero")
    return drawn


def _noise(mixture: "Mixture") -> go.Figure:
    bars: dict[str, float | None] = {
        "gain over equal ratios": mixture.over_uniform,
        "gain over the weights": mixture.over_weights,
        "noise of two runs": None if mixture.noise is None else 2 * 2**0.5 * mixture.noise,
        "error of the law": mixture.doubt,
    }
    return _bars({name: value for name, value in bars.items() if value is not None}, "loss")


def _errors(comparison: "Comparison") -> go.Figure:
    rows = {row.law.name: 100 * row.overall for row in comparison.rows if row.errors}
    return _bars(rows, "mean error, %")


def _influence(law: FittedLaw) -> go.Figure:
    found = influence(law)
    told = [(f"{run} ({name})", 100 * moved) for name, one in found.items() for run, moved in one.most(6)]
    return _bars(dict(sorted(told, key=lambda pair: -pair[1])[:12]), "predictions move by, %")


def _bars(rows: Mapping[str, float], title: str) -> go.Figure:
    drawn = blank(90 + ROW * len(rows))
    names = [escape(name) for name in rows][::-1]
    values = list(rows.values())[::-1]
    drawn.add_bar(
        x=values,
        y=names,
        orientation="h",
        marker={"color": palette.LEADER},
        text=[f"{value:.3g}" for value in values],
        textposition="auto",
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
    )
    drawn.update_xaxes(title_text=title)
    drawn.update_yaxes(automargin=True, type="category")
    return drawn


def _band(
    drawn: go.Figure, x: Array, y: Array, low: Array | None, high: Array | None, name: str, place: int
) -> None:
    colour = _colour(place)
    if low is not None and high is not None:
        drawn.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines", fill="toself",
            line={"width": 0}, fillcolor=colour, opacity=0.18, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    drawn.add_scatter(x=x, y=y, mode="lines", line={"color": colour, "width": 2}, name=name)


def _same(law: FittedLaw, N: float | None, D: float | None) -> Array:  # -> (n,) bool
    """The runs of the size and length that is asked about."""
    found = np.ones(len(law.runs), dtype=bool)
    for column, asked in ((law.runs.features.N, N), (law.runs.features.D, D)):
        if column is not None and asked is not None:
            found &= np.isclose(column, asked)
    return found


def _colour(place: int) -> str:
    return palette.SERIES[place % len(palette.SERIES)]
