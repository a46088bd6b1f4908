"""Gradient accumulation: many micro-batches, one combination, as if they were one batch."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from equipoise.core.call import Call, OnNonFinite, Private, prepare
from equipoise.core.combine import settle, settle_rows
from equipoise.core.groups import Groups
from equipoise.core.held import Held
from equipoise.core.objectives import Losses, Parameters, Preference
from equipoise.core.observer import Observers, as_observers
from equipoise.core.onepass import weigh_losses
from equipoise.core.passes import Collected, add_gramians, collect
from equipoise.core.plan import Plan, layers_of
from equipoise.core.rule import GramianRule, RowRule, Rule, Scalarizer
from equipoise.core.scaling import scale_of
from equipoise.core.schedules import scheduled
from equipoise.core.step import Step
from equipoise.core.world import World


class Accumulator:
    """Takes the losses of micro-batches one by one and combines them as those of one large batch.

    The Gramian of a mean of directions is not the mean of Gramians, so what is kept between micro-batches are
    the m directions, parameter by parameter: as rows, or as the inputs and output gradients of all
    micro-batches where these are smaller. `step.plan.measured` says how much that was.

    >>> from equipoise.aggregation import UPGrad
    >>> layer = torch.nn.Linear(3, 2)
    >>> accumulator = Accumulator(UPGrad())
    >>> for part in torch.randn(4, 8, 3):
    ...     accumulator.add(dict(zip("ab", layer(part).square().mean(0))))
    >>> accumulator.backward().names
    ('a', 'b')
    """

    def __init__(
        self,
        rule: Rule,
        *,
        parameters: Parameters = None,
        preference: Preference = None,
        private: Private | None = None,
        on_nonfinite: OnNonFinite = "raise",
        scaler: torch.amp.GradScaler | None = None,
        groups: Groups = "all",
        process_group: ProcessGroup | bool | None = None,
        observers: Observers = (),
    ) -> None:
        """The arguments are those of `backward`. Between processes nothing is sent before `backward`."""
        if not isinstance(rule, Scalarizer | GramianRule | RowRule):
            raise TypeError(
                f"{rule!r} is no rule; a rule is an object such as equipoise.aggregation.UPGrad()"
            )
        if rule.stages():
            raise ValueError(
                f"{type(rule).__name__} transforms the rows of each batch; call equipoise.backward instead"
            )
        self.rule = rule
        self.options = {
            "parameters": parameters,
            "preference": preference,
            "private": private,
            "on_nonfinite": on_nonfinite,
            "groups": groups,
            "observers": as_observers(observers),
        }
        self.scaler = scaler
        self.process_group = process_group
        self._reset()

    def _reset(self) -> None:
        self.call: Call | None = None
        self.held: dict[Tensor, Held] = {}
        self.own: dict[Tensor, dict[int, Tensor]] = {}
        self.values: Tensor | None = None
        self.weight = 0.0

    def add(self, losses: Losses, *, weight: float = 1.0) -> None:
        """Take the losses of a micro-batch, and free its graph.

        weight: how much it counts, such as its number of samples where these differ and losses are means.

        Raises ValueError, and keeps what it has, where the objectives or the parameters that they reach are
        not those of the micro-batches before.
        """
        if not weight > 0:
            raise ValueError(f"weight is {weight}; a micro-batch counts for more than nothing")
        call = prepare(
            losses,
            self.rule,
            scale=scale_of(self.scaler),
            retain_graph=False,
            **self.options,
        )
        self._check(call)
        planned, _ = scheduled(replace(call, budget=1 << 62))
        found = collect(call, planned.shares, retain=False, release=False)
        held = {leaf: one.times(weight) for leaf, one in found.held.items()}
        for leaf, one in held.items():
            self.held[leaf] = self.held[leaf].plus(one) if leaf in self.held else one
        for leaf, gradients in found.private.items():
            own = self.own.setdefault(leaf, {})
            for i, gradient in gradients.items():
                own[i] = gradient * weight if i not in own else own[i] + gradient * weight
        self.values = call.values * weight if self.values is None else self.values + call.values * weight
        self.weight += weight
        self.call = replace(call, losses=(), graph=type(call.graph)({}))

    def backward(self) -> Step:
        """Add the direction of the rule to `.grad`, and begin anew.

        Raises ValueError where nothing was added, else what `backward` raises; what was added is then gone.
        """
        if self.call is None or self.values is None:
            raise ValueError("no micro-batch was added; call add(losses) before backward()")
        call, held, own, total = self.call, self.held, self.own, self.weight
        values = self.values / total
        self._reset()
        world = World.found(self.process_group)
        if world is not None:
            world.agree(call.names, call.reached)
            values = world.mean(values)
        call = replace(call, values=values, world=world)
        held = {leaf: one.times(1 / total) for leaf, one in held.items()}
        measured = sum(one.alone() for one in held.values())
        if world is not None:
            held = {leaf: world.reduce(one) for leaf, one in held.items()}
        m = len(call.names)
        empty = {group: torch.zeros(m, m, dtype=torch.float64) for group in call.grouped}
        private = {leaf: {i: gradient / total for i, gradient in one.items()} for leaf, one in own.items()}
        found = Collected(empty, held, set(held), private, measured)
        add_gramians(call, held, found)
        plan = Plan(
            "accumulated",
            passes=m,
            layers=layers_of(held, dict(zip(call.shared, call.leaf_names, strict=True))),
            predicted=measured,
            measured=measured,
            traffic=0 if world is None else world.traffic,
        )
        if isinstance(self.rule, RowRule):
            step = settle_rows(call, found, plan)
        elif isinstance(self.rule, Scalarizer):
            step = weigh_losses(call, found, plan)
        else:
            step = settle(call, found, plan)
        for observer in call.observers:
            observer.combined(step)
        return step

    def _check(self, call: Call) -> None:
        if self.call is None:
            return
        if call.names != self.call.names:
            raise ValueError(
                f"this micro-batch has the objectives {', '.join(call.names)}, those before had "
                f"{', '.join(self.call.names)}; give a loss of zero for one that is absent"
            )
        if call.reached != self.call.reached:
            raise ValueError(
                "the losses of this micro-batch reach other parameters than those before; give a loss of "
                "zero that reaches them, or accumulate such batches on their own"
            )
