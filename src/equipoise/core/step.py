"""Step: what one call of `backward` saw and did."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from equipoise.core.gramian import Conflict, conflict
from equipoise.core.plan import Plan


@dataclass(frozen=True, slots=True)
class Group:
    """What was found for one group of parameters: weights (m,) and Gramian (m, m), float64 on the CPU."""

    weights: Tensor
    gramian: Tensor

    def conflict(self, resolution: float = 0.0) -> Conflict:
        """The conflict among the directions on this group."""
        return conflict(self.gramian, resolution)


@dataclass(frozen=True, slots=True)
class Step:
    """The record of one combination of m objectives.

    `losses` and `weights` are (m,) float64 on the CPU in the order of `names`; `weights` is None
    for a row rule, which has none, and where groups have weights of their own. `gramian` is (m, m)
    float64 on the CPU, None where none was computed; behind transforms and a rule's own `stages` it is
    that of the rows which the rule saw. `resolution` is the relative rounding of the directions that it
    was made from, below which its digits mean nothing. `skipped` names the objectives left out as not
    finite. `preference` is the one given, (m,) on the simplex, None where none was. `plan` says by which
    route this was found, what it cost and what was approximate. `groups` has the weights and Gramian of
    each group of parameters, empty where all are one. `age` counts the steps since the weights were found,
    0 where they are fresh. `overflowed` says that a GradScaler's factor was too large: nothing was combined,
    and the scaler skips the step. `layers` has the Gramian of each layer, where an observer asked for them.
    """

    names: tuple[str, ...]
    losses: Tensor
    weights: Tensor | None
    gramian: Tensor | None = None
    resolution: float | None = None
    skipped: tuple[str, ...] = ()
    preference: Tensor | None = None
    plan: Plan = field(default=Plan("one pass", 1))
    groups: Mapping[str, Group] = field(default_factory=dict)
    age: int = 0
    overflowed: bool = False
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    def parts(self) -> dict[str, Group]:
        """The groups, or all parameters under the name ""; empty where there is no Gramian that weights are
        from: a scaler that found an overflow, a route of one pass."""
        if self.groups:
            return dict(self.groups)
        if self.gramian is None or self.weights is None or self.age:
            return {}
        return {"": Group(self.weights, self.gramian)}

    def conflict(self) -> Conflict | None:
        """The conflict among the directions; None where no Gramian was computed."""
        return None if self.gramian is None else conflict(self.gramian, self.resolution or 0.0)
