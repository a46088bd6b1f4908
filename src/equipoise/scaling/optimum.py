"""optimum: the mixture with the least predicted loss, its gain over plain ones, and the noise beside it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from equipoise.core.checks import check_count, check_positive
from equipoise.core.errors import unknown
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.mixturetask import Objective, Task, proportional
from equipoise.scaling.runs import Array
from equipoise.scaling.single import FormSingle


@dataclass(frozen=True, slots=True)
class Mixture:
    """A recommended mixture.

    p: {source: ratio}. losses: predicted. value: of what was minimised. over_uniform, over_weights: by how
    much it is below that of equal ratios, and of ratios in proportion to the importance weights (None where a
    loss has no source of its name). noise: its standard deviation between seeds, None where the runs have no
    repeats. doubt: what the mean errors of the law on held-out runs make of it, None where none were held
    out. intervals: 95% of the ratios over refits, empty without. bound: what holds the mixture where it is,
    in words.
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

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        more = {"gain": self.gain, "claimed": self.claimed, "sentence": self.sentence()}
        return {**asdict(self), **more}

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
    return recommended(task, _caps(law, caps, epochs, D), refits)


def recommended(task: Task, top: Array, refits: int) -> Mixture:
    """The best mixture of a task with ratios below `top` (k,), and what it is worth; raises as `optimum`."""
    law, w, names = task.law, task.weights, task.law.runs.sources
    if top.sum() < 1:
        raise ValueError(f"caps allow {top.sum():.3g} of the tokens; they are to sum to 1 or more")
    best = task.solved(task.starts(), top)
    if best is None:
        raise ValueError(
            "no mixture meets the limits: "
            + ", ".join(f"{law.objectives[place]} <= {v:g}" for place, v in task.limits)
        )
    uniform = np.full(len(names), 1 / len(names))
    plain = proportional(law, w)
    value = task.value(best)
    return Mixture(
        dict(zip(names, best.tolist(), strict=True)),
        dict(zip(law.objectives, task.losses(best[None])[0].tolist(), strict=True)),
        value,
        task.value(uniform) - value,
        None if plain is None else task.value(plain) - value,
        _noise(law, task, best),
        _doubt(law, task, best),
        _intervals(law, task, best, top, refits),
        tuple(
            f"{name} at most {cap:.3g}"
            for name, cap, p in zip(names, top, best, strict=True)
            if p > cap - 1e-6
        ),
    )


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


def _limits(law: FittedLaw, given: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    for name, value in (given or {}).items():
        if name not in law.objectives:
            raise ValueError(unknown("objective", name, law.objectives))
        check_positive(**{f"limits[{name}]": value})
    return tuple((law.objectives.index(name), value) for name, value in (given or {}).items())


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


def _noise(law: FittedLaw, task: Task, p: Array) -> float | None:
    """The standard deviation of the value between seeds, losses taken to be independent."""
    sd = law.runs.seed_sd()
    if any(name not in sd for name in law.objectives):
        return None
    return float(np.linalg.norm(task.moved(p, np.array([sd[name] for name in law.objectives]))))


def _doubt(law: FittedLaw, task: Task, p: Array) -> float | None:
    """What the errors on held-out runs make of the value, were all of one sign."""
    if law.holdout is None or not isfinite(law.holdout.overall):
        return None
    errors = [law.holdout.mean[name] for name in law.objectives]
    return float(task.moved(p, np.nan_to_num(errors, nan=law.holdout.overall)).sum())


def _intervals(
    law: FittedLaw, task: Task, p: Array, top: Array, count: int
) -> dict[str, tuple[float, float]]:
    """95% of each ratio over the optima of refits; empty where a loss has none."""
    forms = {name: one for name, one in law.singles.items() if isinstance(one, FormSingle)}
    if len(forms) < len(law.singles):
        return {}
    ends = []
    for number in range(min(count, *(len(one.refits) for one in forms.values()))):
        drawn = {name: replace(one, theta=one.refits[number]) for name, one in forms.items()}
        ends.append(replace(task, law=replace(law, singles=drawn)).solved(p[None], top))
    found = [end for end in ends if end is not None]
    if not found:
        return {}
    low, high = np.quantile(np.array(found), (0.025, 0.975), axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(law.runs.sources, low, high, strict=True)}
