"""Algorithm: a federated system, as a client part and a server part."""

from torch import nn

from equipoise.federated.clientalgorithm import ClientAlgorithm
from equipoise.federated.serveralgorithm import ServerAlgorithm


class Algorithm:
    """A client part and a server part that belong together.

    Parts may be exchanged where that makes sense: `Algorithm(FedProx(mu=0.1).client, FedAdam().server)`
    trains with a proximal term and moves the server by Adam.
    """

    def __init__(self, client: ClientAlgorithm, server: ServerAlgorithm) -> None:
        self.client = client
        self.server = server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.client).__name__}, {type(self.server).__name__})"

    def adapt(self, model: nn.Module) -> nn.Module:
        """The model that is trained, made from that of the federation, for systems that need another one.

        The caller has seeded torch's generator.
        """
        return model
