"""Bytes of four families of languages, and what a small model loses on each."""

import gzip
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.problems.data import find

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Germanic": ("en", "de", "nl", "sv-SE"),
    "Romance": ("fr", "es", "it", "pt"),
    "Slavic": ("pl", "cs", "uk", "bg"),
    "Turkic": ("tr", "kk", "tt", "uz"),
}


@cache
def text(language: str, part: str) -> Tensor:  # -> (n,)
    """The bytes of "train" or "valid" of a language of text_cv40, as numbers."""
    path = find("text_cv40", f"{language}.{part}.txt.gz", download=None)
    assert path is not None
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())), dtype=torch.uint8).long()


def sizes() -> dict[str, float]:
    """Bytes of training text of each family."""
    return {name: float(sum(len(text(one, "train")) for one in FAMILIES[name])) for name in FAMILIES}


def drawn(family: str, length: int, count: int, draws: torch.Generator) -> Tensor:  # -> (count, length)
    """Windows of training text, every language as likely as the others."""
    rows = []
    for place in torch.randint(0, len(FAMILIES[family]), (count,), generator=draws).tolist():
        whole = text(FAMILIES[family][place], "train")
        first = int(torch.randint(0, len(whole) - length + 1, (1,), generator=draws))
        rows.append(whole[first : first + length])
    return torch.stack(rows)


@cache
def held(family: str, length: int, count: int) -> Tensor:  # -> (languages * count, length)
    """`count` windows of each language, spread evenly over its validation text."""
    rows = []
    for language in FAMILIES[family]:
        whole = text(language, "valid")
        rows += [whole[i : i + length] for i in torch.linspace(0, len(whole) - length, count).long().tolist()]
    return torch.stack(rows)


def token_losses(model: nn.Module, rows: Tensor) -> Tensor:  # (n, t + 1) -> (n t,)
    """What a model loses on each byte after the first of its window."""
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten(), reduction="none")


@torch.no_grad()
def judged(model: nn.Module, length: int, count: int) -> dict[str, float]:
    """The mean validation loss by family."""
    return {name: float(token_losses(model, held(name, length, count)).mean()) for name in FAMILIES}
