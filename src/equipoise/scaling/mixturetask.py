"""Task: what is minimised over mixtures, and the way down from a start."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from equipoise.core.rule import Scalarizer
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.runs import Array

LEAST = 1e-4
"""The smallest ratio that is looked at; a law may be infinite at 0."""
STEP = 1e-6
"""Of the central differences."""

Objective = str | Scalarizer | Callable[[Array], float]


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised over mixtures: losses of a fitted law at N and D, under weights (m,) and limits.

    costs: of one token of each source (k,); D is then what `budget` buys of the mixture.
    """

    law: FittedLaw
    weights: Array
    N: float | None = None
    D: float | None = None
    minimise: Objective = "sum"
    limits: tuple[tuple[int, float], ...] = ()
    costs: Array | None = None
    budget: float = 1.0

    def losses(self, p: Array) -> Array:  # (n, k) -> (n, m)
        """Predicted losses of n mixtures, on the simplex or near it."""
        D = self.D if self.costs is None else self.bought(p[0])
        one = self.law.features(self.N, D, np.eye(p.shape[1])[0])
        x = replace(one.spread(len(p)), p=np.maximum(p, 1e-9))
        if self.costs is not None:
            x = replace(x, D=self.bought(np.maximum(p, 1e-9)))
        return np.stack([single.predict(x) for single in self.law.singles.values()], 1)

    def bought(self, p: Array) -> Any:  # (..., k) -> (...)
        """How many tokens of a mixture the budget buys."""
        return self.budget / (p @ self.costs)

    def value(self, p: Array) -> float:
        """What is minimised, of one mixture."""
        return float(self.values(p[None])[0])

    def values(self, p: Array) -> Array:  # (n, k) -> (n,)
        """The same of n mixtures."""
        return self.scalars(self.losses(p))

    def scalars(self, losses: Array) -> Array:  # (n, m) -> (n,)
        """What is minimised, of n rows of losses."""
        if self.minimise == "sum":
            return losses @ (self.weights / self.weights.sum())
        if self.minimise == "worst":
            return (losses * self._scale).max(1)
        if isinstance(self.minimise, Scalarizer):
            return np.array([self._scalarised(self.minimise, row) for row in losses])
        if callable(self.minimise):
            return np.array([float(self.minimise(row)) for row in losses])
        raise ValueError(f"minimise is {self.minimise!r}; it is 'sum', 'worst', a Scalarizer or a function")

    def moved(self, p: Array, sizes: Array) -> Array:  # (k,), (m,) -> (m,)
        """By how much errors of the losses, as parts of them, move what is minimised at a mixture."""
        losses = self.losses(p[None])[0]
        return np.abs(differences(self.scalars)(losses)) * losses * sizes

    def solved(self, starts: Array, top: Array) -> Array | None:
        """The best end from all starts (s, k), ratios below `top` (k,); None where none meets the limits."""
        ends = [self._from(start, top) for start in starts]
        able = [end for end in ends if end is not None]
        return min(able, key=self.value) if able else None

    def starts(self) -> Array:  # -> (s, k)
        """Where to begin: equal ratios, the weights, the best run, and three drawn mixtures."""
        held, k = self.law.runs.features.p, len(self.law.runs.sources)
        assert held is not None
        scores = np.nan_to_num(self.law.runs.losses @ self.weights, nan=np.inf)
        plain = proportional(self.law, self.weights)
        known = [np.full(k, 1 / k), held[int(scores.argmin())], *([] if plain is None else [plain])]
        inner = [np.maximum(p, 0.01) / np.maximum(p, 0.01).sum() for p in known]
        return np.array([*inner, *np.random.default_rng(0).dirichlet(np.ones(k), 3)])

    @property
    def _scale(self) -> Array:
        return self.weights / self.weights.mean()

    def _scalarised(self, rule: Scalarizer, losses: Array) -> float:
        held = torch.tensor(losses, dtype=torch.float64)
        context: dict[str, Any] = {"losses": held, "names": self.law.objectives}
        if rule.uses("preference"):
            context["preference"] = torch.tensor(self.weights / self.weights.sum())
        with torch.no_grad():
            return float(rule.apply_to(held, **context))

    def _from(self, start: Array, top: Array) -> Array | None:
        """Sequential quadratic programming; for the worst loss over p and t, the least t above all."""
        k = len(start)
        bounds: list[tuple[float | None, float | None]] = [(min(LEAST, cap), cap) for cap in top]
        options: dict[str, Any] = {"method": "SLSQP", "options": {"maxiter": 300, "ftol": 1e-12}}
        options["constraints"] = self._constraints(k)
        if self.minimise == "worst":
            first, bounds = np.r_[start, self.value(start)], [*bounds, (None, None)]
            along = np.r_[np.zeros(k), 1.0]
            found = minimize(lambda z: z[k], first, jac=lambda z: along, bounds=bounds, **options)
        else:
            slope = differences(self.values)
            found = minimize(self.value, start, jac=slope, bounds=bounds, **options)
        p = np.clip(found.x[:k], 0, top)
        if not np.isfinite(p).all() or abs(p.sum() - 1) > 1e-6:
            return None
        losses = self.losses(p[None])[0]
        kept = all(losses[place] <= value * (1 + 1e-6) for place, value in self.limits)
        return p / p.sum() if kept else None

    def _constraints(self, k: int) -> list[dict[str, Any]]:
        """Of (p, t): ratios sum to 1, losses stay below their limits, and weighted ones below t."""
        by_mixture = differences(self.losses)

        def over(z: Array, rows: Array) -> Array:
            """Slopes (rows, k) as those by all of z."""
            return np.concatenate([rows, np.zeros((len(rows), len(z) - k))], 1)

        found: list[dict[str, Any]] = [
            {"type": "eq", "fun": lambda z: z[:k].sum() - 1, "jac": lambda z: over(z, np.ones((1, k)))[0]}
        ]
        if self.limits:
            places, values = (np.array(part) for part in zip(*self.limits, strict=True))
            found.append(
                {
                    "type": "ineq",
                    "fun": lambda z: values - self.losses(z[None, :k])[0, places],
                    "jac": lambda z: over(z, -by_mixture(z[:k]).T[places]),
                }
            )
        if self.minimise == "worst":
            scale = self._scale
            found.append(
                {
                    "type": "ineq",
                    "fun": lambda z: z[k] - self.losses(z[None, :k])[0] * scale,
                    "jac": lambda z: over(z, -by_mixture(z[:k]).T * scale[:, None]) + np.eye(k + 1)[k],
                }
            )
        return found


def differences(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The derivatives (k, ...) of a function of n points (n, k) -> (n, ...) at one point (k,).

    >>> differences(lambda p: (p**2).sum(1))(np.array([1.0, 3.0])).round(6).tolist()
    [2.0, 6.0]
    """

    def slopes(p: Array) -> Array:
        steps = STEP * np.eye(len(p))
        both = function(np.concatenate([p + steps, p - steps]))
        return (both[: len(p)] - both[len(p) :]) / (2 * STEP)

    return slopes


def proportional(law: FittedLaw, w: Array) -> Array | None:
    """Ratios in proportion to the weights, None where a loss has no source of its name."""
    names = law.runs.sources
    if any(name not in names for name in law.objectives):
        return None
    found = np.zeros(len(names))
    for name, weight in zip(law.objectives, w, strict=True):
        found[names.index(name)] = weight
    return found / found.sum()
