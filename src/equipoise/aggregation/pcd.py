"""PCD: the primary objective's direction, bent as little as gives every other its share."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered, within
from equipoise.core.nonnegative import nonnegative
from equipoise.core.primary import Primary
from equipoise.core.rule import GramianRule, LossesAfter
from equipoise.core.scaled import Array, as_array, scaled
from equipoise.core.step import Step

CARD = Card(
    name="PCD",
    shape="gramian",
    summary="The primary direction, moved as little as possible until every other objective progresses.",
    formula="argmin |d - s_1 g_1|^2 subject to <s_j g_j, d> >= tau |s_j g_j|^2; rescaled to |g_1|; "
    "s_i = 1 / root of the average of |g_i|^2",
    title="Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical "
    "Multi-Objective Optimization",
    authors=("Dara Varam", "Mohamed I. AlHajri"),
    venue="TMLR",
    year=2026,
    arxiv="2606.29521",
    guarantees=("NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="the Gramian and one quadratic program of size m - 1",
    use="a goal with secondary aims, such as sparsity, that must each go forward a little",
    avoid="secondary objectives that oppose the primary one outright: the update then follows them",
    status="main",
)

INFEASIBLE = 1e-7  # relative violation that the solution of a program with a solution does not have
ROUNDING = 1e-14


class PCD(Primary, GramianRule):
    """Follows the primary objective as closely as it can while every other gains a set share of progress.

    With s_i = 1 / sqrt(average of |g_i|^2) and h_i = s_i g_i, the update is |g_1| times the direction of
    argmin_d |d - h_1|^2 subject to <h_j, d> >= tau_j |h_j|^2 for every other j, 1 being `primary`: each
    secondary objective gains a fraction tau of what a step along its own normalised direction would give
    it. Averages are over steps, bias-corrected, and count the present step.

    When to use: one goal and constraints on it. When not: nobody comes first (UPGrad); the others must only
    not be hurt (GEM without margin is tau = 0, without the rescaling).

    primary: the name of the primary objective; by default the first of the first step, which `update`
        remembers. Where it is absent from a batch nothing moves.
    objectives: all names, where the first batches may lack the primary one.
    tau: the fraction, in [0, 1], or one for each secondary objective by name; 0.02 by default.
    beta: the decay of the averages of |g_i|^2, in [0, 1).
    gramian: (m, m). Returns (m,). Where the constraints exclude each other d = g_1; where d is zero (a zero
    primary direction, or tau = 0 and exact opposites) so is the update.

    Averages are kept by name, and for each group of parameters where `backward` is given groups; they advance
    in `update`. The paper's 1e-8 under the root is left out, so that
    the scale of the losses does not matter; a direction that was always zero has s = 0. Raises ValueError
    for tau or beta out of range, an unknown primary, and a secondary objective that `tau` lacks.

    Source: Varam and AlHajri 2026, definitions 4.1 and 4.5; solved exactly, where they enumerate.

    >>> PCD()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]])).round(decimals=3)
    tensor([1.4140, 1.4540], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        primary: str | None = None,
        tau: float | Mapping[str, float] = 0.02,
        beta: float = 0.999,
        objectives: Iterable[str] | None = None,
    ) -> None:
        super().__init__(primary=primary, objectives=objectives)
        for one in tau.values() if isinstance(tau, Mapping) else (tau,):
            if not 0 <= one <= 1:
                raise ValueError(f"tau is {tau}; the fraction lies between 0 and 1")
        if not 0 <= beta < 1:
            raise ValueError(f"beta is {beta}; it lies between 0 and 1, and below 1")
        self.tau = tau
        self.beta = beta
        self.keep("squares", 0.0)
        self.keep("count", 0.0)

    def extra_repr(self) -> str:
        return f"primary={self.primary!r}, tau={self.tau}, beta={self.beta}"

    def forward(
        self, gramian: Tensor, *, names: Sequence[str] | None = None, groups: Sequence[str] = ()
    ) -> Tensor:  # (m, m) -> (m,)
        names = numbered(names, len(gramian))
        place = self.place(names)
        if place is None:
            return torch.zeros(len(names), dtype=torch.float64)
        taus = as_array(by_name(self.tau, [name for name in names if name != names[place]]))
        squares, count = self._averaged(within("".join(groups), names), gramian.diagonal())
        roots = as_array(squares / (1 - self.beta**count)).clip(0.0) ** 0.5
        scales = np.divide(1.0, roots, out=np.zeros(len(roots)), where=roots > 0)
        inner = as_array(gramian) * scales * scales[:, None]
        length = float(gramian[place, place].clamp(min=0)) ** 0.5
        return torch.from_numpy(length * scales * _direction(inner, place, taus))

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        super().update(step, losses, epoch_ended)
        names, _ = self.observed(step)
        places = [step.names.index(name) for name in names]
        for group, part in step.parts().items() if names else ():
            kept = within(group, names)
            squares, count = self._averaged(kept, part.gramian.diagonal()[places])
            self.write("squares", kept, squares)
            self.write("count", kept, count)

    def _averaged(self, names: Sequence[str], squares: Tensor) -> tuple[Tensor, Tensor]:  # (m,) -> (m,), (m,)
        """The running averages of the squares with the present ones, and the number of steps in each."""
        before = self.read("squares", names)
        return before.lerp(squares.to(before), 1 - self.beta), self.read("count", names) + 1


def _direction(inner: Array, place: int, taus: Array) -> Array:  # (m, m), (m - 1,) -> (m,)
    """Weights on the normalised rows of the solution at unit length; zero where the solution is."""
    m = len(inner)
    others = np.delete(np.arange(m), place)
    unit = scaled(inner[None])
    cosines, norms = unit.cosines[0], unit.norms[0]
    lengths = np.zeros(m)  # what each unit row contributes
    lengths[place] = norms[place]
    short = taus * norms[others] - norms[place] * cosines[place, others]
    size = np.abs(short).max(initial=0.0)
    if (short > 0).any():
        system = cosines[None, others][:, :, others]
        raised = nonnegative(system, -short[None, None] / size, unit.floor)[0, 0]
        if (system[0] @ raised - short / size).min() >= -INFEASIBLE:
            lengths[others] = size * raised
    square = lengths @ cosines @ lengths
    if norms[place] == 0 or square <= ROUNDING * np.abs(lengths).sum() ** 2:
        return np.zeros(m)
    return np.divide(lengths / np.sqrt(square), norms, out=np.zeros(m), where=norms > 0)
