"""AdaOMD-TCH: OMD-TCH that averages only those of its models that no other one dominates."""

from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_count
from equipoise.core.iterates import Iterate, insert, thin, weighted_mean
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.clientlosses import Losses
from equipoise.federated.omdtch import Geometry, MirrorAscent
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="AdaOMDTCH",
    shape="federated",
    summary="OMD-TCH, with an average of those of its models that no other one dominates.",
    formula="theta = sum_t gamma_t theta_t / T over the non-dominated t, sum gamma = T",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "PREFERENCE", "STATEFUL"),
    single="the model sent with the lowest loss; the last one stands beside it",
    cost="FedAvg's messages; the server keeps up to max_iterates models and two more",
    use="as OMDTCH, where models circle and the plain average lags behind",
    avoid="where losses fall in every round: the average is then the last model that was sent",
    status="main",
    evidence="fair_federated",
)


class AdaOMDTCH(Algorithm):
    """OMD-TCH whose average leaves out models that another one dominates.

    The model theta_t that is sent in round t comes with the clients' losses and a weight of 1. As bad as a
    stored one or worse for every client, it is not stored, and its weight is divided evenly over the stored
    ones that dominate it; one that dominates stored ones takes their place and their weights. "adaptive" in
    `outputs` is sum gamma_t theta_t / T over what is stored, "average" the uniform average of all models that
    were sent; the last model stands beside both.

    step_size, geometry, preference, losses, learning_rate: as in `OMDTCH`; dominance is judged by the
    same losses. max_iterates: models kept, 32; of more, the two with the nearest losses become their
    weighted mean, as in the scalarisation `AdaOMDTchebycheff`.

    The server keeps copies. The authors' federated code, as published, keeps references to the one live model
    instead, so that what it reports as adaptive is the last model: compare the two here. A client that is
    absent from a round counts with its last loss, and before its first reply with the mean of the others.

    Raises ValueError for options out of range, and from `start` for a preference that is not of all clients.
    Source: Liu et al. 2026, adaptive online-to-batch conversion.
    """

    def __init__(
        self,
        *,
        step_size: float = 0.1,
        geometry: Geometry = "exponentiated",
        preference: Mapping[str, float] | None = None,
        losses: Losses = "during",
        learning_rate: float = 1.0,
        max_iterates: int = 32,
    ) -> None:
        server = AdaptiveAverage(
            step_size=step_size,
            geometry=geometry,
            preference=preference,
            losses=losses,
            learning_rate=learning_rate,
            max_iterates=max_iterates,
        )
        super().__init__(ClientAlgorithm(), server)


class AdaptiveAverage(MirrorAscent):
    """Mirror ascent that keeps the models that no other one dominates.

    Stored in the state as "known" (n,), the last loss of each client, NaN before its first reply, "losses"
    (k, n), "weights" (k,), and "iterates/<i>/<block>" for i below k.
    """

    def __init__(
        self,
        *,
        step_size: float,
        geometry: Geometry,
        preference: Mapping[str, float] | None,
        losses: Losses,
        learning_rate: float,
        max_iterates: int,
    ) -> None:
        super().__init__(
            step_size=step_size,
            geometry=geometry,
            preference=preference,
            losses=losses,
            learning_rate=learning_rate,
        )
        check_count(1, max_iterates=max_iterates)
        self.max_iterates = max_iterates

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        known = torch.full((len(clients),), float("nan"), dtype=torch.float64)
        return {**super().start(parameters, clients), "known": known, **laid_out((), len(clients))}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        moved = super().aggregate(state, round)
        known, losses = state["known"].clone(), self.losses_of(round)
        known[[round.everyone.index(name) for name in round.names]] = losses
        sent = {name: tensor.detach().clone() for name, tensor in round.parameters.items()}
        new = Iterate(sent, known.nan_to_num(nan=float(losses.mean())), 1.0)
        kept = thin(insert(iterates_of(state), new), self.max_iterates)
        other = {key: t for key, t in moved.state.items() if not key.startswith("iterates/")}
        after = {**other, "known": known, **laid_out(kept, len(known))}
        return Outcome(moved.update, after, moved.weights, {"iterates": len(kept)})

    def outputs(self, state: Tensors, parameters: Tensors) -> dict[str, Tensors]:
        found, kept = super().outputs(state, parameters), iterates_of(state)
        return {**found, "adaptive": weighted_mean(kept)} if kept else found


def iterates_of(state: Tensors) -> list[Iterate]:
    """The models in a state, oldest first."""
    tensors: list[Tensors] = [{} for _ in state["weights"]]
    for key, tensor in state.items():
        group, _, rest = key.partition("/")
        if group == "iterates":
            number, _, block = rest.partition("/")
            tensors[int(number)][block] = tensor
    rows = zip(tensors, state["losses"], state["weights"].tolist(), strict=True)
    return [Iterate(*row) for row in rows]


def laid_out(kept: list[Iterate] | tuple[()], clients: int) -> Tensors:
    """Models as a flat mapping of tensors."""
    losses = [iterate.losses for iterate in kept]
    blocks: dict[str, Tensor] = {
        f"iterates/{i}/{block}": tensor
        for i, iterate in enumerate(kept)
        for block, tensor in iterate.tensors.items()
    }
    return {
        "losses": torch.stack(losses) if losses else torch.zeros(0, clients, dtype=torch.float64),
        "weights": torch.tensor([iterate.weight for iterate in kept], dtype=torch.float64),
        **blocks,
    }
