"""Picture: the front of a study as a static SVG, written without a browser."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from statistics import quantiles

from equipoise.core import palette
from equipoise.core.atomic import write
from equipoise.study.analysis import BASELINE, Analysis, Row, analyse
from equipoise.study.parts import file_name
from equipoise.study.results import Run
from equipoise.study.wording import count, percent, spread

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 74, 28, 64, 58
LINE = 22  # height of a line of the ranking
APART = 17  # between two names on the plane, one above the other


def save_picture(run: Run, path: str | Path) -> Path:
    """Write an SVG of the rules' average test results, the leading rule and Mean named.

    Two objectives give their plane, with every solution faint behind; more give the rules ranked by
    score. The page below it may be light or dark: the picture brings its own ground.

    Raises ValueError where `path` does not end in .svg or the run has no result to show.
    """
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise ValueError(f"a picture is written as SVG, and {path.name} does not end in .svg")
    analysis = analyse(run)
    rows = [row for row in analysis.rows if row.score is not None]
    if not rows:
        raise ValueError(f"{run.folder} has no finished trial to show")
    write(path, _plane(analysis, rows) if len(run.objectives) == 2 else _ranking(analysis, rows))
    return path


def _plane(analysis: Analysis, rows: Sequence[Row]) -> str:
    x, y = (_Axis(analysis, k) for k in range(2))
    parts = [_title(analysis, WIDTH), *x.horizontal(), *y.vertical()]
    for point in analysis.points:
        if point.chosen and x.holds(point.values[0]) and y.holds(point.values[1]):
            parts.append(_dot(x.across(point.values[0]), y.up(point.values[1]), palette.FAINT, 2.2, 0.35))
    ordered = sorted(rows, key=lambda r: _role(analysis, r)[1])
    named = []
    for row in ordered:
        colour, rank = _role(analysis, row)
        mean = [row.metrics[name].mean for name in analysis.run.objectives]
        if not (x.holds(mean[0]) and y.holds(mean[1])):
            continue
        across, up = x.across(mean[0]), y.up(mean[1])
        parts.append(_dot(across, up, colour, 6 if rank else 4, 1))
        if rank:
            named.append((up, across, row.label, colour))
    outside = sum(
        not all(
            axis.holds(row.metrics[k].mean) for axis, k in zip((x, y), analysis.run.objectives, strict=True)
        )
        for row in rows
    )
    if outside:
        words = f"{count(outside, 'method')} far outside {'is' if outside == 1 else 'are'} not shown"
        parts.append(_text(WIDTH - 20, 48, words, palette.MUTED, "end"))
    lowest = -float("inf")
    for up, across, label, colour in sorted(named):
        lowest = max(up, lowest + APART)
        side = "end" if across > WIDTH - 200 else "start"
        shift = -11 if side == "end" else 11
        parts.append(_text(across + shift, lowest + 4, label, colour, side, bold=True, halo=True))
    return _svg(WIDTH, HEIGHT, parts)


def _ranking(analysis: Analysis, rows: Sequence[Row]) -> str:
    found = sorted(rows, key=lambda r: -(r.score.mean if r.score else 0))
    height = TOP + LINE * len(found) + 44
    scores = [100 * r.score.mean for r in found if r.score]
    low, high = min(*scores, 0.0), max(*scores, 0.0)
    left, right = 270, WIDTH - 110
    scale = (right - left) / ((high - low) or 1.0)
    parts = [_title(analysis, WIDTH)]
    zero = left - low * scale
    dashes = f'stroke="{palette.FAINT}" stroke-dasharray="4 4"'
    parts.append(f'<path d="M{zero:.1f} {TOP}V{height - 40}" {dashes}/>')
    for i, row in enumerate(found):
        colour, rank = _role(analysis, row)
        level = TOP + LINE * (i + 0.5)
        at = left + (100 * row.score.mean - low) * scale if row.score else left
        ink = colour if rank else palette.INK
        parts.append(_text(left - 16, level + 4, row.label, ink, "end", bold=bool(rank)))
        line = f'stroke="{colour}" stroke-width="1.5" opacity="0.5"'
        parts.append(f'<path d="M{zero:.1f} {level:.1f}H{at:.1f}" {line}/>')
        parts.append(_dot(at, level, colour, 5, 1))
        parts.append(_text(WIDTH - 16, level + 4, spread(percent(row.score), 1), ink, "end"))
    words = "score: average gain over training each objective alone, per cent"
    parts.append(_text(left, height - 14, words, palette.MUTED, "start"))
    return _svg(WIDTH, height, parts)


class _Axis:
    """One objective on the plane: round ticks, and better towards the right and the top."""

    def __init__(self, analysis: Analysis, k: int) -> None:
        run = analysis.run
        name = run.objectives[k]
        self.metric = run.metrics[name]
        self.title = f"{name}: {self.metric.name} ({self.metric.better} is better)"
        rows = [r for r in analysis.rows if r.score is not None]
        front = [p.values[k] for p in analysis.points if p.chosen and p.front]
        values = _together([*(r.metrics[name].mean for r in rows), *front])
        values += [r.metrics[name].mean for r in rows if _role(analysis, r)[1]]
        pad = 0.08 * (max(values) - min(values)) or 0.01 * abs(values[0]) or 1.0
        self.low, self.high = min(values) - pad, max(values) + pad

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def across(self, value: float) -> float:
        return LEFT + self._part(value) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._part(value) * (HEIGHT - TOP - BOTTOM)

    def horizontal(self) -> list[str]:
        parts = [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, self.title, palette.MUTED, "middle")]
        for value, label in self._ticks():
            at = self.across(value)
            parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{palette.GRID}"/>')
            parts.append(_text(at, HEIGHT - BOTTOM + 18, label, palette.MUTED, "middle"))
        return parts

    def vertical(self) -> list[str]:
        middle = (TOP + HEIGHT - BOTTOM) / 2
        turned = _text(0, 0, self.title, palette.MUTED, "middle")
        parts = [f'<g transform="translate(20 {middle:.1f}) rotate(-90)">{turned}</g>']
        for value, label in self._ticks():
            at = self.up(value)
            parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{palette.GRID}"/>')
            parts.append(_text(LEFT - 8, at + 4, label, palette.MUTED, "end"))
        return parts

    def _part(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return part if self.metric.better == "higher" else 1 - part

    def _ticks(self) -> list[tuple[float, str]]:
        """Four to ten multiples of 1, 2 or 5 times a power of ten."""
        raw = (self.high - self.low) / 6
        power = 10.0 ** floor(log10(raw))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
        places = max(0, -floor(log10(step)))
        first, last = ceil(self.low / step), floor(self.high / step)
        return [(i * step, f"{i * step:.{places}f}".replace("-", "−")) for i in range(first, last + 1)]


def _together(values: list[float]) -> list[float]:
    """The values without those far from the rest, by three times the distance of the quartiles.

    >>> _together([0.90, 0.91, 0.92, 0.93, 0.2])
    [0.9, 0.91, 0.92, 0.93]
    """
    if len(values) < 4:
        return values
    low, _, high = quantiles(values, n=4, method="inclusive")
    reach = 3 * (high - low)
    return [value for value in values if low - reach <= value <= high + reach]


def _role(analysis: Analysis, row: Row) -> tuple[str, int]:
    """The colour of a row, and how far in front it is drawn (0 for what is not named)."""
    if row.kind == "fixed":
        return palette.FIXED, 1
    if row.kind == "rule" and row.label == BASELINE:
        return palette.BASELINE, 2
    if row.kind == "rule" and row.label == analysis.leader:
        return palette.LEADER, 3
    return palette.FAINT, 0


def _title(analysis: Analysis, width: int) -> str:
    run = analysis.run
    name = file_name(run.problem)
    seeds = f"{len(run.seeds)} seed" + ("" if len(run.seeds) == 1 else "s")
    below = f"{len(run.rules)} rules on {name}, averages over {seeds}, {run.judged} data"
    head = analysis.verdict.sentence.partition(":")[0]
    large = _text(20, 28, head, palette.INK, "start", bold=True, size=18)
    return large + _text(20, 48, below, palette.MUTED, "start")


def _dot(x: float, y: float, colour: str, radius: float, opacity: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" opacity="{opacity}"/>'


def _text(
    x: float,
    y: float,
    words: str,
    colour: str,
    anchor: str,
    *,
    bold: bool = False,
    size: int = 13,
    halo: bool = False,
) -> str:
    weight = ' font-weight="600"' if bold else ""
    ground = f' stroke="{palette.PAPER}" stroke-width="4" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}"'
        f"{weight}{ground}>{escape(words)}</text>"
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, -apple-system, Segoe UI, Roboto, '
        'sans-serif">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{palette.PAPER}"/>\n{body}\n</svg>\n'
    )
