"""Rep-MTL: a regulariser on what each loss asks of the features that all share."""

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.objectives import Losses, named_losses

CARD = Card(
    name="RepMTL",
    shape="system",
    summary="Keeps the losses' demands on shared features apart in place and alike within a sample.",
    formula="lambda_tsr mean H(|s_t| / sum_k |s_k|) + lambda_csa InfoNCE(affinities of S_t = dL_t/dZ)",
    title="Rep-MTL: Unleashing the Power of Representation-level Task Saliency for Multi-Task Learning",
    authors=("Zedong Wang", "Siyuan Li", "Dan Xu"),
    venue="ICCV",
    year=2025,
    arxiv="2507.21049",
    guarantees=("PERMUTATION",),
    single="the entropy is 0; the samples are still set apart",
    cost="m backward passes to the features, and a second derivative through the heads",
    use="beside any rule, for tasks on one shared feature map",
    avoid="where a second derivative does not exist or is too dear",
    status="experimental",
    evidence="rep_mtl",
)


class RepMTL(nn.Module):
    """A scalar to add to the losses, made of the saliency of each loss on the features that all share.

    S_t = dL_t / dZ with Z `features` is the saliency of the loss t. Two terms,

        tsr   mean over samples and places of the entropy of |s_t| / sum_k |s_k|, s_t the mean of S_t over
              channels: low where a place matters to few losses;
        csa   mean over samples b of -log(exp(sim(A_b, M_bt) / tau) / sum_{k != b} exp(sim(A_b, A_k) / tau)):
              M_bt = S_bt S_bt' are the channel affinities, A_b = a_b a_b' those of the anchor a_b, sim the
              cosine of two matrices: low where the losses ask alike of a sample, and not of another,

    are weighted by `lambda_tsr` and `lambda_csa`. Gradients pass through the saliencies to heads and trunk.

    Where the paper leaves it open, this is our reading: a_b is the mean of S over places and over losses,
    csa the mean over t, and tau = `temperature` 0.5, which the paper does not state. The authors take the
    logarithm of the losses first, which makes saliencies comparable: pass `losses.log()`. As in equation 9
    the positive pair is not in the sum, so csa may be negative; a single sample has csa 0.

    Use it beside any rule, as one more loss. Not where heads have no second derivative.

    losses: scalars by name or in a sequence, each a function of `features`. features: (b, c, *places), the
    tensor that was passed to the heads. lambda_tsr, lambda_csa: 0.9, the centre of the paper's search from
    0.7 to 1.5. Returns a scalar. The size of all saliencies together does not matter, that of one beside
    another does in tsr. A place where all are zero has entropy 0, a zero matrix similarity 0.

    Raises ValueError for features without channels, without a graph, or that a loss does not reach.
    Source: Wang, Li and Xu 2025, equations 3 to 10.

    >>> z = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> losses = {"a": z[:, 0].square().sum(), "b": z[:, 1].square().sum()}
    >>> RepMTL(lambda_tsr=1.0, lambda_csa=0.0)(losses, z).item()
    0.6597...
    """

    def __init__(self, *, lambda_tsr: float = 0.9, lambda_csa: float = 0.9, temperature: float = 0.5) -> None:
        super().__init__()
        if not lambda_tsr >= 0 or not lambda_csa >= 0:
            raise ValueError(f"lambda_tsr is {lambda_tsr} and lambda_csa {lambda_csa}; neither is negative")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be positive")
        self.lambda_tsr = lambda_tsr
        self.lambda_csa = lambda_csa
        self.temperature = temperature

    def extra_repr(self) -> str:
        return f"lambda_tsr={self.lambda_tsr}, lambda_csa={self.lambda_csa}, temperature={self.temperature}"

    def forward(self, losses: Losses, features: Tensor) -> Tensor:  # (b, c, *places) -> ()
        saliencies = _saliencies(losses, features)
        largest = saliencies.detach().abs().amax()
        saliencies = saliencies / torch.where(largest > 0, largest, 1.0)
        aligned = alignment(saliencies, self.temperature)
        return self.lambda_tsr * regulation(saliencies) + self.lambda_csa * aligned


def regulation(saliencies: Tensor) -> Tensor:  # (m, b, c, p) -> ()
    """tsr: the mean entropy over losses of the saliency of a place."""
    sizes = saliencies.mean(2).abs()
    total = sizes.sum(0)
    shares = sizes / torch.where(total > 0, total, 1.0)
    return -(shares * torch.where(shares > 0, shares, 1.0).log()).sum(0).mean()


def alignment(saliencies: Tensor, temperature: float) -> Tensor:  # (m, b, c, p) -> ()
    """csa: the saliencies of a sample against those of other samples, 0 where there is no other.

    Cosines of affinities come without a (c, c) matrix: (aa' | SS') = |S'a|^2 and (aa' | bb') = (a'b)^2.
    """
    count = saliencies.shape[1]
    if count < 2:
        return saliencies.new_zeros(())
    anchors = saliencies.mean((0, 3))
    anchors = anchors / _root(anchors.square().sum(1, keepdim=True))  # (b, c)
    turned = saliencies.transpose(2, 3)
    inner = turned @ saliencies if turned.shape[2] < turned.shape[3] else saliencies @ turned
    lengths = _root(inner.square().sum((2, 3)))  # (m, b)
    along = torch.einsum("bc,mbcp->mbp", anchors, saliencies).square().sum(2)
    positive = (along / lengths / temperature).mean(0)
    others = (anchors @ anchors.T).square() / temperature
    others = others.masked_fill(torch.eye(count, dtype=torch.bool, device=others.device), float("-inf"))
    return (others.logsumexp(1) - positive).mean()


def _root(squares: Tensor) -> Tensor:
    """The square root, 1 with derivative 0 where there is nothing."""
    return torch.where(squares > 0, squares, 1.0).sqrt()


def _saliencies(losses: Losses, features: Tensor) -> Tensor:  # (b, c, *places) -> (m, b, c, p)
    present = named_losses(losses)
    if features.dim() < 2 or not features.requires_grad:
        shape = tuple(features.shape)
        raise ValueError(
            f"features of shape {shape}, requires_grad={features.requires_grad}: give the tensor "
            "(b, c, *places) that the heads were applied to, with its graph"
        )
    rows = []
    for name, loss in present.items():
        (row,) = torch.autograd.grad(loss, features, create_graph=True, allow_unused=True)
        if row is None:
            raise ValueError(
                f"the loss of {name!r} does not depend on these features; give the very tensor that its "
                "head was applied to"
            )
        rows.append(row.reshape(*row.shape[:2], -1))
    return torch.stack(rows)
