"""Ways in which weights are used: bare, turned, cut, shared, computed."""

from collections.abc import Callable
from typing import Any

import torch
from tests.core.cases import Built, Case, draw, mlp, passed, three
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrizations

GHOST, EXPLICIT = {"weight": "ghost"}, {"weight": "explicit"}


def bare(
    shape: tuple[int, ...], use: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32
) -> Built:
    """A parameter without a module."""
    weight = nn.Parameter(draw(*shape, dtype=dtype))
    return {"weight": weight}, three(use(weight))


def into_slice() -> Built:
    """A product that is written into a part of a larger tensor."""
    weight, out = nn.Parameter(draw(4, 3)), torch.zeros(5, 6)
    out[:, :3].addmm_(draw(5, 4), weight)
    return {"weight": weight}, three(out)


def tied() -> Built:
    model = nn.ModuleDict({"table": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=False)})
    model["head"].weight = model["table"].weight
    return model, three(model["head"](model["table"](torch.tensor([[0, 2], [5, 2]])).tanh()))


def three_places() -> Built:
    """One Linear on inputs of different ranks, after and before other layers."""
    model = nn.ModuleDict({"shared": nn.Linear(4, 4), "between": nn.Linear(4, 4)})
    x = draw(2, 3, 4)
    x = model["between"](model["shared"](x).tanh())
    x = model["shared"](x[:, 0]) + model["shared"](x.mean(1)).tanh()
    return model, three(x)


def in_sequence(layer: nn.Module, *shape: int) -> Built:
    x = draw(*shape)
    return layer, three(layer(layer(x).tanh()))


def both_ways() -> Built:
    """An autoencoder whose decoder is the encoder transposed."""
    weight, bias = nn.Parameter(draw(3, 5)), nn.Parameter(draw(3))
    x = draw(4, 5)
    return {"weight": weight, "bias": bias}, three(F.linear(F.linear(x, weight, bias).tanh(), weight.t()))


def without_calling() -> Built:
    model = mlp(4, 5, 3)
    hidden = F.linear(draw(6, 4), model[0].weight, model[0].bias).relu()
    return model, three(hidden @ model[2].weight.T + model[2].bias)


def called_functionally(scale: float = 1.0) -> Built:
    model = mlp(4, 5, 3)
    given = {
        name: parameter * scale if scale != 1 else parameter for name, parameter in model.named_parameters()
    }
    return model, three(functional_call(model, given, (draw(6, 4),)))


def parametrized(kind: Callable[[nn.Module], nn.Module]) -> Built:
    model = mlp(4, 4, 3)
    kind(model[0])
    return passed(model, 6, 4)


class Scaled(torch.autograd.Function):
    """x W' with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return d @ weight, 2 * d.T @ x


def one_kernel(*ways: dict[str, int]) -> Built:
    """A kernel in several convolutions that differ in their options."""
    weight, x = nn.Parameter(draw(4, 4, 3, 3)), draw(2, 4, 9, 9)
    return {"weight": weight}, three(sum(F.conv2d(x, weight, **way).mean((2, 3)) for way in ways))


def two_groupings() -> Built:
    weight, x = nn.Parameter(draw(4, 2, 3)), draw(2, 4, 9)
    return {"weight": weight}, three(F.conv1d(x, weight, groups=2) + F.conv1d(x[:, :2], weight))


def flat_parameter() -> Built:
    """All weights as views of one flat parameter."""
    flat = nn.Parameter(draw(27))
    first, last = flat[:12].view(3, 4), flat[12:].view(5, 3)
    return {"flat": flat}, three(F.linear(F.linear(draw(6, 4), first).tanh(), last))


def complex_weight() -> Built:
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
    return {"weight": weight}, three((draw(5, 4).to(torch.complex64) @ weight).real)


def vmapped() -> Built:
    weight = nn.Parameter(draw(3, 4))
    return {"weight": weight}, three(torch.vmap(lambda row: weight @ row)(draw(5, 4)))


def through_vmap(x: Tensor) -> Built:
    weight = nn.Parameter(draw(3, 4))
    return {"weight": weight}, three(torch.vmap(lambda rows: F.linear(rows, weight))(x))


def ensemble() -> Built:
    """A stack of weights, each for its own batch."""
    weight = nn.Parameter(draw(2, 4, 3))
    return {"weight": weight}, three(torch.bmm(draw(2, 5, 4), weight))


def detached_copy() -> Built:
    """One use of a weight that takes part in no gradient."""
    model = mlp(4, 5, 3)
    x = draw(6, 4)
    return model, three(model(x) + F.linear(x, model[0].weight.detach()).mean())


def through(way: Callable[[Tensor], Tensor], shape: tuple[int, int] = (3, 4)) -> Built:
    """A linear layer with a weight that was changed on its way there."""
    return bare(shape, lambda weight: F.linear(draw(5, 4), way(weight)).tanh())


WEIGHTS: dict[str, Case] = {
    "bare parameter, @": Case(lambda: bare((4, 3), lambda w: draw(5, 4) @ w), GHOST),
    "bare parameter, @, 3d": Case(lambda: bare((4, 3), lambda w: draw(2, 5, 4) @ w), GHOST),
    "bare parameter, on the left of @": Case(lambda: bare((3, 4), lambda w: w @ draw(4, 5))),
    "bare parameter, @ a vector": Case(lambda: bare((3, 4), lambda w: w @ draw(4))),
    "bare parameter, addmm": Case(
        lambda: bare((4, 3), lambda w: torch.addmm(draw(5, 3), draw(5, 4), w, beta=0.5, alpha=2)), GHOST
    ),
    "bare parameter, einsum": Case(
        lambda: bare((4, 3), lambda w: torch.einsum("bti,io->bto", draw(2, 5, 4), w))
    ),
    "bare parameter, einsum, transposed": Case(
        lambda: bare((3, 4), lambda w: torch.einsum("bi,oi->bo", draw(5, 4), w))
    ),
    "bare parameter, sum": Case(lambda: bare((3,), lambda w: draw(5, 3) + w)),
    "bare parameter, sum, broadcast inside": Case(
        lambda: bare((4, 1, 3), lambda w: 2 * (draw(2, 4, 5, 3) - w))
    ),
    "bare parameter, product": Case(lambda: bare((3,), lambda w: draw(5, 3) * w)),
    "bare parameter, square": Case(lambda: bare((3,), lambda w: w * w)),
    "bare parameter, quotient": Case(lambda: bare((3,), lambda w: draw(5, 3) / (w.exp() + 1))),
    "bare parameter, twice in one sum": Case(lambda: bare((3,), lambda w: draw(5, 3) * (w + w))),
    "bare parameter, sum with a factor": Case(
        lambda: bare((3,), lambda w: torch.sub(torch.add(draw(5, 3), w, alpha=2), w, alpha=0.5))
    ),
    "bare parameter, sum and product in place": Case(
        lambda: bare((3,), lambda w: (draw(5, 3) + w).mul_(w).add_(w))
    ),
    "bare parameter, larger than the other": Case(lambda: bare((5, 3), lambda w: draw(3) * w - draw(1))),
    "bare parameter, product with coarser numbers": Case(
        lambda: bare((3,), lambda w: draw(5, 3).bfloat16() * w)
    ),
    "bare parameter, bfloat16, product with finer numbers": Case(
        lambda: bare((3,), lambda w: draw(5, 3) * w, torch.bfloat16)
    ),
    "bare parameter, @ itself": Case(lambda: bare((4, 4), lambda w: w @ w), EXPLICIT),
    "bare parameter, on both sides of F.linear": Case(
        lambda: bare((4, 4), lambda w: F.linear(w, w)), EXPLICIT
    ),
    "bare parameter, matrix and bias of one addmm": Case(
        lambda: bare((4, 4), lambda w: torch.addmm(w, draw(4, 4), w))
    ),
    "bare parameter, addmm into a slice": Case(into_slice, EXPLICIT),
    "bare parameter, sparse matrix @": Case(
        lambda: bare((6, 3), lambda w: torch.sparse.mm((draw(5, 6) > 0).float().to_sparse(), w))
    ),
    "bare parameter, a stack of matrices": Case(ensemble),
    "bare parameter, one number": Case(lambda: bare((), lambda w: draw(5, 3) * w)),
    "weight, F.bilinear": Case(
        lambda: bare((2, 3, 4), lambda w: F.bilinear(draw(5, 3), draw(5, 4), w)), EXPLICIT
    ),
    "weight, F.linear": Case(lambda: through(lambda w: w), GHOST),
    "weight, .T": Case(lambda: through(lambda w: w.T, (4, 3)), GHOST),
    "weight, .t()": Case(lambda: through(lambda w: w.t(), (4, 3)), GHOST),
    "weight, .mT": Case(lambda: through(lambda w: w.mT, (4, 3)), GHOST),
    "weight, transpose(-1, 0)": Case(lambda: through(lambda w: w.transpose(-1, 0), (4, 3)), GHOST),
    "weight, transposed twice": Case(lambda: through(lambda w: w.T.transpose(0, 1)), GHOST),
    "weight, permute": Case(lambda: through(lambda w: w.permute(1, 0), (4, 3)), GHOST),
    "weight, transposed to no effect": Case(lambda: through(lambda w: w.transpose(1, -1), (3, 4)), GHOST),
    "weight, sliced": Case(lambda: through(lambda w: w[:3], (5, 4)), EXPLICIT),
    "weight, chunked": Case(lambda: through(lambda w: torch.cat(w.chunk(2)[::-1]), (4, 4)), EXPLICIT),
    "weight, gathered rows": Case(lambda: through(lambda w: w[torch.tensor([0, 2, 2])], (5, 4)), EXPLICIT),
    "weight, gather": Case(
        lambda: bare((5, 4), lambda w: w.gather(0, torch.tensor([[0, 1, 1, 4], [2, 2, 0, 3]]))), EXPLICIT
    ),
    "weight, times a number": Case(lambda: through(lambda w: w * 0.5)),
    "weight, masked": Case(lambda: through(lambda w: w * (torch.rand(3, 4) < 0.5))),
    "weight, reshaped": Case(lambda: through(lambda w: w.reshape(3, 4), (2, 6)), EXPLICIT),
    "weight, a vector viewed as a matrix": Case(
        lambda: bare((12,), lambda w: F.linear(draw(5, 4), w.view(3, 4)))
    ),
    "weight, normalised rows": Case(lambda: through(lambda w: F.normalize(w)), EXPLICIT),
    "weight, clone": Case(lambda: through(lambda w: w.clone())),
    "weight, cast and back": Case(lambda: through(lambda w: w.double().float()), GHOST),
    "weight, of a custom function": Case(
        lambda: bare((3, 4), lambda w: Scaled.apply(draw(5, 4), w)), EXPLICIT
    ),
    "weight, under vmap": Case(vmapped),
    "weight, F.linear under vmap": Case(lambda: through_vmap(draw(5, 2, 4))),
    "weight, cumsum": Case(lambda: through(lambda w: w.cumsum(0)), EXPLICIT),
    "weight, convolved": Case(
        lambda: bare((3, 8), lambda w: F.conv1d(w[:, None], draw(2, 1, 3)).relu()), EXPLICIT
    ),
    "weight, in an encoder and its transposed decoder": Case(both_ways),
    "weight, in two kinds of layer": Case(
        lambda: bare(
            (3, 4), lambda w: F.linear(draw(5, 4), w).sum(0) + F.embedding(torch.tensor([0, 2]), w).sum()
        )
    ),
    "tied embedding and head": Case(tied, covered=1.0),
    "one Linear in three places": Case(three_places, {"shared.weight": "ghost"}),
    "one Linear twice in sequence": Case(lambda: in_sequence(nn.Linear(4, 4), 5, 4), GHOST),
    "one Conv2d twice, sizes differ": Case(lambda: in_sequence(nn.Conv2d(3, 3, 3), 2, 3, 7, 7), GHOST),
    "one LayerNorm twice in sequence": Case(lambda: in_sequence(nn.LayerNorm(4), 5, 4)),
    "child's parameters without calling it": Case(
        without_calling, {"0.weight": "ghost", "2.weight": "ghost"}
    ),
    "functional_call": Case(called_functionally, {"0.weight": "ghost"}),
    "functional_call with scaled weights": Case(lambda: called_functionally(0.5)),
    "weight_norm": Case(lambda: parametrized(parametrizations.weight_norm), {"2.weight": "ghost"}),
    "spectral_norm": Case(lambda: parametrized(parametrizations.spectral_norm), {"2.weight": "ghost"}),
    "orthogonal": Case(lambda: parametrized(parametrizations.orthogonal), {"2.weight": "ghost"}),
    "one kernel, two strides and dilations": Case(
        lambda: one_kernel({"stride": 2}, {"dilation": 2, "padding": 1}, {}), GHOST
    ),
    "one kernel, two groupings": Case(two_groupings),
    "views of one flat parameter": Case(flat_parameter, {"flat": "explicit"}),
    "complex weight": Case(complex_weight, refuses="complex64"),
    "a detached use beside another": Case(detached_copy, {"0.weight": "ghost"}),
}
