"""FRL: clients rank the weights of a random network that never changes, and so elect those in use."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from equipoise.core.card import Card
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.attacks import RANKS
from equipoise.federated.clientalgorithm import ClientAlgorithm, Reply, Tensors, View
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm, median_rows

CARD = Card(
    name="FRL",
    shape="federated",
    summary="Has clients vote, by rankings, which weights of a fixed random network are used.",
    formula="R_k = argsort(s_k); s[argsort(sum_k R_k^-1)] <- sorted first scores; weights v 1[s in top k]",
    title="Every Vote Counts: Ranking-Based Training of Federated Learning to Resist Poisoning Attacks",
    authors=("Hamid Mozaffari", "Virat Shejwalkar", "Amir Houmansadr"),
    venue="USENIX Security",
    year=2023,
    arxiv="2110.04350",
    guarantees=("PERMUTATION",),
    single="the scores of that client, by rank",
    cost="1, 2 or 4 bytes up a weight, as its layer is large; a layer is sorted in every local step",
    use="many clients of which a minority may be anything: each has one vote, however loud",
    avoid="narrow networks, or models that were trained before: they begin anew, from random signs",
    status="main",
    evidence="frl",
)


class FRL(Algorithm):
    """A network whose weights never change, of which the clients elect the ones that are used.

    Every layer with a weight gets fixed ones of random sign and one size, sqrt(2 / fan in), and a score for
    each, at first drawn evenly from ±1 / sqrt(fan in). In use are those weights of a layer that are in its
    top k by score. A client trains the scores by straight-through gradients: as if each score were a
    factor of its weight. It sends, for each layer, the weights in the order of their scores, as integers of
    the smallest type that holds them. The server adds up the places of each weight in the rankings, sorts
    the weights by that sum, and hands out the first scores of the layer, sorted, in this order.

    kept: k, the share of weights in use, 0.5.

    Biases are taken out, as the authors' networks have none; what else a model can train (the scales of
    normalisation layers) stays as it is built, and of buffers, such as their statistics, the median is taken.
    All clients have one vote, whatever their examples. Whatever numbers a client sends, its vote is some
    ranking, since only their order is looked at. The model of the run has the scores as parameters, named
    "<layer>.parametrizations.weight.original"; `torch.nn.utils.parametrize.remove_parametrizations(layer,
    "weight")` makes a plain layer of it.

    The authors' code ranks by the score, but keeps the top k by its absolute value, so that a reversed
    ranking asks for the same weights; here both go by the score. They use
    Local(epochs=2, batch_size=8, learning_rate=0.4, momentum=0.9, weight_decay=1e-4, decay=0.999) for MNIST.
    Partial participation changes nothing: who replies, votes.

    Raises ValueError for a share outside (0, 1], and for a model that has no layer with a weight, or ties
    two of them.
    Source: Mozaffari et al. 2023, and the authors' code; edge-popup by Ramanujan et al. 2020.
    """

    def __init__(self, *, kept: float = 0.5) -> None:
        if not 0 < kept <= 1:
            raise ValueError(f"kept is {kept}; it is in (0, 1]")
        self.kept = kept
        super().__init__(RankingClient(), Votes())

    def adapt(self, model: nn.Module) -> nn.Module:
        layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        }
        if not layers:
            raise ValueError("the model has no Linear or convolution, whose weights could be ranked")
        owners: dict[int, str] = {}
        for name, layer in layers.items():
            if id(layer.weight) in owners:
                first = owners[id(layer.weight)]
                raise ValueError(f"{first!r} and {name!r} share one weight; each needs scores of its own")
            owners[id(layer.weight)] = name
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for layer in layers.values():
            _mask(layer, self.kept)
        return model


class Chosen(nn.Module):
    """Scores (*shape) -> the fixed weights where the score is in the top share, 0 elsewhere."""

    fixed: Tensor

    def __init__(self, fixed: Tensor, kept: float) -> None:
        super().__init__()
        self.register_buffer("fixed", fixed, persistent=False)
        self.dropped = fixed.numel() - round(kept * fixed.numel())

    def forward(self, scores: Tensor) -> Tensor:
        held = scores.detach()
        if self.dropped:
            least = held.flatten().kthvalue(self.dropped + 1).values
            mask = (held >= least).to(held)
        else:
            mask = torch.ones_like(held)
        return self.fixed * (mask + (scores - held))


class RankingClient(ClientAlgorithm):
    """Trains scores, and sends their order."""

    def reply(self, parameters: Tensors, view: View) -> Reply:
        ranks = {RANKS + name: ranking(scores) for name, scores in parameters.items()}
        return Reply({}, ranks, view.kept)


class Votes(ServerAlgorithm):
    """Adds up the places that each weight has in the rankings; keeps the first scores of a layer, sorted."""

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return {f"scores/{name}": scores.flatten().sort().values for name, scores in parameters.items()}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        update = {}
        for name, before in round.parameters.items():
            places = round.sent[RANKS + name].long().argsort(1)
            order = places.sum(0).argsort(stable=True)
            after = torch.empty_like(before).flatten().index_copy(0, order, state[f"scores/{name}"])
            update[name] = after.view_as(before) - before
        return Outcome(update, state)

    def buffers(self, round: Round, outcome: Outcome, rows: Tensors) -> Tensors:
        """The median: no client is heard better than another."""
        return median_rows(rows)


def ranking(scores: Tensor) -> Tensor:  # (*shape) -> (n,)
    """The places of the numbers, from the lowest to the highest, in the smallest type that holds them.

    >>> ranking(torch.tensor([[0.3, -1.0], [2.0, 0.0]]))
    tensor([1, 3, 0, 2], dtype=torch.uint8)
    """
    count = scores.numel()
    dtype = torch.uint8 if count <= 2**8 else torch.uint16 if count <= 2**16 else torch.int32
    return scores.flatten().argsort(stable=True).to(dtype)


def _mask(layer: nn.Linear | nn.modules.conv._ConvNd, kept: float) -> None:
    """Give a layer fixed weights and scores in the place of its weight, and take its bias out."""
    old = layer.weight.detach()
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(old)
    signs = torch.randint(2, old.shape).to(old) * 2 - 1
    scores = torch.empty_like(old).uniform_(-1 / sqrt(fan_in), 1 / sqrt(fan_in))
    layer.weight = nn.Parameter(scores)
    layer.register_parameter("bias", None)
    parametrize.register_parametrization(layer, "weight", Chosen(signs * sqrt(2 / fan_in), kept))
