"""From losses to directions or to their Gramian, without a rule."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle, raise_unless_finite
from equipoise.core.call import prepare
from equipoise.core.combine import record, shown_layers
from equipoise.core.faults import explained
from equipoise.core.graph import is_shared, reach
from equipoise.core.objectives import Losses, Parameters, named_losses, named_parameters, refuse_complex
from equipoise.core.observer import Observer
from equipoise.core.passes import collect
from equipoise.core.plan import parse_memory
from equipoise.core.rule import GramianRule
from equipoise.core.schedules import scheduled
from equipoise.core.step import Step

NOT_SHARED = "the losses {} share no parameter; give those to look at, such as parameters=model"


def gradients(losses: Losses, parameters: Parameters = None, *, retain_graph: bool = False) -> Bundle:
    """The gradients of m scalar losses as a bundle, one direction for each loss.

    The blocks are the parameters that two or more losses reach (all that are reached, where there is
    one loss), or exactly `parameters` where these are given (a module, a mapping, or an iterable of
    tensors or of (name, tensor) pairs); there a loss that does not reach one has a zero row. Costs m
    backward passes and m times the size of the blocks. Does not touch `.grad`.

    Raises ValueError for a loss that is no scalar or needs no gradient, and where no parameter is shared
    and none given.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> bundle = gradients({"near": w.square().sum(), "far": (w - 3).square().sum()}, {"w": w})
    >>> bundle.blocks["w"]
    tensor([[ 2.,  4.],
            [-4., -2.]])
    """
    present = named_losses(losses)
    reached = reach(list(present.values()))
    named = named_parameters(parameters)
    if named is None:
        leaves = [leaf for leaf, mask in reached.items() if is_shared(mask, len(present))]
        if not leaves:
            raise ValueError(NOT_SHARED.format(", ".join(present)))
        named = {f"{i} {tuple(leaf.shape)}": leaf for i, leaf in enumerate(leaves)}
    refuse_complex(named.values())
    rows = _rows(list(present.values()), list(present), list(named.values()), retain_graph)
    return Bundle(tuple(present), dict(zip(named, rows, strict=True)))


def gramian(
    losses: Losses,
    parameters: Parameters = None,
    *,
    samples: bool = False,
    max_memory: int | str | None = None,
    retain_graph: bool = False,
) -> Tensor:  # -> (m, m)
    """The inner products of the gradients of m losses, without building the gradients where it can be.

    losses: scalar losses by name or in a sequence; with `samples` one tensor (m,) of the losses of m
        samples, whose Gramian takes two backward passes where the model keeps samples apart.
    parameters: those to look at; default all that two or more losses reach.
    max_memory: as for `backward`.

    Returns float64 on the CPU, in the order of the losses. Does not touch `.grad`. Raises ValueError for
    losses or parameters that do not fit, and NonFiniteDirection naming the losses at fault.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> gramian(layer(x)[:, 0], samples=True)
    tensor([[1., 1.],
            [1., 5.]], dtype=torch.float64)
    """
    call = prepare(
        losses,
        GramianRule(),
        parameters=parameters,
        preference=None,
        private=None,
        on_nonfinite="raise",
        scale=None,
        retain_graph=retain_graph,
        budget=None if max_memory is None else parse_memory(max_memory),
        samples=samples,
    )
    if not call.shared:
        raise ValueError(NOT_SHARED.format(", ".join(call.names)))
    planned, _ = scheduled(call)
    found = collect(call, planned.shares, retain=retain_graph, release=True, private=False)
    raise_unless_finite(found.gramian, call.names)
    return found.gramian


def measure(losses: Losses, parameters: Parameters = None) -> Step:
    """A step that is not taken: losses, Gramian and that of each layer, of the parameters that are shared.

    The arguments are those of `gramian`; layers have names where `parameters` are named. The step has no
    weights.
    """
    call = prepare(
        losses,
        GramianRule(),
        parameters=parameters,
        preference=None,
        private=None,
        on_nonfinite="raise",
        scale=None,
        retain_graph=False,
        observers=(_Layered(),),
    )
    if not call.shared:
        raise ValueError(
            f"the losses {', '.join(call.names)} share no parameter; there is nothing to conflict"
        )
    planned, _ = scheduled(call)
    found = collect(call, planned.shares, retain=False, release=True, private=False)
    raise_unless_finite(found.gramian, call.names)
    everyone = range(len(call.names))
    layers = shown_layers(call, found.layers, everyone)
    plan = planned.record("directions", found.bytes, call)
    return record(call, everyone, None, found.gramian, plan, layers=layers)


class _Layered(Observer):
    layers = True


def _rows(
    losses: Sequence[Tensor], names: Sequence[str], leaves: Sequence[Tensor], retain_graph: bool
) -> list[Tensor]:
    """A block (m, *shape) for each leaf; a loss that does not reach it has a zero row."""
    m = len(losses)
    blocks = [leaf.new_zeros((m, *leaf.shape), requires_grad=False) for leaf in leaves]
    for i, loss in enumerate(losses):
        seed, keep = torch.ones_like(loss), retain_graph or i < m - 1
        with explained([names[i]]):
            found = torch.autograd.grad(loss, leaves, seed, retain_graph=keep, allow_unused=True)
        for block, gradient in zip(blocks, found, strict=True):
            if gradient is not None:
                block[i].copy_(gradient if gradient.layout == torch.strided else gradient.to_dense())
    return blocks
