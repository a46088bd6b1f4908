"""The shared pass: everything that scores of second order need to know of the features."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

Array = np.ndarray
RANGE = 1e-9
"""Eigenvalues of a Gram matrix below this share of the largest have lost digits."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over N samples of D features x, taken about `shift` so that a large mean costs no digits.

    With z = x - shift and targets t of K columns (0 and 1 for each class, or numbers): total = sum z (D,),
    products = sum t z' (K, D), target_total = sum t (K,), target_squares = sum t^2 (K,), squares = sum t z^2
    (K, D) where targets are classes. gram = sum z z' (D, D) where N >= D; else `rows` z (N, D) and `targets`
    (N, K), which are fewer numbers.
    """

    size: int
    shift: Array
    total: Array
    products: Array
    target_total: Array
    target_squares: Array
    squares: Array | None
    gram: Array | None
    rows: Array | None
    targets: Array | None

    @property
    def width(self) -> int:
        """D."""
        return len(self.shift)

    @property
    def counts(self) -> Array:  # -> (C,)
        """The samples of each class."""
        return self.target_total

    @cached_property
    def mean(self) -> Array:  # -> (D,)
        """The mean of all features."""
        return self.shift + self.total / self.size

    @cached_property
    def means(self) -> Array:  # -> (C, D)
        """The mean of each class."""
        return self.shift + self.products / self.counts[:, None]

    @cached_property
    def between(self) -> Array:  # -> (C, D)
        """B with B'B the scatter between classes: class means less the mean of all, times sqrt(n_c)."""
        return (self.means - self.mean) * np.sqrt(self.counts)[:, None]

    @cached_property
    def scatter(self) -> Array:  # -> (D, D)
        """sum (x - mean)(x - mean)', the total scatter."""
        gram = self.gram if self.rows is None else self.rows.T @ self.rows
        assert gram is not None
        return gram - np.outer(self.total, self.total) / self.size

    @cached_property
    def within(self) -> Array:  # -> (D, D)
        """The scatter within classes."""
        return self.scatter - self.between.T @ self.between

    @cached_property
    def variances(self) -> Array:  # -> (C, D)
        """The variance of each feature in each class (division by n_c)."""
        assert self.squares is not None
        centred = self.products / self.counts[:, None]
        return np.maximum(self.squares / self.counts[:, None] - centred**2, 0)

    @cached_property
    def deviations(self) -> Array:  # -> (D,)
        """The root of the sum of squares of each centred feature; 1 for a constant one."""
        if self.gram is None:
            squares = (self.centred**2).sum(0)
        else:
            squares = np.maximum(self.gram.diagonal() - self.total**2 / self.size, 0)
        return np.sqrt(np.where(squares > 0, squares, 1))

    @property
    def centred(self) -> Array:  # -> (N, D)
        """The rows less their mean, where N < D."""
        assert self.rows is not None
        return self.rows - self.total / self.size

    @cached_property
    def axes(self) -> tuple[Array, Array]:  # -> (k,), (D, k)
        """Principal axes of the centred features: eigenvalues of the scatter, largest first, eigenvectors.

        None at the level of rounding; where N < D they come from the rows, without a (D, D) matrix.
        """
        return self._axes(np.ones(self.width))

    @cached_property
    def standard_axes(self) -> tuple[Array, Array]:  # -> (k,), (D, k)
        """The same of features in units of their `deviations`, so that none is lost beside a large one."""
        return self._axes(self.deviations)

    def _axes(self, unit: Array) -> tuple[Array, Array]:
        if self.gram is None:
            _, singular, right = np.linalg.svd(self.centred / unit, full_matrices=False)
            kept = singular > singular[:1] * self.rounding
            return singular[kept] ** 2, right[kept].T
        values, vectors = np.linalg.eigh(self.scatter / np.outer(unit, unit))
        kept = np.flatnonzero(values > values[-1:] * self.rounding)[::-1]
        return values[kept], vectors[:, kept]

    @property
    def rounding(self) -> float:
        """What sums over the samples leave of zero, in units of the largest eigenvalue."""
        return 8 * max(self.width, self.size**0.5) * float(np.finfo(float).eps)

    @cached_property
    def spectrum(self) -> tuple[Array, Array]:  # -> (k,), (k, K)
        """Of the features as they are, F = U S V': the squares of S, largest first, and U'T.

        k is the rank of F: singular values below the rounding of the largest are left out. The Gram matrix
        tells them where the least is not too small for the largest; else a root of it does, which has the
        square root of their range.
        """
        if self.gram is None:
            assert self.rows is not None
            assert self.targets is not None
            left, singular, _ = np.linalg.svd(self.rows + self.shift, full_matrices=False)
            kept = singular > singular[:1] * self.rounding
            return singular[kept] ** 2, left[:, kept].T @ self.targets
        cross = np.outer(self.total, self.shift)
        raw = self.gram + cross + cross.T + self.size * np.outer(self.shift, self.shift)
        alive = raw.diagonal() > 0
        values, vectors = np.linalg.eigh(raw[np.ix_(alive, alive)])
        values, vectors = values[::-1], vectors[:, ::-1]
        if not values.size or values[-1] > RANGE * values[0]:
            products = self.products + np.outer(self.target_total, self.shift)
            return values, (products[:, alive] @ vectors).T / np.sqrt(values)[:, None]
        return self._spectrum_of_root()

    def _spectrum_of_root(self) -> tuple[Array, Array]:
        """From F = Q R: Q is the standardised features on their axes, of length 1, and a constant column."""
        values, vectors = self.standard_axes
        lengths = np.sqrt(values)
        products = self.products - np.outer(self.target_total, self.total / self.size)
        root = np.vstack([lengths[:, None] * vectors.T * self.deviations, np.sqrt(self.size) * self.mean])
        told = np.vstack(
            [(vectors / lengths).T @ (products / self.deviations).T, self.target_total / np.sqrt(self.size)]
        )
        left, singular, _ = np.linalg.svd(root, full_matrices=False)
        kept = singular > singular[:1] * self.rounding
        return singular[kept] ** 2, left[:, kept].T @ told


def moments(chunks: Iterable[tuple[Array, Array]], classes: bool) -> Moments:
    """One pass over chunks of features (n, D) and targets (n, K); memory does not grow with N.

    Until N reaches D the rows themselves are kept.
    """
    shift = np.empty(0)
    held: list[tuple[Array, Array]] = []
    gram: Array | None = None
    size, sums = 0, []
    for features, targets in chunks:
        if not size:  # exact where a feature is constant, so that nothing is left of it
            shift = np.where(np.ptp(features, axis=0) > 0, features.mean(0), features[0])
        centred = features - shift
        columns = csr_array(targets.T) if classes else targets.T  # mostly zeros for classes
        more = [centred.sum(0), columns @ centred, targets.sum(0), (targets**2).sum(0)]
        if classes:
            more.append(columns @ centred**2)
        sums = [a + b for a, b in zip(sums, more, strict=True)] if size else more
        size += len(features)
        if gram is not None:
            gram += centred.T @ centred
            continue
        held.append((centred, targets))
        if size >= len(shift):
            gram = sum((rows.T @ rows for rows, _ in held), np.zeros((len(shift), len(shift))))
            held = []
    total, products, target_total, target_squares, *squares = sums
    return Moments(
        size,
        shift,
        total,
        products,
        target_total,
        target_squares,
        squares[0] if classes else None,
        gram,
        np.concatenate([rows for rows, _ in held]) if held else None,
        np.concatenate([targets for _, targets in held]) if held else None,
    )


def standardised(rows: Array) -> Array:  # (n, D) -> (n, D)
    """Rows less their mean, in units of the standard deviation; constant columns are zero."""
    varies = np.ptp(rows, axis=0) > 0
    return np.where(varies, (rows - rows.mean(0)) / np.where(varies, rows.std(0), 1), 0)
