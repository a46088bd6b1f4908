"""Learner: what solvers share that train one model for all preferences."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.core.directions import spread
from equipoise.core.rule import Scalarizer
from equipoise.pareto.conditioned import Conditioned
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.renewal import renew
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of
from equipoise.scalarization.linear import Linear


class Learner(Solver):
    """A solver that trains a conditioned model on drawn preferences and gives its front at a grid of them.

    At each step `window` preferences are drawn from the Dirichlet distribution of that `concentration`, the
    losses are taken on one batch at the model of each, and the mean of `scalarization` over the draws is
    lowered, plus `monotony / window` times `disorder` of the losses: what the papers sum is divided by
    the window, so that rates compare. A step costs `window` gradients.

    `trace` evaluates the model at `points` preferences spread over the simplex; `fit` gives the model itself,
    for any. Both may leave a landscape's domain in between, whose `project` then applies. The running
    statistics of batch normalisation see every preference that is drawn; `trace` renews them at each of its
    own by forward passes over a few training batches, and after `fit` it is for the caller (`renewal.renew`).

    A preference is what the `scalarization` takes it for (its `preference_means`): weights, by default.

    A subclass defines `start`, and may override `optimizer`, `penalty` and `pass_by`.
    """

    def __init__(
        self,
        *,
        points: int = 11,
        concentration: float = 1.0,
        window: int = 1,
        monotony: float = 0.0,
        scalarization: Scalarizer | None = None,
    ) -> None:
        for name, value, least in (("points", points, 1), ("window", window, 1), ("monotony", monotony, 0)):
            if not value >= least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if not concentration > 0:
            raise ValueError(f"concentration is {concentration}; it must be positive")
        if monotony and window < 2:
            raise ValueError(f"monotony {monotony} compares several preferences; set window to 2 or more")
        self.points = points
        self.concentration = concentration
        self.window = window
        self.monotony = monotony
        self.scalarization = Linear() if scalarization is None else scalarization

    @abstractmethod
    def start(self, landscape: Landscape, model: nn.Module, seed: int) -> Conditioned:
        """The conditioned model to train, for a landscape and its model at the seed."""

    def optimizer(
        self, landscape: Landscape, parameters: Iterable[nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """The landscape's own unless overridden."""
        return landscape.optimizer(parameters, learning_rate)

    def penalty(self, conditioned: Conditioned, generator: np.random.Generator) -> Tensor | None:
        """What else is to be low at each step; nothing unless overridden."""
        del conditioned, generator
        return None

    def pass_by(self, conditioned: Conditioned, share: float) -> None:
        """Told before each step the share of training that is done."""
        del conditioned, share

    def fit(
        self,
        landscape: Landscape,
        *,
        budget: int,
        learning_rate: float,
        seed: int = 0,
        heard: Heard = lambda share: None,
    ) -> Conditioned:
        """Train the conditioned model, as `trace` does."""
        landscape.seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._fit(landscape, budget, learning_rate, seed, heard)[0]

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        conditioned, gradients = self._fit(landscape, budget, learning_rate, seed, heard)
        m = len(landscape.names)
        grid = spread(m, self.points if m > 1 else 1)
        model = landscape.model(seed)
        solutions = []
        for preference in grid:
            model.load_state_dict(conditioned.at(preference))
            landscape.project(model)
            renew(landscape, model, seed=seed)
            solutions.append({name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
        return Traced(solutions, grid, gradients)

    def _fit(
        self, landscape: Landscape, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> tuple[Conditioned, int]:
        rounds = rounds_of(budget, self.window, f"{self.window} preferences")
        model = landscape.model(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            conditioned = self.start(landscape, model, seed)
        optimizer = self.optimizer(landscape, conditioned.parameters(), learning_rate)
        generator = np.random.default_rng(seed)
        wish = np.full(len(landscape.names), self.concentration)
        for step in range(rounds):
            self.pass_by(conditioned, step / rounds)
            drawn = torch.from_numpy(generator.dirichlet(wish, size=self.window))
            loss = self._loss(landscape, model, conditioned, drawn)
            extra = self.penalty(conditioned, generator)
            (loss if extra is None else loss + extra).backward()
            optimizer.step()
            optimizer.zero_grad()
            heard((step + 1) / rounds)
        conditioned.keep(model)
        return conditioned, rounds * self.window

    def _loss(
        self, landscape: Landscape, model: nn.Module, conditioned: Conditioned, drawn: Tensor
    ) -> Tensor:
        rows, weighted = [], []
        with landscape.one_batch():
            for preference in drawn:
                tensors = within(landscape, model, conditioned(preference))
                losses = landscape.losses_at(model, tensors)
                row = torch.stack([losses[name] for name in landscape.names])
                rows.append(row)
                context = {"preference": preference.to(row), "names": landscape.names}
                weighted.append(self.scalarization.apply_to(row, **context))
        total = torch.stack(weighted).sum()
        if self.monotony:
            total = total + self.monotony * disorder(torch.stack(rows), drawn)
        return total / self.window


def disorder(losses: Tensor, preferences: Tensor) -> Tensor:  # (w, m), (w, m) -> ()
    """How far the losses are from falling as their preference grows; zero where all are in order.

    sum_i log mean exp([f_i(p) - f_i(q)]_+), the mean over the w - 1 pairs p, q of neighbours in the order
    of the preference for i, with p_i > q_i. Of more than two objectives a perfect front may be out of order,
    since f_i also depends on how the others share what p_i leaves.

    Source: Dimitriadis et al. 2023, multi-forward regularisation.

    >>> wish = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    >>> disorder(torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), wish)
    tensor(0.)
    """
    if len(losses) < 2:
        return losses.new_zeros(())
    order = preferences.to(losses.device).argsort(dim=0, descending=True, stable=True)
    ordered = losses.gather(0, order)
    excess = (ordered[:-1] - ordered[1:]).clamp_min(0)
    return excess.exp().mean(dim=0).log().sum()


def within(landscape: Landscape, model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors brought into the landscape's domain; outside, no gradient leads farther out."""
    if type(landscape).project is Landscape.project:
        return dict(tensors)
    with torch.no_grad():
        parameters = {name: p for name, p in model.named_parameters() if name in tensors}
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
        landscape.project(model)
        moved = {name: parameter - tensors[name] for name, parameter in parameters.items()}
    return {name: _moved(tensor, moved[name]) for name, tensor in tensors.items()}


def _moved(tensor: Tensor, by: Tensor) -> Tensor:
    moved = tensor + by
    if moved.requires_grad:
        moved.register_hook(lambda gradient: gradient * (gradient * by <= 0))
    return moved
