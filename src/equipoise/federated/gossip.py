"""Gossip: clients with models of their own, of which random pairs meet; one merge of all at the end."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.engine.seeds import generator
from equipoise.federated.ownmodels import MODELS, PLACE, model_of, own_models
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="Gossip",
    shape="federated",
    summary="Lets each client keep a model, random pairs average theirs, and merges all once at the end.",
    formula="w_k <- w_k + d_k; with probability r a pair takes (w_i + w_j) / 2; at the end mean_k w_k",
    title="On the Surprising Effectiveness of a Single Global Merging in Decentralized Learning",
    authors=("Tongtian Zhu", "Tianyu Zhang", "Mingze Wang", "Zhanpeng Zhou", "Can Wang"),
    venue="ICLR",
    year=2026,
    arxiv="2507.06542",
    guarantees=("RANDOM",),
    single="local training",
    cost="a model each way for each pair that meets; through a server, as here, for each client and round",
    use="to study what little communication between equals is worth, and one merge at the end",
    avoid="severely skewed clients where a server could average at every step; that ends ahead",
    status="main",
    evidence="single_merging",
)


class Gossip(Algorithm):
    """Decentralised training: every client has a model, and now and then two of them average.

    In a round each client trains its own model w_k. The clients that replied are then paired at random, and
    each pair, with probability r, leaves with (w_i + w_j) / 2 both. The model of the run is the mean of all
    clients' models, the single merge, at whatever round it is taken: `Finished.model`, and the output
    "merged". What is judged as "last" is each client's own model on its own examples.

    probability: r, 0.2. seed: of the pairs and of who meets.

    All models begin equal, without which they could not be merged. A client that is absent keeps its model
    and meets nobody, and is in the merge all the same. In the paper agents may meet after every step;
    here the local steps of a round lie between. The models lie with the server, m of them, which stands for
    the network between the clients: bytes are counted as if it sent and got each in every round.

    Raises ValueError for a probability outside [0, 1].
    Source: Zhu et al. 2026 (random gossip, then one fully connected round).
    """

    def __init__(self, *, probability: float = 0.2, seed: int = 0) -> None:
        super().__init__(ClientAlgorithm(), Pairs(probability=probability, seed=seed))


class Pairs(ServerAlgorithm):
    """Holds every client's model, lets pairs average, and has their mean as the model of the run."""

    def __init__(self, *, probability: float, seed: int) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; it is in [0, 1]")
        self.probability = probability
        self.seed = seed

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return own_models(parameters, clients)

    def received(self, state: Tensors, parameters: Tensors, client: str) -> Tensors:
        return model_of(client, state, parameters)

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        rows = torch.tensor([int(state[PLACE + name]) for name in round.names])
        one, other = self._meeting(rows, round.number)
        update, models = {}, {}
        for name, moved in round.bundle.items():
            held = state[MODELS + name]
            here = rows.to(held.device)
            held = held.index_copy(0, here, held[here] + moved)
            a, b = one.to(held.device), other.to(held.device)
            both = (held[a] + held[b]) / 2
            held = held.index_copy(0, a, both).index_copy(0, b, both)
            models[MODELS + name] = held
            update[name] = held.mean(0) - round.parameters[name]
        return Outcome(update, {**state, **models}, notes={"pairs": len(one)})

    def outputs(self, state: Tensors, parameters: Tensors) -> dict[str, Tensors]:
        return {"merged": parameters}

    def _meeting(self, rows: Tensor, number: int) -> tuple[Tensor, Tensor]:  # (m,) -> 2 of (p,)
        """The two sides of the pairs that average in a round."""
        draws = generator(self.seed, "pairs", number)
        order = rows[torch.randperm(len(rows), generator=draws)]
        pairs = order[: len(order) // 2 * 2].view(-1, 2)
        met = torch.rand(len(pairs), generator=draws) < self.probability
        return pairs[met, 0], pairs[met, 1]
