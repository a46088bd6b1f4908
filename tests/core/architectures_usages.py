"""Ways in which a graph comes about: hooks, checkpoints, compilers, dtypes, losses, budgets."""

from collections.abc import Callable

import torch
from tests.core.cases import Built, Case, draw, mlp, passed, three
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

GHOST = {"weight": "ghost"}


def residual() -> Built:
    model = mlp(4, 4, 4)
    x = draw(5, 4)
    hidden = model[0](x)
    hidden = hidden + F.relu(hidden)
    return model, three(hidden + model(hidden) + x)


def relu_in_place() -> Built:
    return passed(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 2)), 3, 2, 5, 5
    )


def checkpointed(whole: bool) -> Built:
    model = mlp(4, 5, 5, 3)
    x = draw(6, 4)
    if whole:
        return model, three(checkpoint(model, x, use_reentrant=False))
    hidden = checkpoint(model[2:4], model[:2](x), use_reentrant=False)
    return model, three(model[4](hidden))


def reentrant() -> Built:
    model = mlp(4, 5, 3)
    return model, three(checkpoint(model, draw(6, 4).requires_grad_(), use_reentrant=True))


def offloaded() -> Built:
    model = mlp(4, 5, 3)
    with torch.autograd.graph.save_on_cpu():
        return model, three(model(draw(6, 4)))


def compiled(backend: str, part: bool = False) -> Built:
    model = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)))
    torch._dynamo.reset()
    if part:
        return model, three(torch.compile(model[1], backend=backend)(model[0](draw(6, 4))))
    with torch._functorch.config.patch(donated_buffer=False):
        return model, three(torch.compile(model, backend=backend)(draw(6, 4)))


def donated() -> Built:
    """A compiled model whose first backward pass kept no graph: its saved buffers are overwritten since."""
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3))
    torch._dynamo.reset()
    fast = torch.compile(model, backend="aot_eager")
    fast(draw(6, 4)).sum().backward()
    model.zero_grad()
    return model, three(fast(draw(6, 4)))


def of_dtype(dtype: torch.dtype) -> Built:
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)).to(dtype)
    return model, three(model(draw(2, 6, 4).to(dtype)))


def autocast(kind: torch.dtype = torch.bfloat16) -> Built:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    with torch.autocast("cpu", kind):
        return model, three(model(draw(3, 2, 5, 5)))


def autocast_reuse() -> Built:
    """A weight whose cast copy autocast keeps between two uses."""
    model = nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        return model, three(model(model(draw(5, 4)).tanh()))


def frozen_middle() -> Built:
    model = mlp(4, 5, 5, 3)
    model[2].requires_grad_(False)
    return passed(model, 6, 4)


def frozen_bias() -> Built:
    model = mlp(4, 5, 3)
    model[0].bias.requires_grad_(False)
    return passed(model, 6, 4)


def only_biases() -> Built:
    model = mlp(4, 5, 3)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return passed(model, 6, 4)


def evaluated_between() -> Built:
    """Batch statistics move in a second pass, between the forward pass and the step."""
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.4), nn.Linear(5, 3))
    losses = three(model(draw(6, 4)))
    model.eval()
    with torch.no_grad():
        model(draw(6, 4))
    model.train()
    with torch.no_grad():
        model(draw(6, 4))
    return model, losses


def hooked_leaf() -> Built:
    model = mlp(4, 5, 3)
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    return passed(model, 6, 4)


def hooked_output(kind: str) -> Built:
    """A layer whose output's gradient is changed or kept."""
    model = mlp(4, 5, 3)
    hidden = model[0](draw(6, 4))
    if kind == "retain_grad":
        hidden.retain_grad()
    elif kind == "tensor":
        hidden.register_hook(lambda gradient: gradient * 3)
    else:
        hidden.grad_fn.register_prehook(lambda gradients: tuple(3 * g for g in gradients))
    return model, three(model[1:](hidden))


def hooked_module() -> Built:
    model = mlp(4, 5, 3)
    model[0].register_full_backward_hook(
        lambda layer, into, out: tuple(g if g is None else 2 * g for g in into)
    )
    return model, three(model(draw(6, 4).requires_grad_()))


def hooked_module_before() -> Built:
    model = mlp(4, 5, 3)
    model[0].register_full_backward_pre_hook(lambda layer, out: tuple(2 * g for g in out))
    return model, three(model(draw(6, 4).requires_grad_()))


def accumulate_hook() -> Built:
    """A hook on a leaf that runs once its gradient has been accumulated, which here nothing is."""
    model = mlp(4, 5, 3)
    model[0].weight.register_post_accumulate_grad_hook(lambda leaf: None)
    return passed(model, 6, 4)


def one_does_not_reach() -> Built:
    model = mlp(4, 5, 3)
    hidden = model[:2](draw(6, 4))
    losses = three(model[2](hidden))
    return model, {**losses, "pull": (hidden * draw(5)).sum()}


def regularised() -> Built:
    model, losses = passed(mlp(4, 5, 3), 6, 4)
    return model, {**losses, "decay": sum((p.square().sum() for p in model.parameters()), torch.zeros(()))}


def summed_parameters() -> Built:
    model, losses = passed(mlp(4, 5, 3), 6, 4)
    return model, {**losses, "bend": torch.stack([p.sum() for p in model.parameters()]).sum()}


def two_calls() -> Built:
    """Losses from two forward passes over different batches, all three through both."""
    model = mlp(4, 5, 3)
    first, second = three(model(draw(6, 4))), three(model(draw(2, 4)))
    return model, {name: first[name] + 0.5 * second[name] for name in first}


def loss_each() -> Built:
    """Each loss from a forward pass of its own."""
    model = mlp(4, 5, 3)
    return model, {
        name: three(model(draw(n, 4)))[name] for n, name in ((6, "size"), (2, "pull"), (5, "bend"))
    }


def silent(way: Callable[[Tensor], Tensor]) -> Built:
    """A model whose output gradients are changed in size."""
    model = mlp(4, 5, 3)
    return model, three(way(model(draw(6, 4))))


def sums() -> Built:
    """Losses whose output gradients are one number, expanded, or zero in most places."""
    model = mlp(4, 5, 3)
    out = model(draw(6, 4))
    return model, {"sum": out.sum(), "mean": out.mean(), "first": out[0].sum()}


def several(m: int) -> Built:
    model = mlp(4, 5, 9)
    return model, {
        f"loss {k}": part.square().mean() for k, part in enumerate(model(draw(6, 4)).split(9 // m, 1))
    }


def twins(sign: float) -> Built:
    model, losses = passed(mlp(4, 5, 3), 6, 4)
    return model, {**losses, "bend": sign * losses["pull"]}


def changed_output() -> Built:
    """A layer whose output is changed in place, in part through a view."""
    model = mlp(4, 5, 3)
    hidden = model[0](draw(6, 4))
    hidden.mul_(2)
    hidden[:, 0] = 1.0
    hidden[:, 1:3].add_(0.5).tanh_()
    return model, three(model[2](hidden))


def dead_layer() -> Built:
    """A layer that only two losses reach with a gradient that is not zero."""
    model = mlp(4, 5, 3)
    out = model(draw(6, 4))
    return model, {**three(out), "bend": (out - 100).relu().sum()}


def idle_expert() -> Built:
    """A layer that no sample came to."""
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    x = draw(5, 4)
    return model, three(torch.cat([model[0](x), model[1](x[:0])]))


def idle_convolution() -> Built:
    model = nn.ModuleList([nn.Conv1d(4, 3, 2), nn.Conv1d(4, 3, 2)])
    x = draw(5, 4, 6)
    return model, three(torch.cat([model[0](x), model[1](x[:0])]))


def packed_sequence() -> Built:
    model = nn.GRU(4, 3)
    packed = nn.utils.rnn.pack_padded_sequence(draw(5, 3, 4), torch.tensor([5, 3, 1]))
    return model, three(model(packed)[0].data)


def subset() -> Built:
    model, losses = passed(mlp(4, 5, 3), 6, 4)
    return {"first": model[0].weight, "last": model[2].bias}, losses


def sdpa() -> Built:
    model = nn.ModuleDict({name: nn.Linear(6, 6, bias=False) for name in "qkv"})
    heads = [model[name](draw(2, 5, 6)).unflatten(-1, (2, 3)).transpose(1, 2) for name in "qkv"]
    return model, three(F.scaled_dot_product_attention(*heads, is_causal=True))


def second_order() -> Built:
    """A loss that holds a gradient: the penalty on the inputs' gradients."""
    model, x = mlp(4, 5, 3), draw(6, 4).requires_grad_()
    losses = three(model(x))
    (slope,) = torch.autograd.grad(losses["size"], x, create_graph=True)
    return model, {**losses, "bend": slope.square().sum()}


def changed_input() -> Built:
    """An input changed in place after the layer that saved it: autograd itself refuses."""
    model, x = nn.Linear(4, 3), draw(6, 4)
    losses = three(model(x))
    x.mul_(2)
    return model, losses


USAGES: dict[str, Case] = {
    "ReLU in place": Case(relu_in_place, {"0.weight": "ghost"}),
    "residual reuse": Case(residual, {"0.weight": "ghost"}),
    "dropout": Case(lambda: passed(nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.Linear(9, 3)), 6, 4)),
    "checkpoint, whole": Case(lambda: checkpointed(True)),
    "checkpoint, part": Case(lambda: checkpointed(False), {"0.weight": "ghost", "4.weight": "ghost"}),
    "checkpoint, reentrant": Case(reentrant, refuses="use_reentrant=False"),
    "saved tensors offloaded": Case(offloaded),
    "compile, eager": Case(lambda: compiled("eager"), {"0.weight": "ghost"}),
    "compile, aot_eager": Case(lambda: compiled("aot_eager"), slow=True),
    "compile, aot_eager, one part": Case(
        lambda: compiled("aot_eager", part=True), {"0.weight": "ghost"}, slow=True
    ),
    "compile, aot_eager, buffers donated": Case(donated, refuses="donated", slow=True),
    "compile, inductor": Case(lambda: compiled("inductor"), slow=True),
    "bfloat16 parameters": Case(lambda: of_dtype(torch.bfloat16), {"0.weight": "ghost"}),
    "float16 parameters": Case(lambda: of_dtype(torch.float16), {"0.weight": "ghost"}),
    "float64 parameters": Case(lambda: of_dtype(torch.float64), {"0.weight": "ghost"}),
    "autocast to bfloat16": Case(autocast, {"0.weight": "ghost", "4.weight": "ghost"}),
    "autocast to float16": Case(lambda: autocast(torch.float16), {"0.weight": "ghost"}),
    "autocast, one layer twice": Case(autocast_reuse, GHOST),
    "frozen layer in the middle": Case(frozen_middle, {"0.weight": "ghost"}),
    "frozen bias": Case(frozen_bias, {"0.weight": "ghost"}),
    "biases alone": Case(only_biases),
    "evaluation in between": Case(evaluated_between, {"0.weight": "ghost"}),
    "hook on a leaf": Case(hooked_leaf, {"0.weight": "explicit", "2.weight": "ghost"}),
    "hook after accumulation": Case(accumulate_hook),
    "retain_grad on an output": Case(lambda: hooked_output("retain_grad"), {"0.weight": "ghost"}),
    "hook on an output": Case(lambda: hooked_output("tensor")),
    "hook before a node": Case(lambda: hooked_output("node")),
    "backward hook of a module": Case(hooked_module),
    "backward hook before a module": Case(hooked_module_before),
    "a loss does not reach a layer": Case(one_does_not_reach, {"0.weight": "ghost"}),
    "a loss on the weights": Case(regularised),
    "a loss that sums parameters": Case(summed_parameters),
    "two calls in each loss": Case(two_calls, {"0.weight": "ghost"}),
    "a call for each loss": Case(loss_each, {"0.weight": "ghost"}),
    "a loss with a gradient of zero": Case(dead_layer, {"0.weight": "ghost"}),
    "losses that are sums and means": Case(sums, {"0.weight": "ghost"}),
    "one loss": Case(lambda: several(1), {"0.weight": "ghost"}),
    "two losses": Case(lambda: several(2), {"0.weight": "ghost"}),
    "nine losses": Case(lambda: several(9), {"0.weight": "ghost"}),
    "two losses that are one": Case(lambda: twins(1.0), {"0.weight": "ghost"}),
    "two losses that are opposed": Case(lambda: twins(-1.0), {"0.weight": "ghost"}),
    "an output changed in place": Case(changed_output, {"0.weight": "ghost"}),
    "gradients near 1e-18": Case(lambda: silent(lambda out: out * 1e-18), {"0.weight": "ghost"}),
    "gradients near 1e12": Case(lambda: silent(lambda out: out * 1e6), {"0.weight": "ghost"}),
    "a layer that no sample came to": Case(idle_expert),
    "a convolution that no sample came to": Case(idle_convolution),
    "GRU, packed sequence": Case(packed_sequence),
    "parameters= some": Case(subset, {"first": "ghost"}),
    "groups of layers": Case(
        lambda: passed(mlp(4, 5, 3), 6, 4), {"0.weight": "ghost"}, options={"groups": "layer"}
    ),
    "groups of tensors": Case(lambda: passed(mlp(4, 5, 3), 6, 4), options={"groups": "tensor"}),
    "max_memory, several sweeps": Case(
        lambda: passed(mlp(4, 6, 6, 3), 6, 4), {"0.weight": "ghost"}, options={"max_memory": 800}
    ),
    "max_memory, by pairs": Case(lambda: passed(mlp(4, 6, 6, 3), 6, 4), options={"max_memory": 288}),
    "scaled_dot_product_attention": Case(sdpa, {"q.weight": "ghost"}),
    "second order": Case(second_order),
    "input changed in place": Case(changed_input, refuses="modified by an inplace"),
}
