"""NearSwap: the base, moved towards one other model by at most t in each element."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Part
from equipoise.merging.mergerule import MergeRule

CARD = Card(
    name="NearSwap",
    shape="merge",
    summary="The base, moved towards one other model by at most t in each element",
    formula="theta_0 + clip(theta_1 - theta_0, -t, t)",
    title="QuartetAnemoi-70B-t0.0001",
    authors=("alchemonaut",),
    venue="Hugging Face model card",
    year=2024,
    cost="one pass; memory of a part",
    use="to let a second model in only where it is near: small differences are swapped",
    avoid="more than two models; models whose task lies in large changes",
    single="the base moved towards the model by at most t in each element",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class NearSwap(MergeRule):
    """The base, moved towards one other model by at most t in each element.

    With the share min(1, t / |theta_1 - theta_0|) of the other model in each element, that is
    theta_0 + clip(theta_1 - theta_0, -t, t). `t`: by default that of the model it was made for; of the order
    of a typical difference.

    Raises ValueError for a negative t, and where there is not exactly one model beside the base.

    Source: the card of the model QuartetAnemoi-70B-t0.0001; as in mergekit 0.1.5.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, model = {"w": torch.zeros(3)}, {"w": torch.tensor([0.1, -0.5, 2.0])}
    >>> merge([model], base, method=NearSwap(t=0.5))["w"]
    tensor([ 0.1000, -0.5000,  0.5000])
    """

    t: float = 0.0001

    needs_base = True
    per_model = ()

    def __post_init__(self) -> None:
        if not self.t >= 0:
            raise ValueError(f"NearSwap: t is {self.t}; it is a distance, 0 or more")

    def bound(self, names: Sequence[str]) -> Self:
        if len(names) != 1:
            raise ValueError(
                f"NearSwap moves the base towards one model, but {len(names)} are given: {', '.join(names)}"
            )
        return self

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        return part.base.add_(part.deltas[0].clamp_(-self.t, self.t))
