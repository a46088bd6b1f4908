"""Dynamic task prioritisation: the harder an objective is found, the more it counts."""

from collections.abc import Callable, Iterable, Sequence
from math import exp

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, numbered
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="DTP",
    shape="scalarizer",
    summary="Weighs each loss by how far its objective is from being mastered.",
    formula="sum_i -(1 - k_i)^gamma log(k_i) f_i, k_i a moving average of the objective's KPI in [0, 1]",
    title="Dynamic Task Prioritization for Multitask Learning",
    authors=("Michelle Guo", "Albert Haque", "De-An Huang", "Serena Yeung", "Li Fei-Fei"),
    venue="ECCV",
    year=2018,
    doi="10.1007/978-3-030-01270-0_17",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "STATEFUL"),
    single="the direction times -(1 - k)^gamma log(k)",
    cost="one backward pass",
    use="where accuracies of the objectives can be compared and the worst mastered should come first",
    avoid="for an objective that cannot be mastered, such as noisy labels: it holds the others back",
    status="experimental",
)

LEAST = 1e-6  # a KPI below counts as this
Kpi = Callable[[str, float], float]


def likelihood(name: str, loss: float) -> float:
    """exp(-loss): of a cross-entropy, the geometric mean of the probabilities of the true classes."""
    return exp(-max(loss, 0.0))


class DTP(Keyed, Scalarizer):
    """More weight for the objectives that are further from being mastered.

    sum_i -(1 - k_i)^gamma log(k_i) f_i with f `losses`, gamma `focus`, and from the first KPI on
    k_i <- alpha kpi_i + (1 - alpha) k_i, alpha `alpha`. A KPI is a number from 0 to 1, the larger the better:
    `kpi(name, loss)` gives it, by default exp(-loss); take `kpi=lambda name, loss: accuracies[name]` for
    accuracies that are measured elsewhere. Weights are held fixed in the derivative.

    Use it with KPIs that can be compared. Not with an objective that cannot be mastered.

    The averages move in `update`. An objective that is mastered (k = 1) has weight 0; a KPI below 1e-6 counts
    as that. Raises ValueError for an alpha outside (0, 1], for a negative focus, and naming the objective
    whose KPI is outside [0, 1]. Source: Guo et al. 2018, focal weights of the tasks; the order of the layers
    and the weights of single examples are left out, exp(-loss), alpha and focus are our choice.

    >>> round(DTP(kpi=lambda name, loss: 0.5)(torch.tensor([1.0, 1.0])).item(), 4)  # twice log(2) / 2
    0.6931
    """

    averages: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        focus: float = 1.0,
        alpha: float = 0.1,
        kpi: Kpi = likelihood,
        objectives: Iterable[str] | None = None,
    ) -> None:
        super().__init__(objectives=objectives)
        if not focus >= 0:
            raise ValueError(f"focus is {focus}; it must not be negative")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha}; it is the share of the newest KPI, above 0 and up to 1")
        self.focus = focus
        self.alpha = alpha
        self.kpi = kpi
        self.keep("averages", 0.0)
        self.keep("seen", 0.0)

    def extra_repr(self) -> str:
        return f"focus={self.focus}, alpha={self.alpha}"

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        mastered = self._averaged(numbered(names, losses.numel()), losses.detach()).clamp(min=LEAST)
        weights = -((1 - mastered) ** self.focus) * mastered.log()
        return (weights.to(losses) * losses).sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, values = self.observed(step)
        averages = self._averaged(names, values)
        self.write("averages", names, averages)
        self.write("seen", names, torch.ones_like(averages))

    def _averaged(self, names: Sequence[str], losses: Tensor) -> Tensor:  # (m,) -> (m,)
        """The averages with the KPIs of these losses."""
        found = [float(self.kpi(name, loss)) for name, loss in zip(names, losses.tolist(), strict=True)]
        for name, value in zip(names, found, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(f"the KPI of {name!r} is {value:g}; it lies between 0 and 1, 1 is the best")
        before = self.read("averages", names)
        fresh = torch.tensor(found).to(before)
        return torch.where(self.read("seen", names) > 0, before.lerp(fresh, self.alpha), fresh)
