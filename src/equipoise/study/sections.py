"""Sections: the words and figures of the report, as HTML; everything that comes from data is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

from equipoise.core.card import Card
from equipoise.study import figures, wording
from equipoise.study.analysis import BASELINE, Analysis, weights_text
from equipoise.study.parts import figure, file_name, legend, section, select, terms
from equipoise.study.results import TrialResult
from equipoise.study.solutions import VARIANTS
from equipoise.study.table import Cell, Column, table
from equipoise.study.verdict import points

MOST_FAILURES = 200
MOST_REASON = 400  # characters shown of a reason
KINDS = {"rule": "rule", "single": "single task", "fixed": "fixed weights"}


def heading(analysis: Analysis) -> str:
    """The verdict, what the score means, and the size of the study."""
    run, verdict = analysis.run, analysis.verdict
    head, _, tail = verdict.sentence.partition(": ")
    ended = f"{len(run.trials):,} of {run.planned:,}" if analysis.partial else f"{len(run.trials):,}"
    facts = {
        "Objectives": ", ".join(run.objectives),
        "Rules": f"{len(run.rules)}",
        "Learning rates": ", ".join(f"{rate:g}" for rate in run.learning_rates),
        "Seeds": f"{len(run.seeds)}",
        **({"Preferences": f"{len(run.preferences)}"} if len(run.preferences) > 1 else {}),
        "Trials": f"{ended}, {len(analysis.failures) or 'none'} failed",
    }
    notice = (
        f'<p class="notice" role="status"><strong>This run is not finished.</strong> {ended} trials have '
        "ended; everything below, the verdict included, rests on these alone and may change.</p>"
    )
    return f"""<header>
<p class="kicker">Equipoise report: {escape(file_name(run.problem))}</p>
<h1 id="verdict" data-kind="{verdict.kind}"><strong>{escape(head)}</strong>
{escape(tail[:1].upper() + tail[1:])}</h1>
{"".join(f'<p class="notice">{escape(words)}</p>' for words in analysis.cautions)}
{notice if analysis.partial else ""}
<p class="note">The score of a rule is its average gain over the objectives, relative to training each
objective alone, in per cent; a difference of one per cent in it is called a point. Learning rates were
chosen on validation data; the results are on {run.judged} data. {_fixed_remark(analysis)}</p>
{terms(facts, "facts")}
</header>"""


def comparisons(analysis: Analysis) -> str:
    """The figure behind the verdict."""
    verdict = analysis.verdict
    if not verdict.comparisons:
        return ""
    level = f"{100 * verdict.confidence:g}%"
    many = wording.count(len(verdict.comparisons), "rule")
    out = wording.listed(c.rule for c in verdict.comparisons if not c.eligible)
    barred = f" An open dot marks a rule without a result on every seed, which cannot win: {escape(out)}."
    caption = (
        f"Dots: average difference in score to {BASELINE} on the same seeds. Lines: {level} intervals, "
        f"widened so that with {level} certainty all of them hold at once (Bonferroni, {many}). A rule beats "
        f"{BASELINE} when its whole line lies right of the dashed one.{barred if out else ''}"
    )
    label = f"Gain of each rule over {BASELINE} with its interval"
    drawn = figure("comparisons", label, caption, empty="An interval needs two seeds.")
    return section(f"Each rule against {BASELINE}", drawn)


def front(analysis: Analysis) -> str:
    """The solutions and the front among them, with choosers."""
    if not analysis.points:
        return ""
    names = analysis.run.objectives
    best = [p for p in analysis.points if p.front]
    choosers = []
    if len(names) > 2:
        choosers = [select("axis-x", "Across", enumerate(names), 0, "front")]
        choosers.append(select("axis-y", "Up", enumerate(names), 1, "front"))
    labels = dict.fromkeys(p.label for p in analysis.points if p.kind != "fixed")
    leader = analysis.leader or BASELINE
    choosers.append(select("highlight", "Highlight", [(n, n) for n in labels], leader, "front"))
    windows = [("chosen", "around the chosen learning rates"), ("all", "all solutions")]
    choosers.append(select("window", "Show", windows, "chosen", "front"))
    variants = [words for words in VARIANTS.values() if any(words in p.label for p in analysis.points)]
    shapes = [
        ("circle", "leader", "highlighted rule"),
        ("diamond", "baseline", BASELINE),
        ("square", "fixed", "fixed weights"),
        ("circle", "faint", "other rules"),
        *((("triangle", "faint", wording.listed(variants)),) if variants else ()),
    ]
    many = f" in all {len(names)} objectives together" if len(names) > 2 else ""
    found = "solution is" if len(best) == 1 else "solutions are"
    of = escape(wording.listed(dict.fromkeys(p.label for p in best)))
    who = f" They are of {of}." if 1 < len(best) <= 12 else f" It is of {of}." if len(best) == 1 else ""
    stairs = ", joined by the dotted edge" if len(names) == 2 and len(best) > 1 else ""
    caption = (
        f"Better is right and up. Full and outlined: non-dominated{stairs}; faint: dominated. Small: a "
        "learning rate that validation data did not choose. Dashed lines: each objective trained alone. "
        "Single runs owe part of their place to chance; the verdict rests on averages."
    )
    body = f"""<p class="prose">{len(analysis.points):,} solutions. {len(best):,} {found}
non-dominated{many}: no other is at least as good everywhere and better somewhere.{who}</p>
<div class="controls">{"".join(choosers)}</div>
{legend(shapes)}
{figure("front", f"{analysis.run.judged.capitalize()} metrics of every solution", caption)}"""
    return section("Trade-offs", body)


def training(analysis: Analysis, shown: Sequence[str]) -> str:
    """Conflict, cosines and weights over training, for a rule that the reader chooses."""
    if not shown:
        return ""
    start = analysis.leader if analysis.leader in shown else shown[0]
    chooser = select("rule", "Rule", [(n, n) for n in shown], start, "share norm_ratio weights cosines")
    lines = [("leader", "chosen rule"), ("baseline", BASELINE), ("faint", "other rules")]
    band = "; the band spans the seeds" if len(analysis.run.objectives) <= figures.MOST_BANDS else ""
    drawn = (
        figure(
            "share",
            "Share of conflicting pairs over the steps",
            "Of all pairs of objectives, those with a negative cosine.",
            title="Share of conflicting pairs",
            empty="Not measured.",
        ),
        figure(
            "norm_ratio",
            "Ratio of gradient norms over the steps",
            "Longest gradient divided by the shortest: at 1 all pull equally hard.",
            title="Norm ratio",
            empty="Not measured.",
        ),
        figure(
            "weights",
            "Weights over the steps",
            f"Each objective's share of the total weight{band}.",
            title="Weights",
            empty="This rule has no weights: it works on the entries of the gradients.",
        ),
        figure(
            "cosines",
            "Cosines between the objectives' gradients",
            "From −1, opposite, over 0 to 1, the same direction.",
            title="Cosines at the end",
            empty="Not measured.",
        ),
    )
    body = f"""<p class="prose">Two objectives conflict when the cosine between their gradients is negative:
a small step that helps one then hurts the other. Averages over seeds, at the chosen learning rate.</p>
<div class="controls">{chooser}</div>
{legend(("line", role, words) for role, words in lines)}
<div class="pair">{"".join(drawn)}</div>"""
    return section("During training", body)


def failures(analysis: Analysis) -> str:
    """The failed trials with their reasons; those that failed alike stand in one line."""
    found = analysis.failures
    if not found:
        return section("Failed trials", '<p class="prose">None.</p>')
    columns = [
        Column("Trial", numeric=False, first="ascending"),
        Column("Kind", numeric=False, first="ascending"),
        Column("Failed", "trials"),
        Column("Learning rates", numeric=False, first="ascending"),
        Column("Seeds", numeric=False, first="ascending"),
        Column("Reason", numeric=False, first="ascending"),
    ]
    alike: dict[tuple[str, str, str], list[TrialResult]] = {}
    for result in found:
        reason = result.failed or "a metric is not finite"
        alike.setdefault((_configuration(result), result.trial.kind, reason), []).append(result)
    lines = [("", _failure(*key, results)) for key, results in alike.items()]
    hidden = len(lines) - MOST_FAILURES
    more = f'\n<p class="note">{hidden:,} more lines are left out.</p>' if hidden > 0 else ""
    note = (
        f"{wording.count(len(found), 'trial')} of {len(analysis.run.trials):,} failed; the others went on. A "
        "learning rate that failed on a seed is chosen only where none failed less, and a rule that failed "
        "on a seed at its chosen learning rate cannot win."
    )
    body = table("Failed trials", columns, lines[:MOST_FAILURES])
    return section("Failed trials", f'<p class="note">{note}</p>\n{body}{more}')


def method(analysis: Analysis) -> str:
    """How the verdict comes about, in plain words."""
    verdict = analysis.verdict
    level, unit = f"{100 * verdict.confidence:g}%", f"{100 * verdict.worthwhile:g}"
    many = max(1, len(verdict.comparisons))
    words = f"""Every rule, {BASELINE} included, was trained with the same learning rates on the same
seeds. For each rule the learning rate with the best average validation score was kept. On
{analysis.run.judged} data, each seed then gives one difference between the rule and {BASELINE}. The best of
many rules looks good by luck alone, so each interval is widened to hold for all at once (t interval at level
1 − {1 - verdict.confidence:.2g}/{many}). A rule whose interval lies above zero is named; of several, the one
furthest ahead; but none is while {BASELINE}'s own learning rate is the largest tried, or the smallest and
that rule's is not, because the gain may then be one of step length. If no interval lies above zero, “use the
mean” is said when every rule's own one-sided {level} bound stays below {unit} point, a gain too small to
matter. Else there are too few seeds to tell, and the number given is where one of the two would follow if
gains and spreads stayed as they are. The intervals speak about new seeds on this problem, not about other
problems."""
    return section("How the verdict is reached", f'<p class="prose">{words}</p>')


def sources(analysis: Analysis, cards: Mapping[str, Card]) -> str:
    """The citations of the rules used, from their cards."""
    items: list[str] = []
    without: list[str] = []
    for rule in analysis.run.rules:
        card = cards.get(rule)
        if card is None or not card.title:
            without.append(rule)
            continue
        cited = escape(card.citation())
        if card.arxiv:
            name = escape(card.arxiv)
            link = f'<a href="https://arxiv.org/abs/{name}" rel="noreferrer">arXiv:{name}</a>'
            cited = cited.replace(f"arXiv:{name}", link)
        reading = " <small>(our reading; not checked against the paper's values)</small>"
        status = reading if card.status == "experimental" else ""
        items.append(f"<li><b>{escape(rule)}</b>: {cited}{status}</li>")
    if without:
        items.append(f"<li>Without a paper of their own: {escape(wording.listed(without))}.</li>")
    return section("Sources of the rules", f'<ul class="sources">{"".join(items)}</ul>')


def environment(analysis: Analysis) -> str:
    """What the study ran on, and the command that repeats it."""
    run = analysis.run
    facts = {str(k).replace("_", " "): _plain(v) for k, v in run.environment.items() if k != "command"}
    command = f"<pre><code>{escape(run.command or 'not recorded')}</code></pre>"
    note = '<p class="note">This command repeats the study:</p>'
    return section("Environment and command", f"{note}\n{command}\n{terms(facts)}")


def _configuration(result: TrialResult) -> str:
    trial = result.trial
    return f"{trial.rule} {weights_text(trial.weights)}" if trial.weights else trial.rule


def _failure(name: str, kind: str, reason: str, results: Sequence[TrialResult]) -> list[Cell]:
    rates = ", ".join(f"{rate:g}" for rate in sorted({r.trial.learning_rate for r in results}))
    seeds = ", ".join(str(seed) for seed in sorted({r.trial.seed for r in results}))
    shown = reason if len(reason) <= MOST_REASON else f"{reason[:MOST_REASON]} …"
    return [
        Cell(name, name),
        Cell(KINDS[kind], kind),
        Cell(str(len(results)), float(len(results))),
        Cell(rates, rates),
        Cell(seeds, seeds),
        Cell(shown, shown, style="wrap"),
    ]


def _fixed_remark(analysis: Analysis) -> str:
    row = next((r for r in analysis.rows if r.kind == "fixed" and r.against), None)
    if row is None:
        return ""
    gain = fmean(fmean(v) for v in row.against.values())
    side = f"{points(abs(gain)).lstrip('+')} points {'above' if gain >= 0 else 'below'}"
    return (
        "For comparison: the best fixed weighting, found by a sweep that cost as much as one rule, is "
        f"{side} {BASELINE} on average."
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
