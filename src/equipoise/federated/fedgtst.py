"""FedGTST: clients tune the lengths of their gradients to one that the server hands round."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value

from equipoise.core.card import Card
from equipoise.core.checks import check_not_negative
from equipoise.core.errors import check_choice
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Loss, Tensors, View
from equipoise.federated.fedavg import Averaging
from equipoise.federated.serveralgorithm import Ask, Outcome, Round

CARD = Card(
    name="FedGTST",
    shape="federated",
    summary="Draws every client's gradient length to the largest one, for features that transfer.",
    formula="F_k + xi (|grad F_k| - G)^2, G = max_k |grad F_k| of the round before",
    title="FedGTST: Boosting Global Transferability of Federated Models via Statistics Tuning",
    authors=("Evelyn Ma", "Chao Pan", "Rasoul Etesami", "Han Zhao", "Olgica Milenkovic"),
    venue="NeurIPS",
    year=2024,
    arxiv="2410.13045",
    guarantees=("PERMUTATION",),
    single="local training with its gradient held at the length it had",
    cost="FedAvg's messages and one number each way; a second derivative in each local step",
    use="to pre-train a model that will be fine-tuned elsewhere",
    avoid="a large xi, which keeps gradients from vanishing and so the training from ending",
    status="experimental",
    evidence="fedgtst",
)


class FedGTST(Algorithm):
    """Local losses with a term that holds the length of the gradient near a guide from all clients.

    Each client measures |grad F_k| of the model it receives, on all its training examples, and sends that
    one number. The guide G that the server hands round next is the largest of them (`guide="max"`) or
    their mean; a client then descends F_k(v) + xi (|grad F_k(v)| - G)^2, the gradient by all parameters
    on the batch of the step. So the mean length rises and its spread over clients falls, which is what the
    paper's bound on the target's loss asks for. In the first round there is no guide, and no such term.

    The text of the paper's algorithm was not at hand: that clients send their gradient's length alone, that
    the server raises the mean of them and that this is the local regulariser is from its abstract; the
    maximum as guide, the squared difference, and gradients by all parameters in place of those of a
    feature extractor are our reading. With xi = 0 it is FedAvg.

    Raises ValueError for a negative xi, or another guide.
    Source: Ma et al. 2024, abstract.
    """

    def __init__(self, *, xi: float = 0.01, guide: Literal["max", "mean"] = "max") -> None:
        super().__init__(GuidedClient(xi=xi), GuideServer(guide=guide))


class GuidedClient(ClientAlgorithm):
    """Descends the loss and the squared distance of its gradient's length from the guide."""

    def __init__(self, *, xi: float) -> None:
        check_not_negative(xi=xi)
        self.xi = xi

    def objective(self, loss: Loss, parameters: Tensors, view: View) -> tuple[Tensor, Tensor]:
        if self.xi == 0:
            return super().objective(loss, parameters, view)
        gradient, value = grad_and_value(loss)(parameters)
        square = torch.stack([(part**2).sum() for part in gradient.values()]).sum()
        length = square.clamp(min=torch.finfo(value.dtype).tiny).sqrt()
        guide, ready = (view.context[name].to(value.dtype) for name in ("guide", "ready"))
        return value + self.xi * ready * (length - guide) ** 2, value


class GuideServer(Averaging):
    """Averages, and keeps the guide for the next round."""

    asks: ClassVar[tuple[Ask, ...]] = ("gradient_norm",)

    def __init__(self, *, guide: Literal["max", "mean"]) -> None:
        super().__init__()
        check_choice("guide", guide, ("max", "mean"))
        self.guide = guide

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        return {name: torch.zeros((), dtype=torch.float64) for name in ("guide", "ready")}

    def context(self, state: Tensors, client: str) -> Tensors:
        return dict(state)

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        lengths = round.side["gradient_norm"]
        guide = lengths.max() if self.guide == "max" else lengths.mean()
        averaged = super().aggregate(state, round)
        notes = {"mean_norm": float(lengths.mean()), "norm_spread": float(lengths.std(correction=0))}
        return Outcome(
            averaged.update, {"guide": guide, "ready": torch.ones_like(guide)}, averaged.weights, notes
        )
