"""UW-SO: the weights that uncertainty weighting would end at, softened."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="UWSO",
    shape="scalarizer",
    summary="Weighs by a softmax over the inverse losses, so that small losses count more.",
    formula="softmax(1 / (T f)) . f, the weights held fixed",
    title="Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning",
    authors=(
        "Lukas Kirchdorfer",
        "Cathrin Elich",
        "Simon Kutsche",
        "Heiner Stuckenschmidt",
        "Lukas Schott",
        "Jan M. Köhler",
    ),
    venue="GCPR",
    year=2024,
    arxiv="2408.07985",
    guarantees=("PERMUTATION", "SIMPLEX", "NON_NEGATIVE"),
    single="the direction itself",
    cost="one backward pass",
    use="for uncertainty weighting without its slow start: the weights follow the losses at once",
    avoid="without tuning the temperature: it is in the unit of 1 / loss",
    status="main",
)


class UWSO(Scalarizer):
    """The mean of the losses, weighted by a softmax over the inverse losses.

    sum_i w_i f_i with f `losses`, w = softmax(1 / (T f)), held fixed in the derivative, and T `temperature`.
    1 / f_i is, up to a factor, the weight at which uncertainty weighting comes to rest; LogSum takes it as it
    is. A high T is the plain mean, a low one trains the smallest loss alone.

    Use it where uncertainty weighting adapts too slowly. Not without tuning T, which the authors do
    for each data set: 1.0 here is no more than a start for losses around 1.

    A loss of zero takes all the weight, several share it. Raises ValueError for a temperature that is not
    positive and naming the objectives with a negative loss. Source: Kirchdorfer et al. 2024, UW-SO, as
    a public implementation for LibMTL has it (it adds 1e-8 to each loss, and T is 1.0 there too).

    >>> UWSO()(torch.tensor([1.0, 1.0]))
    tensor(1.)
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be positive")
        self.temperature = temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        fixed = losses.detach().to(torch.float64)
        if bool((fixed < 0).any()):
            pairs = zip(numbered(names, losses.numel()), losses.tolist(), strict=True)
            bad = ", ".join(f"{name!r} = {value:g}" for name, value in pairs if value < 0)
            raise ValueError(f"UWSO needs losses of 0 or more, not {bad}; add a constant")
        least = fixed.amin()
        # 1 / f - 1 / least, which is 0 at the least loss even where that is 0 itself
        behind = torch.where(fixed == least, 0.0, (least / fixed - 1) / least)
        return ((behind / self.temperature).softmax(0).to(losses) * losses).sum()
