"""FedFV: updates give up what points against other clients, those of this round and of rounds before."""

from math import ceil

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.card import Card
from equipoise.core.checks import check_count
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.clientlosses import ByLosses, Losses
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="FedFV",
    shape="federated",
    summary="Projects updates off each other, those of the worst clients kept, and off earlier ones.",
    formula="d_i <- d_i - min(0, <d_i, d_j>) / |d_j|^2 d_j, j by rising loss; w <- w + |mean d| g / |g|",
    title="Federated Learning with Fair Averaging",
    authors=("Zheng Wang", "Xiaoliang Fan", "Jianzhong Qi", "Chenglu Wen", "Cheng Wang", "Rongshan Yu"),
    venue="IJCAI",
    year=2021,
    arxiv="2104.14937",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)"),
    single="local training",
    cost="FedAvg's messages; the server keeps one update a client (none with tau 0)",
    use="where clients conflict, and few of them reply in a round",
    avoid="large models at many clients, unless tau is 0",
    status="main",
    evidence="fair_federated",
)


class FedFV(Algorithm):
    """The mean of updates that gave up what points against other clients.

    Internal conflicts: each update d_i, but those of the share alpha of clients with the largest losses, is
    projected on the normal plane of every other d_j with which it conflicts, j in the order of rising losses,
    so that the client with the largest loss has the last word. g is their mean. External conflicts: of the
    clients that did not reply now, but last did s = tau, ..., 1 rounds ago, oldest first, the last updates
    that conflict with g are added up, and g is projected off that sum where it conflicts with it; not before
    round tau + 1, as in the authors' code. At the end g is scaled to the length of the plain mean of the
    updates, and is the step.

    alpha: 0.1 of the clients, rounded as m - ceil((m - 1)(1 - alpha)), by which at least the worst one is
    kept whenever alpha is above 0. tau: 1 round. losses: "before" or "during" (see `ByLosses`).

    Clients count alike, whatever their sizes. With tau above 0 the state has "history/<block>", a row for
    each client, and "seen", the number of the round in which it last replied, 0 for never. Where all clients
    reply in every round, tau changes nothing. Later versions of the authors' code count the rounds from 0 to
    tau - 1 ago, the present one included; here, as in their first version, they are the past ones. A
    g of zero, all conflicts taken out, is a step of zero.

    Raises ValueError for an alpha outside [0, 1], or a negative tau.
    Source: Wang et al. 2021, algorithms 1 to 3, and the authors' code.
    """

    def __init__(self, *, alpha: float = 0.1, tau: int = 1, losses: Losses = "before") -> None:
        super().__init__(ClientAlgorithm(), FairAverage(alpha=alpha, tau=tau, losses=losses))


class FairAverage(ByLosses):
    """The mean of updates after internal and external conflicts are taken out."""

    def __init__(self, *, alpha: float, tau: int, losses: Losses) -> None:
        super().__init__(losses=losses)
        check_count(0, tau=tau)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}; it is in [0, 1]")
        self.alpha = alpha
        self.tau = tau

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        if not self.tau:
            return {}
        rows = {f"history/{name}": p.new_zeros(len(clients), *p.shape) for name, p in parameters.items()}
        return {"seen": torch.zeros(len(clients), dtype=torch.int64), **rows}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        inner = round.bundle.gramian()
        m = len(inner)
        own = without_internal(inner, self.losses_of(round), self.alpha).mean(0)
        past, ages = self._past(state, round)
        if past is None:
            weights, others, joint = own, own[:0], inner
        else:
            cross = round.bundle.cross_gramian(past)
            joint = torch.cat([torch.cat([inner, cross], 1), torch.cat([cross.T, past.gramian()], 1)])
            both = torch.cat([own, own.new_zeros(len(past))])
            both = without_external(joint, both, ages, self.tau)
            weights, others = both[:m], both[m:]
        factor = _factor(inner.mean(), joint, torch.cat([weights, others]))
        update = round.bundle.combine(factor * weights)
        if past is not None:
            extra = past.combine(factor * others)
            update = {name: part + extra[name] for name, part in update.items()}
        return Outcome(update, self._after(state, round), factor * weights)

    def _past(self, state: Tensors, round: Round) -> tuple[Bundle | None, Tensor]:
        """The last updates of clients that are absent now and were not long ago, and how many rounds ago."""
        if not self.tau or round.number <= self.tau:
            return None, torch.zeros(0, dtype=torch.int64)
        here = torch.tensor([name in round.names for name in round.everyone])
        ages = round.number - state["seen"]
        rows = ((state["seen"] > 0) & ~here & (ages <= self.tau)).nonzero().flatten()
        if not len(rows):
            return None, ages[rows]
        names = [round.everyone[i] for i in rows.tolist()]
        blocks = {
            name: state[f"history/{name}"][rows.to(t.device)] for name, t in round.bundle.blocks.items()
        }
        return Bundle(names, blocks), ages[rows]

    def _after(self, state: Tensors, round: Round) -> Tensors:
        if not self.tau:
            return state
        rows = torch.tensor([round.everyone.index(name) for name in round.names])
        history = {
            f"history/{name}": state[f"history/{name}"].index_copy(0, rows.to(new.device), new)
            for name, new in round.bundle.items()
        }
        seen = state["seen"].index_fill(0, rows, round.number)
        return {"seen": seen, **history}


def without_internal(gramian: Tensor, losses: Tensor, alpha: float) -> Tensor:  # (m, m), (m,) -> (m, m)
    """Row i: what update i is made of after its conflicts with the others are taken out.

    >>> opposed = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    >>> without_internal(opposed, torch.tensor([1.0, 2.0]), 0.1).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    m = len(gramian)
    order = losses.argsort(stable=True).tolist()
    kept = set(order[ceil((m - 1) * (1 - alpha) - 1e-9) :]) if alpha > 0 else set()
    coefficients, products = torch.eye(m, dtype=gramian.dtype), gramian.clone()
    changed = torch.tensor([i not in kept for i in range(m)])
    for j in order:
        square = gramian[j, j]
        if not bool(square > 0):
            continue
        share = torch.where(changed, products[:, j].clamp(max=0.0) / square, 0.0)
        share[j] = 0.0
        coefficients[:, j] -= share
        products = products - share[:, None] * gramian[j]
    return coefficients


def without_external(gramian: Tensor, weights: Tensor, ages: Tensor, tau: int) -> Tensor:
    # (n, n), (n,), (h,) -> (n,)
    """`weights` of n updates, the last h of earlier rounds, after conflicts with these are taken out."""
    first = len(weights) - len(ages)
    for age in range(tau, 0, -1):
        along = gramian @ weights
        chosen = torch.zeros_like(weights)
        chosen[first:] = ((ages == age) & (along[first:] < 0)).to(weights)
        against, square = chosen @ along, chosen @ gramian @ chosen
        if bool(against < 0) and bool(square > 0):
            weights = weights - against / square * chosen
    return weights


def _factor(wanted: Tensor, gramian: Tensor, weights: Tensor) -> float:  # (), (n, n), (n,) -> ()
    """What brings a combination to the squared length `wanted`; 0 where rounding alone is left of it."""
    square = weights @ gramian @ weights
    size = (weights.abs() @ gramian.diagonal().clamp(min=0).sqrt()) ** 2
    if not bool(square > 1e-12 * size):
        return 0.0
    return float((wanted.clamp(min=0) / square).sqrt())
