"""Bytes of languages of text_cv40, and tiny random models, for the tests of the Hugging Face bridge."""

import gzip
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

LANGUAGES = ("de", "fr", "tr")
LENGTH = 24


def text(count: int = 96) -> list[dict[str, Tensor]]:
    """Pieces of text as bytes with their language, in turns but for the last sixteen, which are German."""
    folder = Path(os.environ["EQUIPOISE_DATA"]) / "text_cv40"
    pieces = {}
    for name in LANGUAGES:
        with gzip.open(folder / f"{name}.train.txt.gz", "rb") as file:
            whole = torch.tensor(list(file.read(count * LENGTH)), dtype=torch.long)
        pieces[name] = whole[: count * LENGTH].view(-1, LENGTH)
    found = []
    for place in range(count):
        language = 0 if place >= count - 16 else place % len(LANGUAGES)
        ids = pieces[LANGUAGES[language]][place]
        found.append({"input_ids": ids, "labels": ids.clone(), "language": torch.tensor(language)})
    return found


def gpt2():
    """A random GPT-2 over bytes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:  # (n, t, v), (n, t) -> (n,)
    """The mean loss of each piece's next bytes."""
    each = functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return each.mean(1)
