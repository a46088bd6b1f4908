"""The page of an inspection: maps of cosines and signs, norms by layer, losses along segments.

Names come from the user's files and are escaped: plotly reads a little HTML in its texts.
"""

from collections.abc import Callable, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.core.page import SCALE, blank, document, section
from equipoise.merging.barrier import Evaluations
from equipoise.merging.conflictmap import Matrix, Region, pairs
from equipoise.merging.inspectionreading import text

if TYPE_CHECKING:
    from equipoise.merging.inspection import Inspection

MOST_ROWS = 60  # tensors, beyond which a map shows layers
ROW = 20  # pixels of a row of a map
STYLE = f"""
.notice {{ border-left: 3px solid {palette.BASELINE}; background: #f6f7f8; padding: .6rem .9rem; }}
pre {{ background: #f6f7f8; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; }}
"""


def page(found: "Inspection") -> str:
    """The whole page as text."""
    reading = found.reading()
    verdict = {
        True: "Averaged, these models fall below their base",
        False: "Averaged, these models are not below their base",
        None: "Without data nobody knows whether a merge of these falls below the base",
    }[reading.below]
    body = [
        f'<p class="kicker">Inspection of {escape(", ".join(found.names))}</p>',
        f"<h1>{verdict}</h1>",
        *(f'<p class="notice">{escape(words)}</p>' for words in reading.warnings),
        *(f"<p>{escape(words)}</p>" for words in reading.advice),
    ]
    body += [section(*figure) for figure in _figures(found)]
    summary = text(found.names, found.weights, found.evaluations, found.unranked, found.notes)
    body.append(f"<h2>In plain text</h2>\n<pre>{escape(summary)}</pre>")
    return document(f"Inspection of {', '.join(found.names)}", body, STYLE)


def _figures(found: "Inspection") -> list[tuple[str, str, str, go.Figure]]:
    weights = found.weights
    tensors = len(weights.tensors) <= MOST_ROWS
    regions = weights.tensors if tensors else weights.layers
    rows = "tensor" if tensors else "layer"
    drawn = []
    if found.evaluations is not None:
        drawn.append(
            (
                "segments",
                "Loss along the segments",
                "From each model to the others and to the base, over the objectives that the two ends are "
                "called after, else over all. The dashed lines are the base and the plain average of all "
                "models, over all objectives.",
                _segments(found.evaluations),
            )
        )
    if len(found.names) > 1:
        drawn += [
            (
                "cosines",
                f"Cosine of task vectors by {rows}",
                "1: they add the same; 0: unrelated; below 0: one undoes what the other did.",
                _map(found.names, regions, lambda region: region.cosines, (-1.0, 1.0), ".2f", "cosine"),
            ),
            (
                "signs",
                f"Opposed signs by {rows}",
                "The share of entries that two models move in opposite directions, each counted by its size. "
                "About 50 per cent is chance; more is conflict.",
                _map(found.names, regions, lambda region: region.weighted, (1.0, 0.0), ".0%", "opposed"),
            ),
        ]
    drawn.append(
        (
            "distances",
            "Distance from the base by layer",
            "The length of what tuning added over the length of the base's weights.",
            _lines(found.names, [(r.name, r.distances) for r in weights.layers], "distance"),
        )
    )
    ranked = [(r.name, r.spectrum) for r in weights.tensors if r.spectrum is not None]
    if ranked:
        shares = [
            (name, [None if rank is None else rank / s.side for rank in s.effective_ranks])
            for name, s in ranked
        ]
        drawn.append(
            (
                "ranks",
                "Effective rank of the deltas",
                "As a share of the shorter side of each matrix: near 1 the delta is spread over all "
                "directions, near 0 it lies in few.",
                _lines(found.names, shares, "effective rank / side"),
            )
        )
    return drawn


def _map(
    names: Sequence[str],
    regions: Sequence[Region],
    values: Callable[[Region], Matrix],
    limits: tuple[float, float],
    form: str,
    label: str,
) -> go.Figure:
    """Regions by pairs; the colour for conflict is at the first of the limits."""
    low, high = min(limits), max(limits)
    columns = [f"{escape(a)}<br>{escape(b)}" for a, b in pairs(values(regions[0]), names)]
    found = [list(pairs(values(region), names).values()) for region in regions]
    figure = blank(90 + ROW * max(3, len(regions)))
    shown = len(columns) <= 12
    figure.add_heatmap(
        x=columns,
        y=[escape(region.name) for region in regions],
        z=found,
        zmin=low,
        zmax=high,
        colorscale=SCALE if limits == (low, high) else [[1 - at, colour] for at, colour in reversed(SCALE)],
        colorbar={"thickness": 12, "outlinewidth": 0, "tickformat": form},
        texttemplate=f"%{{z:{form}}}" if shown else None,
        hovertemplate=f"%{{y}}<br>%{{x}}<br>{label} %{{z:{form}}}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True, dtick=1, type="category")
    figure.update_xaxes(side="top", showgrid=False, automargin=True, dtick=1)
    return figure


def _lines(names: Sequence[str], rows: Sequence[tuple[str, Any]], label: str) -> go.Figure:
    figure = blank(380)
    for i, name in enumerate(names):
        figure.add_scatter(
            x=[escape(row) for row, _ in rows],
            y=[values[i] for _, values in rows],
            name=escape(name),
            mode="lines+markers",
            line=_line(i),
            hovertemplate=f"<b>{escape(name)}</b><br>%{{x}}<br>{label} %{{y:.3g}}<extra></extra>",
        )
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    figure.update_xaxes(automargin=True, showgrid=False, type="category")
    figure.update_yaxes(title_text=label, rangemode="tozero", automargin=True)
    return figure


def _segments(found: Evaluations) -> go.Figure:
    figure = blank(480)
    for i, segment in enumerate(found.segments):
        name = f"{escape(segment.start)} to {escape(segment.end or 'the base')}"
        line = {**_line(i), "width": 2 if segment.end else 1}
        figure.add_scatter(
            x=segment.alphas,
            y=segment.curve,
            name=name,
            mode="lines+markers",
            line=line,
            marker={"size": 5},
            hovertemplate=f"<b>{name}</b><br>%{{x:.2g}} of the way: %{{y:.4g}}<extra></extra>",
        )
    for value, words, colour in (
        (fmean(found.base.values()), "the base", palette.INK),
        (fmean(found.average.values()), "the average", palette.BASELINE),
    ):
        figure.add_scatter(
            x=[0, 1],
            y=[value, value],
            name=words,
            mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dash"},
            hovertemplate=f"<b>{words}</b> %{{y:.4g}}<extra></extra>",
        )
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    figure.update_xaxes(title_text="share of the way to the second", zeroline=False)
    figure.update_yaxes(title_text="mean loss", automargin=True, zeroline=False)
    return figure


def _line(i: int) -> dict[str, Any]:
    """A colour and a dash of its own for each of many lines."""
    colours = len(palette.SERIES)
    dash = palette.DASHES[i // colours % len(palette.DASHES)]
    return {"color": palette.SERIES[i % colours], "dash": dash, "width": 1.8}
