"""Answers from the explicit Jacobian in float64, by SciPy alone: what neither library can be wrong about.

Every function takes the rows (m, d) of a Jacobian and returns a direction (d,).
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar, nnls
from torch import Tensor


def jacobian(losses: list[Tensor], parameters: list[Tensor]) -> Tensor:  # -> (m, d) float64
    """One backward pass of plain autograd for each loss."""
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([part.flatten().double() for part in row]) for row in rows])


def upgrad(rows: Tensor) -> Tensor:
    """The mean of the rows' projections on the cone of what hurts none: -J'z is the part outside, z >= 0."""
    return torch.stack([_projected(rows, row) for row in rows]).mean(0)


def dualproj(rows: Tensor) -> Tensor:
    """The projection of the mean."""
    return _projected(rows, rows.mean(0))


def mgda(rows: Tensor) -> Tensor:
    """The least-norm element of the convex hull, by non-negative least squares with a row for the sum."""
    size = float(rows.norm())
    system = np.vstack([rows.T.numpy() / size, np.ones(len(rows))])
    weights, _ = nnls(system, np.append(np.zeros(rows.shape[1]), 1.0), maxiter=100 * len(rows))
    return torch.from_numpy(weights / weights.sum()) @ rows


def cagrad(rows: Tensor, c: float) -> Tensor:
    """Two rows: the dual is a convex function of one weight."""
    mean = rows.mean(0)
    radius = c * mean.norm()

    def mixed(share: float) -> Tensor:
        return share * rows[0] + (1 - share) * rows[1]

    def height(share: float) -> float:
        return float((mixed(share) @ mean + radius * mixed(share).norm()) / mean.norm().square())

    found = minimize_scalar(height, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-12})
    worst = mixed(min((0.0, 1.0, float(found.x)), key=height))
    return mean + radius * worst / worst.norm()


def nash(rows: Tensor) -> Tensor:
    """Two rows, one scale: G w = 1 / w has this solution, of which the update is cut to norm 1.

    With unit rows at cosine c it is w = 1 / sqrt(1 + c) for both; factors on rows divide the weights.
    """
    lengths = rows.norm(dim=1)
    cosine = (rows[0] @ rows[1]) / lengths.prod()
    update = (rows / lengths[:, None]).sum(0) / (1 + cosine).sqrt()
    return update / update.norm().clamp(min=1.0)


def _projected(rows: Tensor, row: Tensor) -> Tensor:
    size = float(rows.norm())
    weights, _ = nnls(rows.T.numpy() / size, -row.numpy() / size, maxiter=100 * len(rows))
    return row + torch.from_numpy(weights) @ rows
