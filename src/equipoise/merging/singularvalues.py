"""SingularValues: a weight of which only the strengths of given rank-one components are trained."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from equipoise.core.errors import unknown
from equipoise.merging.spectral import Triples


class SingularValues(nn.Module):
    """A parametrization W = R + U diag(s) V^T that trains s alone; R and the vectors are fixed.

    `values`, the k numbers s, is its only parameter. Registered on a layer that holds the merged weight, it
    takes its components out of it (R = W - U diag(s) V^T), so that the layer's outputs stay what they were,
    but for the rounding of the weight's dtype.

    >>> layer = nn.Linear(3, 2)
    >>> one = Triples(torch.tensor([[1.0], [0.0]]), torch.tensor([2.0]), torch.tensor([[0.0, 1.0, 0.0]]))
    >>> [numbers.tolist() for numbers in tune_singular_values(layer, {"weight": one})]
    [[2.0]]
    """

    left: Tensor
    right: Tensor

    def __init__(self, components: Triples) -> None:
        super().__init__()
        self.register_buffer("left", components.left.clone())
        self.register_buffer("right", components.right.clone())
        self.values = nn.Parameter(components.values.clone())

    def forward(self, rest: Tensor) -> Tensor:
        """The weight."""
        return rest + ((self.left * self.values) @ self.right).view_as(rest)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What of a weight is not made of the components."""
        return weight - ((self.left * self.values) @ self.right).view_as(weight)


def tune_singular_values(model: nn.Module, components: Mapping[str, Triples]) -> list[nn.Parameter]:
    """Let only the strengths of components be trained, of the weights that they are given for.

    `model` holds the merged weights. The parameters to be handed to an optimizer come back, k numbers for
    each weight, in the order of `components`; all parameters of the model are frozen but those, so thaw a
    new head afterwards. Layers with a tied weight share its numbers.
    `torch.nn.utils.parametrize.remove_parametrizations` makes plain weights of them.

    Raises ValueError for components of an unknown parameter, of another size than its weight, or of one
    weight under two names.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    holders: dict[int, list[str]] = {}
    for name, parameter in known.items():
        holders.setdefault(id(parameter), []).append(name)
    for name, (left, _, right) in components.items():
        if name not in known:
            raise ValueError(unknown("parameter", name, list(known)))
        shape = tuple(known[name].shape)
        if (len(left), right.shape[1]) != (shape[0], known[name][0].numel()):
            sizes = f"({len(left)}, {right.shape[1]})"
            raise ValueError(f"components of {name!r} are of a matrix {sizes}, the weight has shape {shape}")
        if twice := [other for other in holders[id(known[name])] if other != name and other in components]:
            raise ValueError(f"{name!r} and {twice[0]!r} are one tied weight; give components for one")
    model.requires_grad_(False)
    tuned = []
    for name, found in components.items():
        weight = known[name]
        strengths = SingularValues(Triples(*(one.to(weight.device, weight.dtype) for one in found)))
        with torch.no_grad():
            rest = strengths.right_inverse(weight)
            for holder in holders[id(weight)]:
                path, _, attribute = holder.rpartition(".")
                parametrize.register_parametrization(model.get_submodule(path), attribute, strengths)
            # A registration takes the components out: of a tied weight once for each layer.
            weight.copy_(rest)
        tuned.append(strengths.values)
    return tuned
