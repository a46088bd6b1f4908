"""All uses of a parameter, where a layer rule knows every one of them."""

from typing import Any

from torch import Tensor

from equipoise.core.ghost import convolution, embedding, linear, reduced
from equipoise.core.ghost.convolution import ConvolutionUse
from equipoise.core.ghost.embedding import EmbeddingUse
from equipoise.core.ghost.linear import LinearUse
from equipoise.core.ghost.reduced import ReducedUse
from equipoise.core.ghost.use import Use
from equipoise.core.graph import VIEWS, Graph

READERS = {
    **dict.fromkeys(linear.NODES, LinearUse.read),
    **dict.fromkeys(convolution.NODES, ConvolutionUse.read),
    **dict.fromkeys(embedding.NODES, EmbeddingUse.read),
}


def uses_of(leaf: Tensor, graph: Graph) -> list[Use] | None:
    """Every use of a leaf in the graph; None where one of them is under no rule.

    A leaf with hooks on its gradient counts as under no rule: the hooks must see the gradient itself.
    """
    if leaf._backward_hooks:
        return None
    found: list[Use] = []
    pending = [(user, False, False) for user in graph.users_of(leaf)]
    while pending:
        user, transposed, viewed = pending.pop()
        if user is None:
            return None
        kind = type(user.node).__name__
        if kind in VIEWS:
            turned = _swaps(user.node, kind)
            if leaf.dim() != 2 and kind != "ToCopyBackward0":
                return None
            viewed = viewed or kind != "ToCopyBackward0"
            pending += [(nxt, transposed ^ turned, viewed) for nxt in graph.users.get(user.node, [])]
            continue
        read = READERS.get(kind)
        use = read(user.node, user.slot, transposed) if read else None
        if use is None and kind in reduced.NODES and not viewed:
            use = ReducedUse.read(user.node, user.slot, leaf)
        if use is None:
            return None
        found.append(use)
    return found or None


def _swaps(node: Any, kind: str) -> bool:
    """Whether a view of a matrix swaps its two axes; -1 is saved as an unsigned number."""
    match kind:
        case "TransposeBackward0":
            return (node._saved_dim0 - node._saved_dim1) % 2 == 1
        case "PermuteBackward0":
            return node._saved_dims[0] % 2 == 1
    return kind == "TBackward0"
