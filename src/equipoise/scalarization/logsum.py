"""Scale-invariant scalarisation: the sum of the logarithms of the losses."""

from collections.abc import Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="LogSum",
    shape="scalarizer",
    summary="Minimises the sum of the logarithms of the losses: relative progress counts.",
    formula="m sum_i p_i log f_i",
    title="Multi-Task Learning as a Bargaining Game",
    authors=(
        "Aviv Navon",
        "Aviv Shamsian",
        "Idan Achituve",
        "Haggai Maron",
        "Kenji Kawaguchi",
        "Gal Chechik",
        "Ethan Fetaya",
    ),
    venue="ICML",
    year=2022,
    arxiv="2202.01017",
    guarantees=("PERMUTATION", "HOMOGENEOUS(0)", "NON_NEGATIVE", "LOSS_SCALE_INVARIANT", "PREFERENCE"),
    single="the direction divided by its loss",
    cost="one backward pass",
    use="for positive losses of different units, with a learning rate that need not follow their size",
    avoid="for losses that reach zero: the smallest loss takes all the weight, and zero is refused",
    status="main",
)


class LogSum(Scalarizer):
    """The sum of the logarithms of the losses.

    m sum_i p_i log f_i with f `losses` and p `preference` (uniform, 1/m, by default, which gives the plain
    sum of logarithms). The weight of objective i is m p_i / f_i, so a factor on a loss changes nothing at
    all. With the uniform preference it is m log of GLS: the same direction, at a length that does not
    shrink with the losses. Up to a factor these are the weights at which uncertainty weighting rests.

    Use it for positive losses of different units. Not for losses that come near zero.

    Raises ValueError naming the objectives whose loss is zero or negative. Source: Navon et al. 2022, the
    baseline SI (scale-invariant); Kirchdorfer et al. 2024 derive the same weights as UW-O.

    >>> import torch
    >>> LogSum()(torch.tensor([1.0, 4.0]))
    tensor(1.3863)
    """

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        if not bool((losses > 0).all()):
            pairs = zip(numbered(names, losses.numel()), losses.tolist(), strict=True)
            bad = ", ".join(f"{name!r} = {value:g}" for name, value in pairs if not value > 0)
            raise ValueError(f"LogSum needs positive losses, not {bad}; add a constant, or use another rule")
        return losses.numel() * (preference_like(preference, losses) * losses.log()).sum()
