"""TERM: losses tilted by their exponential, towards the worst clients or away from them."""

from math import isfinite, log

import torch

from equipoise.core.card import Card
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.clientlosses import ByLosses, Losses
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="TERM",
    shape="federated",
    summary="Weighs clients by the exponential of t times their loss.",
    formula="w <- w + 1/m sum_k exp(t (F_k - R)) (w_k - w), R the running tilted loss",
    title="Tilted Empirical Risk Minimization",
    authors=("Tian Li", "Ahmad Beirami", "Maziar Sanjabi", "Virginia Smith"),
    venue="ICLR",
    year=2021,
    arxiv="2007.01162",
    guarantees=("PERMUTATION", "NON_NEGATIVE"),
    single="local training; shortened while the loss falls, unless memory is 0",
    cost="FedAvg's messages; a look at all training examples before local training",
    use="with t > 0 for fairness between clients, smoothly; with t < 0 against clients with spoilt data",
    avoid="large t with noisy losses: one client takes all",
    status="main",
    evidence="fair_federated",
)

LOG = "log"
"""t R, the logarithm of the running mean of exp(t F); NaN before the first round."""


class TERM(Algorithm):
    """Tilted losses of the clients: the mean at t = 0, near the worst for large t, the best for t < 0.

    The objective is R = 1/t log mean_k exp(t F_k). In a round with the losses F_k of the m clients that
    replied, exp(t R) <- memory exp(t R) + (1 - memory) mean_k exp(t F_k), and the model moves by
    1/m sum_k exp(t (F_k - R)) (w_k - w).

    tilt: t, 0.1 by default, as in the authors' federated script; 0 is the plain mean of the clients' models.
    memory: 0.5, as there; 0 takes the round's own mean, with weights that sum to 1, and suits rounds in which
    all clients reply. With memory the weights sum to 1 / (1 - memory) at most, and to less than 1 while
    losses fall (t > 0). losses: "before" or "during" (see `ByLosses`). All clients count alike, whatever
    their sizes; one that is absent counts through the memory alone.

    The authors' code lowers the losses of each round by the largest of them and averages exponentials of the
    rest over rounds, whose maxima differ. Here exponentials of the losses themselves are averaged, as a
    logarithm, so that nothing overflows, and the first round starts the average, which there starts at 0.

    Raises ValueError for a memory outside [0, 1), or a tilt that is not finite.
    Source: Li et al. 2021, equation 2, clients in place of samples, and the authors' federated code.
    """

    def __init__(self, *, tilt: float = 0.1, memory: float = 0.5, losses: Losses = "before") -> None:
        super().__init__(ClientAlgorithm(), Tilted(tilt=tilt, memory=memory, losses=losses))


class Tilted(ByLosses):
    """Weighs updates by exp(t (F - R)), R the tilted loss, averaged over rounds."""

    def __init__(self, *, tilt: float, memory: float, losses: Losses) -> None:
        super().__init__(losses=losses)
        if not isfinite(tilt) or not 0 <= memory < 1:
            raise ValueError(f"tilt is {tilt} and memory {memory}; tilt is finite, memory in [0, 1)")
        self.tilt = tilt
        self.memory = memory

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return {LOG: torch.tensor(float("nan"), dtype=torch.float64)}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        tilted = self.tilt * self.losses_of(round)
        m, known = len(tilted), state[LOG]
        now = tilted.logsumexp(0) - log(m)
        if self.memory and bool(known.isfinite()):
            now = torch.logaddexp(known + log(self.memory), now + log(1 - self.memory))
        weights = (tilted - now).exp() / m
        return Outcome(round.bundle.combine(weights), {LOG: now}, weights)
