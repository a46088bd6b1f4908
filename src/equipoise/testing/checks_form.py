"""Checks of form: shapes, dtypes, a forward without side effects."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import GramianRule, RowRule, Rule, Scalarizer
from equipoise.testing.ask import Answer, advance, ask, losses_for, names_for, weigh
from equipoise.testing.check import MakeRule, check, expect, expect_close
from equipoise.testing.inputs import independent, library, named

SHAPES = {"gramian": GramianRule, "row": RowRule, "scalarizer": Scalarizer}


@check()
def card_matches(make_rule: MakeRule, card: Card) -> None:
    """The card names the class and its shape, and "PREFERENCE" stands where `forward` takes one."""
    rule = make_rule()
    expect(
        type(rule).__name__ == card.name, f"the card says {card.name!r}, the class is {type(rule).__name__!r}"
    )
    expect(isinstance(rule, SHAPES[card.shape]), f"the card says {card.shape!r}, the class is not one")
    expect(
        rule.uses("preference") == card.promises("PREFERENCE"),
        f"forward takes a preference: {rule.uses('preference')}; the card says otherwise",
    )
    expect(bool(card.single), "the card does not say what one objective alone gets (`single`)")


@check()
def shapes_and_dtypes(make_rule: MakeRule, card: Card) -> None:
    """(m,) float64 from a Gramian; (k,) in the rows' dtype; a scalar in the losses' dtype."""
    for directions in library():
        rule, rows = make_rule(), directions.rows
        m, k = rows.shape
        match rule:
            case GramianRule():
                _is(_call(rule, rows @ rows.T, m), (m,), torch.float64, directions)
            case RowRule():
                for dtype in (torch.float64, torch.float32, torch.bfloat16):
                    _is(_call(rule, rows.to(dtype), m), (k,), dtype, directions)
            case Scalarizer():
                for dtype in (torch.float64, torch.float32):
                    losses = losses_for(m).to(dtype)
                    _is(_call(rule, losses, m), (), dtype, directions)
                    _is(weigh(rule, losses), (m,), dtype, directions)


@check()
def float32_and_float64(make_rule: MakeRule, card: Card) -> None:
    """Directions and losses rounded to float32 give nearly the same update."""
    for directions in independent():
        rows, losses = directions.rows, losses_for(len(directions.rows))
        exact = ask(make_rule(), rows, losses=losses)
        rounded = ask(make_rule(), rows.float(), losses=losses.float())
        expect_close(rounded.update, exact.update, exact.size, directions, torch.float32)


@check()
def pure_forward(make_rule: MakeRule, card: Card) -> None:
    """`forward` twice gives the same bits, and changes neither state nor input nor torch's generator.

    The first call of a LEARNABLE rule may give its parameters their size.
    """
    for directions in library():
        rule, rows = make_rule(), directions.rows.clone()
        if card.promises("LEARNABLE"):
            ask(rule, rows)  # gives the parameters their size
        state, seed = deepcopy(rule.state_dict()), torch.get_rng_state()
        first, second = ask(rule, rows), ask(rule, rows)
        _same(first, second, f"{directions}: the second forward differs from the first")
        expect(same_state(state, rule.state_dict()), f"{directions}: forward changed the state")
        expect(
            torch.equal(seed, torch.get_rng_state()), f"{directions}: forward drew from the global generator"
        )
        expect(torch.equal(rows, directions.rows), f"{directions}: forward changed its input")


@check()
def fresh_rules_agree(make_rule: MakeRule, card: Card) -> None:
    """Two new rules give the same bits, whatever the global seed: a rule that draws has its own."""
    state = torch.get_rng_state()
    try:
        for directions in independent():
            torch.manual_seed(1)
            first = ask(make_rule(), directions.rows)
            torch.manual_seed(2)
            _same(first, ask(make_rule(), directions.rows), f"{directions}: two new rules differ")
    finally:
        torch.set_rng_state(state)


@check("RANDOM")
def draws_move_on(make_rule: MakeRule, card: Card) -> None:
    """After `update` the draws are others."""
    rule, rows = make_rule(), named("three in conflict").rows
    seen = []
    for _ in range(8):
        seen.append(ask(rule, rows).update)
        advance(rule, rows)
    expect(
        any(not torch.equal(seen[0], other) for other in seen[1:]), "eight updates and always the same draw"
    )


def same_state(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two state dicts hold the same keys and bits."""
    return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return same_state(first, second)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return bool(first == second)


def _same(first: Answer, second: Answer, otherwise: str) -> None:
    expect(torch.equal(first.update, second.update), otherwise)


def _call(rule: Rule, subject: Tensor, m: int) -> Tensor:
    return rule.apply_to(subject, losses=losses_for(m), names=names_for(m), block="block")


def _is(found: Tensor, shape: tuple[int, ...], dtype: torch.dtype, where: object) -> None:
    expect(tuple(found.shape) == shape, f"{where}: shape {tuple(found.shape)}, not {shape}")
    expect(found.dtype == dtype, f"{where}: {found.dtype}, not {dtype}")
    expect(bool(found.isfinite().all()), f"{where}: not finite: {found.tolist()}")
