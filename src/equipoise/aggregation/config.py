"""ConFIG: the update that makes the same angle with every direction."""

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import GramianRule
from equipoise.core.scaled import as_array

CARD = Card(
    name="ConFIG",
    shape="gramian",
    summary="Takes the update that makes the same angle with every direction.",
    formula="v = D^-1 C^+ 1; w = v (sum_i (G v)_i) / (v^T G v), with D the norms and C the cosines",
    title="ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    authors=("Qiang Liu", "Mengyu Chu", "Nils Thuerey"),
    venue="ICLR",
    year=2025,
    arxiv="2408.11104",
    guarantees=(
        "PERMUTATION",
        "NON_CONFLICTING_FULL_RANK",
        "HOMOGENEOUS(1)",
        "LINEAR_IN_ROW_SCALE",
        "PREFERENCE",
    ),
    single="the direction itself",
    cost="one symmetric eigendecomposition, O(m^3)",
    use="for losses of very different scale, such as equation and boundary terms of one solution",
    avoid="where two directions are nearly opposite: only a cut-off then decides the update",
    status="main",
)

RESOLUTION = torch.finfo(torch.float32).eps


class ConFIG(GramianRule):
    """Moves at the same angle to every objective's direction, however long each of them is.

    With unit rows U = D^-1 J, the direction is x = U^+ t for target cosines t = (1, ..., 1), and its length
    is the sum of the directions' projections on it (paper: g_ConFIG = (sum_i g_i . x/|x|) x/|x|). By the
    Gramian G and the cosines C: v = D^-1 C^+ t, w = v (sum_i (G v)_i) / (v^T G v). A preference p sets
    t = m p: the cosines are in proportion to it (the paper's direction weights).

    Use it where the lengths of the directions mean little. Avoid it with nearly opposite directions, or
    with more objectives than can improve together: it then fits the angles by least squares.

    gramian: (m, m). preference: (m,) on the simplex or None. Returns (m,), possibly negative.
    A zero direction gets weight zero. Where no direction has a non-zero least-squares angle (exact
    opposites) the paper's direction is zero, and so are the weights.

    Source: Liu, Chu and Thuerey 2025, equations 2 and 3, in Gramian form.

    >>> ConFIG()(torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)).tolist()
    [0.75, 1.5]
    """

    def forward(self, gramian: Tensor, *, preference: Tensor | None = None) -> Tensor:  # (m, m), (m,) -> (m,)
        targets = None if preference is None else preference * len(gramian)
        direction = equal_cosines(gramian, targets)
        if not direction.any():
            return direction
        products = gramian @ direction
        return direction * (products.sum() / (direction @ products))


def equal_cosines(gramian: Tensor, targets: Tensor | None = None) -> Tensor:  # (m, m), (m,) -> (m,)
    """Weights of the vector whose products with the unit directions are `targets` (all one by default).

    Least squares of smallest norm where there is none. Eigenvalues of the cosines below m float32
    roundings of the largest count as zero, since the Gramian of float32 gradients knows no better.
    Exactly zero where the targets are orthogonal to all that the directions span.
    """
    inner = as_array(gramian)
    norms = np.sqrt(inner.diagonal().clip(0.0))
    inverses = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    cosines = (inverses[:, None] * inner * inverses).clip(-1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    values, vectors = np.linalg.eigh(cosines)
    kept = np.abs(values) > len(values) * RESOLUTION * np.abs(values).max()
    parts = vectors.sum(0) if targets is None else as_array(targets) @ vectors
    weights = vectors @ np.divide(parts, values, out=np.zeros_like(values), where=kept)
    weights[norms == 0] = 0.0
    if np.abs(weights).sum() <= len(weights) * RESOLUTION:
        weights[:] = 0.0
    return torch.from_numpy(inverses * weights)
