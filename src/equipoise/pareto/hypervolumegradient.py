"""HypervolumeGradient: solutions that together dominate ever more."""

from collections.abc import Sequence

import numpy as np
import torch

from equipoise.core.card import Card
from equipoise.core.indicators import hypervolume, nondominated
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Traced, rounds_of
from equipoise.pareto.swarm import Swarm, refuse_infinite, stacked

CARD = Card(
    name="HypervolumeGradient",
    shape="front",
    summary="Moves a swarm so that the volume which its losses dominate grows.",
    formula="w_i = -d HV(f_1, ..., f_n) / d f_i over its length, within each layer of non-dominated losses",
    title="Multi-Objective Learning Using HV Maximization",
    authors=(
        "Timo M. Deist",
        "Monika Grewal",
        "Frank J. W. M. Dankers",
        "Tanja Alderliesten",
        "Peter A. N. Bosman",
    ),
    venue="Evolutionary Multi-Criterion Optimization",
    year=2023,
    arxiv="2102.04523",
    doi="10.1007/978-3-031-27250-9_8",
    single="n models that gradient descent finds",
    cost="one gradient a step of each solution",
    use="for a spread of solutions without preferences, whatever the shape of the front",
    avoid="with many objectives: volumes take long, and most solutions sit at the border",
    status="main",
    evidence="fronts",
)
BEYOND = 0.1


class HypervolumeGradient(Swarm):
    """Moves a swarm so that the volume which its losses dominate grows.

    Solution i descends w_i'f_i with w_i the gradient of the hypervolume by its losses, negative and of unit
    length. Solutions are first sorted into layers: those that none dominates, those that only these dominate,
    and so on; each layer has a volume of its own, so that what is dominated moves too. The volume reaches to
    the worst loss of all plus a tenth of its size, or to `reference` (m numbers) where that is farther.
    Without `reference` it reaches as far as in any round before: were it to shrink with the swarm, the
    solutions at the ends would have little to gain by staying apart. Equal solutions move as one of them
    would alone.

    Use it for a spread of solutions without preferences. Not with many objectives.

    Source: Deist et al. 2021 and 2023, after Wang et al. 2017; layers, scaling and a given reference as in
    the authors' `HvMaximization`, where one must be given; the memory is ours. The gradient is exact for any
    number of objectives: each entry is the volume, one dimension lower, of the face that the solution alone
    dominates.

    >>> points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    >>> growth(points, np.array([4.0, 4.0])).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(self, *, points: int = 11, reference: Sequence[float] | None = None) -> None:
        super().__init__(points=points)
        self.reference = None if reference is None else tuple(map(float, reference))

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        names = landscape.names
        if self.reference is not None and len(self.reference) != len(names):
            raise ValueError(
                f"reference has {len(self.reference)} entries but there are {len(names)} objectives: "
                f"{', '.join(names)}"
            )
        rounds = rounds_of(budget, self.points, f"HypervolumeGradient with {self.points} solutions")
        walkers = self.walkers(landscape, learning_rate, seed)
        reference = None if self.reference is None else np.array(self.reference)
        for step in range(rounds):
            with landscape.one_batch():
                seen = [landscape.losses(walker.model) for walker in walkers]
            losses = stacked(seen, names)
            refuse_infinite(losses, names)
            if self.reference is None:
                reference = beyond(losses.numpy(), reference)
            weights = torch.from_numpy(layered_growth(losses.numpy(), reference))
            for walker, own, wanted in zip(walkers, seen, weights, strict=True):
                walker.pull(own, wanted)
            heard((step + 1) / rounds)
        return Traced([walker.tensors() for walker in walkers], None, sum(w.count for w in walkers))


def beyond(points: np.ndarray, least: np.ndarray | None = None) -> np.ndarray:  # (n, m), (m,) -> (m,)
    """How far the volume reaches: a tenth beyond the worst losses, and at least so far.

    >>> beyond(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 0.0])).tolist()
    [3.0, 2.2]
    """
    worst = points.max(axis=0)
    found = worst + BEYOND * np.where(worst != 0, np.abs(worst), 1.0)
    return found if least is None else np.maximum(found, least)


def layered_growth(points: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """The directions (n, m) of unit length in which points (n, m) grow the volume of their layer."""
    limit = beyond(points, reference)
    weights = np.zeros_like(points)
    left = np.arange(len(points))
    while len(left):
        layer = _first(points[left])
        weights[left[layer]] = growth(points[left[layer]], limit)
        left = left[~layer]
    size = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights / np.where(size > 0, size, 1.0)


def growth(points: np.ndarray, reference: np.ndarray) -> np.ndarray:  # (n, m), (m,) -> (n, m)
    """How fast the dominated volume grows as each loss of mutually non-dominated points falls.

    Entry (i, j) is the volume, without coordinate j, of what point i dominates and no point at least as low
    in j does. Equal points all have what one of them has.
    """
    unique, back = np.unique(points, axis=0, return_inverse=True)
    found = np.zeros_like(unique)
    for j in range(unique.shape[1]):
        order = np.argsort(unique[:, j], kind="stable")
        others, limit = np.delete(unique, j, axis=1), np.delete(reference, j)
        before = 0.0
        for count, place in enumerate(order, 1):
            volume = hypervolume(others[order[:count]], limit) if limit.size else 1.0
            found[place, j] = max(volume - before, 0.0)
            before = volume
    return found[back.reshape(-1)]


def _first(points: np.ndarray) -> np.ndarray:  # (n, m) -> (n,) bool
    """Which points no other dominates; of equal ones, all or none."""
    unique, back = np.unique(points, axis=0, return_inverse=True)
    return nondominated(unique)[back.reshape(-1)]
