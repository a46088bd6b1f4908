"""Sketches of a layer's gradients from its inputs and output gradients, by two small random matrices."""

import torch
from torch import Tensor

from equipoise.core.call import Call
from equipoise.core.ghost.use import FactoredUse
from equipoise.core.gramian import wide
from equipoise.core.plan import Choice, Schedule, Sketch, choose, shared_out


class LayerSketch(Sketch):
    """D'A -> R'D'A S with R (o, s) and S (a, s) of independent normal numbers of variance 1 / s.

    Inner products of sketches are unbiased for those of the gradients: E[R R'] and E[S S'] are identities. A
    seed gives the same matrices for every objective and every step.
    """

    def __init__(self, use: FactoredUse, size: int, seed: int) -> None:
        self.use = use
        device, dtype = use.edge_device, wide(use.dtype)
        drawn = torch.Generator().manual_seed(seed)
        self.out = self._matrix(use.o, size, drawn).to(device, dtype)
        self.inputs = use.left().to(dtype) @ self._matrix(use.a, size, drawn).to(device, dtype)  # (g, n, s)

    @staticmethod
    def _matrix(rows: int, size: int, drawn: torch.Generator) -> Tensor:  # -> (rows, s)
        return torch.randn(rows, size, generator=drawn) / size**0.5

    def __call__(self, d: Tensor) -> Tensor:  # (*out) -> (g, s, s)
        right = self.use.right([d.to(self.out.dtype)])[:, :, 0]
        return (right @ self.out).mT @ self.inputs


def sketched(call: Call, size: int) -> Schedule:
    """A schedule in which each layer with one use under the rule of products is sketched.

    A layer that has no more numbers than a sketch, and one under another rule, is taken exactly.
    """
    m = len(call.names)
    choices = []
    for place, (leaf, name) in enumerate(zip(call.shared, call.leaf_names, strict=True)):
        choice = choose(leaf, name, call.graph, m)
        use = choice.uses[0] if len(choice.uses) == 1 else None
        if isinstance(use, FactoredUse) and use.a > size and use.o > size:
            held = m * use.groups * size * size * max(leaf.itemsize, 4)
            passing = use.groups * use.n * (use.a + use.o) * max(leaf.itemsize, 4)
            sketch = LayerSketch(use, size, seed=place)
            choice = Choice(leaf, name, "sketch", held, passing, choice.operations, choice.uses, sketch)
        choices.append(choice)
    return shared_out(choices, call.shared, m, call.budget)
