"""Models that are the same: found tensor by tensor, small ones first, until each differs from all others."""

from collections.abc import Iterable
from math import prod

from equipoise.merging.block import equal
from equipoise.merging.matching import Match
from equipoise.merging.source import Source


def alike(matches: Iterable[Match], names: Iterable[str]) -> list[list[str | None]]:
    """The groups of models that hold equal values in every tensor; the base is None.

    Values are compared whatever their dtypes. Only models that hold every tensor take part.
    """
    matches = [match for match in matches if match.pieces]
    everyone: list[str | None] = [None, *names]
    for match in matches:
        held = match.pieces[0]
        everyone = [one for one in everyone if (held.origin if one is None else held.sources.get(one))]
    groups = [everyone] if matches else []
    for match in sorted(matches, key=lambda match: prod(match.shape)):
        groups = [part for group in groups if len(group) > 1 for part in _split(group, match)]
        if all(len(group) == 1 for group in groups):
            break
    return [group for group in groups if len(group) > 1]


def _split(group: list[str | None], match: Match) -> list[list[str | None]]:
    piece, *more = match.pieces
    if more:  # rows that one has and another has not
        return [[one] for one in group]
    held: dict[str | None, Source] = {**piece.sources, **({None: piece.origin} if piece.origin else {})}
    found: list[list[str | None]] = []
    for one in group:
        for other in found:
            if equal(held[other[0]], held[one]):
                other.append(one)
                break
        else:
            found.append([one])
    return found
