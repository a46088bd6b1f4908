"""A Gramian as the solvers want it: unit rows, symmetric, positive semidefinite."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, float64

Array = NDArray[np.float64]

NOISE = 1e-12  # what float64 rounding may leave below zero in the spectrum of a unit Gramian


class Scaled(NamedTuple):
    """Inner products of the unit rows, the norms that were divided out, the least eigenvalue.

    A zero row has norm 0 and stands in `cosines` as a unit row orthogonal to all others, so that
    nothing pulls on it. Of a stack of Gramians each has its own.
    """

    cosines: Array  # (..., m, m)
    norms: Array  # (..., m)
    floor: Array  # (...)


def as_array(tensor: Tensor) -> Array:  # (...) -> (...)
    """The values in float64 on the CPU."""
    return tensor.detach().to("cpu", float64).numpy()


def scaled(gramian: Array) -> Scaled:  # (..., m, m) -> (..., m, m), (..., m), (...)
    """Divide the row norms out of a Gramian, or of each of a stack of them.

    A Gramian whose spectrum falls below zero by more than rounding (float32 accumulation) is
    replaced by the nearest one with eigenvalues clamped at zero, after cosines are cut to [-1, 1].
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(axis1=-2, axis2=-1), 0.0))
    present = norms > 0
    whole = bool(present.all())
    divisor = norms if whole else np.where(present, norms, 1.0)
    cosines = gramian / divisor[..., None, :] / divisor[..., None]
    if not whole:
        cosines = np.where(present[..., None, :] & present[..., None], cosines, np.eye(norms.shape[-1]))
    cosines = 0.5 * (cosines + cosines.swapaxes(-2, -1))
    floor = np.asarray(np.linalg.eigvalsh(cosines)[..., 0], dtype=np.float64)
    noisy = floor < -NOISE
    if noisy.any():
        values, vectors = np.linalg.eigh(np.clip(cosines, -1.0, 1.0))
        clamped = (vectors * np.maximum(values, 0.0)[..., None, :]) @ vectors.swapaxes(-2, -1)
        cosines = np.where(noisy[..., None, None], clamped, cosines)
        floor = np.where(noisy, 0.0, floor)
    return Scaled(cosines, norms, floor)
