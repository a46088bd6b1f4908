"""SCAFFOLD: control variates that turn local steps from a client's own direction to everybody's."""

import torch

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Reply, Tensors, View, difference
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="SCAFFOLD",
    shape="federated",
    summary="Corrects each local step by the difference between all clients' mean gradient and its own.",
    formula="v <- v - eta_l (g_k(v) - c_k + c), c_k <- c_k - c + (w - v_K) / (K eta_l)",
    title="SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    authors=(
        "Sai Praneeth Karimireddy",
        "Satyen Kale",
        "Mehryar Mohri",
        "Sashank J. Reddi",
        "Sebastian U. Stich",
        "Ananda Theertha Suresh",
    ),
    venue="ICML",
    year=2020,
    arxiv="1910.06378",
    guarantees=("PERMUTATION",),
    single="local training",
    cost="twice FedAvg's messages both ways; one model kept by each client and one by the server",
    use="where clients differ much, take many local steps and come back often",
    avoid="where most clients are seen once: their control variates are stale, or never there",
    status="main",
    evidence="scaffold",
)

CONTROL = "control/"


class SCAFFOLD(Algorithm):
    """Local steps corrected for what is special to a client.

    Each client keeps a control variate c_k, an estimate of its own gradient, the server c, their mean over
    all N clients; both begin at 0. A local step is v <- v - eta_l (g_k(v) - c_k + c). After K steps

        c_k+ = c_k - c + (w - v_K) / (K eta_l)    (option II)
        w <- w + eta_g mean_k (v_K - w),    c <- c + (m / N) mean_k (c_k+ - c_k)

    with means over the m clients that replied, each counting the same, as the paper's objective is the
    mean of the clients' losses: with unequal clients that is another objective than FedAvg's, which weighs
    by examples. `learning_rate` is eta_g, 1 by default. A client that is absent keeps its c_k, and c keeps
    its part of the mean.

    With momentum in `Local`, which the paper does not have, K is what the steps add up to (`Local.lengths`),
    as K eta_l alone would let the control variates grow without bound. Weight decay is in a client's gradient
    then; clipping makes (w - v_K) / (K eta_l) something else than a mean gradient. Option I, the gradient at
    w in place of that quotient, costs another pass over the data and is not offered.

    Raises ValueError for a learning rate that is not positive.
    Source: Karimireddy et al. 2020, algorithm 1.
    """

    def __init__(self, *, learning_rate: float = 1.0) -> None:
        super().__init__(ControlledClient(), ControlServer(learning_rate=learning_rate))


class ControlledClient(ClientAlgorithm):
    """Takes corrected steps, and sends how its control variate changed."""

    def start(self, parameters: Tensors) -> Tensors:
        return _zeros(parameters)

    def correct(self, gradient: Tensors, parameters: Tensors, view: View) -> Tensors:
        own, all_ = view.kept, view.context
        return {name: part - own[CONTROL + name] + all_[CONTROL + name] for name, part in gradient.items()}

    def reply(self, parameters: Tensors, view: View) -> Reply:
        update = difference(parameters, view.anchor)
        length = view.local.lengths(view.steps) * view.rate
        change = {
            CONTROL + name: -view.context[CONTROL + name] - moved / length.to(moved.dtype)
            for name, moved in update.items()
        }
        kept = {name: view.kept[name] + moved for name, moved in change.items()}
        return Reply(update, change, kept)


class ControlServer(ServerAlgorithm):
    """Averages models evenly, and keeps the mean control variate of all clients."""

    def __init__(self, *, learning_rate: float) -> None:
        check_positive(learning_rate=learning_rate)
        self.learning_rate = learning_rate

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return _zeros(parameters)

    def context(self, state: Tensors, client: str) -> Tensors:
        return state

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        count = len(round.bundle)
        weights = torch.full((count,), 1 / count, dtype=torch.float64)
        update = round.bundle.combine(self.learning_rate * weights)
        share = count / len(round.everyone)
        control = {name: before + share * round.sent[name].mean(0) for name, before in state.items()}
        return Outcome(update, control, weights)


def _zeros(parameters: Tensors) -> Tensors:
    return {CONTROL + name: tensor.new_zeros(tensor.shape) for name, tensor in parameters.items()}
