"""PBI: the distance along a preferred ray, and a price on the distance from it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="PBI",
    shape="scalarizer",
    summary="Goes down a ray of the preferred proportions, with a penalty for leaving it.",
    formula="d1 + theta d2, d1 = (f - z)'u, d2 = |f - z - d1 u|, u = p / |p|",
    title="MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition",
    authors=("Qingfu Zhang", "Hui Li"),
    venue="IEEE Transactions on Evolutionary Computation",
    year=2007,
    doi="10.1109/TEVC.2007.892759",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "CONVEX", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="to end where the losses stand in given proportions, on a front of any shape",
    avoid="where no loss may be driven up: off the ray, a loss that is too small for it is",
    status="main",
)

ROUNDING = 16  # units in the last place of |f - z|, below which d2 is rounding


class PBI(Scalarizer):
    """The distance along a preferred ray from the reference point, plus a penalty on the distance from it.

    d1 + theta d2 with u = p / |p|, d1 = (f - z)'u and d2 = |f - z - d1 u|, for f `losses`, p `preference`
    (uniform by default), z `reference` (one number, or one for each objective by name) and theta `theta`.
    The preference is the proportion in which the losses should stand, so a larger entry allows a larger
    loss: the opposite of Linear and Tchebycheff.

    Use it for a point of the front in given proportions, also where the front is concave. Not where no
    loss may be driven up: the weight of a loss that is small for its place on the ray is negative.

    On the ray itself d2 has no derivative and adds nothing. Raises ValueError for a negative theta, and
    naming an objective that `reference` lacks. Source: Zhang and Li 2007, section II.C, with their
    theta = 5.

    >>> import torch
    >>> PBI()(torch.tensor([3.0, 4.0]), preference=torch.tensor([0.5, 0.5]))
    tensor(8.4853)
    """

    preference_means = "proportions"

    def __init__(self, *, theta: float = 5.0, reference: float | Mapping[str, float] = 0.0) -> None:
        super().__init__()
        if not theta >= 0:
            raise ValueError(f"theta is {theta}; a penalty is 0 or more")
        self.theta = theta
        self.reference = reference

    def extra_repr(self) -> str:
        return f"theta={self.theta}"

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        exact = losses.to(torch.float64)
        gaps = exact - by_name(self.reference, numbered(names, losses.numel())).to(exact)
        ray = preference_like(preference, exact)
        ray = ray / torch.linalg.vector_norm(ray)
        along = gaps @ ray
        beside = gaps - along * ray
        apart, rounding = (
            beside.detach(),
            ROUNDING * torch.finfo(losses.dtype).eps * gaps.detach().abs().amax(),
        )
        if bool(apart.abs().amax() <= rounding):
            return along.to(losses)
        return (along + self.theta * torch.linalg.vector_norm(beside)).to(losses)
