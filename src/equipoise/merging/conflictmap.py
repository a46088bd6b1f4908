"""Conflict map: lengths, angles, opposed signs and ranks of task vectors, tensor by tensor, in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.merging.block import CHUNK, Block, Blocks

Vector = tuple[float | None, ...]
Matrix = tuple[Vector, ...]

WHOLE = 1 << 24
"""Elements up to which a tensor that is not read by rows is read at once for its spectrum."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What singular values say of each model's delta, a matrix whose shorter side is `side`.

    effective_ranks: exp of the entropy of the singular values scaled to sum 1, from 1 to `side` (Roy,
    Vetterli 2007). stable_ranks: squared Frobenius over squared spectral norm. overlaps: |U_i' U_j|_F^2 / k
    for the `leading` k singular vectors of the shorter side, a tenth of it: 1 for one subspace, about
    k / side by chance.
    """

    side: int
    effective_ranks: Vector
    stable_ranks: Vector
    leading: int
    overlaps: Matrix


@dataclass(frozen=True, slots=True)
class Region:
    """What was measured in one tensor, one layer, or all; in the order of the models.

    None stands where a model lacks the tensor or its delta is zero and the quantity is not defined.
    norms: |delta_i|. distances: |delta_i| / |theta_0| over what model i has. zeros: the share of entries that
    are the base's. cosines: between deltas. conflicts: of entries where both deltas are non-zero, the share
    with opposite signs. weighted: the same with each entry counted as |delta_i delta_j|: (1 - cos / c) / 2
    with c the cosine of the absolute values. spectrum: None for what is no matrix or beyond the limit.
    """

    name: str
    layer: str
    size: int
    norms: Vector
    distances: Vector
    zeros: Vector
    cosines: Matrix
    conflicts: Matrix
    weighted: Matrix
    spectrum: Spectrum | None = None


class Sums(NamedTuple):
    """What adds up over parts, tensors and layers; all (m, m) or (m,), float64."""

    gramian: Tensor
    magnitudes: Tensor  # of |delta_i| |delta_j|
    opposed: Tensor  # entries of opposite sign
    both: Tensor  # entries where both are non-zero
    base: Tensor  # squared length of the base, where model i has the tensor
    size: Tensor  # entries that model i has

    def __add__(self, other: "Sums") -> "Sums":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class ConflictMap:
    """The regions of a set of models: each tensor, each layer, and everything."""

    tensors: tuple[Region, ...]
    layers: tuple[Region, ...]
    total: Region
    differences: Matrix
    """|theta_i - theta_j| / |theta_0|, over everything."""


def conflict_map(blocks: Blocks, names: Sequence[str], *, limit: int) -> ConflictMap:
    """Measure all blocks; the spectra of matrices whose shorter side is at most `limit`.

    Memory is that of a part, m squares of the shorter side in float64, and m deltas of a matrix with fewer
    rows than columns or more than two axes (at most `WHOLE` elements each).
    """
    found: dict[str, tuple[Block, Sums, Spectrum | None]] = {}
    for block, (sums, spectrum) in zip(
        blocks, blocks.map(lambda block: _measured(block, names, limit)), strict=True
    ):
        if block.name in found:  # a tensor in several pieces has no spectrum
            sums, spectrum = found[block.name][1] + sums, None
        found[block.name] = block, sums, spectrum
    layers: dict[str, Sums] = {}
    for name, (block, sums, _) in found.items():
        layer = _layer(name, block.layer is not None)
        layers[layer] = layers[layer] + sums if layer in layers else sums
    everything = _nothing(len(names))
    for sums in layers.values():
        everything = everything + sums
    total = _region("all", "all", everything)
    return ConflictMap(
        tuple(
            _region(name, _layer(name, block.layer is not None), sums, spectrum)
            for name, (block, sums, spectrum) in found.items()
        ),
        tuple(_region(layer, layer, sums) for layer, sums in layers.items()),
        total,
        _differences(total),
    )


def _measured(block: Block, names: Sequence[str], limit: int) -> tuple[Sums, Spectrum | None]:
    m = len(block)
    place = torch.tensor([names.index(name) for name in block.names])
    found, squares = _nothing(m), None
    rows, columns = (block.shape[0], block.shape[1:].numel()) if len(block.shape) > 1 else (0, 0)
    side = min(rows, columns)
    by_row = len(block.shape) == 2 and columns <= rows
    spectral = 1 <= side <= limit and (by_row or block.numel <= WHOLE)
    if spectral:
        squares = torch.zeros(m, side, side, dtype=torch.float64)
    parts = [block.whole()] if spectral and not by_row else block.parts(by_row=spectral)
    for part in parts:
        base, deltas = part.base.reshape(-1), part.deltas.reshape(m, -1)
        for row, some in zip(base.split(CHUNK), deltas.split(CHUNK, dim=1), strict=True):
            found = found + _sums(row, some)
        if squares is not None:
            matrices = deltas.double().view(m, -1, columns)
            squares += matrices.mT @ matrices if columns <= rows else matrices @ matrices.mT
    spectrum = None if squares is None else _spectrum(squares, place, len(names))
    return _placed(found, place, len(names)), spectrum


def _sums(base: Tensor, deltas: Tensor) -> Sums:  # (n,), (m, n) -> (m, m) and (m,)
    m, n = deltas.shape
    above, below = (deltas > 0).float(), (deltas < 0).float()  # counts up to CHUNK are exact
    opposed, both = above @ below.T, above + below
    values, row = deltas.double(), base.double()
    return Sums(
        values @ values.T,
        values.abs() @ values.abs().T,
        (opposed + opposed.T).double(),
        (both @ both.T).double(),
        torch.full((m,), float(row @ row), dtype=torch.float64),
        torch.full((m,), float(n), dtype=torch.float64),
    )


def _nothing(m: int) -> Sums:
    square, row = torch.zeros(m, m, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    return Sums(square, square, square, square, row, row)


def _placed(sums: Sums, place: Tensor, m: int) -> Sums:
    """The sums of some models among all m, with zeros for the others."""
    if len(place) == m:
        return sums
    squares = [torch.zeros(m, m, dtype=torch.float64) for _ in sums[:4]]
    rows = [torch.zeros(m, dtype=torch.float64) for _ in sums[4:]]
    for square, some in zip(squares, sums[:4], strict=True):
        square[place[:, None], place] = some
    for row, some in zip(rows, sums[4:], strict=True):
        row[place] = some
    return Sums(*squares, *rows)


def _spectrum(squares: Tensor, place: Tensor, m: int) -> Spectrum:  # (m', side, side)
    side = squares.shape[-1]
    leading = max(1, round(side / 10))
    effective: list[float | None] = [None] * m
    stable: list[float | None] = [None] * m
    spaces: dict[int, Tensor] = {}
    for square, index in zip(squares, place.tolist(), strict=True):
        energies, vectors = torch.linalg.eigh(square)
        energies = energies.clamp(min=0)
        if float(energies[-1]) > 0:
            shares = energies.sqrt() / energies.sqrt().sum()
            effective[index] = float(torch.special.entr(shares).sum().exp())
            stable[index] = float(energies.sum() / energies[-1])
            spaces[index] = vectors[:, -leading:]
    overlaps = [
        tuple(
            float((spaces[i].T @ spaces[j]).square().sum() / leading) if i in spaces and j in spaces else None
            for j in range(m)
        )
        for i in range(m)
    ]
    return Spectrum(side, tuple(effective), tuple(stable), leading, tuple(overlaps))


def _region(name: str, layer: str, sums: Sums, spectrum: Spectrum | None = None) -> Region:
    norms = sums.gramian.diagonal().clamp(min=0).sqrt()
    filled = sums.both.diagonal()
    has = sums.size > 0
    cosines = (sums.gramian / (norms[:, None] * norms)).clamp(-1, 1)
    return Region(
        name,
        layer,
        int(sums.size.max()),
        _row(norms.where(has, torch.nan)),
        _row((norms / sums.base.sqrt()).where(has, torch.nan)),
        _row(1 - filled / sums.size),
        _rows(cosines),
        _rows(sums.opposed / sums.both),
        _rows(((1 - sums.gramian / sums.magnitudes) / 2).clamp(0, 1)),
        spectrum,
    )


def _differences(total: Region) -> Matrix:
    """From |a - b|^2 = |a|^2 + |b|^2 - 2 |a| |b| cos, in units of the base."""
    m = len(total.norms)
    found = [[0.0] * m for _ in range(m)]
    for i in range(m):
        for j in range(i + 1, m):
            a, b, cosine = total.distances[i] or 0.0, total.distances[j] or 0.0, total.cosines[i][j] or 0.0
            found[i][j] = found[j][i] = max(0.0, a * a + b * b - 2 * a * b * cosine) ** 0.5
    return tuple(map(tuple, found))


def _row(values: Tensor) -> Vector:
    """None for what is not finite: a model is absent, or something is divided by zero."""
    return tuple(value if abs(value) < float("inf") else None for value in values.tolist())


def _rows(values: Tensor) -> Matrix:
    return tuple(_row(row) for row in values)


def _layer(name: str, stacked: bool) -> str:
    """The name up to its first number where it lies in a stack of layers, else without its last word.

    >>> _layer("model.layers.3.mlp.weight", True), _layer("lm_head.weight", False), _layer("scale", False)
    ('model.layers.3', 'lm_head', 'scale')
    """
    words = name.split(".")
    if stacked:
        at = next(i for i, word in enumerate(words) if word.isdigit())
        return ".".join(words[: at + 1])
    return ".".join(words[:-1]) or name


def pairs(values: Matrix, names: Sequence[str]) -> Mapping[tuple[str, str], float | None]:
    """The entries above the diagonal, by the names of the pair."""
    m = len(names)
    return {(names[i], names[j]): values[i][j] for i in range(m) for j in range(i + 1, m)}
