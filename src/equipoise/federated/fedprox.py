"""FedProx: local training that is held near the model it began with."""

from equipoise.core.card import Card
from equipoise.core.checks import check_not_negative
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors, View
from equipoise.federated.fedavg import Averaging

CARD = Card(
    name="FedProx",
    shape="federated",
    summary="Averages models whose local training was held near the server's by a squared distance.",
    formula="min_v F_k(v) + mu / 2 |v - w|^2",
    title="Federated Optimization in Heterogeneous Networks",
    authors=(
        "Tian Li",
        "Anit Kumar Sahu",
        "Manzil Zaheer",
        "Maziar Sanjabi",
        "Ameet Talwalkar",
        "Virginia Smith",
    ),
    venue="MLSys",
    year=2020,
    arxiv="1812.06127",
    guarantees=("PERMUTATION",),
    single="local training towards a minimum in steps of the proximal method",
    cost="FedAvg's messages; one more vector operation in a local step",
    use="where clients do very unequal amounts of work, or diverge when left alone for long",
    avoid="as a cure for drift: it slows each client down and does not point it elsewhere",
    status="main",
    evidence="scaffold",
)


class FedProx(Algorithm):
    """FedAvg of clients that descend F_k(v) + mu / 2 |v - w|^2, w the model they received.

    The distance is squared, as in the paper. mu = 0 is FedAvg; the paper tries mu in {0.001, 0.01, 0.1, 1}
    and takes what is best for the data, so the default 0.01 is one of these, not a recommendation. The
    step follows grad F_k(v) + mu (v - w), and the loss that is reported is F_k alone. A client that did
    part of its steps counts like the others, which the paper has in place of dropping it.

    Raises ValueError for a negative mu.
    Source: Li et al. 2020, equation 2 and algorithm 2; clients are averaged by their examples, where the
    paper draws them by their examples and averages them evenly.
    """

    def __init__(self, *, mu: float = 0.01) -> None:
        super().__init__(ProximalClient(mu=mu), Averaging())


class ProximalClient(ClientAlgorithm):
    """Descends the loss and half of mu times the squared distance from the model received."""

    def __init__(self, *, mu: float) -> None:
        check_not_negative(mu=mu)
        self.mu = mu

    def correct(self, gradient: Tensors, parameters: Tensors, view: View) -> Tensors:
        return {
            name: part + self.mu * (parameters[name] - view.anchor[name]) for name, part in gradient.items()
        }
