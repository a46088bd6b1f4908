"""optimum: the mixture with the least predicted loss, its gain over plain ones, and the noise beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from equipoise.core.checks import check_count, check_positive
from equipoise.core.errors import unknown
from equipoise.core.front import Front
from equipoise.core.rule import Scalarizer
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.runs import Array, Features
from equipoise.scaling.single import FormSingle

LEAST = 1e-4
"""The smallest ratio that is looked at; a law may be infinite at 0."""

Objective = str | Scalarizer | Callable[[Array], float]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A recommended mixture.

    p: {source: ratio}. losses: predicted. value: of what was minimised. over_uniform, over_weights: by how
    much it is below that of equal ratios, and of ratios in proportion to the importance weights (None where a
    loss has no source of its name). noise: its standard deviation between seeds, None where the runs have no
    repeats. doubt: the mean error of the law on held-out runs times the value, None where none were held out.
    intervals: 95% of the ratios over refits, empty without. bound: what holds the mixture where it is, in
    words.
    """

    p: dict[str, float]
    losses: dict[str, float]
    value: float
    over_uniform: float
    over_weights: float | None
    noise: float | None
    doubt: float | None
    intervals: dict[str, tuple[float, float]]
    bound: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """What is gained over the better of the plain mixtures."""
        return min(self.over_uniform, np.inf if self.over_weights is None else self.over_weights)

    @property
    def claimed(self) -> bool:
        """Whether that is more than two standard deviations of the difference of two runs."""
        return self.noise is not None and self.gain > 2 * 2**0.5 * self.noise

    @property
    def within_doubt(self) -> bool:
        """Whether the law's error on held-out runs exceeds the gain that it foretells."""
        return self.doubt is not None and self.doubt > self.gain

    def sentence(self) -> str:
        """What to do."""
        if self.noise is None:
            return (
                "No repeats: the noise is unknown, and no gain is claimed. Run one mixture with three seeds."
            )
        if self.claimed:
            return (
                f"Take this mixture: {self.gain:.4f} below the better plain one, where a seed moves it by "
                f"{self.noise:.4f}."
            )
        plain = "weights in proportion to importance" if self.gain != self.over_uniform else "equal ratios"
        return f"Stay with {plain}: {self.gain:.4f} would be gained, and a seed moves it by {self.noise:.4f}."

    def __str__(self) -> str:
        lines = []
        for name, ratio in self.p.items():
            low, high = self.intervals.get(name, (None, None))
            lines.append(f"  {name:20} {ratio:.3f}" + ("" if low is None else f"  ({low:.3f} to {high:.3f})"))
        told = [f"{name} {loss:.4g}" for name, loss in self.losses.items()]
        lines.append(f"predicted: {', '.join(told)}")
        lines.append(f"gain over equal ratios {self.over_uniform:.4f}")
        if self.over_weights is not None:
            lines.append(f"gain over ratios in proportion to the weights {self.over_weights:.4f}")
        if self.doubt is not None:
            lines.append(f"the law errs by {self.doubt:.4f} on held-out runs")
        lines += [f"held by: {words}" for words in self.bound]
        return "\n".join([*lines, self.sentence()])


def optimum(
    law: FittedLaw,
    weights: Mapping[str, float] | None = None,
    *,
    N: float | None = None,
    D: float | None = None,
    minimise: Objective = "sum",
    caps: Mapping[str, float] | None = None,
    epochs: float | None = None,
    limits: Mapping[str, float] | None = None,
    refits: int = 40,
) -> Mixture:
    """The mixture that a fitted law holds best, and what it is worth.

    weights: importance of each loss, 1 for those that are not named. minimise: "sum" of the weighted losses
    over the sum of weights, "worst" of them, a `Scalarizer` of the library with the weights as its preference
    (where it takes one) or a function of the losses (m,). caps: {source: largest ratio}. epochs: p_i D <=
    epochs U_i for sources whose unique tokens U the runs have. limits: {loss: largest value}, such as 1.03
    times what it was. refits: how many of the law's refits are solved again, for the intervals.

    Sequential quadratic programming from equal ratios, the weights, the best run and some drawn mixtures; the
    best end counts. Ratios go down to 1e-4.

    Raises ValueError for names that there are not, numbers out of range, a law without a mixture, and limits
    and caps that no mixture meets.
    """
    names = law.runs.sources
    if not names:
        raise ValueError(f"{law.law.name} was fitted to runs without a mixture; there is none to choose")
    w = weights_of(law, weights)
    check_count(0, refits=refits)
    task = Task(law, w, N, D, minimise, _limits(law, limits))
    top = _caps(law, caps, epochs, D)
    if top.sum() < 1:
        raise ValueError(f"caps allow {top.sum():.3g} of the tokens; they are to sum to 1 or more")
    best = task.solved(_starts(law, w), top)
    if best is None:
        raise ValueError(
            "no mixture meets the limits: " + ", ".join(f"{k} <= {v:g}" for k, v in task.limits.items())
        )
    uniform = np.full(len(names), 1 / len(names))
    plain = _proportional(law, w)
    value = task.value(best)
    noise = _noise(law, task, best)
    held = law.holdout
    return Mixture(
        dict(zip(names, best.tolist(), strict=True)),
        dict(zip(law.objectives, task.losses(best[None])[0].tolist(), strict=True)),
        value,
        task.value(uniform) - value,
        None if plain is None else task.value(plain) - value,
        noise,
        None if held is None or not isfinite(held.overall) else held.overall * abs(value),
        _intervals(law, task, best, top, refits),
        tuple(
            f"{name} at most {cap:.3g}"
            for name, cap, p in zip(names, top, best, strict=True)
            if p > cap - 1e-6
        ),
    )


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised over mixtures."""

    law: FittedLaw
    weights: Array
    N: float | None
    D: float | None
    minimise: Objective
    limits: dict[str, float]

    def losses(self, p: Array) -> Array:  # (n, k) -> (n, m)
        """Predicted losses of n mixtures, on the simplex or near it."""
        first = self.law.features(self.N, self.D, np.eye(p.shape[1])[0])
        spread = {
            name: None if (c := getattr(first, name)) is None else np.broadcast_to(c, (len(p), *c.shape[1:]))
            for name in ("N", "D", "U")
        }
        other = {name: np.broadcast_to(c, (len(p),)) for name, c in first.other.items()}
        x = Features(len(p), p=np.maximum(p, 1e-9), sources=first.sources, other=other, **spread)
        return np.stack([single.predict(x) for single in self.law.singles.values()], 1)

    def value(self, p: Array) -> float:
        """What is minimised, of one mixture."""
        return float(self.values(p[None])[0])

    def values(self, p: Array) -> Array:  # (n, k) -> (n,)
        """The same of n mixtures."""
        losses = self.losses(p)
        if self.minimise == "sum":
            return losses @ (self.weights / self.weights.sum())
        if self.minimise == "worst":
            return (losses * self.weights / self.weights.mean()).max(1)
        if isinstance(self.minimise, Scalarizer):
            return np.array(
                [_scalarised(self.minimise, row, self.weights, self.law.objectives) for row in losses]
            )
        if callable(self.minimise):
            return np.array([float(self.minimise(row)) for row in losses])
        raise ValueError(f"minimise is {self.minimise!r}; it is 'sum', 'worst', a Scalarizer or a function")

    def solved(self, starts: Array, top: Array) -> Array | None:
        """The best end from all starts, None where none meets the limits."""
        ends = [self._from(start, top) for start in starts]
        able = [end for end in ends if end is not None]
        return min(able, key=self.value) if able else None

    def _from(self, start: Array, top: Array) -> Array | None:
        k = len(start)
        bounds = [(min(LEAST, cap), cap) for cap in top]
        limits = [(self.law.objectives.index(name), value) for name, value in self.limits.items()]
        worst = self.minimise == "worst"
        scale = self.weights / self.weights.mean()

        def jacobian(p: Array) -> Array:  # -> (m, k)
            step = 1e-6
            both = self.losses(np.concatenate([p + step * np.eye(k), p - step * np.eye(k)]))
            return ((both[:k] - both[k:]) / (2 * step)).T

        def slope(p: Array) -> Array:
            step = 1e-6
            both = self.values(np.concatenate([p + step * np.eye(k), p - step * np.eye(k)]))
            return (both[:k] - both[k:]) / (2 * step)

        one = {
            "type": "eq",
            "fun": lambda z: z[:k].sum() - 1,
            "jac": lambda z: np.r_[np.ones(k), np.zeros(len(z) - k)],
        }
        constraints: list[dict[str, Any]] = [one]
        for place, value in limits:
            constraints.append(
                {
                    "type": "ineq",
                    "fun": lambda z, place=place, value=value: value - self.losses(z[None, :k])[0, place],
                    "jac": lambda z, place=place: np.r_[-jacobian(z[:k])[place], np.zeros(len(z) - k)],
                }
            )
        if worst:  # the least t above every weighted loss
            constraints.append(
                {
                    "type": "ineq",
                    "fun": lambda z: z[k] - self.losses(z[None, :k])[0] * scale,
                    "jac": lambda z: np.concatenate(
                        [-jacobian(z[:k]) * scale[:, None], np.ones((len(scale), 1))], 1
                    ),
                }
            )
            first = np.r_[start, self.value(start)]
            found = minimize(
                lambda z: z[k], first, jac=lambda z: np.r_[np.zeros(k), 1.0], bounds=[*bounds, (None, None)],
                constraints=constraints, method="SLSQP", options={"maxiter": 300, "ftol": 1e-12},
            )  # fmt: skip
        else:
            found = minimize(
                lambda z: self.value(z), start, jac=slope, bounds=bounds,
                constraints=constraints, method="SLSQP", options={"maxiter": 300, "ftol": 1e-12},
            )  # fmt: skip
        p = np.clip(found.x[:k], 0, top)
        if not np.isfinite(p).all() or abs(p.sum() - 1) > 1e-6:
            return None
        losses = self.losses(p[None])[0]
        return p / p.sum() if all(losses[place] <= value * (1 + 1e-6) for place, value in limits) else None


def front(
    law: FittedLaw, count: int = 21, *, N: float | None = None, D: float | None = None, seed: int = 0
) -> Front:
    """The trade-offs that a fitted law foretells.

    Losses of the optima of `count` weightings, as a `Front` whose solutions hold the mixture as "p".

    Raises ValueError as `optimum` does, and for a law of one loss.
    """
    m = len(law.objectives)
    if m < 2:
        raise ValueError("a front takes two losses or more")
    check_count(2, count=count)
    if m == 2:
        part = np.linspace(0.02, 0.98, count)
        weights = np.stack([part, 1 - part], 1)
    else:
        weights = np.random.default_rng(seed).dirichlet(np.ones(m), count)
    mixtures = []
    for w in weights:
        task = Task(law, w, N, D, "sum", {})
        best = task.solved(_starts(law, w)[:3], np.ones(len(law.runs.sources)))
        assert best is not None
        mixtures.append(best)
    points = Task(law, np.ones(m), N, D, "sum", {}).losses(np.array(mixtures))
    solutions = [{"p": torch.tensor(p)} for p in mixtures]
    record = {"law": law.law.name, "sources": list(law.runs.sources)}
    return Front(law.objectives, torch.tensor(points), torch.tensor(weights), solutions, record)


def weights_of(law: FittedLaw, given: Mapping[str, float] | None) -> Array:  # -> (m,)
    """Importance of each loss; raises ValueError for a name that there is not, or a weight below 0."""
    for name, value in (given or {}).items():
        if name not in law.objectives:
            raise ValueError(unknown("objective", name, law.objectives))
        if not (isfinite(value) and value >= 0):
            raise ValueError(f"the weight of {name!r} is {value}; it is 0 or more")
    found = np.array([(given or {}).get(name, 1.0) for name in law.objectives], dtype=float)
    if not found.any():
        raise ValueError("all weights are 0")
    return found


def _limits(law: FittedLaw, given: Mapping[str, float] | None) -> dict[str, float]:
    for name, value in (given or {}).items():
        if name not in law.objectives:
            raise ValueError(unknown("objective", name, law.objectives))
        check_positive(**{f"limits[{name}]": value})
    return dict(given or {})


def _caps(law: FittedLaw, given: Mapping[str, float] | None, epochs: float | None, D: float | None) -> Array:
    names = law.runs.sources
    for name, value in (given or {}).items():
        if name not in names:
            raise ValueError(unknown("source", name, names))
        if not 0 <= value <= 1:
            raise ValueError(f"the cap of {name!r} is {value}; it is in [0, 1]")
    top = np.array([(given or {}).get(name, 1.0) for name in names])
    if epochs is not None:
        check_positive(epochs=epochs)
        held, tokens = law.runs.features.U, law.features(D=D, p=np.eye(len(names))[0], N=1.0).D
        if held is None or tokens is None:
            raise ValueError("epochs are given, but the runs have no columns U.<source>, or no D")
        top = np.minimum(top, epochs * held[0] / tokens[0])
    return np.minimum(top, 1.0)


def _starts(law: FittedLaw, w: Array) -> Array:
    k = len(law.runs.sources)
    found = [np.full(k, 1 / k)]
    plain = _proportional(law, w)
    if plain is not None:
        found.append(np.maximum(plain, 0.01) / np.maximum(plain, 0.01).sum())
    held = law.runs.features.p
    assert held is not None
    with np.errstate(invalid="ignore"):
        scores = np.nan_to_num(law.runs.losses @ (w / w.sum()), nan=np.inf)
    found.append(
        np.maximum(held[int(scores.argmin())], 0.01) / np.maximum(held[int(scores.argmin())], 0.01).sum()
    )
    return np.array([*found, *np.random.default_rng(0).dirichlet(np.ones(k), 3)])


def _proportional(law: FittedLaw, w: Array) -> Array | None:
    """Ratios in proportion to the weights, None where a loss has no source of its name."""
    names = law.runs.sources
    if any(name not in names for name in law.objectives):
        return None
    found = np.zeros(len(names))
    for name, weight in zip(law.objectives, w, strict=True):
        found[names.index(name)] = weight
    return found / found.sum()


def _scalarised(rule: Scalarizer, losses: Array, weights: Array, names: tuple[str, ...]) -> float:
    held = torch.tensor(losses, dtype=torch.float64)
    context: dict[str, Any] = {"losses": held, "names": names}
    if rule.uses("preference"):
        context["preference"] = torch.tensor(weights / weights.sum())
    with torch.no_grad():
        return float(rule.apply_to(held, **context))


def _noise(law: FittedLaw, task: Task, p: Array) -> float | None:
    """The standard deviation of the value between seeds, losses taken to be independent."""
    sd = law.runs.seed_sd()
    if any(name not in sd for name in law.objectives):
        return None
    losses = task.losses(p[None])[0]
    size = losses * np.array([sd[name] for name in law.objectives])
    if task.minimise == "sum":
        return float(np.linalg.norm(size * task.weights / task.weights.sum()))
    return float(size.max())


def _intervals(
    law: FittedLaw, task: Task, p: Array, top: Array, count: int
) -> dict[str, tuple[float, float]]:
    """95% of each ratio over the optima of refits."""
    singles = law.singles
    if not count or not all(isinstance(one, FormSingle) and len(one.refits) for one in singles.values()):
        return {}
    found = []
    for number in range(
        min(count, *(len(one.refits) for one in singles.values() if isinstance(one, FormSingle)))
    ):
        drawn = {
            n: replace(one, theta=one.refits[number])
            for n, one in singles.items()
            if isinstance(one, FormSingle)
        }
        end = replace(task, law=replace(law, singles=drawn)).solved(p[None], top)
        if end is not None:
            found.append(end)
    if not found:
        return {}
    low, high = np.quantile(np.array(found), (0.025, 0.975), axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(law.runs.sources, low, high, strict=True)}
