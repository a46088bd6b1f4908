"""The page of federated runs: who is served how well, over the rounds and at the end, and at what cost.

Names come from the user's federation and are escaped: plotly reads a little HTML in its texts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

import plotly.graph_objects as go

from equipoise.core import palette
from equipoise.core.page import SCALE, blank, document, section
from equipoise.core.problem import Metric
from equipoise.federated.engine.history import Record
from equipoise.federated.report import Cost, Runs, Standing, costs, judged_clients, named, sentence, standings

STYLE = f"""
table {{
  border-collapse: collapse; display: block; font-size: .9rem; margin: .5rem 0 1rem; overflow-x: auto;
}}
th, td {{
  border-bottom: 1px solid {palette.GRID}; padding: .3rem .7rem; text-align: right; white-space: nowrap;
}}
th:first-child, td:first-child {{ text-align: left; }}
th {{ color: {palette.MUTED}; font-weight: 600; }}
.notice {{ border-left: 3px solid {palette.BASELINE}; background: #f6f7f8; padding: .6rem .9rem; }}
"""
MOST_REASONS = 20


def page(title: str, runs: Runs, metric: Metric, *, watch: str, command: str = "") -> str:
    """The whole page as text; `watch` is the split of the curves, `command` repeats the runs."""
    found = standings(runs, metric)
    first = {system: seeds[0].history for system, seeds in runs.items()}
    seeds = max(map(len, runs.values()))
    body = [
        f'<p class="kicker">{escape(title)}: {len(runs)} system{"s" * (len(runs) > 1)}, '
        f"{seeds} seed{'s' * (seeds > 1)}</p>",
        f"<h1>{escape(sentence(found, metric))}</h1>",
        *(f'<p class="notice">{escape(words)}</p>' for words in notices(runs)),
        _standings_table(found, metric),
        section(
            "clients",
            "Every client at the end",
            f"The {metric.name} of each client's own test examples, clients in the order of the federation; "
            "the mean over seeds.",
            _distribution(found, metric),
        ),
        section(
            "curves",
            "Worst client and mean over the rounds",
            f"On the {watch} split, first seed. Full: the mean over clients; dashed: the worst client.",
            _progress(first, metric),
        ),
    ]
    for place, (system, history) in enumerate(first.items()):
        body.append(
            section(
                f"each-{place}",
                f"{escape(system)}: each client over the rounds",
                f"On the {watch} split, first seed. A client whose line stays low is badly served.",
                _each(history, metric),
            )
        )
    body += _conflicts(first)
    body.append(
        section(
            "participation",
            "Who took part",
            "Rounds in which a client's reply counted, never came, or was refused; first seed.",
            _participation(first),
        )
    )
    body += [_refused(first), _costs_table(costs(runs))]
    chosen = {system: runs[system][0].choice for system in runs}
    body += [
        f'<p class="note">{escape(system)}: clients trained '
        f"{'one after the other' if choice.together == 1 else f'up to {choice.together} at a time'}; "
        f"{escape(choice.reason)}.</p>"
        for system, choice in chosen.items()
        if choice is not None
    ]
    if command:
        body.append(f'<p class="note">To repeat: <code>{escape(command)}</code></p>')
    return document(title, [part for part in body if part], STYLE)


def notices(runs: Runs) -> list[str]:
    """What a reader should know before the figures."""
    found = []
    if len(runs) > 1 and min(map(len, runs.values())) < 3:
        found.append("Systems can be told apart by three seeds or more: run again with --seeds 5.")
    absent = judged_clients(runs)[1]
    if absent:
        found.append(f"Not judged in every run, and left out of the table: {', '.join(absent)}.")
    for system, seeds in runs.items():
        count = Counter(name for run in seeds for record in run.history for name in record.quarantined)
        if count:
            told = ", ".join(f"{name} ({times})" for name, times in count.most_common(5))
            found.append(f"{system}: replies were refused and never averaged in, of {told}.")
        idle = sum(not record.loss for run in seeds for record in run.history)
        if idle:
            found.append(f"{system}: in {idle} rounds nobody answered, and the model stayed as it was.")
    return found


def _standings_table(found: Sequence[Standing], metric: Metric) -> str:
    def spread(one: Standing, which: int) -> str:
        return "" if one.spread is None else f" ± {one.spread[which]:.3f}"

    rows = [
        (
            named(one),
            f"{one.worst:.3f}{spread(one, 1)}",
            one.worst_client,
            f"{one.mean:.3f}{spread(one, 0)}",
            f"{one.best:.3f}",
            f"{one.parity:.3f}",
            f"{one.loss:.3f}",
        )
        for one in found
    ]
    head = ("system", f"worst {metric.name}", "client", "mean", "best", "parity", "largest loss")
    note = (
        '<p class="note">Test split. Parity is the standard deviation over the clients: the lower, the more '
        "alike they are served. Where a system gives a further model, the last iterate stands beside it.</p>"
    )
    return _table(head, rows) + note


def _costs_table(found: Sequence[Cost]) -> str:
    rows = [
        (
            one.system,
            str(one.rounds),
            readable(one.down),
            readable(one.up),
            f"{one.asked:.0f}",
            f"{one.lost:.0f}",
            f"{one.refused:.0f}",
        )
        for one in found
    ]
    head = ("system", "rounds", "down a round", "up a round", "asked", "lost", "refused")
    return "<h2>What it cost</h2>\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row("th", head) + "".join(row("td", cells) for cells in rows) + "</table>"


def readable(count: float) -> str:
    """A number of bytes in words.

    >>> readable(2_600)
    '2.6 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _colour(place: int) -> str:
    return palette.SERIES[place % len(palette.SERIES)]


def _distribution(found: Sequence[Standing], metric: Metric) -> go.Figure:
    figure = blank(360)
    for place, one in enumerate(found):
        figure.add_scatter(
            x=[escape(name) for name in one.scores],
            y=list(one.scores.values()),
            name=escape(named(one)),
            mode="markers",
            marker={"color": _colour(place), "size": 9, "symbol": place % 8},
            hovertemplate=f"%{{x}}<br>{escape(named(one))}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_yaxes(title=metric.name)
    figure.update_xaxes(type="category", automargin=True)
    return _with_legend(figure)


def _progress(histories: Mapping[str, Sequence[Record]], metric: Metric) -> go.Figure:
    figure, lowest = blank(380), min if metric.better == "higher" else max
    for place, (system, history) in enumerate(histories.items()):
        rounds, scores = _judged(history)
        for words, fold, dash in (("mean", fmean, "solid"), ("worst", lowest, "dash")):
            figure.add_scatter(
                x=rounds,
                y=[fold(list(each.values())) for each in scores],
                name=f"{escape(system)}, {words}",
                mode="lines",
                line={"color": _colour(place), "dash": dash, "width": 2},
            )
    figure.update_yaxes(title=metric.name)
    figure.update_xaxes(title="round")
    return _with_legend(figure)


def _each(history: Sequence[Record], metric: Metric) -> go.Figure:
    figure, (rounds, scores) = blank(340), _judged(history)
    for place, name in enumerate(dict.fromkeys(name for each in scores for name in each)):
        figure.add_scatter(
            x=rounds,
            y=[each.get(name) for each in scores],
            name=escape(name),
            mode="lines",
            line={"color": _colour(place), "dash": palette.DASHES[place // len(palette.SERIES) % 5]},
            hovertemplate=f"{escape(name)}, round %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_yaxes(title=metric.name)
    figure.update_xaxes(title="round")
    return _with_legend(figure)


def _judged(history: Sequence[Record]) -> tuple[list[int], list[dict[str, float]]]:
    """The rounds that were measured, and in each the score of every client that was judged."""
    scores = {
        record.number: {
            name: each["score"] for name, each in record.judged.items() if each["score"] == each["score"]
        }
        for record in history
    }
    measured = {number: each for number, each in scores.items() if each}
    return list(measured), list(measured.values())


def _conflicts(histories: Mapping[str, Sequence[Record]]) -> list[str]:
    parts = []
    for place, (system, history) in enumerate(histories.items()):
        last = next((record for record in reversed(history) if record.cosines), None)
        if last is None:
            continue
        names = [escape(name) for name in last.cosines["names"]]
        figure = blank(140 + 20 * max(5, len(names)))
        figure.add_heatmap(
            x=names,
            y=names,
            z=last.cosines["rows"],
            zmin=-1,
            zmax=1,
            colorscale=SCALE,
            colorbar={"thickness": 12, "outlinewidth": 0},
            texttemplate="%{z:.2f}" if len(names) <= 12 else None,
            hovertemplate="%{y}<br>%{x}<br>cosine %{z:.3f}<extra></extra>",
            xgap=1,
            ygap=1,
        )
        figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True, dtick=1, type="category")
        figure.update_xaxes(side="top", showgrid=False, automargin=True, dtick=1, type="category")
        told = last.conflict
        parts.append(
            section(
                f"conflict-{place}",
                f"{escape(system)}: conflict between clients",
                f"Cosines of the updates of round {last.number}, first seed: mean {told['mean']:.2f}, least "
                f"{told['least']:.2f}; {told['opposed']:.0%} of pairs pull against each other.",
                figure,
            )
        )
    return parts


def _participation(histories: Mapping[str, Sequence[Record]]) -> go.Figure:
    figure = blank(320)
    for place, (system, history) in enumerate(histories.items()):
        counted = Counter(name for record in history for name in record.loss)
        lost = Counter(name for record in history for name in record.lost)
        refused = Counter(name for record in history for name in record.quarantined)
        names = sorted({*counted, *lost, *refused})
        kinds = (("counted", counted, 1.0), ("lost", lost, 0.45), ("refused", refused, 0.2))
        for words, count, opacity in kinds:
            if count:
                figure.add_bar(
                    x=[escape(name) for name in names],
                    y=[count[name] for name in names],
                    name=f"{escape(system)}, {words}",
                    marker={"color": palette.BASELINE if words == "refused" else _colour(place)},
                    opacity=opacity if words != "refused" else 1.0,
                    offsetgroup=str(place),
                )
    figure.update_layout(barmode="stack" if len(histories) == 1 else "relative")
    figure.update_yaxes(title="rounds")
    figure.update_xaxes(type="category", automargin=True)
    return _with_legend(figure)


def _refused(histories: Mapping[str, Sequence[Record]]) -> str:
    rows = [
        (system, str(record.number), name, reason)
        for system, history in histories.items()
        for record in history
        for name, reason in record.quarantined.items()
    ]
    if not rows:
        return ""
    more = f'<p class="note">and {len(rows) - MOST_REASONS} more</p>' if len(rows) > MOST_REASONS else ""
    head = ("system", "round", "client", "why")
    return "<h2>Refused replies</h2>\n" + _table(head, rows[:MOST_REASONS]) + more


def _with_legend(figure: go.Figure) -> go.Figure:
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.22, "yanchor": "top"})
    return figure
