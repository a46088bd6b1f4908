"""What the report says of an advice: its grounds, and where the objectives conflict, as a picture."""

from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.study.figures import blank
from equipoise.study.parts import figure, section
from equipoise.study.profile import Pair, Profile
from equipoise.study.wording import number

if TYPE_CHECKING:
    from equipoise.study.advice import Advice

MOST_PAIRS = 10
MOST_LAYERS = 14


def advice(found: "Advice") -> str:
    """The grounds of the advice, after the verdict that stands in the heading, and the picture."""
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in found.sentences[1:])
    caption = (
        "What each layer adds to the cosine of a pair; all layers sum to the cosine under its names, and "
        f"the {MOST_LAYERS} that pull down most are shown. Below zero: the pair conflicts there. From two "
        "fresh batches at a time, over the first steps of the mean, so that a batch's noise does not count."
    )
    empty = "There is nothing to show."
    drawn = figure("profile", "Conflict of pairs by layer", caption, empty=empty)
    return section("Who conflicts, and where", f"<ul>{said}</ul>\n{drawn}")


def layers(found: Profile) -> go.Figure | None:
    """Layers by pairs, the worst of each first."""
    pairs = found.pairs[:MOST_PAIRS]
    if not pairs:
        return None
    names = sorted(pairs[0].layers, key=lambda name: min(pair.layers[name] for pair in pairs))[:MOST_LAYERS]
    drawn = blank(height=150 + 28 * len(names))
    reach = max(0.1, *(abs(pair.layers[name]) for name in names for pair in pairs))
    values = [[pair.layers[name] for pair in pairs] for name in names]
    drawn.add_heatmap(
        z=values,
        x=[_title(pair) for pair in pairs],
        y=[escape(name) for name in names],
        text=[[number(value, 2) for value in row] for row in values],
        texttemplate="%{text}",
        textfont={"color": palette.INK},
        hovertemplate="%{y}<br>%{x}: %{text}<extra></extra>",
        colorscale=[[0, palette.LOW], [0.5, palette.MIDDLE], [1, palette.HIGH]],
        zmin=-reach,
        zmax=reach,
        xgap=2,
        ygap=2,
        colorbar={"thickness": 10, "outlinewidth": 0},
    )
    drawn.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    drawn.update_xaxes(showgrid=False, automargin=True)
    return drawn


def _title(pair: Pair) -> str:
    mark = " conflict" if pair.conflicts else ""
    return f"{escape(pair.first)}, {escape(pair.second)}<br>{number(pair.cosine, 2)}{mark}"
