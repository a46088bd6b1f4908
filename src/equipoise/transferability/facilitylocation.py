"""Facility location: a few tasks that stand for a whole benchmark."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.card import Card

Array = np.ndarray
CARD = Card(
    name="FacilityLocation",
    shape="score",
    needs=("similarity",),
    summary="A few tasks of a benchmark that stand for the rest, as far as transfer between them tells",
    formula="max over |S| = k of sum_i max_{j in S} s_ij, greedy: at least 1 - 1/e of the best",
    title="BenTo: Benchmark Task Reduction with In-Context Transferability",
    authors=("Zhao", "Li", "Sun", "Zhou"),
    venue="ICLR",
    year=2025,
    arxiv="2410.13804",
    cost="k passes over a matrix of n by n",
    use="a benchmark of many tasks, and a matrix of transfer between them that is cheap to get",
    avoid="a matrix that says nothing of how results go together: random tasks do as well",
    single="that task",
    evidence="benchmark_reduction",
)


@dataclass(frozen=True, eq=False)
class Facilities:
    """Chosen tasks in the order of their choice, and which of them stands for each task.

    chosen: (k,) places. values: (k,) sum_i max_j s_ij after each choice. stands: (n,) the chosen task, by
    its place in the benchmark, that is most like each task.
    """

    chosen: Array
    values: Array
    stands: Array

    @property
    def weights(self) -> Array:  # -> (k,)
        """The share of all tasks that each chosen one stands for; they sum to 1."""
        return (self.stands == self.chosen[:, None]).mean(1)

    def estimate(self, results: Any) -> Array:  # (..., k) -> (...)
        """The mean result over the whole benchmark, from the results on the chosen tasks alone.

        Each counts for the tasks that it stands for. results: in the order of `chosen`.
        """
        given = np.asarray(results, float)
        if given.ndim < 1 or given.shape[-1] != len(self.chosen):
            raise ValueError(
                f"results have shape {given.shape}; give {len(self.chosen)}, of tasks {self.chosen.tolist()}"
            )
        return given @ self.weights


def facilitylocation(similarity: Any, size: int) -> Facilities:
    """The tasks, `size` of them, that are most like all tasks of a benchmark: greedy facility location.

    f(S) = sum_i max_{j in S} s_ij is submodular, so that taking at each step the task that adds most gives
    at least 1 - 1/e of the best value, where similarities are not negative. Of equal ones the first is taken.

    similarity: (n, n), s_ij how well task j stands for task i (transfer from j to i), 0 or more.
    Raises ValueError for a matrix that is not square, NaN or negative, and a size that is not 1 to n.

    Source: Zhao et al. 2025, section 3, from a matrix of similarities as in their BenTo-sim. That results
    are weighted by the tasks stood for is our reading.

    >>> s = [[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> found = facilitylocation(s, 2)
    >>> found.chosen.tolist(), found.weights.round(2).tolist()
    ([0, 2], [0.67, 0.33])
    """
    given = np.asarray(similarity, float)
    if given.ndim != 2 or given.shape[0] != given.shape[1]:
        raise ValueError(f"similarity has shape {given.shape}; give (tasks, tasks)")
    if not np.isfinite(given).all() or (given < 0).any():
        row, column = np.argwhere(~np.isfinite(given) | (given < 0))[0]
        raise ValueError(
            f"similarity of tasks {row} and {column} is {given[row, column]}; shift the matrix so that it is "
            "finite and not negative"
        )
    if not 1 <= size <= len(given):
        raise ValueError(f"size must be 1 to {len(given)}, the tasks there are, got {size}")
    best = np.zeros(len(given))
    chosen: list[int] = []
    values = []
    for _ in range(size):
        gains = np.maximum(given - best[:, None], 0).sum(0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, given[:, chosen[-1]])
        values.append(best.sum())
    places = np.array(chosen)
    stands = places[given[:, places].argmax(1)]
    stands[places] = places
    return Facilities(places, np.array(values), stands)
