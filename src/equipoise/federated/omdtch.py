"""OMD-TCH: mirror ascent finds the weights of the worst client while the clients train."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.core.errors import check_choice, unknown
from equipoise.core.simplex import project_simplex
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.clientlosses import ByLosses, Losses
from equipoise.federated.serveralgorithm import Outcome, Round

CARD = Card(
    name="OMDTCH",
    shape="federated",
    summary="Minimises the worst client's weighted loss by mirror ascent on the clients' weights.",
    formula="w <- w + sum_k lambda_k p_k (w_k - w), lambda <- lambda exp(eta p F) / Z",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "PREFERENCE", "STATEFUL"),
    single="local training",
    cost="FedAvg's messages; the server keeps one more model",
    use="where the worst client is what counts; for a chosen balance between clients",
    avoid="when the mean is what counts, or some clients' data are spoilt: they take the weight",
    status="main",
    evidence="fair_federated",
)

Geometry = Literal["exponentiated", "projected"]


class OMDTCH(Algorithm):
    """The largest of the clients' weighted losses, as a game: weights climb towards bad clients.

    min_w max_lambda sum_k lambda_k p_k F_k(w), lambda on the simplex. In a round the model moves by
    sum_k lambda_k p_k (w_k - w); then "exponentiated" multiplies lambda_k by exp(eta p_k F_k) and
    normalises, "projected" adds eta p_k F_k and projects on the simplex.

    step_size: eta, 0.1 (the paper tries 0.001 to 1). geometry: "exponentiated" (OMDeg-TCH) or "projected"
    (OMDgd-TCH). preference: {client: p}, for all clients, scaled here to a mean of 1; a client with twice the
    p of another ends with half its loss, where both are among the worst. Without one every p is 1, as in the
    paper's federated experiments. losses: "during" as there, or "before" (see `ByLosses`). learning_rate:
    of the server, 1.

    Where clients are absent from a round, lambda is normalised over those that reply, and theirs alone
    climbs; should it be 0 for all of them, they count alike.

    `outputs` has "average", the uniform average of the models that were sent, which the theory is about;
    the last model stands beside it.

    Raises ValueError for options out of range, and from `start` for a preference that is not of all clients.
    Source: Liu et al. 2026, algorithm 1, and the authors' federated code.
    """

    def __init__(
        self,
        *,
        step_size: float = 0.1,
        geometry: Geometry = "exponentiated",
        preference: Mapping[str, float] | None = None,
        losses: Losses = "during",
        learning_rate: float = 1.0,
    ) -> None:
        server = MirrorAscent(
            step_size=step_size,
            geometry=geometry,
            preference=preference,
            losses=losses,
            learning_rate=learning_rate,
        )
        super().__init__(ClientAlgorithm(), server)


class MirrorAscent(ByLosses):
    """Weighs updates by lambda, which climbs on the clients' losses, and averages models."""

    def __init__(
        self,
        *,
        step_size: float,
        geometry: Geometry,
        preference: Mapping[str, float] | None,
        losses: Losses,
        learning_rate: float,
    ) -> None:
        super().__init__(losses=losses)
        check_positive(step_size=step_size, learning_rate=learning_rate)
        check_choice("geometry", geometry, get_args(Geometry))
        self.step_size = step_size
        self.geometry: Geometry = geometry
        self.preference = None if preference is None else dict(preference)
        self.learning_rate = learning_rate

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        self._check_preference(clients)
        first = torch.zeros(len(clients), dtype=torch.float64)
        weights = (
            {"logits": first} if self.geometry == "exponentiated" else {"shares": first + 1 / len(clients)}
        )
        zeros = {f"average/{name}": torch.zeros_like(t, dtype=_wide(t)) for name, t in parameters.items()}
        return {**weights, "rounds": torch.zeros((), dtype=torch.int64), **zeros}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        places = torch.tensor([round.everyone.index(name) for name in round.names])
        importance = self._importance(round.everyone)
        shares = shares_of(state)[places]
        total = shares.sum()
        shares = shares / total if bool(total > 0) else torch.full_like(shares, 1 / len(shares))
        weights = self.learning_rate * shares * importance[places]
        gain = torch.zeros_like(importance)
        gain[places] = self.step_size * importance[places] * self.losses_of(round)
        rounds = state["rounds"] + 1
        update = round.bundle.combine(weights)
        averages = {
            f"average/{name}": _moved(state[f"average/{name}"], model, int(rounds))
            for name, model in self.averaged(round, update).items()
        }
        after = {**state, **climbed(state, gain), "rounds": rounds, **averages}
        return Outcome(update, after, weights)

    def averaged(self, round: Round, update: Tensors) -> Tensors:
        """The model of a round that goes into the average."""
        return round.parameters

    def outputs(self, state: Tensors, parameters: Tensors) -> dict[str, Tensors]:
        if not int(state["rounds"]):
            return {}
        return {"average": {name: state[f"average/{name}"].to(like) for name, like in parameters.items()}}

    def _check_preference(self, clients: tuple[str, ...]) -> None:
        if self.preference is None:
            return
        for name, value in self.preference.items():
            if name not in clients:
                raise ValueError(unknown("client", name, clients))
            if not value > 0:
                raise ValueError(f"preference of client {name!r} is {value}; it is above 0")
        missing = [name for name in clients if name not in self.preference]
        if missing:
            raise ValueError(f"preference lacks {', '.join(map(repr, missing))}; give one for every client")

    def _importance(self, clients: tuple[str, ...]) -> Tensor:  # -> (n,)
        given = self.preference or dict.fromkeys(clients, 1.0)
        values = torch.tensor([given[name] for name in clients], dtype=torch.float64)
        return values / values.mean()


def shares_of(state: Tensors) -> Tensor:  # -> (n,)
    """lambda, of all clients."""
    return state["logits"].softmax(0) if "logits" in state else state["shares"]


def climbed(state: Tensors, gain: Tensor) -> Tensors:  # (n,) -> {key: (n,)}
    """lambda after a step on `gain`, in the geometry in which it is kept."""
    if "logits" in state:
        logits = state["logits"] + gain
        return {"logits": logits - logits.logsumexp(0)}
    return {"shares": project_simplex(state["shares"] + (gain - gain.max()))}


def _moved(average: Tensor, sent: Tensor, count: int) -> Tensor:
    """The mean of `count` models, from that of the ones before and the last."""
    return average + (sent - average) / count


def _wide(tensor: Tensor) -> torch.dtype:
    """The dtype of an average: float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
