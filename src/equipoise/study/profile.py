"""Profile: which objectives conflict while the mean is trained, how surely, and in which layers."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from equipoise.core.bundle import Bundle
from equipoise.core.collect import gradients
from equipoise.core.noise import measure_noise
from equipoise.study.loop import Loop
from equipoise.study.results import Trial
from equipoise.study.roster import YARDSTICK
from equipoise.study.training import Trainer

LOOKS = 5
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Pair:
    """Two objectives: the mean cosine of their directions between different batches, an interval that holds
    for all pairs at once, and what each layer adds to the cosine (they sum to it)."""

    first: str
    second: str
    cosine: float
    low: float
    high: float
    layers: Mapping[str, float]

    @property
    def conflicts(self) -> bool:
        """Whether the cosine is negative beyond what chance explains."""
        return self.high < 0

    def worst_layers(self, most: int = 3) -> list[tuple[str, float]]:
        """The layers that pull the cosine down most, each with its part of all that is negative."""
        negative = {name: value for name, value in self.layers.items() if value < 0}
        total = sum(negative.values())
        ordered = sorted(negative.items(), key=lambda item: item[1])
        return [(name, value / total) for name, value in ordered[:most]]


@dataclass(frozen=True, slots=True)
class Profile:
    """Conflict over the first steps of the mean: every pair, the most opposed first.

    hurt: the share of looks at which the mean direction went against an objective's own. norm_ratio: the
    longest mean length of a direction over the shortest, None where one is zero.
    """

    pairs: tuple[Pair, ...]
    hurt: Mapping[str, float]
    norm_ratio: float | None
    looks: int
    seeds: int

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Profile":
        """What `to_json` gave."""
        pairs = tuple(Pair(**pair) for pair in content["pairs"])
        return cls(**{**content, "pairs": pairs})


@dataclass(frozen=True, slots=True)
class _Look:
    cosines: np.ndarray  # (m, m)
    layers: Mapping[str, np.ndarray]  # each (m, m)
    norms: np.ndarray  # (m,)
    hurt: np.ndarray  # (m,)


def profile(trainer: Trainer, learning_rate: float, seeds: Sequence[int]) -> Profile:
    """Train with the mean and look at the directions of two fresh batches, five times a training.

    Inner products between two batches hold no noise that the objectives share, so a cosine below zero
    is disagreement and not chance; the interval is Student's over seeds, corrected for all pairs.
    Raises ValueError where no two batches of an epoch have every objective.
    """
    names = tuple(trainer.specification.objectives)
    found = [[look for look in _looks(trainer, learning_rate, seed)] for seed in seeds]
    found = [looks for looks in found if looks]
    if not found:
        raise ValueError("no two batches of an epoch have a loss of every objective")
    cosines = np.array([np.mean([look.cosines for look in looks], axis=0) for looks in found])
    every = [look for looks in found for look in looks]
    layers = {name: np.mean([look.layers[name] for look in every], axis=0) for name in every[0].layers}
    index = list(combinations(range(len(names)), 2))
    pairs = []
    for i, j in index:
        low, high = _interval(cosines[:, i, j].tolist(), 1 - (1 - CONFIDENCE) / len(index))
        parts = {name: float(part[i, j]) for name, part in layers.items()}
        pairs.append(Pair(names[i], names[j], float(cosines[:, i, j].mean()), low, high, parts))
    norms = np.mean([look.norms for look in every], axis=0)
    hurt = np.mean([look.hurt for look in every], axis=0)
    ratio = float(norms.max() / norms.min()) if norms.min() > 0 else None
    return Profile(
        tuple(sorted(pairs, key=lambda pair: pair.cosine)),
        dict(zip(names, hurt.tolist(), strict=True)),
        ratio,
        len(every),
        len(found),
    )


def _looks(trainer: Trainer, learning_rate: float, seed: int) -> list[_Look]:
    problem = copy.copy(trainer.problem)
    loop = Loop(problem, trainer.specification, Trial("rule", YARDSTICK, learning_rate, seed))
    at = {round(i * max(0, trainer.steps - 1) / (LOOKS - 1)) for i in range(LOOKS)}
    fresh = torch.Generator().manual_seed(seed + 1)
    found, step = [], 0
    while step < trainer.steps:
        for batch in problem.batches("train", loop.order):
            if step in at:
                found += _look(loop, list(islice(problem.batches("train", fresh), 2)))
            if step >= trainer.steps:
                break
            loop.step(batch)
            step += 1
    return found


def _look(loop: Loop, batches: Sequence[Any]) -> list[_Look]:
    """A look at two batches; none where one of them lacks an objective."""
    model = copy.deepcopy(loop.model)  # a forward pass may change buffers
    halves = [_bundle(loop, model, batch) for batch in batches]
    if len(halves) < 2 or None in halves:
        return []
    first, second = (half for half in halves if half is not None)
    noise = measure_noise(first, second)
    scale = (first.norms() * second.norms()).sqrt()
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    layers: dict[str, np.ndarray] = {}
    for block in first.blocks:
        one, other = (Bundle(half.names, {block: half.blocks[block]}) for half in (first, second))
        cross = one.cross_gramian(other)
        part = ((cross + cross.T) / 2 * inverse[:, None] * inverse).numpy()
        layer = block.rpartition(".")[0] or block
        layers[layer] = layers.get(layer, 0.0) + part
    products = first.cross_gramian(second).mean(1)
    return [_Look(np.array(noise.cosines), layers, scale.numpy(), (products < 0).double().numpy())]


def _bundle(loop: Loop, model: nn.Module, batch: Any) -> Bundle | None:
    losses = loop.problem.losses(model, batch)
    names = loop.problem.objectives
    if any(losses.get(name) is None for name in names):
        return None
    return gradients({name: losses[name] for name in names}, model)


def _interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Student's interval of a mean; all of [-1, 1] for one value."""
    if len(values) < 2:
        return -1.0, 1.0
    width = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return max(-1.0, fmean(values) - width), min(1.0, fmean(values) + width)
