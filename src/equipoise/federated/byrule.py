"""ByRule: any rule of the library combines the clients' updates."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.core.bundle import Bundle
from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.core.rule import GramianRule, RowRule, RowTransform, Rule, Scalarizer
from equipoise.core.step import Step
from equipoise.core.transformed import staged as through
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.serveralgorithm import Ask, Outcome, Round, ServerAlgorithm, mean_rows, median_rows

CARD = Card(
    name="ByRule",
    shape="federated",
    summary="Combines the clients' updates by any rule of aggregation or scalarisation.",
    formula="w <- w - eta A(w - w_1, ..., w - w_m)",
    guarantees=("PERMUTATION",),
    single="what the rule gives for one direction",
    cost="FedAvg's messages; at the server a Gramian of the updates, or the rows block by block, and a model "
    "for each client where the rule remembers directions (MoCo)",
    use="for conflict-averse or robust federated training by a rule that is known from elsewhere",
    avoid="where clients weigh by their examples and nothing else: that is FedAvg",
    status="main",
)

RULE, BEFORE = "rule/", "before"
Preference = Mapping[str, float] | Literal["samples"] | None


class ByRule(Algorithm):
    """The server's update is what a rule makes of the clients' updates.

    The rule sees each client as an objective whose gradient is w - w_k, the way from the client's model back
    to the one it received; the model moves by minus what the rule gives, times `learning_rate`. A Gramian
    rule is given the inner products of the updates, a row rule their rows block by block, after the rule's
    own `stages`; a scalarizer weighs the updates by its derivatives at the clients' losses of the model they
    received, which they measure for it. The rule's state is part of the server's, so that a run that goes on
    has it; the object that was handed in is never changed. "Losses after the step" (FAMO) are those of the
    next round, of the clients that reply in both. Buffers, such as the statistics of BatchNorm, are averaged
    by the rule's weights, those below 0 left out; a row rule has none, and their median is taken.

    rule: a GramianRule, RowRule or Scalarizer, such as `UPGrad()`, `Krum()` or `Tchebycheff()`.
    preference: None, "samples" for the shares of the clients' examples, or {client: weight}; only for rules
    that take one. own_rate: of the descent of a scalarizer's own parameters (UncertaintyWeighting, IMTLL) on
    the scalarised loss, one step a round.

    Raises TypeError for what is no such rule; ValueError for a preference that the rule does not take, and
    for a rate that is not positive.
    """

    def __init__(
        self, rule: Rule, *, learning_rate: float = 1.0, own_rate: float = 0.1, preference: Preference = None
    ) -> None:
        if not isinstance(rule, GramianRule | RowRule | Scalarizer):
            raise TypeError(f"ByRule takes a GramianRule, RowRule or Scalarizer, not {rule!r}")
        if preference is not None and not rule.uses("preference"):
            raise ValueError(rule.no_preference())
        check_positive(learning_rate=learning_rate, own_rate=own_rate)
        looking = rule.uses("losses") or any(stage.uses("losses") for stage in rule.stages())
        asking = looking or isinstance(rule, Scalarizer) or rule.needs_losses_after
        server = LossRuleServer if asking else RuleServer
        super().__init__(ClientAlgorithm(), server(rule, learning_rate, own_rate, preference))

    def __repr__(self) -> str:
        server = self.server
        return f"ByRule({server.rule!r})" if isinstance(server, RuleServer) else super().__repr__()


class RuleServer(ServerAlgorithm):
    """Moves the model by what a rule makes of the updates."""

    def __init__(self, rule: Rule, learning_rate: float, own_rate: float, preference: Preference) -> None:
        self.rule = deepcopy(rule)
        self.learning_rate = learning_rate
        self.own_rate = own_rate
        self.preference: Preference = preference

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        rule = deepcopy(self.rule)
        if isinstance(rule, Scalarizer) and any(True for _ in rule.parameters()):
            # such a rule takes the names of all clients from its first call, where it was given none
            rule.apply_to(torch.ones(len(clients), dtype=torch.float64), names=clients)
        return kept(rule)

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        rule = deepcopy(self.rule)
        rule.load_state_dict({key.removeprefix(RULE): t for key, t in state.items() if key.startswith(RULE)})
        losses = round.side.get("loss", round.side["loss_during"])
        if BEFORE in state:
            self._compare(rule, state[BEFORE], round, losses)
        context = {"losses": losses, "preference": self._preference(round), "names": round.names}
        gramian = weights = None
        if isinstance(rule, Scalarizer):
            weights = slopes(rule, context, self.own_rate)
            update = round.bundle.combine(self.learning_rate * weights)
        else:
            measured, rows, sign = staged(rule, round.bundle, losses)
            if isinstance(rule, GramianRule):
                gramian = measured.gramian() if rule.needs_directions else measured_nothing(len(round.names))
                weights = rule.apply_to(gramian, **context).to("cpu", torch.float64)
                update = rows.combine(sign * self.learning_rate * weights)
            else:
                update = {name: self._row(rule, name, rows, context) for name in rows.blocks}
        if rule.needs_losses_after:
            before = torch.full((len(round.everyone),), torch.nan, dtype=torch.float64)
            before[[round.everyone.index(name) for name in round.names]] = losses
            return Outcome(update, {**kept(rule), BEFORE: before}, weights)
        rule.update(Step(round.names, losses, weights, gramian, preference=context["preference"]))
        return Outcome(update, kept(rule), weights)

    def buffers(self, round: Round, outcome: Outcome, rows: Tensors) -> Tensors:
        """The mean by the rule's weights, those below 0 left out; the median where it has no weights."""
        weights = None if outcome.weights is None else outcome.weights.clamp(min=0)
        return median_rows(rows) if weights is None or not bool(weights.any()) else mean_rows(weights, rows)

    def _compare(self, rule: Rule, before: Tensor, round: Round, losses: Tensor) -> None:
        """Let the rule see what the last round did to the losses of those who reply again."""
        held = dict(zip(round.everyone, before, strict=True))
        now = dict(zip(round.names, losses, strict=True))
        names = tuple(name for name in round.names if bool(held[name].isfinite()))
        if names:
            step = Step(names, torch.stack([held[name] for name in names]), None)
            rule.update(step, {name: now[name] for name in names})

    def _row(self, rule: Rule, block: str, rows: Bundle, context: Mapping[str, object]) -> Tensor:
        held = rows.rows(block)
        found = rule.apply_to(held.reshape(len(held), -1), block=block, **context)  # type: ignore[arg-type]
        return found.reshape(held.shape[1:]) * -self.learning_rate

    def _preference(self, round: Round) -> Tensor | None:
        if self.preference is None:
            return None
        if self.preference == "samples":
            return round.shares
        missing = [name for name in round.names if name not in self.preference]
        if missing:
            raise ValueError(f"preference lacks {', '.join(map(repr, missing))}; give one for every client")
        given = torch.tensor([self.preference[name] for name in round.names], dtype=torch.float64)
        return given / given.sum()


class LossRuleServer(RuleServer):
    """The same for rules that look at losses."""

    asks: ClassVar[tuple[Ask, ...]] = ("loss",)


class _Backwards(Mapping[str, Tensor]):
    """The rows of a bundle, pointing back, through transforms; a block when it is asked for.

    With `holds` each is made once, and held, which takes as much memory as the transforms' own state.
    """

    def __init__(
        self, bundle: Bundle, stages: tuple[RowTransform, ...], losses: Tensor, *, holds: bool = False
    ) -> None:
        self.bundle = bundle
        self.stages = stages
        self.losses = losses
        self.held: Tensors | None = {} if holds else None

    def __getitem__(self, block: str) -> Tensor:
        if self.held is not None and block in self.held:
            return self.held[block]
        rows = -self.bundle.rows(block)
        flat = rows.reshape(len(rows), -1)
        _, seen = through(self.stages, flat, block, self.bundle.names, self.losses)
        found = seen.reshape(rows.shape)
        if self.held is not None:
            self.held[block] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.bundle.blocks)

    def __len__(self) -> int:
        return len(self.bundle.blocks)


def staged(rule: Rule, bundle: Bundle, losses: Tensor) -> tuple[Bundle, Bundle, int]:
    """The rows that a rule measures, those that it combines, and the sign with which the latter count.

    A Gramian does not change where all rows are turned round, and weights may count the other way: rows that
    no transform changes are taken as they are.
    """
    stages = rule.stages()
    moving = tuple(stage for stage in stages if not stage.measures)
    if not isinstance(rule, GramianRule):
        rows = Bundle(bundle.names, _Backwards(bundle, moving, losses))
        return rows, rows, -1
    if not stages:
        return bundle, bundle, 1
    all_move = len(moving) == len(stages)
    measured = Bundle(bundle.names, _Backwards(bundle, stages, losses, holds=all_move))
    if all_move:
        return measured, measured, -1
    if not moving:
        return measured, bundle, 1
    return measured, Bundle(bundle.names, _Backwards(bundle, moving, losses)), -1


def measured_nothing(m: int) -> Tensor:
    """The Gramian that a rule is given whose weights do not depend on it."""
    return torch.zeros(m, m, dtype=torch.float64)


def slopes(rule: Rule, context: Mapping[str, object], rate: float) -> Tensor:  # -> (m,)
    """The derivatives of a scalarizer by the losses; its own parameters take a step down, in place."""
    with torch.enable_grad():
        losses = context["losses"].clone().requires_grad_()  # type: ignore[union-attr]
        rest = {key: value for key, value in context.items() if key != "losses"}
        value = rule.apply_to(losses, losses=losses, **rest)  # type: ignore[arg-type]
        own = [p for p in rule.parameters() if p.requires_grad]
        found = torch.autograd.grad(value, [losses, *own], allow_unused=True, materialize_grads=True)
    for parameter, slope in zip(own, found[1:], strict=True):
        parameter.data.sub_(rate * slope)
    return found[0]


def kept(rule: Rule) -> Tensors:
    """The state of a rule that nobody else has, as part of the server's."""
    return {RULE + name: tensor.detach() for name, tensor in rule.state_dict().items()}
