"""Diagnosis: what was found about m directions, as numbers, tables, sentences and JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from equipoise.core.noise import Matrix, Noise
from equipoise.core.opposing import Opposing

_SHOWN = 10
_LONGER = 10.0
_STATIONARY = 0.1


@dataclass(frozen=True, slots=True)
class BlockDiagnosis:
    """One block's part: `size` coordinates, `length` its part of the summed squared lengths, `share`
    the part of pairs that conflict within it, `conflict` its part of all conflict, `coherence` that of the
    directions within it, None where it was not measured.

    A pair's cosine is a sum over blocks; `conflict` sums what lies below zero in a block over the
    pairs that conflict as a whole, and is scaled to sum 1 over blocks (0 where no pair conflicts).
    """

    name: str
    size: int
    length: float
    share: float
    conflict: float
    coherence: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `diagnose` found, in plain numbers; matrices are in the order of `names`.

    norms: lengths of the directions. norm_ratio: longest over shortest, infinite where one is zero.
    cosines: (m, m). share: part of the pairs whose cosine is below -resolution.
    mean_cosines: cosine of each direction with the plain mean. hurt: those for whom it is negative.
    effective_rank: exp of the entropy of the singular values of the non-zero directions at unit
        length, scaled to sum 1 (Roy, Vetterli 2007, "The effective rank", definition 1): 1 for
        parallel directions, m for orthogonal ones.
    stationarity: length of the min-norm point over that of the mean: 1 where the mean is the min-norm
        point, 0 at a Pareto-stationary point.
    blocks: the breakdown. resolution: relative rounding of the coarsest dtype among the blocks.
    noise: None where it was not measured.
    coherence: squared length of the mean over the mean squared length (`core.coherence`): 1 for equal
        directions, 1/m for orthogonal ones, 0 where they cancel; None where it was not measured, as in JSON
        written before it was.
    opposing: the directions whose losses moved most; None where changes of loss were not given.
    """

    names: tuple[str, ...]
    norms: tuple[float, ...]
    norm_ratio: float
    cosines: Matrix
    share: float
    mean_cosines: tuple[float, ...]
    hurt: tuple[str, ...]
    effective_rank: float
    stationarity: float
    resolution: float
    blocks: tuple[BlockDiagnosis, ...]
    noise: Noise | None = None
    coherence: float | None = None
    opposing: Opposing | None = None

    def conflicting(self) -> list[tuple[int, int]]:
        """The pairs (i, j), i < j, that conflict, the worst first."""
        m = len(self.names)
        pairs = [(i, j) for i in range(m) for j in range(i + 1, m) if self.cosines[i][j] < -self.resolution]
        return sorted(pairs, key=lambda pair: self.cosines[pair[0]][pair[1]])

    def reading(self) -> str:
        """The diagnosis in a few sentences."""
        return _reading(self)

    def table(self) -> str:
        """The diagnosis as tables of plain text."""
        return _tables(self)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.reading()}"

    def to_json(self) -> str:
        """The diagnosis as JSON; an infinite norm ratio is null."""
        content = asdict(self)
        if self.norm_ratio == float("inf"):
            content["norm_ratio"] = None
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Diagnosis":
        """The diagnosis that `to_json` wrote; raises ValueError for other content."""
        try:
            content = _frozen(json.loads(text))
            content["blocks"] = tuple(BlockDiagnosis(**block) for block in content["blocks"])
            content["noise"] = None if content["noise"] is None else Noise(**content["noise"])
            groups = content.get("opposing")
            content["opposing"] = None if groups is None else Opposing(**groups)
            ratio = content["norm_ratio"]
            return cls(**{**content, "norm_ratio": float("inf") if ratio is None else ratio})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the JSON of a diagnosis: {error!r}") from error


def _reading(found: Diagnosis) -> str:
    names, noise = found.names, found.noise
    if len(names) == 1:
        return f"{names[0]} is alone: there is nothing to conflict with."
    pairs = found.conflicting()
    m = len(names)
    every = [(i, j) for i in range(m) for j in range(i + 1, m)]
    beyond = [] if noise is None else [pair for pair in every if noise.beyond(*pair)]
    said = [_conflict_sentence(found, pairs)]
    if noise is None:
        said.append("Noise was not measured; two halves of the batch would tell it from conflict.")
    else:
        said.extend(_noise_sentences(found, noise, pairs, beyond))
    zero = [name for name, norm in zip(names, found.norms, strict=True) if norm == 0]
    if zero:
        said.append(f"Zero: {_some(zero)}.")
    elif found.norm_ratio > _LONGER:
        order = sorted(range(m), key=lambda i: found.norms[i])
        short, long = names[order[0]], names[order[-1]]
        said.append(f"{long} is {found.norm_ratio:.3g} times as long as {short} and leads the mean.")
    said.append(
        f"The plain mean hurts {_some(found.hurt)}." if found.hurt else "The plain mean hurts nobody."
    )
    if found.stationarity < _STATIONARY:
        said.append(
            f"Close to Pareto-stationary: the min-norm point is {found.stationarity:.0%} of the mean."
        )
    if found.coherence is not None:
        served = f"{found.coherence * m:.3g} of {m} directions"
        said.append(f"A step along one serves about {served} (coherence {found.coherence:.2g}).")
    if found.opposing is not None:
        said.extend(_opposing_sentences(found.opposing))
    if not beyond and (not pairs or noise is not None):
        said.append("Use the mean.")
    return " ".join(said)


def _conflict_sentence(found: Diagnosis, pairs: list[tuple[int, int]]) -> str:
    if not pairs:
        return "No two directions conflict."
    i, j = pairs[0]
    worst = f"{found.names[i]} and {found.names[j]}"
    cosine = f"cosine {found.cosines[i][j]:.2g}"
    block = max(found.blocks, key=lambda block: block.conflict)
    where = f", {block.conflict:.0%} of it in block {block.name}" if len(found.blocks) > 1 else ""
    if len(found.names) == 2:
        return f"{worst} conflict ({cosine}){where}."
    total = len(found.names) * (len(found.names) - 1) // 2
    verb = "conflicts" if len(pairs) == 1 else "conflict"
    share = f"{len(pairs)} of {total} pairs {verb} ({found.share:.0%})"
    return f"{share}, worst {worst} ({cosine}){where}."


def _noise_sentences(
    found: Diagnosis, noise: Noise, pairs: list[tuple[int, int]], beyond: list[tuple[int, int]]
) -> Iterable[str]:
    if pairs:
        count = sum(pair in set(beyond) for pair in pairs)
        one = "The conflict is" if len(pairs) == 1 else "All of these conflicts are"
        if not count:
            yield f"{one} less than the noise of the directions themselves."
        elif count == len(pairs):
            yield f"{one} more than noise."
        else:
            yield f"{count} of these {len(pairs)} conflicts {'is' if count == 1 else 'are'} more than noise."
    hidden = [pair for pair in beyond if pair not in set(pairs)]
    if hidden:
        worst = [f"{found.names[i]} and {found.names[j]}" for i, j in hidden]
        yield f"Hidden by noise that they share, these conflict: {_some(worst)}."
    low = min(range(len(found.names)), key=lambda i: noise.agreement[i])
    yield f"{found.names[low]} agrees least with itself over the halves (cosine {noise.agreement[low]:.2g})."


def _opposing_sentences(groups: Opposing) -> Iterable[str]:
    for verb, names, change in (("rose", groups.rose, groups.rise), ("fell", groups.fell, groups.fall)):
        if names:
            loss = "The loss of" if len(names) == 1 else "The losses of"
            mean = "" if len(names) == 1 else " on average"
            yield f"{loss} {_some(names)} {verb} most, by {abs(change):.3g}{mean}."
    if groups.cosine is not None:
        how = "oppose each other" if groups.cosine < 0 else "do not oppose each other"
        yield f"The mean directions of these two groups {how} (cosine {groups.cosine:.2g})."


def _tables(found: Diagnosis) -> str:
    parts = [_directions(found), _cosines(found)]
    if found.noise is not None:
        parts.append(_noise(found, found.noise))
    if found.blocks:
        parts.append(_blocks(found))
    if found.opposing is not None:
        parts.append(_opposing(found.opposing))
    facts = [
        ("conflicting pairs", f"{found.share:.1%}"),
        ("beyond noise", "not measured" if found.noise is None else f"{found.noise.share:.1%}"),
        ("norm ratio", f"{found.norm_ratio:.3g}"),
        ("effective rank", f"{found.effective_rank:.2f} of {len(found.names)}"),
        ("min-norm point over mean", f"{found.stationarity:.3g}"),
        ("coherence", "not measured" if found.coherence is None else f"{found.coherence:.3g}"),
    ]
    return "\n\n".join([*parts, _grid(None, facts)])


def _directions(found: Diagnosis) -> str:
    order = range(len(found.names))
    if len(order) > _SHOWN:
        order = sorted(order, key=lambda i: found.mean_cosines[i])
    rows = [
        [
            found.names[i],
            f"{found.norms[i]:.3g}",
            f"{found.mean_cosines[i]:+.3f}{' hurt' if found.names[i] in found.hurt else ''}",
            *([] if found.noise is None else [f"{found.noise.agreement[i]:+.3f}"]),
        ]
        for i in order[:_SHOWN]
    ]
    head = ["direction", "length", "cosine with mean"]
    return _grid(head if found.noise is None else [*head, "with itself"], rows, len(order))


def _cosines(found: Diagnosis) -> str:
    names = found.names
    if len(names) <= _SHOWN:
        rows = [[name, *(f"{c:+.2f}" for c in row)] for name, row in zip(names, found.cosines, strict=True)]
        return _grid(["cosine", *names], rows)
    pairs = found.conflicting()
    rows = [[names[i], names[j], f"{found.cosines[i][j]:+.3f}"] for i, j in pairs[:_SHOWN]]
    return _grid(["worst pairs", "", "cosine"], rows, len(pairs))


def _noise(found: Diagnosis, noise: Noise) -> str:
    m = len(found.names)
    pairs = sorted(
        ((i, j) for i in range(m) for j in range(i + 1, m)), key=lambda pair: noise.cosines[pair[0]][pair[1]]
    )
    rows = [
        [
            f"{found.names[i]}, {found.names[j]}",
            f"{noise.cosines[i][j]:+.3f}",
            f"{noise.errors[i][j]:.3f}",
            "conflict" if noise.beyond(i, j) else "",
        ]
        for i, j in pairs[:_SHOWN]
    ]
    return _grid(["over halves", "cosine", "error", "beyond noise"], rows, len(pairs))


def _blocks(found: Diagnosis) -> str:
    order = sorted(found.blocks, key=lambda block: (-block.conflict, -block.length))
    rows = [
        [
            b.name,
            f"{b.size:,}",
            f"{b.length:.1%}",
            f"{b.share:.0%}",
            f"{b.conflict:.1%}",
            "-" if b.coherence is None else f"{b.coherence:.3g}",
        ]
        for b in order[:_SHOWN]
    ]
    head = ["block", "size", "of length", "pairs in conflict", "of conflict", "coherence"]
    return _grid(head, rows, len(order))


def _opposing(groups: Opposing) -> str:
    rows = [
        ["rose", f"{len(groups.rose)}", f"{groups.rise:+.3g}", _some(groups.rose) or "-"],
        ["fell", f"{len(groups.fell)}", f"{groups.fall:+.3g}", _some(groups.fell) or "-"],
    ]
    tail = "" if groups.cosine is None else f", cosine between their mean directions {groups.cosine:+.3f}"
    table = _grid(["losses that", "count", "mean change", "directions"], rows)
    return f"{table}\n{groups.share:.1%} of all changes{tail}"


def _grid(head: Sequence[str] | None, rows: Iterable[Sequence[str]], total: int = 0) -> str:
    """Columns of text, the first to the left and the others to the right; says how many rows are left out."""
    rows = list(rows)
    lines = rows if head is None else [head, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(c.rjust(w) if k else c.ljust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    more = [f"and {total - len(rows)} more"] if total > len(rows) else []
    return "\n".join(line.rstrip() for line in [*text, *more])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _frozen(content: Any) -> Any:
    """Lists of JSON as tuples, at every depth."""
    match content:
        case dict():
            return {key: _frozen(value) for key, value in content.items()}
        case list():
            return tuple(_frozen(value) for value in content)
    return content
