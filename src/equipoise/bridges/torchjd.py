"""TorchJD: our rules where it wants an aggregator, its aggregators where we want a rule."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.keyed import numbered
from equipoise.core.optional import require
from equipoise.core.rule import GramianRule, RowRule, Rule
from equipoise.core.step import Step


def to_torchjd(rule: Rule, *, names: Sequence[str] | None = None) -> Any:
    """A TorchJD `Aggregator` that does what a Gramian or row rule does.

    For a Gramian rule it is a `GramianWeightedAggregator`, whose `gramian_weighting` serves `autogram` too.
    Weights come back in the dtype and on the device of what was given. TorchJD has no call for the end
    of a step, so a rule with state advances after each call; names are "0", "1", ... where none are given.
    The update carries no graph.

    ```python
    from torchjd.autojac import backward, jac_to_grad
    backward(losses)
    jac_to_grad(model.parameters(), to_torchjd(equipoise.aggregation.ConFIG()))
    ```

    Raises TypeError for a rule that needs losses alone (a scalariser), for one that brings transforms of the
    rows (MoCo) and for what is no rule, and ImportError naming the extra `peers` where TorchJD is not
    installed.
    """
    peer = _peer()
    if isinstance(rule, Rule) and rule.stages():
        raise TypeError(
            f"{type(rule).__name__} transforms rows by the names of parameters, of which TorchJD knows none"
        )
    if isinstance(rule, GramianRule):
        return _combined(peer, _weighting(peer, rule, names))
    if isinstance(rule, RowRule):
        return _aggregator(peer, rule, names)
    raise TypeError(f"{rule!r} takes no directions; a GramianRule or a RowRule can be an aggregator")


def from_torchjd(inner: nn.Module) -> Rule:
    """A rule that does what a TorchJD aggregator, or a weighting of Gramians, does.

    A weighting, and an aggregator that has one for Gramians, becomes a Gramian rule: no matrix (m, d) is
    built. Any other aggregator becomes a row rule, which sees the parameters one at a time: right for what
    works coordinate by coordinate (GradDrop, TrimmedMean), another method for the rest (ConFIG, NashMTL).
    State, where it has some, advances as TorchJD does it, at each call and not in `update`; draws come from
    the global generator.

    Raises TypeError for anything else, and ImportError naming the extra `peers` where TorchJD is not
    installed.
    """
    peer = _peer()
    if isinstance(inner, type(peer.MeanWeighting() << abs)):
        raise TypeError(
            f"{inner!r} is composed with a function of its own; give the aggregator or the weighting"
        )
    weighting = getattr(inner, "gramian_weighting", None)
    if isinstance(inner, peer.Weighting):
        weighting = inner
    if weighting is not None:
        return FromWeighting(weighting)
    if isinstance(inner, peer.Aggregator):
        return FromAggregator(inner)
    raise TypeError(f"{inner!r} is neither an aggregator nor a weighting of TorchJD")


class FromWeighting(GramianRule):
    """The weights that a TorchJD weighting gives for a Gramian (m, m), float64 on the CPU."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        return self.inner(gramian).double()


class FromAggregator(RowRule):
    """The vector that a TorchJD aggregator makes of the rows (m, k) of one parameter."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> Tensor:  # (m, k) -> (k,)
        return self.inner(rows)


def _peer() -> ModuleType:
    return require("torchjd.aggregation", "peers")


def _advance(rule: Rule, names: tuple[str, ...], weights: Tensor | None, gramian: Tensor) -> None:
    losses = torch.zeros(len(names), dtype=torch.float64)
    rule.update(Step(names, losses, weights, gramian))


def _weighting(peer: ModuleType, rule: GramianRule, names: Sequence[str] | None) -> Any:
    class Weighting(peer.Weighting):
        """The weights of a rule of Equipoise."""

        def __init__(self) -> None:
            super().__init__()
            self.rule = rule

        def forward(self, stat: Tensor, /) -> Tensor:  # (m, m) -> (m,)
            called = numbered(names, len(stat))
            gramian = stat.detach().to("cpu", torch.float64)
            with torch.no_grad():
                weights = rule.apply_to(gramian, names=called)
            _advance(rule, called, weights, gramian)
            return weights.to(stat)

        def __repr__(self) -> str:
            return f"Weighting({rule!r})"

    return Weighting()


def _combined(peer: ModuleType, weighting: Any) -> Any:
    class Aggregator(peer.GramianWeightedAggregator):
        """The rows of a matrix, combined by the weights of a rule of Equipoise."""

        @torch.no_grad()
        def forward(self, matrix: Tensor, /) -> Tensor:  # (m, k) -> (k,)
            return super().forward(matrix)

        def __repr__(self) -> str:
            return f"Aggregator({weighting.rule!r})"

    return Aggregator(weighting)


def _aggregator(peer: ModuleType, rule: RowRule, names: Sequence[str] | None) -> Any:
    class Aggregator(peer.Aggregator):
        """The update of a rule of Equipoise, all columns as one block."""

        def __init__(self) -> None:
            super().__init__()
            self.rule = rule

        def forward(self, matrix: Tensor, /) -> Tensor:  # (m, k) -> (k,)
            called = numbered(names, len(matrix))
            with torch.no_grad():
                update = rule.apply_to(matrix, names=called, block="")
            _advance(rule, called, None, torch.zeros(len(called), len(called), dtype=torch.float64))
            return update

        def __repr__(self) -> str:
            return f"Aggregator({rule!r})"

    return Aggregator()
