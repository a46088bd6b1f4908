"""Bytes of English text, small models of them, and runs at one learning rate of a sweep."""

import gzip
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from equipoise.problems.data import find

Part = str
BYTES = 256


@cache
def text(part: Part) -> Tensor:  # -> (n,)
    """The bytes of "train", "valid" or "test" of English in text_cv40, as numbers."""
    path = find("text_cv40", f"en.{part}.txt.gz", download=None)
    assert path is not None
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())), dtype=torch.uint8).long()


def windows(part: Part, length: int, count: int, draws: torch.Generator | None = None) -> Tensor:
    """Windows (count, length) of a text: drawn, or spread over it evenly."""
    whole = text(part)
    last = len(whole) - length
    if draws is None:
        first = torch.linspace(0, last, count).long()
    else:
        first = torch.randint(0, last + 1, (count,), generator=draws)
    return whole[first[:, None] + torch.arange(length)]


class BytesMLP(nn.Module):
    """Three layers from the embeddings of `context` bytes to the next byte."""

    def __init__(self, width: int, context: int = 8, embedded: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, embedded)
        self.first = nn.Linear(context * embedded, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, BYTES)

    def forward(self, x: Tensor) -> Tensor:  # (b, context) -> (b, 256)
        x = self.embedding(x).flatten(1)
        return self.head(F.relu(self.second(F.relu(self.first(x)))))


class Attention(nn.Module):
    """Causal attention; `normed` puts a layer norm on queries and keys."""

    def __init__(self, width: int, heads: int, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width // heads, bias=False) if normed else nn.Identity() for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:  # (b, t, w) -> (b, t, w)
        parts = self.into(x).unflatten(2, (3, self.heads, -1)).movedim(3, 1)
        queries, keys, values = parts.unbind(3)
        queries, keys = self.norms[0](queries), self.norms[1](keys)
        found = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.out(found.transpose(1, 2).flatten(2))


class BytesTransformer(nn.Module):
    """Pre-norm transformer on windows of bytes, with learned places."""

    def __init__(
        self, width: int, layers: int, context: int, *, heads: int = 4, normed: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.places = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.LayerNorm(width),
                    Attention(width, heads, normed),
                    nn.LayerNorm(width),
                    nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
                ]
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # (b, t) -> (b, t, 256)
        x = self.embedding(x) + self.places[: x.shape[1]]
        for before, attention, between, mlp in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            x = x + attention(before(x))
            x = x + mlp(between(x))
        return self.head(self.norm(x))


@dataclass(frozen=True)
class Course:
    """How a transformer is trained: warm-up and cosine, gradients of norm 1 at most.

    z: the factor of the squared log of the softmax's sum, which is added to the loss.
    """

    rate: float
    steps: int
    batch: int
    context: int
    seed: int
    z: float = 0.0
    warm: float = 0.1

    def at(self, step: int) -> float:
        """The learning rate of a step."""
        warm = max(1, round(self.warm * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))) / 2

    def train(self, model: nn.Module) -> None:
        """Train, and stop where a loss is not finite."""
        draws = torch.Generator().manual_seed(self.seed)
        optimizer = AdamW(model.parameters(), lr=self.rate, betas=(0.9, 0.95), weight_decay=0.0, foreach=True)
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.at(step)
            rows = windows("train", self.context + 1, self.batch, draws)
            logits = model(rows[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
            if not loss.isfinite():
                return
            if self.z:
                loss = loss + self.z * logits.logsumexp(-1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


@torch.no_grad()
def judged(model: nn.Module, part: Part, context: int, count: int) -> float:
    """The loss on windows spread over a text: of every byte, or of the last one, as the model gives."""
    rows = windows(part, context + 1, count)
    logits = model(rows[:, :-1])
    targets = rows[:, 1:] if logits.dim() == 3 else rows[:, -1]
    return float(F.cross_entropy(logits.flatten(0, -2), targets.flatten()))
