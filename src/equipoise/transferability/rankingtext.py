"""The ranking of a pool in words, tables and JSON."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from equipoise.transferability.agreement import weighted_tau

if TYPE_CHECKING:
    from equipoise.transferability.ranking import Column, Ranking

SURE, LIKELY = 0.9, 0.5
"""Shares of half-samples from which a first place counts as sure, and as likely."""
PREFERRED = ("static rank", "source accuracy")


def plain(found: "Ranking") -> "Column | None":
    """The plain baseline of a ranking: what is known without the target, else the ridge probe.

    One that knows the chosen model and another that the deciding column ranks too; else there is nothing to
    compare.
    """
    ranked, first = found.column().values, found.order()[0]
    able = [
        c
        for c in found.columns
        if c.kind != "score" and c.name != found.by and first in c.values and len(c.among(ranked).values) > 1
    ]
    static = {c.name: c for c in able if c.kind == "static"}
    for name in (*PREFERRED, *static):
        if name in static:
            return static[name]
    return next((c for c in able if c.name == "RidgeProbe"), able[0] if able else None)


def sentence(found: "Ranking") -> str:
    """Which model, how sure, and whether a plain baseline would have said the same."""
    return f"{advice(found)}: {grounds(found)}"


def advice(found: "Ranking") -> str:
    """Which model to start from."""
    return f"Start from {found.order()[0]}"


def grounds(found: "Ranking") -> str:
    """How sure the choice is, and whether a plain baseline would have made it."""
    first, *others = found.order()
    if not others:
        return f"it is the only model with a value of {found.by}, so that nothing was chosen."
    told = f"{found.by} puts it first of {_count(len(others) + 1, 'model')}"
    level = [name for name in found.column().best() if name != first]
    if level:
        told += f", level with {_listed(level)}"
    halves = found.column().halves
    shares = found.firsts()
    if shares and halves is not None:
        told += (
            f", and in {shares[first]:.0%} of {_count(len(halves), 'half-sample')}{_sureness(shares, first)}"
        )
    baseline = plain(found)
    if baseline is None:
        return told + "; there is no plain baseline beside it."
    common = baseline.among(found.column().values)
    named = _named(baseline)
    if len(common.values) <= len(others):
        named += f", which knows {len(common.values)} of them,"
    best = common.best()
    if first in best:
        rest = [name for name in best if name != first]
        return told + f"; {named} would have said the same{f', level with {_listed(rest)}' if rest else ''}."
    if same := [name for name in best if name in level]:
        return told + f"; {named} would have said {same[0]}, which is level with it."
    return told + f"; {named} would have said {_listed(best, ' or ')}."


def _sureness(shares: Mapping[str, float], first: str) -> str:
    if shares[first] >= SURE:
        return ", which makes the choice sure by this score"
    others = {name: share for name, share in shares.items() if name != first}
    rival = max(others, key=others.__getitem__)
    word = "likely" if shares[first] >= LIKELY and shares[first] > others[rival] else "open"
    return f", which makes the choice {word} by this score ({rival} is first in {others[rival]:.0%})"


def remarks(found: "Ranking") -> list[str]:
    """What else a reader must know: truth, baselines, gaps."""
    said = []
    if found.truth:
        said += _against_truth(found)
    gaps: dict[str, list[str]] = {}
    for column in found.columns:
        for reason, models in _reasons(column).items():
            whole = len(models) == len(found.names)
            where = "every model" if whole else ", ".join(models[:6]) + (" ..." if len(models) > 6 else "")
            gaps.setdefault(f"{reason} ({where})", []).append(column.name)
    said += [f"No value of {', '.join(columns)}: {reason}." for reason, columns in gaps.items()]
    return said


def _against_truth(found: "Ranking") -> list[str]:
    taus = {c.name: tau for c in found.columns if (tau := found.tau(c.name)) is not None}
    known = [name for name in found.truth if name in found.names]
    if not taus:
        return [f"The true accuracies of {_count(len(known), 'model')} order none of the columns."]
    real, chosen = max(known, key=found.truth.__getitem__), found.order()[0]
    words = f"By the true accuracies of {_count(len(known), 'model')} {real} is the best"
    if found.truth.get(chosen) == found.truth[real]:
        words = words.replace(f"{real} is", f"{chosen} is")
        words += ", as chosen here"
    elif chosen in found.truth:
        words += f", and {chosen} loses {found.truth[real] - found.truth[chosen]:.3g} to it"
    said = [f"{words}."]
    if found.by not in taus:
        return said
    judged = _judged(found, found.by)
    whole = {
        name: tau
        for name in taus
        if judged <= _judged(found, name) and (tau := _tau(found, name, judged)) is not None
    }
    best = max(whole, key=whole.__getitem__)
    over = "" if len(judged) == len(known) else f" over the {_count(len(judged), 'model')} that it ranks"
    said.append(
        f"Weighted Kendall tau with them{over}: {found.by} {taus[found.by]:.3f}{_spread(found)}; "
        f"the highest is that of {best}, {whole[best]:.3f}."
    )
    static = [c.name for c in found.columns if c.kind == "static" and c.name in taus and c.name != found.by]
    return said + _static(static, found)


def _static(static: Sequence[str], found: "Ranking") -> list[str]:
    """Whether a ranking that never looks at the target does as well, on the models that both rank."""
    judged = _judged(found, found.by)
    told, equal, nearly = [], [], []
    for name in static:
        common = judged & _judged(found, name)
        tau, mine = _tau(found, name, common), _tau(found, found.by, common)
        if tau is None or mine is None:
            continue
        part = common != judged
        told.append(f"{name} {tau:.3f}" + (f" ({found.by} {mine:.3f} on its {len(common)})" if part else ""))
        halves = found.tau_halves(models=common)
        if tau >= mine:
            equal.append((tau, name))
        elif halves and tau >= float(np.quantile(halves, 0.05)):
            nearly.append((tau, name))
    if not told:
        return []
    verdict = "none does as well"
    if equal:
        verdict = f"{max(equal)[1]} does as well"
    elif nearly:
        verdict = f"{max(nearly)[1]} does as well as {found.by} on some half-samples"
    return [f"Rankings that never look at the target have {', '.join(told)}: {verdict}."]


def _judged(found: "Ranking", name: str) -> set[str]:
    """The models that a column ranks and whose accuracy is known."""
    return {model for model in found.column(name).values if model in found.truth}


def _tau(found: "Ranking", name: str, models: Collection[str]) -> float | None:
    return weighted_tau(found.column(name).among(models).values, found.truth)


def _spread(found: "Ranking") -> str:
    halves = found.tau_halves()
    if not halves:
        return ""
    low, high = np.quantile(halves, (0.05, 0.95))
    return f" ({low:.3f} to {high:.3f} on half-samples)"


def text(found: "Ranking") -> str:
    """Two tables and sentences: the models by the column that decides, and what every column says."""
    lines = [sentence(found), "", *_aligned(model_rows(found)), "", *_aligned(column_rows(found))]
    said = remarks(found)
    return "\n".join([*lines, "", *said] if said else lines)


def model_rows(found: "Ranking") -> list[tuple[str, ...]]:
    """The models from the best on: place, percentiles of places, shares of firsts, baselines, truth."""
    beside = [c for c in found.columns if c.kind != "score" and c.values and c.name != found.by]
    places, shares = found.places(), found.firsts()
    head = ["#", "model", found.by]
    head += ["places 5-95%", "first"] if places else []
    head += [c.name for c in beside] + (["truth"] if found.truth else [])
    rows = [tuple(head)]
    order, values = found.order(), found.column().places()
    for name in [*order, *(n for n in found.names if n not in order)]:
        above = sum(place < values.get(name, 0) for place in values.values())
        row = [str(above + 1) if name in values else "-", name, number(found.column().values.get(name))]
        if places:
            row.append("-" if name not in places else "{:.0f}-{:.0f}".format(*places[name]))
            row.append(f"{shares[name]:.0%}")
        row += [number(c.values.get(name)) for c in beside]
        row += [number(found.truth.get(name))] if found.truth else []
        rows.append(tuple(row))
    return rows


def column_rows(found: "Ranking") -> list[tuple[str, ...]]:
    """What every column says: its first model, how it agrees with the one that decides and the truth."""
    rows = [("column", "kind", "first", f"tau with {found.by}", "tau with truth", "seconds")]
    for column in found.columns:
        if not column.values:
            continue
        seconds = sum(column.seconds.values())
        rows.append(
            (
                column.name,
                column.kind,
                _listed(column.best()),
                number(weighted_tau(column.values, found.column().values)),
                number(found.tau(column.name)) + _part(found, column.name),
                number(seconds) if column.seconds else "-",
            )
        )
    if any(found.shared.values()):
        rows.append(("shared pass", "", "", "", "", number(sum(found.shared.values()))))
    return [row if found.truth else (*row[:4], row[5]) for row in rows]


def as_json(found: "Ranking") -> str:
    """Everything; what is not defined is null."""
    columns: dict[str, Any] = {}
    for column in found.columns:
        places, shares = found.places(column.name), found.firsts(column.name)
        halves = found.tau_halves(column.name)
        columns[column.name] = {
            "kind": column.kind,
            "order": column.order(),
            "best": column.best() if column.values else [],
            "values": {name: column.values.get(name) for name in found.names},
            "faults": dict(column.faults),
            "seconds": {name: round(value, 6) for name, value in column.seconds.items()},
            "places": {name: list(ends) for name, ends in places.items()} or None,
            "first": shares or None,
            "tau": found.tau(column.name),
            "tau_halves": [float(x) for x in np.quantile(halves, (0.05, 0.95))] if halves else None,
        }
    content = {
        "format": "equipoise.ranking",
        "version": 1,
        "sentence": sentence(found),
        "remarks": remarks(found),
        "by": found.by,
        "order": found.order(),
        "models": list(found.names),
        "samples": found.samples,
        "columns": columns,
        "agreement": {"columns": [c.name for c in found.columns], "tau": found.agreement()},
        "truth": dict(found.truth) or None,
        "shared_seconds": {name: round(value, 6) for name, value in found.shared.items()},
    }
    return json.dumps(content, indent=2, allow_nan=False)


def number(value: float | None) -> str:
    """A number in few digits, or a dash.

    >>> number(1234567.0), number(0.98765), number(None)
    ('1.23e+06', '0.988', '-')
    """
    return "-" if value is None else f"{value:.3g}"


def _listed(names: Sequence[str], joint: str = ", ") -> str:
    """A few names; of many, how many more there are."""
    return joint.join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _part(found: "Ranking", name: str) -> str:
    """How many models a tau is over, where the column does not rank all whose accuracy is known."""
    judged = len(_judged(found, name))
    return f" ({judged} of {len(found.truth)})" if judged < len(found.truth) else ""


def _named(column: "Column") -> str:
    return f"the ranking by {column.name}" if column.kind == "static" else f"the plain {column.name}"


def _reasons(column: "Column") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in column.faults.items():
        found.setdefault(reason.removeprefix("not applicable: "), []).append(name)
    return found


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _count(amount: int, word: str) -> str:
    return f"{amount:,} {word}{'' if amount == 1 else 's'}"
