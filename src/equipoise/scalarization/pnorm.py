"""The p-norm of the weighted losses: between their mean and the worst of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="PNorm",
    shape="scalarizer",
    summary="Minimises a norm of the losses weighted by the preference: the higher its order, the more the "
    "worst loss counts.",
    formula="(sum_i (p_i (f_i - z_i))^k)^(1/k)",
    title="A Class of Solutions for Group Decision Problems",
    authors=("Po-Lung Yu",),
    venue="Management Science",
    year=1973,
    doi="10.1287/mnsc.19.8.936",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="for something between the mean and the worst loss, without a temperature in the unit of the losses",
    avoid="with losses that may fall below their reference point: they are refused",
    status="main",
)


class PNorm(Scalarizer):
    """The distance from the reference point, in a norm of order k over the weighted losses.

    (sum_i (p_i (f_i - z_i))^k)^(1/k) with f `losses`, p `preference` (uniform, 1/m, by default), z
    `reference` (one number, or one for each objective by name) and k `order`, 1 or more. The weight of
    objective i is p_i times the (k - 1)-th power of its share of the norm. Order 1 is Linear, infinity
    is Tchebycheff; the middle of a concave front, which Linear misses, is reached from some order on.

    Use it between the two. Not with losses that may fall below z.

    At the reference point itself all weights are zero. Raises ValueError for an order below 1, and naming
    an objective whose loss is below its reference or that `reference` lacks. Source: Yu 1973, compromise
    solutions; with weights inside of the power, so that infinity is the weighted Tchebycheff distance.

    >>> PNorm()(torch.tensor([3.0, 4.0]))
    tensor(2.5000)
    """

    preference_means = "reciprocals"

    def __init__(self, *, order: float = 2.0, reference: float | Mapping[str, float] = 0.0) -> None:
        super().__init__()
        if not order >= 1:
            raise ValueError(f"order is {order}; a norm has order 1 or more, up to infinity")
        self.order = order
        self.reference = reference

    def extra_repr(self) -> str:
        return f"order={self.order}"

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        names = numbered(names, losses.numel())
        gaps = losses - by_name(self.reference, names).to(losses)
        if bool((gaps < 0).any()):
            pairs = zip(names, losses.tolist(), gaps.tolist(), strict=True)
            bad = ", ".join(f"{name!r} = {value:g}" for name, value, gap in pairs if gap < 0)
            raise ValueError(f"PNorm needs losses above their reference, not {bad}; lower the reference")
        weighted = preference_like(preference, losses) * gaps
        size = weighted.detach().amax()
        if not bool(size > 0):
            return 0 * weighted.sum()
        if self.order == float("inf"):
            return weighted.amax()
        return size * torch.linalg.vector_norm(weighted / size, ord=self.order)
