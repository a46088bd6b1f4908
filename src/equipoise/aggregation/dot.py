"""DOT: gradient descent with a momentum of its own for each objective."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.core.card import Card
from equipoise.core.errors import NonFiniteDirection, unknown
from equipoise.core.objectives import named_losses

CARD = Card(
    name="DOT",
    shape="system",
    summary="Descends with one momentum for each objective, so that the chosen one leads.",
    formula="v_i <- mu_i v_i + g_i; theta <- theta - lr sum_i v_i; mu_i = mu - Delta, mu + Delta",
    title="DOT: A Distillation-Oriented Trainer",
    authors=("Borui Zhao", "Quan Cui", "Renjie Song", "Jiajun Liang"),
    venue="ICCV",
    year=2023,
    arxiv="2307.08436",
    guarantees=("STATEFUL",),
    single="gradient descent with the mean of all momenta",
    cost="m backward passes, and one buffer a parameter for each objective",
    use="for distillation, where the loss of the teacher should be optimised ahead of the loss of the task",
    avoid="where the objectives are to be balanced: nothing here looks at a conflict",
    status="main",
    evidence="dot",
)


class DOT(Optimizer):
    """Gradient descent in which every objective keeps a momentum buffer with a factor of its own.

    v_i <- mu_i v_i + (1 - dampening) g_i for each objective i, then theta <- theta - lr sum_i v_i. A larger
    mu_i lets the past gradients of i count for longer, as if its rate were lr / (1 - mu_i). Without `momenta`
    the objectives are "task" with mu - Delta and "distillation" with mu + Delta, mu being `momentum` and
    Delta `delta`; `momenta` gives mu_i by name for any number of objectives.

    As in the authors' code, weight decay joins the gradient of the first objective of `momenta` that reaches
    a parameter, a buffer starts as the first gradient, and a parameter that a single objective reaches has
    the mean of all momenta, so that heads keep mu. Nesterov's form is ours: with equal momenta the whole is
    `torch.optim.SGD` of the summed losses in both forms.

    Use it for a student that should follow its teacher before the labels. Not to balance objectives.

    params: parameters or groups of them, as for any optimizer; all options but the names may differ by group.
    lr: 0.05, weight_decay: 5e-4 in the paper's CIFAR-100 runs, where Delta is 0.075.

    `step(losses)` takes scalar losses by name, or a function that gives them, takes their gradients itself
    and touches no `.grad`; an objective may be absent. `state_dict` holds every buffer. Raises ValueError for
    options out of range and unknown objectives, NonFiniteDirection, before any parameter moves, for gradients
    that are not finite. Source: Zhao et al. 2023, algorithm 1, and engine/dot.py of its authors.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = DOT([w], lr=0.1)
    >>> for _ in range(2):
    ...     losses = optimizer.step({"task": w.sum(), "distillation": 2 * w.sum()})
    >>> w.data
    tensor([0.1225])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.05,
        *,
        momentum: float = 0.9,
        delta: float = 0.075,
        momenta: Mapping[str, float] | None = None,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if momenta is None:
            momenta = {"task": momentum - delta, "distillation": momentum + delta}
        for name, value in momenta.items():
            if not 0 <= value < 1:
                raise ValueError(f"the momentum of {name!r} is {value:g}; it must be at least 0 and below 1")
        if not momenta:
            raise ValueError("momenta is empty; give a momentum for each objective by name")
        if not lr >= 0 or not weight_decay >= 0:
            raise ValueError(f"lr is {lr} and weight_decay {weight_decay}; neither may be negative")
        if nesterov and dampening:
            raise ValueError(f"nesterov goes with dampening=0, not {dampening}")
        defaults = {
            "lr": lr,
            "momenta": dict(momenta),
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, losses: Mapping[str, Tensor | None] | Callable[[], Mapping[str, Tensor | None]]
    ) -> dict[str, Tensor]:
        """One step down the losses, which it gives back, detached."""
        if callable(losses):
            with torch.enable_grad():
                losses = losses()
        present = named_losses(losses)
        for group in self.param_groups:
            for name in present:
                if name not in group["momenta"]:
                    raise ValueError(
                        f"{unknown('momentum', name, group['momenta'])}; give all: momenta={{name: factor}}"
                    )
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        gradients = _gradients(present, parameters)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    self._move(parameter, gradients.get(parameter, {}), group)
        return {name: loss.detach() for name, loss in present.items()}

    def _move(self, parameter: Tensor, gradients: Mapping[str, Tensor], group: Mapping[str, Any]) -> None:
        momenta: Mapping[str, float] = group["momenta"]
        buffers = self.state[parameter].setdefault("momentum", {}) if gradients else {}
        shared = len(buffers.keys() | gradients.keys()) > 1
        decay = group["weight_decay"]
        for name in (name for name in momenta if name in gradients):
            gradient = gradients[name]
            if decay:
                gradient = gradient.add(parameter, alpha=decay)
                decay = 0.0
            factor = momenta[name] if shared else sum(momenta.values()) / len(momenta)
            if name not in buffers:
                buffers[name] = gradient.clone()
            else:
                buffers[name].mul_(factor).add_(gradient, alpha=1 - group["dampening"])
            if group["nesterov"]:
                parameter.sub_(gradient.add(buffers[name], alpha=factor), alpha=group["lr"])
            else:
                parameter.sub_(buffers[name], alpha=group["lr"])


def _gradients(losses: Mapping[str, Tensor], parameters: list[Tensor]) -> dict[Tensor, dict[str, Tensor]]:
    """parameter -> objective -> gradient, where the loss reaches the parameter; all of them finite."""
    found: dict[Tensor, dict[str, Tensor]] = {}
    finite: dict[str, Tensor] = {}
    for i, (name, loss) in enumerate(losses.items()):
        keep = i + 1 < len(losses)
        rows = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
        for parameter, row in zip(parameters, rows, strict=True):
            if row is not None:
                row = row.to_dense() if row.layout != torch.strided else row
                found.setdefault(parameter, {})[name] = row
                known = finite.get(name)
                fine = row.isfinite().all()
                finite[name] = fine if known is None else known & fine.to(known.device)
    bad = [name for name, fine in finite.items() if not bool(fine)]
    if bad:
        raise NonFiniteDirection(bad, "no parameter was moved")
    return found
