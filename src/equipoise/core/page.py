"""A page that stands alone: one HTML file with its figures, which asks no host for anything."""

from collections.abc import Iterable
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from equipoise import __version__
from equipoise.core import palette
from equipoise.core.frontplot import FONT, POLICY

STYLE = f"""
body {{ margin: 0; background: {palette.PAPER}; color: {palette.INK}; font: 16px/1.55 {FONT}; }}
main {{ max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
h1 {{ font-size: 2rem; line-height: 1.2; margin: 0 0 1rem; }}
h2 {{ font-size: 1.3rem; margin: 2.5rem 0 .4rem; }}
p {{ max-width: 46rem; margin: 0 0 1rem; overflow-wrap: anywhere; }}
.kicker, .note {{ color: {palette.MUTED}; }}
.note {{ font-size: .9rem; }}
footer {{
  margin-top: 3rem; padding-top: 1rem; border-top: 1px solid {palette.GRID}; color: {palette.MUTED};
  font-size: .85rem;
}}
"""

TABLES = f"""
h1 {{ font-size: 1.2rem; line-height: 1.5; font-weight: 400; max-width: 46rem; }}
h1 strong {{ display: block; font-size: 2.2rem; line-height: 1.2; font-weight: 650; margin-bottom: .5rem; }}
h1, td, th {{ overflow-wrap: anywhere; }}
.box {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid {palette.GRID}; }}
th {{ color: {palette.MUTED}; font-weight: 600; vertical-align: bottom; }}
"""
"""The style of a page that begins with one sentence, and of tables of numbers in boxes."""

SCALE = [
    [0.0, palette.BASELINE],
    [0.25, palette.LOW],
    [0.5, palette.MIDDLE],
    [0.75, palette.HIGH],
    [1.0, palette.LEADER],
]
"""The colours of a map, from low to high."""


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """The whole page: `body` is HTML, `title` is text, `style` is added to that of all pages."""
    inner = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}{style}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n{inner}\n"
        f"<footer>Made by Equipoise {escape(__version__)}. This page loads nothing from any host.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def section(name: str, title: str, note: str, figure: go.Figure) -> str:
    """A figure under its title and a note, as HTML; `name` is the id of its element."""
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return f'<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{drawn}'


def blank(height: int) -> go.Figure:
    """A figure of the house without anything in it, `height` pixels high."""
    axis = {"gridcolor": palette.GRID, "linecolor": palette.FAINT, "zeroline": False}
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "height": height,
            "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            "font": {"family": FONT, "size": 12, "color": palette.MUTED},
            "paper_bgcolor": palette.PAPER,
            "plot_bgcolor": palette.PAPER,
            "hovermode": "closest",
            "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
            "xaxis": axis,
            "yaxis": axis,
        }
    )
