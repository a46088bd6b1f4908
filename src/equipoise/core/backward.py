"""`backward`: m losses and a rule in, `.grad` out."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch.distributed import ProcessGroup

from equipoise.core.approximate import Features, by_features, by_previous, by_sketch, reusable
from equipoise.core.call import Call, OnNonFinite, Private, prepare
from equipoise.core.combine import by_gramian, by_rows
from equipoise.core.groups import Groups
from equipoise.core.objectives import Losses, Parameters, Preference
from equipoise.core.observer import Observers, as_observers
from equipoise.core.onepass import in_one_pass
from equipoise.core.plan import parse_memory
from equipoise.core.rule import GramianRule, RowRule, RowTransform, Rule, Scalarizer
from equipoise.core.scaling import scale_of
from equipoise.core.step import Step
from equipoise.core.transformroute import by_transformed
from equipoise.core.world import World


def backward(
    losses: Losses,
    rule: Rule,
    *,
    parameters: Parameters = None,
    preference: Preference = None,
    private: Private | None = None,
    on_nonfinite: OnNonFinite = "raise",
    scaler: torch.amp.GradScaler | None = None,
    retain_graph: bool = False,
    max_memory: int | str | None = None,
    groups: Groups = "all",
    gramian: Literal["exact", "sketch"] = "exact",
    sketch_size: int = 64,
    features: Features | None = None,
    weights_every: int = 1,
    previous: Step | None = None,
    transforms: RowTransform | Sequence[RowTransform] = (),
    samples: bool = False,
    verify: bool = False,
    process_group: ProcessGroup | bool | None = None,
    observers: Observers = (),
) -> Step:
    """Give the parameters the direction of a rule: stands where `sum(losses).backward()` stood.

    A parameter that two or more losses reach is shared and gets the rule's direction; one that a
    single loss reaches is private. `.grad` accumulates, as in autograd. With one loss every parameter
    counts as shared.

    losses: scalar losses by name (None marks one absent from this batch), or a sequence of them.
    parameters: those to give gradients to; default every leaf that the losses reach.
    preference: m non-negative numbers, or a mapping by name; scaled to sum 1.
    private: "own" gives private parameters the gradient of their own loss, "weighted" that gradient
        times the weight of its loss. Default "own" for Gramian and row rules, "weighted" for
        scalarisers, where "own" costs one more pass over the private parameters for each loss. A
        row rule has no weights, so "weighted" is refused.
    on_nonfinite: "raise" NonFiniteDirection naming the objectives, before any `.grad` is touched;
        "skip" them in this step; or take the "mean" of the others in place of the rule. A scalariser
        sees losses only, so under "raise" a finite loss with a gradient that is not finite names
        every objective that reaches the parameters at fault.
    scaler: a GradScaler; `.grad` is then scaled as it expects, the rule sees unscaled values, and an
        overflow is left in `.grad`, for the scaler to skip the step.

    max_memory: bytes, or a text such as "2GiB", that may be held beside the graph until the weights are
        known; layers, then objectives, are gone through in shares that fit. By default 256 MiB, or four
        copies of the gradients where that is more.
    groups: "all" parameters get one set of weights, or each "layer", each "tensor", or each group that a
        function of a parameter's name tells; for rules that take a Gramian.
    gramian: "exact", or "sketch": from random projections of each layer's gradients to `sketch_size` x
        `sketch_size` numbers, seeded and unbiased. On the models of the benchmarks the error of an entry,
        relative to the two lengths, was between 0.013 and 0.39 (root mean square) at size 8, between
        0.0015 and 0.14 at size 64, and at most 0.03 at size 256.
    features: tensors that all losses share; the weights come from the gradients there (MGDA-UB).
    weights_every: k reuses the weights of `previous`, the step before, k - 1 times: one pass each.
    transforms: what the rows of each parameter pass through, in order, before a Gramian or row rule sees
        them; their state advances in their own `update`. All rows of a parameter are formed, twice
        where they do not fit into the budget.
    samples: `losses` is one tensor (m,) of the losses of m samples. Layers whose rows are samples are found
        by one more pass, and get all m directions from a single one; the others take m passes.
    verify: compare with plain autograd on the same graph, which is then kept; raises VerificationFailed
        naming the parameters that differ by more than the dtype's tolerance.
    process_group: where directions are averaged; by default the default group, if torch.distributed was
        initialised with more than one process. False is for this process alone.
    observers: told what was collected and combined (`equipoise.Observer`), such as the trackers of
        `equipoise.bridges`. Without one nothing is spent.

    Cost: one backward pass for a scalariser and for rules with constant weights (Mean, Sum); m passes
    otherwise, which go to the outputs of layers where inner products are cheaper from there than from the
    gradients themselves. `step.plan` says what was chosen. With one pass, a policy other than "raise" keeps
    the graph until the losses are gone, to find out who was at fault.

    Raises ValueError for losses, parameters, a preference or options that do not fit, TypeError for what is
    no rule, and RuntimeError for parameters under `fully_shard` and reentrant checkpointing.

    >>> from equipoise.aggregation import UPGrad
    >>> w = torch.zeros(2, requires_grad=True)
    >>> step = backward({"left": (w - 1).square().sum(), "right": (w[0] + 1).square()}, UPGrad())
    >>> step.names
    ('left', 'right')
    """
    if not isinstance(rule, Scalarizer | GramianRule | RowRule):
        raise TypeError(
            f"{rule!r} is no rule; a rule is an object such as equipoise.aggregation.UPGrad(), a Scalarizer, "
            "GramianRule or RowRule"
        )
    given = (transforms,) if isinstance(transforms, RowTransform) else tuple(transforms)
    stages = (*given, *rule.stages())
    _check_route(rule, gramian, features, weights_every, groups, samples, stages)
    if verify and (stages or features is not None or gramian != "exact"):
        raise ValueError(
            "verify=True compares exact directions with plain autograd; it does not go with transforms, "
            'features or gramian="sketch"'
        )
    if stages and parameters is None:
        raise ValueError("transforms keep state by the names of parameters; give them: parameters=model")
    call = prepare(
        losses,
        rule,
        parameters=parameters,
        preference=preference,
        private=private,
        on_nonfinite=on_nonfinite,
        scale=scale_of(scaler),
        retain_graph=retain_graph,
        world=World.found(process_group),
        budget=None if max_memory is None else parse_memory(max_memory),
        groups=groups,
        verify=verify,
        samples=samples,
        transforms=stages,
        observers=as_observers(observers),
    )
    step = _routed(call, features, gramian, sketch_size, weights_every, previous)
    for observer in call.observers:
        observer.combined(step)
    return step


def _routed(
    call: Call,
    features: Features | None,
    gramian: str,
    sketch_size: int,
    weights_every: int,
    previous: Step | None,
) -> Step:
    """Go the way that the shape of the rule and the caller's options ask for."""
    rule = call.rule
    if call.transforms and isinstance(rule, GramianRule):
        return by_transformed(call)
    if isinstance(rule, Scalarizer) or (isinstance(rule, GramianRule) and not rule.needs_directions):
        return in_one_pass(call)
    if isinstance(rule, RowRule):
        return by_rows(call)
    if previous is not None and reusable(call, previous, weights_every):
        return by_previous(call, previous)
    if features is not None:
        return by_features(call, features)
    return by_gramian(call) if gramian == "exact" else by_sketch(call, sketch_size)


def _check_route(
    rule: Rule,
    gramian: str,
    features: object,
    weights_every: int,
    groups: object,
    samples: bool,
    transforms: Sequence[RowTransform],
) -> None:
    """Raise ValueError for ways to the weights that do not go together."""
    if gramian not in ("exact", "sketch"):
        raise ValueError(f'gramian is {gramian!r}; it is "exact" or "sketch"')
    if weights_every < 1:
        raise ValueError(f"weights_every is {weights_every}; it counts steps, 1 for fresh weights in each")
    asked = {
        "features": features is not None,
        "weights_every": weights_every > 1,
        'gramian="sketch"': gramian == "sketch",
        "samples": samples,
        "transforms": bool(transforms),
    }
    chosen = [name for name, yes in asked.items() if yes]
    if len(chosen) > 1 and set(chosen) not in ({"features", "weights_every"}, {"samples", "transforms"}):
        raise ValueError(f"{' and '.join(chosen)} do not go together; choose one")
    measuring = [stage.measures for stage in transforms]
    if measuring != sorted(measuring) or (any(measuring) and not isinstance(rule, GramianRule)):
        raise ValueError("a transform that only measures stands last, and before a Gramian rule")
    if transforms and isinstance(rule, Scalarizer):
        raise ValueError(f"transforms are for rules over directions; {type(rule).__name__} sees losses alone")
    if chosen and not isinstance(rule, GramianRule) and not {*chosen} <= {"samples", "transforms"}:
        raise ValueError(f"{chosen[0]} is for rules with a Gramian; {type(rule).__name__} has none")
    if groups != "all" and chosen and chosen[0] in ("features", "weights_every"):
        raise ValueError(f"{chosen[0]} finds one set of weights; it does not go with groups={groups!r}")
    if groups != "all" and not (isinstance(rule, GramianRule) and rule.needs_directions):
        raise ValueError(
            f"groups is for rules that take a Gramian; {type(rule).__name__} gives the same update for any"
        )
