"""Scalars: the numbers of a step under names that stay the same, for trackers."""

import torch

from equipoise.core.gramian import conflict
from equipoise.core.step import Step

PAIRED = 8
"""Objectives up to which the cosine of each pair is among the numbers; beyond, the worst one alone."""


def scalars(step: Step) -> dict[str, float]:
    """What a step saw and did, as plain numbers.

    loss/OBJECTIVE, weight/OBJECTIVE (weight/GROUP/OBJECTIVE where groups have weights of their own),
    norm/OBJECTIVE, cosine/OBJECTIVE:OBJECTIVE (up to 8 objectives), conflict/share and conflict/worst_cosine
    over all pairs, layer/LAYER/share and layer/LAYER/worst_cosine where an observer asked for layers, and
    skipped, the number of objectives left out. What a route does not know is absent.

    >>> from equipoise.core.step import Step
    >>> scalars(Step(("a",), torch.tensor([2.0]), torch.tensor([1.0])))
    {'loss/a': 2.0, 'weight/a': 1.0, 'skipped': 0.0}
    """
    found = {f"loss/{name}": value for name, value in zip(step.names, step.losses.tolist(), strict=True)}
    if step.weights is not None:
        found |= {
            f"weight/{name}": value for name, value in zip(step.names, step.weights.tolist(), strict=True)
        }
    for group, part in step.groups.items():
        pairs = zip(step.names, part.weights.tolist(), strict=True)
        found |= {f"weight/{group}/{name}": value for name, value in pairs}
    found["skipped"] = float(len(step.skipped))
    if step.gramian is None:
        return found
    norms = step.gramian.diagonal().clamp(min=0).sqrt().tolist()
    found |= {f"norm/{name}": value for name, value in zip(step.names, norms, strict=True)}
    seen, m = conflict(step.gramian, step.resolution or 0.0), len(step.names)
    if 1 < m <= PAIRED:
        found |= {
            f"cosine/{step.names[i]}:{step.names[j]}": float(seen.cosines[i, j])
            for i in range(m)
            for j in range(i + 1, m)
        }
    if m > 1:
        found |= {f"conflict/{key}": value for key, value in _of_pairs(step.gramian, step).items()}
        for layer, gramian in step.layers.items():
            found |= {f"layer/{layer}/{key}": value for key, value in _of_pairs(gramian, step).items()}
    return found


def _of_pairs(gramian: torch.Tensor, step: Step) -> dict[str, float]:  # (m, m)
    seen, m = conflict(gramian, step.resolution or 0.0), len(gramian)
    return {"share": seen.share, "worst_cosine": float(seen.cosines[*torch.triu_indices(m, m, 1)].min())}
