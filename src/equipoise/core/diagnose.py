"""Diagnosis: how m directions conflict, where, whom the plain mean hurts, and what is only noise."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle, raise_unless_finite
from equipoise.core.coherence import coherence
from equipoise.core.diagnosis import BlockDiagnosis, Diagnosis
from equipoise.core.gramian import block_gramian, conflict
from equipoise.core.noise import as_matrix, measure_noise
from equipoise.core.opposing import opposing_groups
from equipoise.core.qp import min_norm


def diagnose(
    bundle: Bundle,
    halves: Sequence[Bundle] | None = None,
    *,
    changes: Mapping[str, float | Tensor] | None = None,
) -> Diagnosis:
    """Say how the directions of a bundle conflict, where, and whom their plain mean hurts.

    G_ij = g_i g_j gives cosines G_ij / (|g_i| |g_j|), the mean's inner products (G 1)_i / m, and the
    min-norm point's length, the root of min over the simplex of w'Gw. Use it before choosing a rule,
    since without conflict beyond noise the mean is the rule to use; one batch says nothing about the
    next, so look at several.

    `halves` are two bundles with the same names from the two halves of the batch (of samples, at
    random). With them conflict between objectives is set against the noise of each (`Noise`); without
    them the diagnosis says that noise was not measured. Each block of `bundle` is read once and not
    kept; Gramians (m, m) of all blocks are.

    `changes` has by name what a step did to each loss, loss after - loss before. With it the diagnosis
    says which directions' losses moved most, up and down, and how far these two groups oppose each other
    (`Opposing`), which tells most of single samples.

    Raises TypeError for what is no bundle, ValueError where it has no blocks, where `halves` are not two or
    have other names or blocks, and where `changes` have other names or are not finite; NonFiniteDirection for
    directions that hold NaN or infinity.

    >>> H = Bundle(["left", "right"], {"w": torch.tensor([[2.0, 0.0], [-1.0, 1.0]])})
    >>> diagnosis = diagnose(H)
    >>> diagnosis.share, diagnosis.hurt, round(diagnosis.cosines[0][1], 4)
    (1.0, (), -0.7071)
    """
    if not isinstance(bundle, Bundle):
        kind = type(bundle).__name__
        raise TypeError(
            f"a bundle of directions is diagnosed, not a {kind}; equipoise.gradients(losses) gives one"
        )
    _check(bundle, halves)
    if not bundle.blocks:
        raise ValueError("the bundle has no blocks, so there is nothing to diagnose")
    names, m = bundle.names, len(bundle)
    parts: dict[str, tuple[int, Tensor]] = {}
    resolution = 0.0
    for block, rows in bundle.items():
        parts[block] = rows[0].numel(), block_gramian(rows).cpu()
        resolution = max(resolution, torch.finfo(rows.dtype).eps)
        del rows  # before the next block is read
    gramian = torch.zeros(m, m, dtype=torch.float64)
    for _, part in parts.values():
        gramian += part
    raise_unless_finite(gramian, names)
    overall = conflict(gramian)
    norms = gramian.diagonal().clamp(min=0).sqrt()
    pairs = (overall.cosines < -resolution).triu(1)
    mean_cosines = _mean_cosines(gramian, norms, resolution)
    return Diagnosis(
        names=names,
        norms=tuple(norms.tolist()),
        norm_ratio=overall.norm_ratio,
        cosines=as_matrix(overall.cosines),
        share=_share(pairs),
        mean_cosines=tuple(mean_cosines.tolist()),
        hurt=tuple(name for name, c in zip(names, mean_cosines.tolist(), strict=True) if c < 0),
        effective_rank=_effective_rank(overall.cosines[norms > 0][:, norms > 0]),
        stationarity=_stationarity(gramian, norms, resolution),
        resolution=resolution,
        blocks=_blocks(parts, norms, pairs, resolution),
        noise=None if halves is None else measure_noise(*(_ordered(half, names) for half in halves)),
        coherence=coherence(gramian),
        opposing=None if changes is None else opposing_groups(changes, names, gramian),
    )


def _check(bundle: Bundle, halves: Sequence[Bundle] | None) -> None:
    if halves is None:
        return
    if len(halves) != 2:
        raise ValueError(f"halves are {len(halves)} bundles; give the two halves of a batch")
    for half in halves:
        if set(half.names) != set(bundle.names):
            raise ValueError(f"a half has the names {', '.join(half.names)}; not {', '.join(bundle.names)}")
        apart = sorted(set(half.blocks) ^ set(bundle.blocks))
        if apart:
            raise ValueError(f"only one of the bundle and a half has the blocks {', '.join(apart)}")


def _ordered(half: Bundle, names: tuple[str, ...]) -> Bundle:
    return half if half.names == names else half.subset(names)


def _share(pairs: Tensor) -> float:  # (m, m), True above the diagonal where two conflict
    m = len(pairs)
    return int(pairs.sum()) / (m * (m - 1) / 2) if m > 1 else 0.0


def _mean_cosines(gramian: Tensor, norms: Tensor, resolution: float) -> Tensor:  # (m, m), (m,) -> (m,)
    """Cosines with the mean; what rounding alone can make, relative to the mean length, is zero."""
    inner = gramian.mean(dim=1)
    scale = norms * _mean_norm(gramian)
    cosines = torch.where(scale > 0, inner / scale, 0.0).clamp(-1, 1)
    return torch.where(inner.abs() > resolution * norms * norms.mean(), cosines, 0.0)


def _mean_norm(gramian: Tensor) -> Tensor:  # (m, m) -> ()
    return gramian.mean().clamp(min=0).sqrt()


def _effective_rank(cosines: Tensor) -> float:  # (k, k) -> number in [0, k]
    if not len(cosines):
        return 0.0
    singular = torch.linalg.eigvalsh(cosines).clamp(min=0).sqrt()
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


def _stationarity(gramian: Tensor, norms: Tensor, resolution: float) -> float:  # (m, m), (m,)
    mean = _mean_norm(gramian)
    if mean <= resolution * norms.max():
        return 0.0
    weights = min_norm(gramian).value
    length = (weights @ gramian @ weights).clamp(min=0).sqrt()
    return min(float(length / mean), 1.0)


def _blocks(
    parts: dict[str, tuple[int, Tensor]], norms: Tensor, pairs: Tensor, resolution: float
) -> tuple[BlockDiagnosis, ...]:
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    scale = inverse[:, None] * inverse
    below = {name: float((-part * scale)[pairs].clamp(min=0).sum()) for name, (_, part) in parts.items()}
    length, total = float(norms.square().sum()), sum(below.values())
    return tuple(
        BlockDiagnosis(
            name=name,
            size=size,
            length=float(part.diagonal().sum()) / length if length else 0.0,
            share=_share((conflict(part).cosines < -resolution).triu(1)),
            conflict=below[name] / total if total else 0.0,
            coherence=coherence(part),
        )
        for name, (size, part) in parts.items()
    )
