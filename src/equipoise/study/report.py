"""Report: one self-contained page, `report.html`, that says which rule to use and shows why.

The page makes no request to any host: plotly.js stands in it, its fonts are the system's, and a
content security policy forbids what is not inline.
"""

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from equipoise import __version__
from equipoise.core import palette
from equipoise.core.atomic import write
from equipoise.core.card import RULE_ROOMS, Card, cards
from equipoise.core.frontplot import POLICY
from equipoise.study import adviceparts, figures, sections, standings
from equipoise.study.analysis import BASELINE, Analysis, Row, analyse
from equipoise.study.finite import finite
from equipoise.study.parts import file_name
from equipoise.study.results import Run

if TYPE_CHECKING:
    from equipoise.study.advice import Advice

ROLES = {
    "leader": palette.LEADER,
    "baseline": palette.BASELINE,
    "fixed": palette.FIXED,
    "other": palette.FAINT,
    "ink": palette.INK,
    "paper": palette.PAPER,
    "baselineRule": BASELINE,
}
FOOTER = (
    f"<footer>Made by Equipoise {escape(__version__)}. This page is complete in itself: it loads nothing "
    "from any host.</footer>"
)


def write_report(run: Run, advice: "Advice | None" = None) -> Path:
    """Write `report.html` into the run's folder, whole or not at all, and return its path.

    Works on a run of any completeness; what is missing is said on the page. With an `advice` the page says
    who conflicts, and where.
    """
    path = report_path(run)
    write(path, page(analyse(run), advice))
    return path


def report_path(run: Run) -> Path:
    """Where the report of a run lies."""
    return Path(run.folder) / "report.html"


def page(analysis: Analysis, advice: "Advice | None" = None) -> str:
    """The whole page as text."""
    data, shown = _data(analysis)
    data["profile"] = advice and advice.profile and plain(adviceparts.layers(advice.profile))
    known: dict[str, Card] = {}
    for room in RULE_ROOMS:
        known |= cards(room)
    body = "\n".join(
        (
            sections.heading(analysis),
            "<noscript><p>The figures and the sorting of this page need JavaScript; "
            "the tables do not.</p></noscript>",
            adviceparts.advice(advice) if advice is not None else "",
            sections.comparisons(analysis),
            standings.results(analysis),
            sections.front(analysis),
            standings.against(analysis),
            sections.training(analysis, shown),
            sections.failures(analysis),
            sections.method(analysis),
            sections.sources(analysis, known),
            sections.environment(analysis),
        )
    )
    return assemble(file_name(analysis.run.problem), body, data)


def assemble(title: str, body: str, data: dict[str, Any]) -> str:
    """A page of its own: `body` is HTML, `data` what its script draws, by the names of figures."""
    data = {"dark": palette.DARK, "roles": ROLES, **data}
    folder = files("equipoise.study") / "page"
    template, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.css", "report.js")
    )
    return Template(template).substitute(
        title=escape(f"{title}: Equipoise report"),
        policy=POLICY,
        style=style,
        body=f"{body}\n{FOOTER}",
        figures=_embedded(data),
        plotly=get_plotlyjs(),
        script=script,
    )


def summary(run: Run) -> dict[str, Any]:
    """Verdict, table and whereabouts of a run, as JSON can hold them."""
    analysis = analyse(run)
    found = analysis.verdict
    content = {
        "problem": run.problem,
        "verdict": {
            "kind": found.kind,
            "sentence": found.sentence,
            "rule": found.rule,
            "seeds": found.seeds,
            "seeds_needed": found.seeds_needed,
            "confidence": found.confidence,
            "worthwhile": found.worthwhile,
            "comparisons": [
                {
                    "rule": c.rule,
                    "gain": c.gain,
                    "low": c.low,
                    "high": c.high,
                    "seeds": c.seeds,
                    "eligible": c.eligible,
                }
                for c in found.comparisons
            ],
        },
        "cautions": list(analysis.cautions),
        "table": [_row(row) for row in analysis.rows],
        "trials": {
            "planned": run.planned,
            "ended": len(run.trials),
            "failed": len(analysis.failures),
        },
        "folder": str(run.folder),
        "report": str(report_path(run)),
    }
    return finite(content)


def _row(row: Row) -> dict[str, Any]:
    def spread(value) -> dict[str, Any] | None:
        return value and {"mean": value.mean, "deviation": value.deviation, "seeds": value.count}

    return {
        "kind": row.kind,
        "label": row.label,
        "rule": row.rule,
        "weights": row.weights,
        "learning_rate": row.learning_rate,
        "edge": row.edge or None,
        "metrics": {name: spread(value) for name, value in row.metrics.items()},
        "gains": dict(row.gains),
        "score": spread(row.score),
        "worst": row.worst,
        "worst_objective": row.worst_objective,
        "hypervolume": spread(row.volume),
        "time": row.time and {"ratio": row.time.ratio, "low": row.time.low, "high": row.time.high},
        "failed": row.failed,
        "trials": row.trials,
    }


def _data(analysis: Analysis) -> tuple[dict[str, Any], list[str]]:
    """What the page's script draws, and the rules that have curves."""
    rules = analysis.run.rules
    weights = {rule: plain(figures.weights(analysis, rule)) for rule in rules}
    cosines = {rule: plain(figures.cosines(analysis, rule)) for rule in rules}
    front = figures.front(analysis)
    data = {
        "comparisons": plain(figures.comparisons(analysis)),
        "front": front and {"figure": plain(front[0]), **front[1]},
        "share": plain(figures.conflict(analysis, "share")),
        "norm_ratio": plain(figures.conflict(analysis, "norm_ratio")),
        "weights": {rule: figure for rule, figure in weights.items() if figure},
        "cosines": {rule: figure for rule, figure in cosines.items() if figure},
    }
    return data, [rule for rule in rules if data["weights"].get(rule) or data["cosines"].get(rule)]


def plain(figure: go.Figure | None) -> dict[str, Any] | None:
    """A figure as JSON can hold it."""
    return None if figure is None else json.loads(str(figure.to_json()))


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
