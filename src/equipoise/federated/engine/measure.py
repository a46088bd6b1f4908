"""What is measured of a model on clients' examples: losses, scores, gradient lengths, labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from equipoise.core.federation import Examples, Federation
from equipoise.core.problem import Split
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.descent import accumulate
from equipoise.federated.serveralgorithm import Ask

CHUNK = 2048
"""Examples that go through a model at a time where nothing is trained."""


def ask(
    asks: Iterable[Ask], federation: Federation, model: nn.Module, client: str, examples: Examples
) -> Tensors:
    """What a server asks of one client, about the model as it stands, float64.

    The model is put in evaluation mode for the while.
    """
    asks, found = tuple(asks), {}
    with judging(model):
        if "label_counts" in asks:
            found["label_counts"] = federation.label_counts(client).double()
        if "gradient_norm" in asks:
            loss, length = _gradient(federation, model, examples)
            found["gradient_norm"] = length
            found |= {"loss": loss} if "loss" in asks else {}
        elif "loss" in asks:
            found["loss"] = values(federation.losses, model, examples).mean()
    return found


@contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, for the while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def values(
    function: Callable[[nn.Module, Examples], Tensor], model: nn.Module, examples: Examples
) -> Tensor:  # -> (n,)
    """A value for each example, float64 on the CPU, some thousand examples at a time."""
    parts = zip(*(part.split(CHUNK) for part in examples), strict=True)
    return torch.cat([function(model, batch).double().cpu() for batch in parts])


def by_client(
    function: Callable[[nn.Module, Examples], Tensor],
    model: nn.Module,
    clients: Mapping[str, Examples],
) -> dict[str, float]:
    """The mean of a value over the examples of each client, all clients' examples in one pass.

    Each client's in a pass of its own where they differ in shape. NaN for a client without examples.
    """
    if len({tuple((part.shape[1:], part.dtype) for part in examples) for examples in clients.values()}) > 1:
        return {
            name: float(values(function, model, examples).mean()) if len(examples[0]) else float("nan")
            for name, examples in clients.items()
        }
    counts = [len(examples[0]) for examples in clients.values()]
    together = tuple(torch.cat(parts) for parts in zip(*clients.values(), strict=True))
    found = values(function, model, together).split(counts) if sum(counts) else [torch.empty(0)] * len(counts)
    return {name: float(part.mean()) for name, part in zip(clients, found, strict=True)}


def evaluate(
    federation: Federation, models: Mapping[str, nn.Module], clients: Sequence[str], split: Split
) -> dict[str, dict[str, float]]:
    """{client: {"loss": mean, "score": mean}} of the model of each client on its own examples of a split.

    `models` maps clients to models; clients with the same model are measured together.
    """
    together: dict[nn.Module, list[str]] = {}
    for name in clients:
        together.setdefault(models[name], []).append(name)
    found: dict[str, dict[str, float]] = {}
    for model, names in together.items():
        device = next(model.parameters()).device
        held = {n: tuple(part.to(device) for part in federation.examples(n, split)) for n in names}
        with judging(model):
            losses, scores = (by_client(f, model, held) for f in (federation.losses, federation.scores))
        found |= {name: {"loss": losses[name], "score": scores[name]} for name in names}
    return {name: found[name] for name in clients}


def _gradient(federation: Federation, model: nn.Module, examples: Examples) -> tuple[Tensor, Tensor]:
    """The mean loss on all examples, and the length of its gradient by the trained parameters."""
    leaves = [p for p in model.parameters() if p.requires_grad]
    total, count = [torch.zeros_like(leaf) for leaf in leaves], len(examples[0])
    loss = torch.zeros((), dtype=torch.float64)
    for batch in zip(*(part.split(CHUNK) for part in examples), strict=True):
        value = federation.losses(model, batch).sum() / count
        found = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        accumulate(total, list(found))
        loss += value.detach().double().cpu()
    lengths = torch.stack([part.double().norm().cpu() for part in total])
    return loss, torch.linalg.vector_norm(lengths)
