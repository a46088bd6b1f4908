"""The layer rule of embeddings: only the rows that a batch looked up have a gradient."""

from typing import Any

import torch
from torch import Tensor

from equipoise.core.ghost.use import Use, saved

NODES = {"EmbeddingBackward0": 0}


class EmbeddingUse(Use):
    """A look-up in a graph: row v of the gradient is the sum of D over the places that hold v.

    `index` (n,) are the rows looked up, `places` (n,) where in the flattened output, None for all of it;
    padding is left out of both, and stands in `all_index`.
    """

    def __init__(self, node: Any, index: Tensor, words: int) -> None:
        super().__init__(node)
        self.width = self.out[-1]
        self.words = words
        self.sparse = bool(node._saved_sparse)
        self.all_index = index.reshape(-1)
        self.padding = int(node._saved_padding_idx)
        self.places = (self.all_index != self.padding).nonzero()[:, 0] if self.padding >= 0 else None
        self.index = self.all_index if self.places is None else self.all_index[self.places]

    @classmethod
    def read(cls, node: Any, slot: int, transposed: bool) -> "EmbeddingUse | None":
        """The use of a table; None where its gradients are divided by how often a row occurs."""
        index = None if transposed or node._saved_scale_grad_by_freq else saved(node, "indices")
        return None if index is None else cls(node, index, int(node._saved_weight_sym_argsize_0))

    @property
    def counts(self) -> Tensor:  # -> (all,) bool
        """Which of all look-ups have a gradient."""
        return self.all_index != self.padding

    def looked_up(self, d: Tensor) -> Tensor:  # (k, *out) -> (k, n, width)
        """D at the places that count."""
        flat = d.reshape(len(d), -1, self.width)
        return flat if self.places is None else flat[:, self.places]

    def gradient(self, d: Tensor) -> Tensor:  # (*out) -> (words, width)
        found = d.new_zeros(self.words, self.width)
        return found.index_add_(0, self.index, self.looked_up(d[None])[0])


def touched(uses: list[EmbeddingUse]) -> tuple[Tensor, Tensor]:  # -> (u,), (n,)
    """The rows that some uses of one table looked up, each once, and the position of every look-up among
    them."""
    index = torch.cat([use.index for use in uses])
    return torch.unique(index, return_inverse=True)
