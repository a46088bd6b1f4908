"""The layers of torch.nn, each in its ways of use."""

from collections.abc import Iterator
from typing import Any

import torch
from tests.core.cases import Built, Case, draw, on, three
from torch import Tensor, nn

GHOST = {"weight": "ghost"}
EXPLICIT = {"weight": "explicit"}
PLACES = {1: (9,), 2: (7, 6), 3: (5, 4, 5)}


def linear(*shape: int, **options: Any) -> Built:
    return on(nn.Linear(4, 3, **options), draw(*shape))


def convolution(axes: int, channels: int = 4, out: int = 4, kernel: Any = 3, **options: Any) -> Built:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    return on(kind(channels, out, kernel, **options), draw(2, channels, *PLACES[axes]))


def convolutions() -> Iterator[tuple[str, Case]]:
    """Options of convolutions, in one, two and three dimensions."""
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "no bias": {"bias": False},
        "groups": {"groups": 2},
        "depthwise": {"groups": 4, "out": 8},
        "stride": {"stride": 2},
        "dilation": {"dilation": 2, "padding": 2},
        "padding": {"padding": 1},
        "padding same": {"padding": "same"},
        "padding same, even kernel": {"padding": "same", "kernel": 2},
        "kernel 1": {"kernel": 1},
        "all at once": {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "out": 6},
    }
    ways |= {mode: {"padding": 1, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")}
    for axes in (1, 2, 3):
        for way, options in ways.items():
            yield f"Conv{axes}d, {way}", Case(lambda a=axes, o=options: convolution(a, **o), GHOST)


def uneven() -> Built:
    return convolution(2, kernel=(2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2))


def channels_last() -> Built:
    layer = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    return on(layer, draw(2, 4, 6, 6).to(memory_format=torch.channels_last))


def embedding(index: Tensor, **options: Any) -> Built:
    return on(nn.Embedding(9, 3, **options), index)


def looked_up() -> Tensor:
    return torch.tensor([[0, 2, 5], [2, 0, 2]])


def bag(**options: Any) -> Built:
    return on(nn.EmbeddingBag(9, 3, **options), looked_up())


def still(layer: nn.Module, *shape: int) -> Built:
    """A layer in evaluation mode that has seen a batch in training."""
    layer(draw(*shape))
    return on(layer.eval(), draw(*shape))


def norm(layer: nn.Module, *shape: int) -> Built:
    """A norm layer whose scale and shift are not ones and zeros."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(draw(*parameter.shape))
    return on(layer, draw(*shape))


def attention(keys: int, values: int, *, cross: bool, weights: bool = True, **options: Any) -> Built:
    layer = nn.MultiheadAttention(6, 2, **options)
    query, key, value = draw(3, 2, 6), draw(4, 2, keys), draw(4, 2, values)
    if not cross:
        key = value = query
    return on(layer, query, key, value, need_weights=weights)


def encoder(**options: Any) -> Built:
    return on(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, **options), draw(2, 4, 6))


def decoder() -> Built:
    return on(nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0), draw(4, 2, 6), draw(3, 2, 6))


def steps(cell: nn.Module, *state: Tensor) -> Built:
    """A recurrent cell over three steps."""
    found: Any = state if len(state) > 1 else state[0]
    for inputs in draw(3, 2, 4):
        found = cell(inputs, found)
    return cell, three(found[0] if isinstance(found, tuple) else found)


def tied_projection() -> Built:
    """Keys that are the values, which splits the packed projection in two."""
    memory = draw(4, 2, 6)
    return on(nn.MultiheadAttention(6, 2), draw(3, 2, 6), memory, memory)


LAYERS: dict[str, Case] = {
    "Linear, 2d": Case(lambda: linear(5, 4), GHOST),
    "Linear, 3d": Case(lambda: linear(2, 5, 4), GHOST),
    "Linear, 3d, not contiguous": Case(lambda: on(nn.Linear(4, 3), draw(2, 4, 5).mT), GHOST),
    "Linear, 3d, not contiguous, no bias": Case(
        lambda: on(nn.Linear(4, 3, bias=False), draw(2, 4, 5).mT), GHOST
    ),
    "Linear, 3d, expanded": Case(lambda: on(nn.Linear(4, 3), draw(1, 5, 4).expand(2, 5, 4)), GHOST),
    "Linear, 4d": Case(lambda: linear(2, 3, 2, 4), GHOST),
    "Linear, 4d, not contiguous": Case(lambda: on(nn.Linear(4, 3), draw(2, 4, 2, 3).transpose(1, 3)), GHOST),
    "Linear, no bias": Case(lambda: linear(5, 4, bias=False), GHOST),
    "Linear, 1d": Case(lambda: linear(4), GHOST),
    "Linear, 1d, no bias": Case(lambda: linear(4, bias=False)),
    "Linear, batch of one": Case(lambda: linear(1, 4), GHOST),
    "Linear, one output": Case(lambda: on(nn.Linear(4, 1), draw(5, 4)), GHOST),
    "Linear, float64": Case(lambda: on(nn.Linear(4, 3).double(), draw(5, 4, dtype=torch.float64)), GHOST),
    "Bilinear": Case(lambda: on(nn.Bilinear(3, 4, 2), draw(5, 3), draw(5, 4)), EXPLICIT),
    **dict(convolutions()),
    "Conv2d, uneven": Case(uneven, GHOST),
    "Conv2d, unbatched": Case(lambda: on(nn.Conv2d(4, 4, 3), draw(4, 6, 6)), GHOST),
    "Conv1d, unbatched": Case(lambda: on(nn.Conv1d(4, 4, 3), draw(4, 6)), GHOST),
    "Conv2d, one place": Case(lambda: on(nn.Conv2d(4, 4, 3), draw(5, 4, 3, 3)), GHOST),
    "Conv2d, channels_last": Case(channels_last, GHOST),
    "Conv2d, float64": Case(
        lambda: on(nn.Conv2d(2, 3, 3).double(), draw(2, 2, 5, 5, dtype=torch.float64)), GHOST
    ),
    "ConvTranspose1d": Case(lambda: on(nn.ConvTranspose1d(4, 3, 3, stride=2), draw(2, 4, 5)), EXPLICIT),
    "ConvTranspose2d": Case(lambda: on(nn.ConvTranspose2d(4, 4, 3, groups=2), draw(2, 4, 5, 5)), EXPLICIT),
    "Embedding": Case(lambda: embedding(looked_up()), {"weight": "touched"}),
    "Embedding, padding_idx": Case(lambda: embedding(looked_up(), padding_idx=2), {"weight": "touched"}),
    "Embedding, sparse": Case(lambda: embedding(looked_up(), sparse=True), {"weight": "touched"}),
    "Embedding, sparse, padding_idx": Case(
        lambda: embedding(looked_up(), sparse=True, padding_idx=2), {"weight": "touched"}
    ),
    "Embedding, max_norm": Case(lambda: embedding(looked_up(), max_norm=0.5), {"weight": "touched"}),
    "Embedding, scale_grad_by_freq": Case(lambda: embedding(looked_up(), scale_grad_by_freq=True), EXPLICIT),
    "Embedding, one row many times": Case(lambda: embedding(torch.full((2, 3), 4)), {"weight": "touched"}),
    "Embedding, more look-ups than rows": Case(lambda: embedding(torch.arange(12) % 9), {"weight": "block"}),
    "Embedding, nothing but padding": Case(lambda: embedding(torch.full((3,), 2), padding_idx=2)),
    "EmbeddingBag, sum": Case(lambda: bag(mode="sum")),
    "EmbeddingBag, mean": Case(lambda: bag(mode="mean")),
    "EmbeddingBag, max": Case(lambda: bag(mode="max")),
    "EmbeddingBag, sparse": Case(lambda: bag(mode="sum", sparse=True)),
    "LayerNorm": Case(lambda: norm(nn.LayerNorm(6), 4, 6)),
    "LayerNorm, two axes, no bias": Case(lambda: norm(nn.LayerNorm((3, 6), bias=False), 4, 3, 6)),
    "LayerNorm, bfloat16 inputs": Case(lambda: on(nn.LayerNorm(6), draw(4, 6).bfloat16())),
    "LayerNorm, not contiguous": Case(lambda: on(nn.LayerNorm(6), draw(4, 6, 3).mT)),
    "BatchNorm2d, channels_last": Case(
        lambda: on(nn.BatchNorm2d(3), draw(4, 3, 5, 5).to(memory_format=torch.channels_last))
    ),
    "Embedding, last row as padding": Case(
        lambda: embedding(torch.tensor([8, 2, 8, 1]), padding_idx=-1), {"weight": "touched"}
    ),
    "Embedding, bfloat16, one row many times": Case(
        lambda: on(nn.Embedding(9, 3).bfloat16(), torch.full((8,), 4)), {"weight": "touched"}
    ),
    "Embedding, one index": Case(lambda: embedding(torch.tensor(4)), {"weight": "touched"}),
    "EmbeddingBag, weighted": Case(
        lambda: on(nn.EmbeddingBag(9, 3, mode="sum"), looked_up(), per_sample_weights=draw(2, 3))
    ),
    "RMSNorm": Case(lambda: norm(nn.RMSNorm(6), 4, 3, 6)),
    "GroupNorm": Case(lambda: norm(nn.GroupNorm(2, 6), 4, 6, 5)),
    "BatchNorm1d, training": Case(lambda: norm(nn.BatchNorm1d(6), 4, 6)),
    "BatchNorm1d, places": Case(lambda: norm(nn.BatchNorm1d(6), 4, 6, 3)),
    "BatchNorm1d, evaluation": Case(lambda: still(nn.BatchNorm1d(6), 4, 6)),
    "BatchNorm2d, training": Case(lambda: norm(nn.BatchNorm2d(3), 4, 3, 5, 5)),
    "BatchNorm2d, evaluation": Case(lambda: still(nn.BatchNorm2d(3), 4, 3, 5, 5)),
    "BatchNorm2d, no running statistics": Case(
        lambda: norm(nn.BatchNorm2d(3, track_running_stats=False), 4, 3, 5, 5)
    ),
    "BatchNorm3d, training": Case(lambda: norm(nn.BatchNorm3d(3), 4, 3, 2, 3, 2)),
    "InstanceNorm1d, affine": Case(lambda: norm(nn.InstanceNorm1d(3, affine=True), 4, 3, 5)),
    "InstanceNorm2d, affine": Case(lambda: norm(nn.InstanceNorm2d(3, affine=True), 4, 3, 5, 5)),
    "MultiheadAttention, self": Case(
        lambda: attention(6, 6, cross=False), {"in_proj_weight": "ghost", "out_proj.weight": "ghost"}
    ),
    "MultiheadAttention, self, no weights": Case(
        lambda: attention(6, 6, cross=False, weights=False), {"in_proj_weight": "ghost"}
    ),
    "MultiheadAttention, batch_first": Case(
        lambda: attention(6, 6, cross=False, batch_first=True), {"in_proj_weight": "ghost"}
    ),
    "MultiheadAttention, cross": Case(lambda: attention(6, 6, cross=True), {"out_proj.weight": "ghost"}),
    "MultiheadAttention, cross, no weights": Case(lambda: attention(6, 6, cross=True, weights=False)),
    "MultiheadAttention, keys that are values": Case(tied_projection),
    "MultiheadAttention, kdim and vdim": Case(
        lambda: attention(5, 3, cross=True, kdim=5, vdim=3),
        {"q_proj_weight": "ghost", "k_proj_weight": "ghost", "v_proj_weight": "ghost"},
    ),
    "MultiheadAttention, bias_kv": Case(lambda: attention(6, 6, cross=False, add_bias_kv=True)),
    "TransformerEncoderLayer": Case(lambda: encoder(dropout=0.0), covered=0.8),
    "TransformerEncoderLayer, dropout": Case(lambda: encoder(dropout=0.3), covered=0.8),
    "TransformerEncoderLayer, norm first": Case(lambda: encoder(norm_first=True, activation="gelu")),
    "TransformerDecoderLayer": Case(decoder),
    "PReLU": Case(lambda: on(nn.PReLU(3), draw(4, 3, 5))),
    "RNN": Case(lambda: on(nn.RNN(4, 3), draw(5, 2, 4))),
    "RNN, relu, two layers, bidirectional": Case(
        lambda: on(nn.RNN(4, 3, 2, nonlinearity="relu", bidirectional=True), draw(5, 2, 4))
    ),
    "GRU": Case(lambda: on(nn.GRU(4, 3), draw(5, 2, 4))),
    "GRU, bidirectional, batch_first": Case(
        lambda: on(nn.GRU(4, 3, bidirectional=True, batch_first=True), draw(2, 5, 4))
    ),
    "LSTM": Case(lambda: on(nn.LSTM(4, 3), draw(5, 2, 4))),
    "LSTM, two layers, bidirectional": Case(lambda: on(nn.LSTM(4, 3, 2, bidirectional=True), draw(5, 2, 4))),
    "LSTM, projected": Case(lambda: on(nn.LSTM(4, 3, proj_size=2), draw(5, 2, 4))),
    "LSTM, float64": Case(lambda: on(nn.LSTM(4, 3).double(), draw(5, 2, 4, dtype=torch.float64))),
    "LSTMCell, three steps": Case(lambda: steps(nn.LSTMCell(4, 3), draw(2, 3), draw(2, 3))),
    "GRUCell, three steps": Case(lambda: steps(nn.GRUCell(4, 3), draw(2, 3))),
    "RNNCell, three steps": Case(lambda: steps(nn.RNNCell(4, 3), draw(2, 3))),
}
