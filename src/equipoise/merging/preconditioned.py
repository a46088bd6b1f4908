"""Averages of models, each under a metric of its own: sum_i T_i H_i (sum_i H_i)^-1."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from equipoise.merging.mergerule import PerModel, values_of

Kind = Literal["scalar", "diagonal", "matrix"]


def preconditioned(
    rows: Tensor,
    metrics: Iterable[Tensor],
    kind: Kind,
    *,
    ridge: float = 0.0,
    centre: Tensor | None = None,
) -> Tensor:  # (m, *shape), m metrics, (shape) -> shape
    """The values that differ least from the models, each difference measured by its model's metric.

    It solves min_M sum_i tr (M - T_i) H_i (M - T_i)^T + r |M - C|^2, so that
    M = C + (sum_i (T_i - C) H_i) (sum_i H_i + r)^-1.

    `rows`: T. `metrics`: H, read once and in order, all of one `kind`: a number; a diagonal, of the shape
    of T; or a symmetric positive semidefinite matrix (in, in) for T (out, in). `ridge`: r as a share of the
    mean diagonal element of sum_i H_i. `centre`: C, by default the average of the models; it stands where
    no metric says anything.

    Matrices are summed and solved in float64. With a ridge it is done by Cholesky, unless what is left of a
    diagonal element drowns in the rounding of the metrics; else by eigenvalues, those below that rounding
    left out. The result has the dtype of the rows.

    >>> two = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> preconditioned(two, [torch.diag(d) for d in torch.tensor([[3.0, 1.0], [1.0, 1.0]])], "matrix")
    tensor([[0.7500, 0.5000]])
    """
    centre = rows.mean(0) if centre is None else centre
    if kind == "matrix":
        return _by_matrices(rows, metrics, ridge, centre)
    total = rows.new_zeros(() if kind == "scalar" else rows.shape[1:])
    moved = torch.zeros_like(rows[0])
    for row, metric in zip(rows, metrics, strict=True):
        metric = metric.to(rows.dtype)
        total = total + metric
        moved.add_(metric * (row - centre))
    total = total + ridge * total.mean()
    return centre + torch.where(total > 0, moved / total, 0.0)


def positive_weights(rule: str, option: PerModel, names: Sequence[str]) -> Tensor:  # -> (m,) float64
    """The weights of the models. Raises ValueError where one is negative, or all are 0."""
    weights = values_of(option, names)
    if (weights < 0).any() or not weights.any():
        told = ", ".join(f"{name}: {weight:g}" for name, weight in zip(names, weights.tolist(), strict=True))
        raise ValueError(f"{rule}: weights are {told}; none may be negative, nor all be 0")
    return weights


def by_inputs(
    rows: Tensor, inputs: Tensor, factors: Tensor, *, ridge: float = 0.0, centre: Tensor
) -> Tensor:  # (m, out, in), (m, n, in), (m,), (out, in) -> (out, in)
    """`preconditioned` with the matrices H_i = c_i X_i^T X_i, told by the n rows of inputs X_i and factors c.

    Where all rows together are fewer than `in`, it is solved among them: with S_i = c_i^1/2 X_i and S their
    stack, M = C + [(T_i - C) S_i^T]_i (S S^T + r)^-1 S.

    >>> rows, inputs = torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]]]), torch.eye(2)[:, None]
    >>> by_inputs(rows, inputs, torch.ones(2), centre=torch.zeros(1, 2))
    tensor([[1., 4.]])
    """
    width = inputs.shape[2]
    if inputs.shape[:2].numel() >= width:
        metrics = (c * (x.T @ x) for c, x in zip(factors.tolist(), map(Tensor.double, inputs), strict=True))
        return preconditioned(rows, metrics, "matrix", ridge=ridge, centre=centre)
    each = inputs * factors.sqrt().view(-1, 1, 1)
    found = [(row - centre).double() @ own.T for row, own in zip(rows, each, strict=True)]
    stack = each.flatten(0, 1)
    total = stack @ stack.T
    moved = _solved(torch.cat(found, 1), total, ridge * total.trace() / width, torch.float64)
    return (moved @ stack).to(rows.dtype).add_(centre)


def _by_matrices(rows: Tensor, metrics: Iterable[Tensor], ridge: float, centre: Tensor) -> Tensor:
    width = rows.shape[-1]
    total = rows.new_zeros(width, width, dtype=torch.float64)
    moved = torch.zeros_like(rows[0], dtype=torch.float64)
    coarsest = torch.float64
    for row, metric in zip(rows, metrics, strict=True):
        coarsest = max(coarsest, metric.dtype, key=_eps)
        metric = metric.double()
        total += metric
        moved.addmm_((row - centre).double(), metric)
        del metric
    found = _solved(moved, total, ridge * total.diagonal().mean(), coarsest)
    return found.to(rows.dtype).add_(centre)


def _solved(moved: Tensor, total: Tensor, added: Tensor, stored: torch.dtype) -> Tensor:
    """moved (total + added)^-1, for a total of matrices that were rounded to the dtype `stored`."""
    rounding = 4 * _eps(stored)
    if added > 0:
        lifted = total.clone()
        diagonal = lifted.diagonal().add_(added).clone()
        factor, failed = torch.linalg.cholesky_ex(lifted)
        del lifted
        if not failed and bool((factor.diagonal().square() > rounding * diagonal).all()):
            return torch.cholesky_solve(moved.T, factor).T
        del factor
    values, vectors = torch.linalg.eigh(total)
    # Rounded elements move eigenvalues by about the longest row of what was rounded off.
    noise = rounding * torch.linalg.vector_norm(total, dim=1).max()
    noise += _eps(torch.float64) * len(total) * values[-1].clamp(min=0)
    inverse = torch.where(values > noise, 1 / (values + added), 0.0)
    return moved @ (vectors * inverse) @ vectors.T


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
