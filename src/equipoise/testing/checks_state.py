"""Checks of state: what moves in `update`, what is saved, objectives that come and go."""

from copy import deepcopy
from io import BytesIO

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import Rule
from equipoise.testing.ask import advance, ask, losses_for, names_for
from equipoise.testing.check import MakeRule, check, expect
from equipoise.testing.checks_form import same_state
from equipoise.testing.inputs import drawn, named

EPOCHS = 3


@check()
def only_declared_state_moves(make_rule: MakeRule, card: Card) -> None:
    """`update` leaves a rule alone that is neither STATEFUL nor RANDOM."""
    if card.promises("STATEFUL") or card.promises("RANDOM"):
        return
    rule = make_rule()
    ask(rule, named("three in conflict").rows)
    before = deepcopy(rule.state_dict())
    train(rule)
    expect(
        same_state(before, rule.state_dict()),
        "`update` moved the state; the card says neither STATEFUL nor RANDOM",
    )


@check("STATEFUL")
def state_moves(make_rule: MakeRule, card: Card) -> None:
    """`update` changes the state, and the state changes the answer, if only where the order is another."""
    rule, rows, names = make_rule(), named("three in conflict").rows, names_for(3)
    before = deepcopy(rule.state_dict())
    train(rule)
    expect(not same_state(before, rule.state_dict()), f"{EPOCHS} updates left the state as it was")
    orders = (list(names), list(reversed(names)))
    changed = [
        not torch.equal(ask(make_rule(), rows, names=order).update, ask(rule, rows, names=order).update)
        for order in orders
    ]
    expect(any(changed), f"{EPOCHS} updates left the answer as it was")


@check()
def state_dict_round_trip(make_rule: MakeRule, card: Card) -> None:
    """A trained rule, saved and loaded into a new one or into one of another size, goes on alike."""
    rows = named("three in conflict").rows
    other = make_rule()
    train(other, drawn(5, 9, seed=11))
    for name, target in (("a new rule", make_rule()), ("a rule of five objectives", other)):
        rule = make_rule()
        train(rule)
        shake(rule)
        target.load_state_dict(reload(rule.state_dict()))
        expect(
            same_state(rule.state_dict(), target.state_dict()), f"{name} does not hold the state it was given"
        )
        for _ in range(2):
            expect(torch.equal(ask(rule, rows).update, ask(target, rows).update), f"{name} answers otherwise")
            advance(rule, rows, epoch_ended=True)
            advance(target, rows, epoch_ended=True)


@check()
def absent_objectives(make_rule: MakeRule, card: Card) -> None:
    """Objectives may be absent from a step, come back, and appear late.

    A LEARNABLE rule may refuse a late one, whose parameter no optimizer would hold.
    """
    rows, names = drawn(4, 7, seed=12), names_for(4)
    late = ((0, 1), (0, 1, 2), (0, 2), (2, 1, 0), (3,), (0, 1, 2, 3))
    rule = make_rule()
    for present in ((0, 1, 2, 3), *late[1:]) if card.promises("LEARNABLE") else late:
        chosen, losses = [names[i] for i in present], losses_for(4)[list(present)]
        answer = ask(rule, rows[list(present)], losses=losses, names=chosen)
        expect(answer.finite, f"objectives {chosen}: weights {answer.weights}")
        count = len(present) if answer.weights is None else len(answer.weights)
        expect(count == len(present), f"objectives {chosen}: {count} weights")
        advance(rule, rows[list(present)], losses=losses, names=chosen, epoch_ended=True)


@check()
def only_declared_parameters(make_rule: MakeRule, card: Card) -> None:
    """A rule that is not LEARNABLE has no parameters for an optimizer."""
    if card.promises("LEARNABLE"):
        return
    rule = make_rule()
    train(rule)
    names = [name for name, _ in rule.named_parameters()]
    expect(not names, f"it has the parameters {names}, and the card does not say LEARNABLE")


@check("LEARNABLE", ("scalarizer",))
def parameters_learn(make_rule: MakeRule, card: Card) -> None:
    """The value has a gradient by the rule's parameters, and a step along it lowers the value."""
    rule, losses, names = make_rule(), losses_for(3), names_for(3)
    train(rule)
    value = rule.apply_to(losses, names=names)
    parameters = list(rule.parameters())
    expect(bool(parameters), "LEARNABLE, but it has no parameters")
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    reached = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None and bool(g.any())]
    expect(bool(reached), "LEARNABLE, but no parameter gets a gradient")
    with torch.no_grad():
        for parameter, gradient in reached:
            parameter.sub_(1e-4 * gradient)
    start, end = value.item(), rule.apply_to(losses, names=names).item()
    expect(end < start, f"a small step took the value from {start:.9g} to {end:.9g}")


def train(rule: Rule, rows: Tensor | None = None) -> None:
    """A few epochs of one step, with losses that fall at different rates and directions that change."""
    rows = named("three in conflict").rows if rows is None else rows
    losses = losses_for(len(rows))
    for epoch in range(EPOCHS):
        rates = torch.linspace(0.5, 0.9, len(rows), dtype=torch.float64)
        advance(rule, rows.roll(epoch, 0), losses=losses * rates**epoch, epoch_ended=True)


def shake(rule: Rule) -> None:
    """Move the parameters, as an optimizer would."""
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.add_(
                torch.linspace(-0.2, 0.3, parameter.numel()).to(parameter).reshape(parameter.shape)
            )


def reload(state: dict[str, object]) -> dict[str, object]:
    """Through a file's bytes, with nothing unpickled but tensors and plain values."""
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
