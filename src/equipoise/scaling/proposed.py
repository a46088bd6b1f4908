"""proposed: which mixtures to run, so that a law can be fitted and its noise be known."""

from collections.abc import Sequence

import numpy as np

from equipoise.core.checks import check_count
from equipoise.scaling.runs import Array


def proposed(sources: Sequence[str], budget: int, *, seeds: int = 3, seed: int = 0) -> list[dict[str, float]]:
    """`budget` rows {"seed": s, "p.<source>": ratio} to run, most telling first.

    Equal ratios with `seeds` seeds, for the noise; 0.9 of each source and the rest even; half of each; then
    those that add most to the determinant of log ratios (D-optimal), of 2,000 drawn mixtures. Ratios are 0.02
    or more, so that every law can use every run.

    Raises ValueError for fewer than two sources, a name that is there twice, or a budget below seeds +
    sources.

    >>> [round(row["p.a"], 2) for row in proposed(("a", "b"), 5)]
    [0.5, 0.5, 0.5, 0.9, 0.1]
    """
    names = tuple(sources)
    k = len(names)
    if k < 2 or len(set(names)) < k:
        raise ValueError(f"sources are {names}; give two or more of unlike names")
    check_count(1, seeds=seeds)
    check_count(seeds + k, budget=budget)
    rows = [(number, np.full(k, 1 / k)) for number in range(seeds)]
    for part in (0.9, 0.5) if k > 2 else (0.9, 0.7):
        rows += [(0, _mostly(place, part, k)) for place in range(k)]
    rows = rows[:budget]
    draws = np.random.default_rng(seed).dirichlet(np.full(k, 0.7), 2000)
    draws = np.maximum(draws, 0.02) / np.maximum(draws, 0.02).sum(1, keepdims=True)
    chosen = np.array([p for _, p in rows])
    while len(rows) < budget:
        best = int(_gains(chosen, draws).argmax())
        rows.append((0, draws[best]))
        chosen = np.concatenate([chosen, draws[best][None]])
        draws = np.delete(draws, best, 0)
    return [
        {"seed": number, **{f"p.{n}": float(r) for n, r in zip(names, p, strict=True)}} for number, p in rows
    ]


def _mostly(place: int, part: float, k: int) -> Array:
    found = np.full(k, (1 - part) / (k - 1))
    found[place] = part
    return found


def _gains(chosen: Array, draws: Array) -> Array:  # (n, k), (c, k) -> (c,)
    """How much each drawn mixture adds to the determinant of the design of log ratios and a constant."""
    design, new = (np.concatenate([np.log(p), np.ones((len(p), 1))], 1) for p in (chosen, draws))
    inverse = np.linalg.inv(design.T @ design + 1e-6 * np.eye(design.shape[1]))
    return np.einsum("ck,kj,cj->c", new, inverse, new)
