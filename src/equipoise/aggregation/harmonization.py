"""Harmonization: the losses of two modalities stop pulling against each other."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import GramianRule

CARD = Card(
    name="Harmonization",
    shape="gramian",
    summary="Takes from each direction what points against the others, all at once, and adds them up.",
    formula="each i: g_i - sum over j != i of min(0, <g_i, g_j>) / |g_j|^2 g_j; sum of all",
    title="Scaling Multimodal Pre-Training via Cross-Modality Gradient Harmonization",
    authors=("Junru Wu", "Yi Liang", "Feng Han", "Hassan Akbari", "Zhangyang Wang", "Cong Yu"),
    venue="NeurIPS",
    year=2022,
    arxiv="2211.02077",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "LINEAR_IN_ROW_SCALE",
        "STRONGLY_STATIONARY",
        "NON_NEGATIVE",
    ),
    single="the direction itself",
    cost="the Gramian and m^2 additions",
    use="two contrastive losses that share an encoder, for whole batches or sample by sample",
    avoid="many objectives that conflict with the same one: what each gives up adds up to too much",
    status="experimental",
    evidence="harmonisation",
)


class Harmonization(GramianRule):
    """Projects each direction off every other that it conflicts with, and adds up what is left.

    w_j = 1 + sum_{i != j} max(0, -G_ij) / G_jj, with G = `gramian`. For two objectives, the video-audio
    and video-text losses of the paper, this is PCGrad, and the update hurts neither. For more than two
    (our reading) each conflict is measured between the directions as they came, so that, unlike in PCGrad,
    no order matters and nothing is drawn; an objective may then be hurt.

    When to use: two modalities trained by one encoder. A stack of Gramians, one for each sample, gives
    weights for each sample, which is how the paper applies it; ConflictCurriculum goes with it.
    When not: many objectives of which most oppose the same few.

    gramian: (m, m), or (g, m, m) for a stack. Returns (m,) or (g, m). A zero direction keeps weight one.

    Source: Wu et al. 2022, cross-modality gradient realignment.

    >>> Harmonization()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1.5000, 2.0000], dtype=torch.float64)
    """

    batched = True

    def forward(self, gramian: Tensor) -> Tensor:  # (..., m, m) -> (..., m)
        inner = gramian.double()
        squares = inner.diagonal(dim1=-2, dim2=-1)
        against = (-inner).clamp(min=0.0).sum(-2)
        return 1.0 + torch.where(squares > 0, against / squares, 0.0)
