"""Optimal transport between two sets of samples that count alike: an exact match of samples."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from equipoise.transferability.sample import Sample

Array = np.ndarray


def matched(
    source: Sample, target: Sample, *, limit: int = 1000, seed: int = 0
) -> tuple[Array, Array, float]:  # -> (k,), (k,)
    """The optimal coupling of two sets of samples under squared distances, as pairs of equal weight.

    Gives the rows of the source, the rows of the target that they are matched with, and the mean squared
    distance of the pairs, which is the squared 2-Wasserstein distance. Between uniform weights of n and of
    m = q n samples some optimal coupling takes each of the n to q of the others, so that an assignment finds
    it. At most `limit` samples of each side are drawn, from `seed`, and of the larger side a multiple of the
    smaller one's number.
    """
    draw = np.random.default_rng(seed)
    sides = (source, target)
    smaller = min(source.size, target.size, limit)
    sizes = [smaller * (min(side.size, limit) // smaller) for side in sides]
    (first, one), (second, other) = (side.drawn(own, draw) for side, own in zip(sides, sizes, strict=True))
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"source features have {one.shape[1]} columns and target features {other.shape[1]}; "
            "they must come from the same model"
        )
    rows = [np.repeat(np.arange(own), max(sizes) // own) for own in sizes]
    costs = cdist(one[rows[0]], other[rows[1]], "sqeuclidean")
    left, right = linear_sum_assignment(costs)
    return first[rows[0][left]], second[rows[1][right]], float(costs[left, right].mean())


def conditional_entropy(given: Array, labels: Array) -> float:  # (k,), (k,)
    """H(labels | given) in nats, of pairs that count alike; both are places 0 .. C - 1."""
    joint = np.zeros((int(given.max()) + 1, int(labels.max()) + 1))
    np.add.at(joint, (given, labels), 1 / len(given))
    marginal = np.broadcast_to(joint.sum(1, keepdims=True), joint.shape)
    present = joint > 0
    return max(0.0, -float((joint[present] * np.log(joint[present] / marginal[present])).sum()))
