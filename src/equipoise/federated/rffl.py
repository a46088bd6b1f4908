"""RFFL: a reputation for each client, which weighs it, rewards it, and removes it."""

from math import ceil

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_positive, check_share
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.ownmodels import MODELS, model_of, own_models
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm, mean_rows

CARD = Card(
    name="RFFL",
    shape="federated",
    summary="Weighs clients by how they agree with all, rewards them so, and removes those that do not.",
    formula="u = sum r_k clip(d_k), r <- norm(a r + (1 - a) cos(d_k, u)); w_k <- w_k + top_{r_k / max r}(u)",
    title=(
        "A Reputation Mechanism Is All You Need: "
        "Collaborative Fairness and Adversarial Robustness in Federated Learning"
    ),
    authors=("Xinyi Xu", "Lingjuan Lyu"),
    venue="ICML Workshop on Federated Learning for User Privacy and Data Confidentiality",
    year=2021,
    arxiv="2011.10464",
    guarantees=("PERMUTATION",),
    single="its clipped update, whole",
    cost="FedAvg's messages; the Gramian, and with rewards a model for each client kept by the server",
    use="against free riders and clients that send noise, without any data at the server",
    avoid="honest clients that differ much, or have fitted their data: who stands alone looks like a liar",
    status="main",
    evidence="rffl",
)

REPUTATION, REPLIES, REMOVED = "reputation", "replies", "removed"


class RFFL(Algorithm):
    """A weighted mean by reputation, of which each client gets as much as its own reputation allows.

    Updates longer than Gamma are cut to that length; u = sum r_k d_k. The agreement of a client is the
    cosine of its update with u, and r <- alpha r + (1 - alpha) cosine, scaled to sum 1. In a round of clients
    none of which replied before, the weights are the shares of the examples, and r begins at 0. After
    `patience` rounds a client with r_k below `threshold` / n, n clients being left, is removed: its updates
    count no more, and it gets nothing.

    Each client has a model of its own. At the end of a round it gets the ceil(q_k size) largest entries of
    each block of u, q_k = r_k / max r, so the client of the highest reputation gets all of it. The model of
    the run, w + u, is the one of a client that always got all; "last" judges each client by its own.

    clip: Gamma, 0.5 (MNIST; the authors have 0.15 for CIFAR-10 and 1 for text). alpha: 0.95. threshold: 1/3.
    patience: 10. rewards: False gives every client w, and then no models are kept for them; removed
    clients then get w, too.

    As in the authors' code, agreement is not taken from updates of a client that was removed, and the
    round in which one is removed still counts it. Unlike there: a client's model moves by its reward alone,
    not by its own update as well; reputations below 0 are set to 0. With partial participation, on which the
    paper is silent, the weights are scaled to sum 1 over those that replied, their reputations keep the sum
    they had together, `patience` counts a client's own replies, and one that comes later than the first
    begins with the mean, 1 / n; all clients are rewarded in every round. Buffers, such as the statistics of
    BatchNorm, are averaged by the weights of the updates, and are the same for all.

    Raises ValueError for an option out of range.
    Source: Xu and Lyu 2021, and the authors' code.
    """

    def __init__(
        self,
        *,
        clip: float = 0.5,
        alpha: float = 0.95,
        threshold: float = 1 / 3,
        patience: int = 10,
        rewards: bool = True,
    ) -> None:
        server = Reputation(clip=clip, alpha=alpha, threshold=threshold, patience=patience, rewards=rewards)
        super().__init__(ClientAlgorithm(), server)


class Reputation(ServerAlgorithm):
    """Keeps a reputation for each client, and a model where clients are rewarded by it."""

    def __init__(self, *, clip: float, alpha: float, threshold: float, patience: int, rewards: bool) -> None:
        check_positive(clip=clip)
        check_share(alpha=alpha, threshold=threshold)
        check_count(0, patience=patience)
        self.clip = clip
        self.alpha = alpha
        self.threshold = threshold
        self.patience = patience
        self.rewards = rewards

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        m = len(clients)
        state = {
            REPUTATION: torch.full((m,), 1 / m, dtype=torch.float64),
            REPLIES: torch.zeros(m, dtype=torch.int64),
            REMOVED: torch.zeros(m, dtype=torch.bool),
        }
        return state | own_models(parameters, clients) if self.rewards else state

    def received(self, state: Tensors, parameters: Tensors, client: str) -> Tensors:
        return model_of(client, state, parameters) if self.rewards else parameters

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        rows = torch.tensor([round.everyone.index(name) for name in round.names])
        gramian = round.bundle.gramian()
        lengths = gramian.diagonal().sqrt()
        cut = torch.where(lengths > self.clip, self.clip / lengths.clamp(min=self.clip), 1.0)
        fresh = not bool(state[REPLIES][rows].any())
        trust = round.side["samples"] if fresh else state[REPUTATION][rows]
        weights = cut * _shares(trust.double().cpu() * ~state[REMOVED][rows])
        update = round.bundle.combine(weights)
        agreement = _cosines(gramian, weights)
        judged = self._judged(state, rows, agreement, fresh)
        if self.rewards:
            judged |= _rewarded(state, judged, update)
        gone = judged[REMOVED].nonzero().flatten().tolist()
        notes = {
            "reputation": dict(zip(round.everyone, judged[REPUTATION].tolist(), strict=True)),
            "removed": [round.everyone[i] for i in gone],
        }
        return Outcome(update, {**state, **judged}, weights, notes)

    def buffers(self, round: Round, outcome: Outcome, rows: Tensors) -> Tensors:
        """The mean by the weights of the updates, so that who was removed has no part in it."""
        assert outcome.weights is not None
        return mean_rows(outcome.weights, rows) if bool(outcome.weights.any()) else {}

    def _judged(self, state: Tensors, rows: Tensor, agreement: Tensor, fresh: bool) -> Tensors:
        """Reputation, replies and removals after a round."""
        here = ~state[REMOVED][rows]
        own = state[REPUTATION][rows] * here
        mixed = self.alpha * (0.0 if fresh else own) + (1 - self.alpha) * agreement
        mixed = mixed.clamp(min=0) * here
        mixed = mixed * (own.sum() / mixed.sum()) if bool(mixed.sum() > 0) else own
        reputation = state[REPUTATION].index_copy(0, rows, mixed)
        replies = state[REPLIES].index_add(0, rows, torch.ones_like(rows))
        left = int((~state[REMOVED]).sum())
        unworthy = here & (replies[rows] > self.patience) & (mixed < self.threshold / max(left, 1))
        removed = state[REMOVED].index_copy(0, rows, unworthy | ~here)
        return {REPUTATION: _shares(reputation * ~removed), REPLIES: replies, REMOVED: removed}


def _shares(values: Tensor) -> Tensor:  # (m,) -> (m,)
    """Values of 0 or more, scaled to sum 1; all zero as they are."""
    return values / values.sum() if bool(values.sum() > 0) else values


def _cosines(gramian: Tensor, weights: Tensor) -> Tensor:  # (m, m), (m,) -> (m,)
    """Of each row's angle to the weighted sum of all; 0 where either has no length."""
    along = gramian @ weights
    size = gramian.diagonal().sqrt() * (weights @ along).clamp(min=0).sqrt()
    return torch.where(size > 0, along / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)


def _rewarded(state: Tensors, judged: Tensors, update: Tensors) -> Tensors:
    """The clients' models after each got its part of the update."""
    reputation = judged[REPUTATION]
    top = float(reputation.max())
    shares = [r / top if top > 0 else 0.0 for r in reputation.tolist()]
    found = {}
    for name, change in update.items():
        size = change.abs().flatten()
        falling = size.sort(descending=True).values
        counts = [ceil(share * len(size) - 1e-9) for share in shares]
        least = torch.stack([falling[k - 1] if k else torch.full_like(falling[0], torch.inf) for k in counts])
        given = torch.where(size >= least[:, None], change.flatten(), 0.0)
        found[MODELS + name] = state[MODELS + name] + given.reshape(-1, *change.shape)
    return found
