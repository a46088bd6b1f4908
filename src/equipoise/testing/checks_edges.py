"""Checks of degenerate input: one contract for every rule."""

import torch

from equipoise.core.backward import backward
from equipoise.core.card import Card
from equipoise.core.errors import NonFiniteDirection
from equipoise.testing.ask import ask, names_for, weigh
from equipoise.testing.check import TOLERANCE, MakeRule, check, expect
from equipoise.testing.inputs import library, named

TINY = TOLERANCE[torch.float64]
LONG = 100.0


@check()
def finite_everywhere(make_rule: MakeRule, card: Card) -> None:
    """Every input of the library gives finite weights and a finite update, from size 1e-12 to 1e12."""
    for directions in library():
        for scale in (1e-12, 1.0, 1e12):
            answer = ask(make_rule(), scale * directions.rows)
            expect(answer.finite, f"{directions} times {scale:g}: {answer.weights}, {answer.update}")


@check()
def all_zero(make_rule: MakeRule, card: Card) -> None:
    """Zero directions give a zero update and finite weights."""
    for m in (1, 2, 5):
        answer = ask(make_rule(), torch.zeros(m, 3, dtype=torch.float64))
        expect(answer.finite, f"{m} zero directions: weights {answer.weights}")
        expect(not answer.update.any(), f"{m} zero directions: update {answer.update.tolist()}")


@check()
def zero_rows(make_rule: MakeRule, card: Card) -> None:
    """A zero row is legal in any place, and the update still lies in the span of the others."""
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.8, 0.0]], dtype=torch.float64)
    for place in range(3):
        with_zero = torch.cat([rows[:place], torch.zeros(1, 3, dtype=torch.float64), rows[place:]])
        answer = ask(make_rule(), with_zero)
        expect(answer.finite, f"zero row {place}: weights {answer.weights}")
        expect(not answer.update[2], f"zero row {place}: the update left the span: {answer.update.tolist()}")


@check()
def one_objective(make_rule: MakeRule, card: Card) -> None:
    """One objective alone gets a positive multiple of its direction, of any size."""
    row = named("one direction").rows
    for scale in (1e-12, 1e-6, 1.0, 1e6, 1e12):
        answer = ask(make_rule(), scale * row)
        multiple = float(answer.update @ row[0]) / float(scale * row[0] @ row[0])
        apart = float((answer.update - multiple * scale * row[0]).norm())
        expect(
            0 < multiple < float("inf") and apart <= TINY * answer.size,
            f"one direction times {scale:g}: {answer.update.tolist()} is {multiple:.6g} of it",
        )


@check()
def duplicates(make_rule: MakeRule, card: Card) -> None:
    """Copies of one direction give a positive multiple of it."""
    row = named("one direction").rows[0]
    for m in (2, 5):
        answer = ask(make_rule(), row.expand(m, -1))
        expect(answer.finite, f"{m} copies: weights {answer.weights}")
        expect(float(answer.update @ row) > 0, f"{m} copies: {answer.update.tolist()} is no step along them")


@check()
def exact_opposites(make_rule: MakeRule, card: Card) -> None:
    """Opposite directions give a finite update, of no absurd length where the rule is homogeneous."""
    for name in ("exact opposites", "exact opposites of other lengths", "weakly stationary"):
        for dtype in (torch.float64, torch.float32):
            rows = (named(name).rows / 3).to(dtype)
            answer = ask(make_rule(), rows)
            length, longest = float(answer.update.norm()), float(rows.norm(dim=1).max())
            expect(answer.finite, f"{name} in {dtype}: weights {answer.weights}")
            expect(
                card.degree() != 1 or length <= LONG * longest,
                f"{name} in {dtype}: the update is {length / longest:.3g} times the longest direction",
            )


@check(shapes=("scalarizer",))
def zero_losses(make_rule: MakeRule, card: Card) -> None:
    """Losses of zero give a finite value and finite weights, or a ValueError naming the objective."""
    for losses in ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]):
        rule, subject = make_rule(), torch.tensor(losses, dtype=torch.float64)
        try:
            value, weights = rule.apply_to(subject, names=names_for(3)), weigh(rule, subject)
        except ValueError as error:
            expect(names_for(3)[0] in str(error), f"losses {losses}: the refusal names no objective: {error}")
            continue
        expect(bool(value.isfinite()), f"losses {losses}: value {value.item()}")
        expect(bool(weights.isfinite().all()), f"losses {losses}: weights {weights.tolist()}")


@check()
def nonfinite_is_named(make_rule: MakeRule, card: Card) -> None:
    """`equipoise.backward` raises NonFiniteDirection naming the objective, and touches no gradient."""
    rows = named("three in conflict").rows
    for i, name in enumerate(names_for(3)):
        for factor in (float("nan"), float("inf")):
            point = torch.ones(4, dtype=torch.float64, requires_grad=True)
            losses = {n: 1 + (row @ point).square() for n, row in zip(names_for(3), rows, strict=True)}
            losses[name] = losses[name] * factor
            try:
                backward(losses, make_rule(), parameters={"point": point})
            except NonFiniteDirection as error:
                expect(error.names == (name,), f"objective {i} is {factor}, named were {error.names}")
            else:
                raise AssertionError(f"objective {i} is {factor} and nothing was raised")
            expect(point.grad is None, f"objective {i} is {factor}: a gradient was written all the same")
