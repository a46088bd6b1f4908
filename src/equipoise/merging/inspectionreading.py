"""The reading of an inspection: warnings, advice, and a page of plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from textwrap import fill

from equipoise.merging.barrier import Evaluations
from equipoise.merging.conflictmap import ConflictMap, Region, pairs

FAR = 0.25
"""Mean distance from the base beyond which averages often fall below it: `evidence/merge_warning.py`."""
FALLEN = (0.10, 0.65)
"""The shares of averages that fell below the base there, of those up to `FAR` and of those beyond."""
SAME = 1e-6
OPPOSED = -0.05
ALIKE = 0.3
LOW_RANK = 0.3
UNEVEN = 10.0
SHOWN = 6
WIDTH = 110


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the plain average falls below the base (None: not known), and sentences.

    warnings: what may go wrong. advice: what suits models of this kind, and what to do.
    """

    below: bool | None
    warnings: tuple[str, ...]
    advice: tuple[str, ...]


def read(names: Sequence[str], weights: ConflictMap, found: Evaluations | None) -> Verdict:
    """Judge by data where there are any, else by what the weights can tell, and say which."""
    distances = [distance or 0.0 for distance in weights.total.distances]
    far = fmean(distances) > FAR
    still = [name for name, norm in zip(names, weights.total.norms, strict=True) if norm == 0]
    warnings = []
    below = None
    if found is not None:
        below, words = _measured(found)
        warnings += [words] if below else []
    elif far:
        warnings.append(
            f"The models are far from the base, {fmean(distances):.2g} of its length on average. In a study "
            f"of small networks {FALLEN[1]:.0%} of the averages beyond {FAR:g} fell below their base, and "
            f"{FALLEN[0]:.0%} of the others. The weights alone cannot tell whether this one does."
        )
    if still:
        warnings.append(f"Equal to the base, so nothing to merge: {_some(still)}.")
    warnings += _same(names, weights)
    lengths = {name: norm for name, norm in zip(names, weights.total.norms, strict=True) if norm}
    if lengths and max(lengths.values()) > UNEVEN * min(lengths.values()):
        long, short = max(lengths, key=lengths.__getitem__), min(lengths, key=lengths.__getitem__)
        ratio = lengths[long] / lengths[short]
        warnings.append(
            f"The task vector of {long} is {ratio:.3g} times as long as that of {short} and leads."
        )
    return Verdict(below, tuple(warnings), tuple(_advice(names, weights, found, below, far)))


def score(found: Evaluations) -> tuple[str, bool, float, float]:
    """What models are compared by: its name, whether higher is better, its mean for base and average.

    The metric of the problem where all objectives have the same, else the loss.
    """
    kinds = set(found.labels.values()) if found.labels else set()
    if found.metrics is not None and len(kinds) == 1:
        ((name, better),) = kinds
        base, average = found.metrics["base"], found.metrics["average"]
        return f"mean {name}", better == "higher", fmean(base.values()), fmean(average.values())
    return "mean loss", False, fmean(found.base.values()), fmean(found.average.values())


def _measured(found: Evaluations) -> tuple[bool, str]:
    name, higher, base, average = score(found)
    below = average < base if higher else average > base
    words = f"The plain average of all models has {name} {average:.4g}, the base {base:.4g}"
    return below, words + (": merged so, they fall below the base." if below else ".")


def _same(names: Sequence[str], weights: ConflictMap) -> list[str]:
    distances = dict(zip(names, weights.total.distances, strict=True))
    same = []
    for (a, b), gap in pairs(weights.differences, names).items():
        far = distances[a]
        if far and distances[b] and gap is not None and gap <= SAME * far:
            same.append(f"{a} and {b}")
    return [f"The same model twice: {_some(same)}."] if same else []


def _advice(
    names: Sequence[str],
    weights: ConflictMap,
    found: Evaluations | None,
    below: bool | None,
    far: bool,
) -> list[str]:
    if len(names) == 1:
        return ["One model: only its distance from the base can be chosen (TaskArithmetic with a scale)."]
    cosines = {pair: c for pair, c in pairs(weights.total.cosines, names).items() if c is not None}
    said = []
    opposed = sorted((pair for pair, c in cosines.items() if c < OPPOSED), key=cosines.__getitem__)
    if opposed:
        said.append(
            f"Opposed as a whole: {_some([f'{a} and {b}' for a, b in opposed])}. A sum cancels what they "
            "learnt. TIES elects one sign for each entry; leaving one out or weighting it less may be better."
        )
    elif cosines and min(cosines.values()) > ALIKE:
        said.append("The task vectors point the same way; an average loses little of what they share.")
    elif cosines:
        said.append(
            "The task vectors are nearly orthogonal (about half of their signs differ then, by chance): an "
            f"average keeps a share 1/{len(names)} of each, so try TaskArithmetic with scales up to 1, or "
            "TIES."
        )
    shares = [share for share in _rank_shares(weights, len(names)) if share is not None]
    if shares and median(shares) < LOW_RANK:
        said.append(
            f"The deltas have low effective rank ({median(shares):.0%} of what it could be): TSV-M and Iso-C "
            "work on singular values and suit such."
        )
    if below or (found is None and far):
        said.append(
            "Scale the task vectors down, use a method that looks at inputs (RegMean), or tune again from "
            "the base with fewer steps or a smaller rate."
        )
    if found is None:
        said.append("To know, evaluate: give a problem, or evaluate=, a function of a state_dict.")
    elif not below:
        said.append("Compare methods by the same evaluation; the plain average is the one to beat.")
    return said


def _rank_shares(weights: ConflictMap, m: int) -> list[float | None]:
    """For each model the mean over matrices of effective rank / side, each weighted by its delta's energy."""
    found: list[float | None] = []
    for i in range(m):
        energy, total = 0.0, 0.0
        for region in weights.tensors:
            rank = region.spectrum and region.spectrum.effective_ranks[i]
            norm = region.norms[i]
            if region.spectrum is not None and rank is not None and norm:
                energy += norm**2
                total += norm**2 * rank / region.spectrum.side
        found.append(total / energy if energy else None)
    return found


def text(
    names: Sequence[str],
    weights: ConflictMap,
    found: Evaluations | None,
    unranked: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The whole inspection in about 25 lines."""
    reading = read(names, weights, found)
    counts = _count(len(names), "model"), _count(len(weights.tensors), "tensor")
    lines = [f"{', '.join(counts)}, {weights.total.size:,} numbers"]
    lines += ["", *_models(names, weights)]
    lines += _pairs(names, weights)
    if found is not None:
        lines += ["", *_losses(found)]
    lines.append("")
    lines += [_wrapped(f"Warning: {words}") for words in reading.warnings] or ["No warning."]
    sentences = [*reading.advice, *notes[:SHOWN]]
    if unranked:
        large = _count(len(unranked), "large matrix", "large matrices")
        sentences.append(f"Singular values of {large} were left out.")
    lines += [_wrapped(f"- {words}") for words in sentences]
    return "\n".join(lines)


def _models(names: Sequence[str], weights: ConflictMap) -> list[str]:
    total = weights.total
    order = sorted(range(len(names)), key=lambda i: -(total.distances[i] or 0.0))
    ranks = _rank_shares(weights, len(names))
    rows = [("model", "distance", "as in the base", "effective rank", "farthest layer")]
    for i in order[:SHOWN]:
        most = max(weights.layers, key=lambda region, i=i: region.distances[i] or 0.0)
        rows.append(
            (
                names[i],
                _number(total.distances[i]),
                _percent(total.zeros[i]),
                _percent(ranks[i]),
                f"{most.name} ({_number(most.distances[i])})",
            )
        )
    left = len(names) - SHOWN
    return _table(rows) + ([f"and {_count(left, 'model')} nearer to the base"] if left > 0 else [])


def _pairs(names: Sequence[str], weights: ConflictMap) -> list[str]:
    total = weights.total
    cosines = pairs(total.cosines, names)
    order = sorted(
        (pair for pair, c in cosines.items() if c is not None), key=lambda pair: cosines[pair] or 0.0
    )
    if not order:
        return []
    counted, weighted = pairs(total.conflicts, names), pairs(total.weighted, names)
    rows = [("pair", "cosine", "signs opposed", "by size", "lowest layer")]
    for pair in order[:SHOWN]:
        worst = _worst(weights.layers, names.index(pair[0]), names.index(pair[1]))
        rows.append(
            (
                f"{pair[0]}, {pair[1]}",
                _number(cosines[pair]),
                _percent(counted[pair]),
                _percent(weighted[pair]),
                worst,
            )
        )
    left = len(order) - SHOWN
    return ["", *_table(rows)] + ([f"and {_count(left, 'pair')} with a larger cosine"] if left > 0 else [])


def _worst(layers: Sequence[Region], i: int, j: int) -> str:
    found = {layer.name: layer.cosines[i][j] for layer in layers}
    known = {name: cosine for name, cosine in found.items() if cosine is not None}
    if not known:
        return "-"
    name = min(known, key=known.__getitem__)
    return f"{name} ({_number(known[name])})"


def _losses(found: Evaluations) -> list[str]:
    name, _, base, average = score(found)
    worse = [key for key in found.objectives if found.average[key] > found.base[key]]
    lines = [
        f"{name}: base {base:.4g}, plain average {average:.4g}; its loss is above the base's on "
        f"{len(worse)} of {_count(len(found.objectives), 'objective')}"
    ]
    highest = max(found.segments, key=lambda segment: segment.barrier)
    if highest.barrier > 0:
        per = highest.relative
        lines.append(
            f"highest barrier: {highest.barrier:.3g} at {highest.alpha:g} from {highest.start} to "
            f"{highest.end or 'the base'}" + ("" if per is None else f" ({per:.3g} per distance)")
        )
    else:
        lines.append("no barrier on any segment (between unlike tasks that says little)")
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _wrapped(words: str) -> str:
    return fill(words, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _some(things: Sequence[str]) -> str:
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(things[:SHOWN]) + more


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
