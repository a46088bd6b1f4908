"""Three clients with a least-squares problem each, whose minima are known and lie apart."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from equipoise.core.federation import Federation


@dataclass
class LeastSquares(Federation):
    """Half the squared error of a linear model of three numbers, without a bias."""

    @property
    def clients(self):
        return ("a", "b", "c")

    def examples(self, client, split):
        return drawn(self.clients.index(client))

    def model(self):
        return nn.Linear(3, 1, bias=False, dtype=torch.float64)

    def losses(self, model, batch):
        return ((model(batch[0]) - batch[1]) ** 2).sum(1) / 2

    def scores(self, model, batch):
        return -self.losses(model, batch)


@cache
def drawn(k):
    rng = np.random.default_rng(k)
    inputs = rng.normal(size=(12 + 4 * k, 3)) * [1.0, 1.5, 0.7]
    targets = inputs @ (3 * rng.normal(size=(3, 1)))
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def normal(k):
    """Matrix and right side of client k's normal equations: grad F = A v - b."""
    inputs, targets = (part.numpy() for part in drawn(k))
    return inputs.T @ inputs / len(inputs), (inputs.T @ targets / len(inputs)).ravel()


def common_minimum():
    """Of the even mean of the clients' losses."""
    parts = [normal(k) for k in range(3)]
    return np.linalg.solve(sum(a for a, _ in parts), sum(b for _, b in parts))
