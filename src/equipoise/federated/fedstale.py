"""FedStale: how much the last updates of absent clients count is a choice between none and all."""

from typing import Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.core.errors import check_choice
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.fedvarp import combined, no_history, rows_of
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="FedStale",
    shape="federated",
    summary="Weighs fresh updates by how seldom a client comes, and stale ones by a number of your choice.",
    formula="w <- w + eta sum_k o_k [1(k in S) / pi_k (D_k - beta h_k) + beta h_k]",
    title="FedStale: leveraging stale client updates in federated learning",
    authors=("Angelo Rodio", "Giovanni Neglia"),
    venue="ECAI",
    year=2024,
    arxiv="2405.04171",
    guarantees=("PERMUTATION",),
    single="local training",
    cost="FedAvg's messages; one model a client at the server",
    use="where clients come with unlike and known probabilities, and hold unlike data",
    avoid="beta above 0 where clients' data are alike: old updates are noise there",
    status="main",
    evidence="fedstale",
)

Chances = Literal["known", "estimated"]


class FedStale(Algorithm):
    """Fresh updates and stale ones, without bias towards clients that come often.

    With S the clients that replied, D_k their updates, pi_k the probability that client k replies, o_k its
    part of all clients' examples and h_k its last update before this round, 0 before its first,

        w <- w + eta sum_k o_k [1(k in S) / pi_k (D_k - beta h_k) + beta h_k],   then h_k <- D_k in S.

    In expectation over S, were the D_k the same whoever replies and every round counted, this is sum_k o_k
    D_k for every beta, which changes the variance alone: beta = 0 is FedAvg weighted by 1 / pi_k, beta = 1 is
    FedVARP for unequal probabilities. `beta` is 0.5 by default. `chances` says where pi_k come from: "known"
    from the run's `Participation` (a client whose replies are refused comes more seldom than that says),
    "estimated" from the rounds between a client's replies up to now, whose mean stands for 1 / pi_k, and 1
    stands before there is any; the estimate is without the round itself, as in the authors' code, and without
    a longest interval. `learning_rate` is eta of the server, 1 by default.

    The server learns a client's examples from its first reply; until then, o_k are as if it had as many as
    the mean of the others. Rounds without any reply leave the model as it is, stale updates included, so that
    the mean is then over the rounds in which somebody replied, and for known chances too large by 1 /
    P(somebody replies). The server keeps N updates.

    Raises ValueError for a beta outside [0, 1], a learning rate that is not positive, other chances.
    Source: Rodio and Neglia 2024, FedStale; the estimate is that of Wang and Ji, arXiv 2306.03401.
    """

    def __init__(self, *, beta: float = 0.5, chances: Chances = "known", learning_rate: float = 1.0) -> None:
        super().__init__(
            ClientAlgorithm(), StaleServer(beta=beta, chances=chances, learning_rate=learning_rate)
        )


class StaleServer(ServerAlgorithm):
    """Adds what is new in the updates, over the chance of seeing it, to a part of what was known."""

    def __init__(self, *, beta: float, chances: Chances, learning_rate: float) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is {beta}; it is in [0, 1]")
        check_choice("chances", chances, ("known", "estimated"))
        check_positive(learning_rate=learning_rate)
        self.beta = beta
        self.chances: Chances = chances
        self.learning_rate = learning_rate

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        none = torch.zeros(len(clients), dtype=torch.float64)
        counted = {"examples": none, "replies": none.clone(), "last": none.clone()}
        return no_history(parameters, len(clients)) | counted

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        rows = rows_of(round)
        examples = state["examples"].index_copy(0, rows, round.side["samples"])
        shares = shares_of(examples)
        factors = 1 / round.chances if self.chances == "known" else intervals(state)[rows]
        fresh = self.learning_rate * shares[rows] * factors
        stale = self.beta * (self.learning_rate * shares).index_add(0, rows, -fresh)
        update, history = combined(round, state, fresh, stale, rows)
        counted = {
            "examples": examples,
            "replies": state["replies"].index_add(0, rows, torch.ones_like(factors)),
            "last": state["last"].index_fill(0, rows, float(round.number)),
        }
        return Outcome(update, history | counted, fresh)


def shares_of(examples: Tensor) -> Tensor:  # (N,) -> (N,)
    """Each client's part of all examples, those not known yet, 0, as many as the mean of the others.

    >>> shares_of(torch.tensor([30.0, 0.0, 0.0, 10.0])).tolist()
    [0.375, 0.0, 0.0, 0.125]
    """
    known = examples > 0
    return examples / (examples.sum() / known.sum() * len(examples))


def intervals(state: Tensors) -> Tensor:  # -> (N,)
    """The mean number of rounds from reply to reply, 1 where there was none yet."""
    seen = state["replies"] > 0
    return torch.where(seen, state["last"] / state["replies"].clamp(min=1), torch.ones_like(state["last"]))
