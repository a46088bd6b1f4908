"""Quadratic fronts: the trade-offs of losses that are costly to evaluate, from a few places."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from equipoise.core.directions import spread
from equipoise.core.front import Front
from equipoise.core.indicators import nondominated

Array = np.ndarray
CANDIDATES = 2048
"""Places among which the start of each search is chosen."""
REACH = 1e-6
"""The share of the domain within which two places count as one."""
AUGMENTED = 1e-3
"""The share of the sum of losses beside the worst one: of equally bad places the one better in the rest."""


class QuadraticFront:
    """Quadratic surrogates of m losses over k inputs, and the front that they predict.

    f_i(c) = e_i + b_i'c + c'A_i c, fitted by least squares to n evaluated places c: scaling coefficients of
    merged models, mixture weights, preferences. `needed` places determine it: 1 + k + k(k + 1)/2 in a box,
    k(k + 1)/2 on the simplex. With fewer, or where they do not spread, the least coefficients that fit
    are taken (the limit of ridge), and `rank` is below `needed`.

    names: m. inputs: (n, k). losses: (n, m), lower is better. low, high: the ends of the box, one number or
    k; simplex: the inputs are non-negative and sum to 1 instead.

    `error` (m,) is the leave-one-out error over the spread of each loss: 0 is exact, 1 no better than the
    mean, infinite where places are too few to tell.

    Raises ValueError for sizes that do not fit, values that are not finite (by the name of the loss) and
    inputs outside the domain.

    Source: the surrogate of Li et al. 2024 (MAP, arXiv 2406.07529). Ours are the least coefficients, the
    error, the search along preferences with exact gradients where MAP uses NSGA-III, and the refinement.

    >>> places = design(2, 7)
    >>> losses = torch.stack([places[:, 0] ** 2 + places[:, 1], (places[:, 0] - 1) ** 2], 1)
    >>> QuadraticFront(("left", "right"), places, losses).front(3).points.round(decimals=2).tolist()
    [[1.0, 0.0], [0.25, 0.25], [0.0, 1.0]]
    """

    def __init__(
        self,
        names: Sequence[str],
        inputs: Tensor,
        losses: Tensor,
        *,
        low: float | Sequence[float] = 0.0,
        high: float | Sequence[float] = 1.0,
        simplex: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.inputs = inputs.detach().to("cpu", torch.float64)
        self.losses = losses.detach().to("cpu", torch.float64)
        if self.inputs.dim() != 2 or not self.inputs.numel():
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}; give (n, k), one place at least")
        n, k = self.inputs.shape
        if self.losses.shape != (n, len(self.names)):
            raise ValueError(
                f"losses have shape {tuple(losses.shape)}; {n} places and the losses {', '.join(self.names)} "
                f"ask for ({n}, {len(self.names)})"
            )
        if bad := [
            x for x, ok in zip(self.names, self.losses.isfinite().all(0).tolist(), strict=True) if not ok
        ]:
            raise ValueError(f"the losses of {', '.join(bad)} are not finite at every place")
        self.simplex = simplex
        self.low = np.broadcast_to(np.asarray(0.0 if simplex else low, float), k).copy()
        self.high = np.broadcast_to(np.asarray(1.0 if simplex else high, float), k).copy()
        if not (self.high > self.low).all():
            raise ValueError(
                f"low is {self.low.tolist()} and high {self.high.tolist()}; high must be above low"
            )
        self._check(self.inputs.numpy())
        self._fit()

    @property
    def needed(self) -> int:
        """How many places determine the quadratics."""
        return needed(self.inputs.shape[1], simplex=self.simplex)

    def predict(self, inputs: Tensor) -> Tensor:  # (..., k) -> (..., m)
        """The losses that the surrogates give."""
        return torch.from_numpy(self._values(inputs.detach().cpu().double().numpy()))

    def gradient(self, inputs: Tensor) -> Tensor:  # (..., k) -> (..., m, k)
        """The gradients of the predicted losses by the inputs."""
        return torch.from_numpy(self._slopes(inputs.detach().cpu().double().numpy()))

    def front(self, points: int = 21) -> Front:
        """The front of the surrogates at preferences spread over the simplex.

        For each, the place of least greatest loss above the ideal, weighted by the preference and scaled to
        the ranges of the predicted front. Points are predictions, solutions are `{"input": c}`.
        """
        m = len(self.names)
        wishes = spread(m, points if m > 1 else 1)
        candidates = self._candidates()
        values = self._values(candidates)
        best = values[nondominated(values)]
        ideal, nadir = values.min(0), best.max(0)
        scale = np.where(nadir > ideal, nadir - ideal, 1.0)
        found = np.stack([self._search(wish, candidates, values, ideal, scale) for wish in wishes.numpy()])
        solutions = [{"input": torch.from_numpy(place.copy())} for place in found]
        return Front(self.names, torch.from_numpy(self._values(found)), wishes, solutions, self.record())

    def measured(self) -> Front:
        """The evaluated places as a front, with their own losses."""
        solutions = [{"input": place.clone()} for place in self.inputs]
        return Front(self.names, self.losses, None, solutions, {"solver": "evaluated places"})

    def add(self, inputs: Tensor, losses: Tensor) -> "QuadraticFront":
        """The surrogates refitted to more places."""
        return QuadraticFront(
            self.names,
            torch.cat([self.inputs, inputs.to(self.inputs)]),
            torch.cat([self.losses, losses.to(self.losses)]),
            low=self.low.tolist(),
            high=self.high.tolist(),
            simplex=self.simplex,
        )

    def refine(
        self, evaluate: Callable[[Tensor], Tensor], *, rounds: int = 1, points: int = 5
    ) -> "QuadraticFront":
        """Evaluate the places that the surrogates predict best, and refit to them, round by round.

        evaluate: a place (k,) -> its losses (m,). It is not asked again for a place that is known.
        """
        found = self
        for _ in range(rounds):
            predicted = torch.stack([one["input"] for one in found.front(points).nondominated().solutions])
            fresh = found._unknown(predicted)
            if not len(fresh):
                return found
            found = found.add(fresh, torch.stack([evaluate(place.clone()) for place in fresh]))
        return found

    def record(self) -> Mapping[str, Any]:
        """Where it comes from, in plain JSON values."""
        error = [value if np.isfinite(value) else None for value in self.error.tolist()]
        facts = {"evaluated": len(self.inputs), "needed": self.needed, "rank": self.rank, "error": error}
        return {"solver": "QuadraticFront", **facts}

    def _check(self, places: Array) -> None:
        slack = REACH * (self.high - self.low)
        outside = ~((places >= self.low - slack) & (places <= self.high + slack)).all(1)
        if self.simplex:
            outside |= np.abs(places.sum(1) - 1) > REACH * places.shape[1]
        if outside.any():
            domain = "the simplex" if self.simplex else f"[{self.low.tolist()}, {self.high.tolist()}]"
            raise ValueError(f"the input {places[outside][0].tolist()} lies outside {domain}")

    def _fit(self) -> None:
        features = quadratic_features(self.unit(self.inputs.numpy()))[:, 1:]
        losses = self.losses.numpy()
        middle, centre = features.mean(0), losses.mean(0)
        left, sizes, right = np.linalg.svd(features - middle, full_matrices=False)
        large = sizes > sizes.max(initial=0.0) * max(features.shape) * np.finfo(float).eps
        left, sizes, right = left[:, large], sizes[large], right[large]
        coefficients = right.T @ ((left.T @ (losses - centre)) / sizes[:, None])  # (q - 1, m)
        self.rank = 1 + len(sizes)
        k, m = self.inputs.shape[1], losses.shape[1]
        self._constant = centre - middle @ coefficients
        self._linear = coefficients[:k].T  # (m, k)
        self._square = np.zeros((m, k, k))
        rows, columns = np.triu_indices(k)
        self._square[:, rows, columns] += coefficients[k:].T / 2
        self._square[:, columns, rows] += coefficients[k:].T / 2
        self.error = torch.from_numpy(self._left_out(features, losses, left, middle, coefficients))

    def _left_out(
        self, features: Array, losses: Array, left: Array, middle: Array, coefficients: Array
    ) -> Array:  # -> (m,)
        """The error at each place of the fit to all others, from the diagonal of the projection."""
        n = len(features)
        free = 1 - 1 / n - (left**2).sum(1)
        spreads = losses.std(0)
        if self.rank < self.needed or free.min() <= n * np.finfo(float).eps:
            return np.where(spreads > 0, np.inf, 0.0)
        residual = losses - losses.mean(0) - (features - middle) @ coefficients
        missed = np.sqrt(((residual / free[:, None]) ** 2).mean(0))
        return np.where(spreads > 0, missed / np.where(spreads > 0, spreads, 1.0), 0.0)

    def unit(self, places: Array) -> Array:
        """Places of the domain from -1 to 1 in each input."""
        return 2 * (places - self.low) / (self.high - self.low) - 1

    def _values(self, places: Array) -> Array:  # (..., k) -> (..., m)
        unit = self.unit(places)
        squares = np.einsum("...i,mij,...j->...m", unit, self._square, unit)
        return self._constant + unit @ self._linear.T + squares

    def _slopes(self, places: Array) -> Array:  # (..., k) -> (..., m, k)
        slopes = self._linear + 2 * np.einsum("mij,...j->...mi", self._square, self.unit(places))
        return slopes * 2 / (self.high - self.low)

    def _candidates(self) -> Array:
        k = self.inputs.shape[1]
        generator = np.random.default_rng(0)
        if self.simplex:
            drawn = np.concatenate([np.eye(k), generator.dirichlet(np.ones(k), size=CANDIDATES)])
        else:
            unit = generator.random((CANDIDATES, k))
            unit[: CANDIDATES // 4] = np.round(unit[: CANDIDATES // 4])  # corners, where many optima lie
            drawn = self.low + unit * (self.high - self.low)
        return np.concatenate([np.clip(self.inputs.numpy(), self.low, self.high), drawn])

    def _search(self, wish: Array, candidates: Array, values: Array, ideal: Array, scale: Array) -> Array:
        """The place that suits a preference best, from the candidate that does."""

        def missed(found: Array) -> Array:  # (..., m) -> (...)
            above = (found - ideal) / scale
            return (wish * above).max(-1) + AUGMENTED * above.sum(-1)

        place = candidates[missed(values).argmin()]
        k, width = len(place), self.high - self.low

        def reached(z: Array) -> Array:  # (k + 1,) -> (k,); the search is in shares of the box
            return np.clip(self.low + z[:k] * width, self.low, self.high)

        def slopes(z: Array) -> Array:  # (k + 1,) -> (m, k)
            return self._slopes(reached(z)) * width / scale[:, None]

        def above(z: Array) -> Array:  # (k + 1,) -> (m,)
            return (self._values(reached(z)) - ideal) / scale

        def room(z: Array) -> Array:  # (k + 1,) -> (m,)
            return z[k] - wish * above(z)

        def room_slopes(z: Array) -> Array:  # (k + 1,) -> (m, k + 1)
            return np.column_stack([-wish[:, None] * slopes(z), np.ones(len(wish))])

        constraints: list[dict[str, Any]] = [{"type": "ineq", "fun": room, "jac": room_slopes}]
        if self.simplex:
            ones = np.append(np.ones(k), 0.0)
            constraints.append({"type": "eq", "fun": lambda z: z[:k].sum() - 1, "jac": lambda z: ones})
        start = np.append((place - self.low) / width, 0.0)
        start[k] = (wish * above(start)).max()
        solved = minimize(
            lambda z: z[k] + AUGMENTED * above(z).sum(),
            start,
            jac=lambda z: np.append(AUGMENTED * slopes(z).sum(0), 1.0),
            bounds=[*[(0.0, 1.0)] * k, (None, None)],
            constraints=constraints,
            method="SLSQP",
        )
        found = reached(solved.x)
        if self.simplex:
            found = found / found.sum()
        usable = np.isfinite(found).all() and missed(self._values(found)) < missed(self._values(place))
        return found if usable else place

    def _unknown(self, places: Tensor) -> Tensor:  # (n, k) -> (at most n, k)
        """The places that are not among the evaluated ones or each other."""
        known = list(self.unit(self.inputs.numpy()))
        fresh = []
        for place, unit in zip(places, self.unit(places.numpy()), strict=True):
            if min(np.abs(np.stack(known) - unit).max(1)) > REACH:
                known.append(unit)
                fresh.append(place)
        return torch.stack(fresh) if fresh else places[:0]


def needed(k: int, *, simplex: bool = False) -> int:
    """How many places determine a quadratic of k inputs.

    >>> needed(2), needed(3), needed(3, simplex=True)
    (6, 10, 6)
    """
    return k * (k + 1) // 2 if simplex else 1 + k + k * (k + 1) // 2


def design(k: int, n: int, *, simplex: bool = False, seed: int = 0) -> Tensor:  # -> (n, k)
    """n places to evaluate first: directions spread over the simplex, or places of the unit box.

    In the box the units, their mean, all ones and all zeros come first, then scrambled Sobol points.
    """
    if k < 1 or n < 1:
        raise ValueError(f"{n} places of {k} inputs were asked for; both must be at least 1")
    if simplex:
        return spread(k, n if k > 1 else 1)
    units = torch.eye(k, dtype=torch.float64)
    first = torch.cat([units, units.mean(0, keepdim=True), torch.ones(1, k), torch.zeros(1, k)])
    chosen = torch.tensor(list(dict.fromkeys(map(tuple, first.tolist()))), dtype=torch.float64)[:n]
    drawn = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    return torch.cat([chosen, drawn[: n - len(chosen)]])


def quadratic_features(unit: Array) -> Array:  # (n, k) -> (n, 1 + k + k(k + 1)/2)
    """Constant, inputs and their products."""
    rows, columns = np.triu_indices(unit.shape[1])
    return np.column_stack([np.ones(len(unit)), unit, unit[:, rows] * unit[:, columns]])
