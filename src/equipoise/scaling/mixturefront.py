"""front: the trade-offs between losses that a fitted law foretells."""

import numpy as np
import torch

from equipoise.core.checks import check_count
from equipoise.core.front import Front
from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.mixturetask import Task
from equipoise.scaling.runs import Array


def front(
    law: FittedLaw, count: int = 21, *, N: float | None = None, D: float | None = None, seed: int = 0
) -> Front:
    """The trade-offs that a fitted law foretells.

    Losses of the optima of `count` weightings, as a `Front` whose solutions hold the mixture as "p"; each is
    sought from the one before and from equal ratios.

    Raises ValueError as `optimum` does, and for a law of one loss.
    """
    m = len(law.objectives)
    if m < 2:
        raise ValueError("a front takes two losses or more")
    check_count(2, count=count)
    if m == 2:
        part = np.linspace(0.02, 0.98, count)
        weights = np.stack([part, 1 - part], 1)
    else:
        weights = np.random.default_rng(seed).dirichlet(np.ones(m), count)
    uniform = np.full(len(law.runs.sources), 1 / len(law.runs.sources))
    mixtures: list[Array] = []
    for w in weights:
        task = Task(law, w, N, D)
        starts = np.stack([mixtures[-1], uniform]) if mixtures else task.starts()
        best = task.solved(starts, np.ones(len(law.runs.sources)))
        assert best is not None
        mixtures.append(best)
    points = Task(law, np.ones(m), N, D).losses(np.array(mixtures))
    solutions = [{"p": torch.tensor(p)} for p in mixtures]
    record = {"law": law.law.name, "sources": list(law.runs.sources)}
    return Front(law.objectives, torch.tensor(points), torch.tensor(weights), solutions, record)
