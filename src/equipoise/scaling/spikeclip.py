"""SpikeClip: entries of a gradient that are far beyond what Adam has seen are cut, and moments begin anew."""

from math import cos, pi
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_positive

CARD = Card(
    name="SpikeClip",
    shape="system",
    summary="Cuts spikes in gradients before Adam sees them, and lets its moments begin anew.",
    formula="where g^2 > theta v: g <- sign(g) sqrt(theta v); every DT steps m = v = step = 0",
    title="SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training",
    authors=(
        "Tianjin Huang",
        "Ziquan Zhu",
        "Gaojie Jin",
        "Lu Liu",
        "Zhangyang Wang",
        "Shiwei Liu",
    ),
    venue="ICLR",
    year=2025,
    arxiv="2501.06842",
    single="any loss",
    cost="one pass over gradients and second moments",
    use="a loss that jumps now and then under Adam",
    avoid="spikes that come often: clip the norm of the gradient, or take theta near 50",
    status="main",
    evidence="spam",
)


class SpikeClip:
    """SPAM around an Adam or AdamW of torch: hooks before and after its steps.

    Before a step, entries with g^2 > theta v become sign(g) sqrt(theta v), v the second moment as stored, in
    a copy: `p.grad` is as it was after the step. After every `reset` steps both moments and the count of
    steps are 0 again, and the learning rates rise over `warmup` steps with (1 - cos) / 2. Nothing is cut in
    the first `settle` steps after that, while v is not yet what it stands for.

    The authors' code leaves the count of steps, so that new moments are taken for settled ones: under a
    steady gradient steps are up to four times too long after a reset. Here the count begins anew with them.

    A spike that is cut at theta = 5000 still multiplies v by six, so that a few of them in one period shorten
    Adam's steps as one whole spike does (see the evidence); where spikes come often take theta near 50, or
    clip the norm of the gradient.

    theta, reset, warmup, settle: the authors' defaults. reset: 0 never does. `clipped` counts entries of the
    last step that were cut. `remove` takes the hooks off. State is in `state_dict`, beside the optimizer's.

    Raises ValueError for numbers out of range, and, at the first step, an optimizer without "exp_avg_sq".

    Source: Huang et al. 2025, algorithm 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        theta: float = 5000.0,
        reset: int = 500,
        warmup: int = 150,
        settle: int = 20,
    ) -> None:
        check_positive(theta=theta)
        check_count(0, reset=reset, warmup=warmup, settle=settle)
        self.optimizer = optimizer
        self.theta, self.reset, self.warmup, self.settle = theta, reset, warmup, settle
        self.steps, self.clipped, self.resets = 0, 0, 0
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._rates: list[Any] = []
        self._hooks = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        )

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, int]:
        """Steps so far and resets."""
        return {"steps": self.steps, "resets": self.resets}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.steps, self.resets = int(state["steps"]), int(state["resets"])

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        since = self.steps % self.reset if self.reset else self.steps
        if self.reset and self.steps and since == 0:
            self._begin_anew(optimizer)
        self.clipped = 0
        if since >= self.settle:
            self._clip(optimizer)
        rising = self.resets and since < self.warmup
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if rising:
            factor = (1 - cos(pi * (since + 1) / self.warmup)) / 2
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * factor

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        for parameter, gradient in self._kept:
            parameter.grad = gradient
        self._kept = []
        self.steps += 1

    @torch.no_grad()
    def _clip(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                held = optimizer.state.get(parameter)
                if parameter.grad is None or not held:
                    continue
                if "exp_avg_sq" not in held:
                    raise ValueError(
                        f"{type(optimizer).__name__} keeps no exp_avg_sq; SpikeClip is for Adam and AdamW"
                    )
                cut = cut_spikes(parameter.grad, held["exp_avg_sq"], self.theta)
                changed = int((cut != parameter.grad).sum())
                if changed:
                    self.clipped += changed
                    self._kept.append((parameter, parameter.grad))
                    parameter.grad = cut

    @torch.no_grad()
    def _begin_anew(self, optimizer: Optimizer) -> None:
        self.resets += 1
        for held in optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"):
                if isinstance(held.get(name), Tensor):
                    held[name].zero_()


def cut_spikes(gradient: Tensor, second: Tensor, theta: float = 5000.0) -> Tensor:  # (...), (...) -> (...)
    """sign(g) sqrt(theta v) where g^2 > theta v > 0, else g.

    Where v is 0 nothing was seen yet, and to cut would keep it so for ever.

    >>> cut_spikes(torch.tensor([0.1, 100.0]), torch.tensor([0.0001, 0.01])).tolist()
    [0.10000000149011612, 7.071067810058594]
    """
    top = (theta * second).sqrt().to(gradient.dtype)
    return torch.where((gradient.abs() > top) & (second > 0), gradient.sign() * top, gradient)
