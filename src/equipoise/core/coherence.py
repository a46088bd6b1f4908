"""Coherence: how far a step along one direction serves the others."""

from torch import Tensor


def coherence(gramian: Tensor) -> float:  # (m, m) -> number in [0, 1]
    """The squared length of the mean direction over the mean squared length, in [0, 1].

    alpha = |E_i g_i|^2 / E_i |g_i|^2 = E_ij <g_i, g_j> / E_i <g_i, g_i>: 1 for equal directions, 1/m for
    orthogonal ones, 0 where they cancel. Times m it is the m-coherence, about the number of directions
    that a step along one of them serves: m for equal ones, 1 for orthogonal ones. Use it on the gradients
    of single samples, where it is high while samples teach the same and falls as each is learnt on its
    own; it says nothing of who conflicts with whom. Long directions count more.

    gramian: (m, m), of all parameters or of one block. Directions that are all zero have coherence 0.

    Source: Chatterjee and Zielinski 2022, "On the Generalization Mystery in Deep Learning", arXiv
    2203.10036, and Zielinski and Chatterjee 2020, arXiv 2008.01217 (m-coherence).

    >>> import torch
    >>> coherence(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    0.75
    """
    inner = gramian.double()
    total = float(inner.diagonal().clamp(min=0).sum()) * len(inner)
    return min(max(float(inner.sum()) / total, 0.0), 1.0) if total > 0 else 0.0
