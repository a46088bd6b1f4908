"""Models that the server keeps for clients, where each has its own."""

import torch

from equipoise.federated.clientalgorithm import Tensors

MODELS, PLACE = "models/", "place/"
"""In a server's state: the models of all clients, a row each, by block; and the row of a client, by name."""


def own_models(parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
    """State with a model for each client, all equal at first.

    >>> state = own_models({"w": torch.zeros(2)}, ("alice", "bob"))
    >>> state["models/w"].shape, int(state["place/bob"])
    (torch.Size([2, 2]), 1)
    """
    rows = {MODELS + name: p.expand(len(clients), *p.shape).clone() for name, p in parameters.items()}
    return rows | places(clients)


def places(clients: tuple[str, ...]) -> Tensors:
    """State that says which row is a client's."""
    return {PLACE + client: torch.tensor(place) for place, client in enumerate(clients)}


def model_of(client: str, state: Tensors, parameters: Tensors) -> Tensors:
    """The model that is kept for a client, its blocks named and ordered as the parameters."""
    place = int(state[PLACE + client])
    return {name: state[MODELS + name][place] for name in parameters}
