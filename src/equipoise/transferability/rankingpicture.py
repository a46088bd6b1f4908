"""The picture of a ranking as a static SVG: places, how sure they are, and the plain baseline's."""

from html import escape
from typing import TYPE_CHECKING

from equipoise.core import palette
from equipoise.core.frontplot import FONT
from equipoise.transferability.rankingtext import advice, number, plain

if TYPE_CHECKING:
    from equipoise.transferability.ranking import Ranking

WIDTH, LEFT, RIGHT, TOP, LINE = 760, 250, 660, 92, 24
MOST = 40  # models, beyond which the last are left out
NAME = 30  # characters of a name


def picture(found: "Ranking") -> str:
    """An SVG that brings its own ground, for pages light or dark."""
    order = found.order()
    shown = order[:MOST]
    places = found.places()
    baseline = plain(found)
    blind = {} if baseline is None else baseline.places()
    mine = found.column().places()
    height = TOP + LINE * len(shown) + 40
    head = advice(found)
    by = f"place by {found.by}" + (", with the 5th to 95th percentile over half-samples" if places else "")
    parts = [_text(20, 32, head, palette.INK, "start", 18, bold=True), _dot(26, 51, palette.LEADER)]
    parts.append(_text(38, 56, by, palette.MUTED, "start"))
    if baseline is not None:
        parts += [_square(26, 71), _text(38, 76, f"place by {baseline.name}", palette.MUTED, "start")]

    def across(place: float) -> float:
        return LEFT + (RIGHT - LEFT) * (place - 1) / max(len(order) - 1, 1)

    for i, name in enumerate(shown):
        level = TOP + LINE * (i + 0.5)
        ink = palette.LEADER if i == 0 else palette.INK
        parts.append(f'<path d="M{LEFT} {level}H{RIGHT}" stroke="{palette.GRID}"/>')
        label = name if len(name) <= NAME else name[: NAME - 1] + "…"
        parts.append(_text(LEFT - 16, level + 4, label, ink, "end", bold=i == 0))
        if name in places:
            low, high = (across(place) for place in places[name])
            parts.append(
                f'<path d="M{low:.1f} {level}H{high:.1f}" stroke="{palette.LEADER}" stroke-width="2"/>'
            )
        if name in blind:
            parts.append(_square(across(blind[name]), level))
        parts.append(_dot(across(mine[name]), level, palette.LEADER))
        parts.append(_text(WIDTH - 16, level + 4, number(found.column().values[name]), ink, "end"))
    if len(order) > MOST:
        words = f"and {len(order) - MOST} more"
        parts.append(_text(LEFT - 16, height - 16, words, palette.MUTED, "end"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(head)}" font-family="{escape(FONT)}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="{palette.PAPER}"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, ink: str, side: str, size: int = 13, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{ink}" font-size="{size}" text-anchor="{side}"{weight}>'
        f"{escape(words)}</text>"
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'


def _square(x: float, y: float) -> str:
    return (
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="none" stroke="{palette.BASELINE}" '
        'stroke-width="1.6"/>'
    )
