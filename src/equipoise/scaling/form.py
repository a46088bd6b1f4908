"""Form: a loss as a sum of amplitudes times basis functions, and the one fitter of all such laws.

L = a_1 phi_1 + ... + a_k phi_k (+ further phi of amplitude one), phi functions of features and of exponents.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from equipoise.scaling.levenberg import Problem, huber, minimised, raced
from equipoise.scaling.runs import Features

Array = np.ndarray
LEAST = 1e-12
"""Part of the smallest loss below which an amplitude counts as zero."""


class Form:
    """One law of one loss. A subclass says its names, its basis, and where to begin.

    amplitudes: names of what the loss is linear in, all 0 or more. shapes: names of exponents and the like.
    signed: those of the shapes that may be negative; the others are above 0, and are sought as logarithms.
    """

    amplitudes: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    signed: frozenset[str] = frozenset()

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:  # (B, q)
        """phi (B, n, k) and its derivatives by the shapes (B, n, k, q), the amplitudes' first."""
        raise NotImplementedError

    def starts(self, x: Features, y: Array) -> Array:  # -> (G, q)
        """Shapes to begin from: a grid, or a few points."""
        raise NotImplementedError

    def penalty(self, n: int) -> Array | None:  # -> (k + q, k + q)
        """A quadratic form that is added to the sum of Huber losses, on what is sought; None for none."""
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters, amplitudes first."""
        return (*self.amplitudes, *self.shapes)

    def encoded(self, theta: Array) -> Array:  # (..., k + q)
        """What is sought in the place of parameters: logarithms, and the signed ones as they are."""
        found = np.array(theta, dtype=float)
        logs = self._logs()
        found[..., logs] = np.log(np.maximum(found[..., logs], 1e-300))
        return found

    def decoded(self, u: Array) -> Array:
        """Parameters, from what is sought."""
        found = np.array(u, dtype=float)
        logs = self._logs()
        found[..., logs] = np.exp(np.clip(found[..., logs], -690, 690))
        return found

    def predict(self, theta: Array, x: Features) -> Array:  # (B, k + q) -> (B, n)
        """The loss."""
        phi, _ = self.basis(theta[:, len(self.amplitudes) :], x)
        return self._sum(theta, phi)

    def _sum(self, theta: Array, phi: Array) -> Array:
        k = len(self.amplitudes)
        return (phi[:, :, :k] @ theta[:, :k, None])[:, :, 0] + phi[:, :, k:].sum(2)

    def value(self, u: Array, x: Features) -> tuple[Array, Array]:  # (B, p) -> (B, n), (B, n, p)
        """The loss and its derivatives by what is sought."""
        theta, k = self.decoded(u), len(self.amplitudes)
        phi, slopes = self.basis(theta[:, k:], x)
        weights = np.concatenate([theta[:, :k], np.ones((len(u), phi.shape[2] - k))], 1)
        signed = np.array([name in self.signed for name in self.shapes])
        scales = np.where(signed, 1.0, theta[:, k:])
        by_shape = np.einsum("bnkq,bkq->bnq", slopes, weights[:, :, None] * scales[:, None])
        return self._sum(theta, phi), np.concatenate([phi[:, :, :k] * theta[:, None, :k], by_shape], 2)

    def _logs(self) -> list[int]:
        return [i for i, name in enumerate(self.names) if name not in self.signed]


def fitted(
    form: Form, x: Features, y: Array, *, delta: float, weights: Array | None = None, polish: int = 5
) -> tuple[Array, float]:
    """The parameters (p,) with the least sum of Huber losses of the residuals in log loss, and that sum.

    From every start the amplitudes are the best ones for it; the `polish` best starts then race each other.
    The winner is followed to its end as it is and without each amplitude in turn, as an amplitude that is to
    be 0 only creeps there by its logarithm; the best end is taken.
    """
    starts = form.starts(x, y)
    weights = np.ones(len(y)) if weights is None else weights
    first = np.concatenate([_amplitudes(form, starts, x, y, weights), starts], 1)
    residuals = np.log(np.maximum(form.predict(first, x), 1e-300)) - np.log(y)
    scores = (weights * huber(residuals, delta)).sum(1)
    best = first[np.argsort(np.where(np.isfinite(scores), scores, np.inf))[:polish]]
    problem = problem_of(form, x, y, delta, np.broadcast_to(weights, (len(best), len(y))))
    k = len(form.amplitudes)
    tries = np.repeat(raced(problem, form.encoded(best)), k + 1, 0)
    tries[range(k), range(k)] = np.log(LEAST * y.min())
    ends, objectives = minimised(problem.take(np.zeros(k + 1, dtype=int)), tries)
    place = int(np.nanargmin(objectives))
    return form.decoded(ends[place]), float(objectives[place])


def refitted(form: Form, x: Features, y: Array, theta: Array, weights: Array, *, delta: float) -> Array:
    """Refits (B, p) under weights (B, n) of the rows, all followed together from one end (p,)."""
    problem = problem_of(form, x, y, delta, weights)
    ends, _ = minimised(problem, np.repeat(form.encoded(theta)[None], len(weights), 0))
    return form.decoded(ends)


def problem_of(form: Form, x: Features, y: Array, delta: float, weights: Array) -> Problem:
    """The residuals in log loss as a problem of least Huber losses."""
    logs = np.log(y)

    def residuals(u: Array) -> tuple[Array, Array]:
        value, slopes = form.value(u, x)
        value = np.maximum(value, 1e-300)
        return np.log(value) - logs, slopes / value[:, :, None]

    return Problem(residuals, weights, delta, form.penalty(len(y)))


def grid(*axes: Sequence[float] | Array) -> Array:  # -> (G, q)
    """All combinations of values.

    >>> grid([1.0, 2.0], [3.0]).tolist()
    [[1.0, 3.0], [2.0, 3.0]]
    """
    return np.stack([part.reshape(-1) for part in np.meshgrid(*axes, indexing="ij")], 1).astype(float)


def _amplitudes(form: Form, starts: Array, x: Features, y: Array, weights: Array) -> Array:  # -> (G, k)
    """The amplitudes of 0 or more with the least squared relative error, for each start.

    Every set of amplitudes that may be above 0 is tried, as there are few; zeros are made tiny, so that they
    have a logarithm.
    """
    k = len(form.amplitudes)
    if not k:
        return np.zeros((len(starts), 0))
    found = np.zeros((len(starts), k))
    for rows in np.array_split(np.arange(len(starts)), max(1, len(starts) * len(y) // 200_000)):
        phi, _ = form.basis(starts[rows], x)
        rest = (y - phi[:, :, k:].sum(2)) / y * np.sqrt(weights)
        found[rows] = _nonnegative(phi[:, :, :k] / y[:, None] * np.sqrt(weights)[:, None], rest)
    return np.maximum(found, LEAST * y.min())


def _nonnegative(design: Array, target: Array) -> Array:  # (B, n, k), (B, n) -> (B, k)
    """Batched least squares with coefficients of 0 or more, by all sets of them."""
    count, _, k = design.shape
    scale = np.linalg.norm(design, axis=1)[:, None] + 1e-300
    design = design / scale
    across = design.transpose(0, 2, 1)
    square, along = across @ design, (across @ target[..., None])[..., 0]
    best, gain = np.zeros((count, k)), np.zeros(count)
    for size in range(1, k + 1):
        for chosen in combinations(range(k), size):
            part = square[:, chosen][:, :, chosen] + 1e-13 * np.eye(size)
            found = np.linalg.solve(part, along[:, chosen][..., None])[..., 0]
            gained = (found * along[:, chosen]).sum(1)
            better = (found >= 0).all(1) & (gained > gain)
            gain = np.where(better, gained, gain)
            full = np.zeros((count, k))
            full[:, chosen] = found
            best = np.where(better[:, None], full, best)
    return best / scale[:, 0]
