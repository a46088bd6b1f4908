"""AmortizedFront: one model tuned for each objective, and the front of their mixtures from a few of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.quadratic import QuadraticFront, design, needed
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of
from equipoise.pareto.walker import Walker
from equipoise.scalarization.linear import Linear

CARD = Card(
    name="AmortizedFront",
    shape="front",
    summary="Tunes one model for each objective, then finds the front of their mixtures by surrogates.",
    formula="theta(c) = theta_0 + sum_i c_i (theta_i - theta_0), f_i(theta(c)) ~ e_i + b_i'c + c'A_i c",
    title="MAP: Low-compute Model Merging with Amortized Pareto Fronts via Quadratic Approximation",
    authors=(
        "Lu Li",
        "Tianyu Zhang",
        "Zhiqi Bu",
        "Suyuchen Wang",
        "Huan He",
        "Jie Fu",
        "Yonghui Wu",
        "Jiang Bian",
        "Yong Chen",
        "Yoshua Bengio",
    ),
    venue="ICLR",
    year=2025,
    arxiv="2406.07529",
    single="the tuned model, scaled as the surrogate finds best",
    cost="m tuned models, then evaluations alone: a few times 1 + m + m(m + 1)/2 mixtures",
    use="where models tuned from one start are at hand or cheap, and solutions are wanted by the dozen",
    avoid="where tuned models lie apart by barriers; with more than some ten objectives",
    status="experimental",
    evidence="pareto_manifold",
)


class AmortizedFront(Solver):
    """Tunes one model for each objective, then finds the front of their mixtures on quadratic surrogates.

    A common start theta_0 is trained on the mean of the losses with the share `pretraining` of the budget,
    then one model for each objective from there. theta(c) = theta_0 + sum_i c_i (theta_i - theta_0), c in
    [0, 1]^m, is evaluated at `evaluations` places (by default three times as many as a quadratic needs), on
    the same `batches` training batches; QuadraticFront, refined for `refinements` rounds, gives `points`
    places of the front. Evaluations take no gradient and are not in the budget; the record counts them.

    Use it where tuned models exist or solutions are wanted by the dozen. Not where barriers lie between the
    models, nor with many objectives.

    Source: Li et al. 2024 (MAP), where theta_0 is a pretrained model. Our reading: the common training that
    stands for it here, and the refinement. All floating-point tensors are mixed, buffers too.

    >>> AmortizedFront(points=5).pretraining
    0.5
    """

    def __init__(
        self,
        *,
        points: int = 11,
        evaluations: int | None = None,
        refinements: int = 1,
        pretraining: float = 0.5,
        batches: int = 8,
    ) -> None:
        if not 0 <= pretraining < 1:
            raise ValueError(f"pretraining is {pretraining}; it is a share of the budget, from 0 to below 1")
        least = {"points": 1, "refinements": 0, "batches": 1} | (
            {} if evaluations is None else {"evaluations": 1}
        )
        given = {"points": points, "refinements": refinements, "batches": batches, "evaluations": evaluations}
        for name, low in least.items():
            if not given[name] >= low:
                raise ValueError(f"{name} is {given[name]}; it must be at least {low}")
        self.points = points
        self.evaluations = evaluations
        self.refinements = refinements
        self.pretraining = pretraining
        self.batches = batches

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        m = len(landscape.names)
        rounds_of(budget, m, "one step for each objective")
        steps = max(int(budget * (1 - self.pretraining)) // m, 1)
        common = Walker(landscape, landscape.model(seed), learning_rate)
        for step in range(budget - m * steps if self.pretraining else 0):
            common.step(Linear())
            heard((step + 1) / budget)
        start, spent, tuned = common.tensors(), common.count, []
        for name in landscape.names:
            model = landscape.model(seed)
            model.load_state_dict(start)
            walker = Walker(landscape, model, learning_rate)
            for _ in range(steps):
                walker.descend(lambda losses, name=name: losses[name])
            tuned.append(walker.tensors())
            spent += walker.count
            heard(spent / budget)
        mixed = _Mixtures(landscape, landscape.model(seed), start, tuned, self.batches, seed)
        places = design(m, 3 * needed(m) if self.evaluations is None else self.evaluations)
        surrogate = QuadraticFront(landscape.names, places, torch.stack([mixed.losses(p) for p in places]))
        surrogate = surrogate.refine(mixed.losses, rounds=self.refinements, points=self.points)
        front = surrogate.front(self.points)
        solutions = [mixed.state(one["input"]) for one in front.solutions]
        notes = {key: value for key, value in surrogate.record().items() if key != "solver"}
        return Traced(solutions, front.weights, spent, {"surrogate": notes})


class _Mixtures:
    """The models theta_0 + sum_i c_i (theta_i - theta_0), and their losses on a few batches."""

    def __init__(
        self,
        landscape: Landscape,
        model: nn.Module,
        start: Mapping[str, Tensor],
        tuned: Sequence[Mapping[str, Tensor]],
        batches: int,
        seed: int,
    ) -> None:
        self.landscape = landscape
        self.model = model.eval()
        self.start = start
        self.tuned = tuned
        self.batches = batches
        self.seed = seed

    def state(self, place: Tensor) -> dict[str, Tensor]:  # (m,) -> by name
        mixed = {}
        for name, first in self.start.items():
            if first.is_floating_point():
                moves = zip(place.tolist(), self.tuned, strict=True)
                mixed[name] = first + sum(share * (one[name] - first) for share, one in moves)
            else:
                mixed[name] = first.clone()
        self.model.load_state_dict(mixed)
        self.landscape.project(self.model)
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    @torch.no_grad()
    def losses(self, place: Tensor) -> Tensor:  # (m,) -> (m,)
        self.state(place)
        self.landscape.seed(self.seed)
        total = torch.zeros(len(self.landscape.names), dtype=torch.float64)
        for _ in range(self.batches):
            found = self.landscape.losses(self.model)
            total += torch.stack([found[name].detach().double().cpu() for name in self.landscape.names])
        return total / self.batches
