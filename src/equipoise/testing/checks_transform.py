"""Checks of transforms: rows in, rows out, one block at a time."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import RowTransform, Rule
from equipoise.core.step import Step
from equipoise.testing.ask import losses_for, names_for
from equipoise.testing.check import MakeRule, check, expect, expect_close
from equipoise.testing.checks_state import reload
from equipoise.testing.inputs import drawn, independent, library, named

BLOCKS = ("first", "second")
STEPS = 3
PATIENCE = 1000
"""Steps until which a state must have been felt: what looks at a window of steps waits for its end."""


@check(shapes=("transform",))
def transform_card_matches(make_rule: MakeRule, card: Card) -> None:
    """The card names the class, which is a RowTransform, and says what one objective alone gets."""
    rule = make_rule()
    expect(
        type(rule).__name__ == card.name, f"the card says {card.name!r}, the class is {type(rule).__name__!r}"
    )
    expect(isinstance(rule, RowTransform), f"{card.name} is no RowTransform")
    expect(bool(card.single), "the card does not say what one objective alone gets (`single`)")


@check(shapes=("transform",))
def transform_keeps_shape(make_rule: MakeRule, card: Card) -> None:
    """Rows (m, k) give rows (m, k) of their dtype, at first and after `update`."""
    for directions in library():
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            rule, rows = make_rule(), directions.rows.to(dtype)
            for _ in range(2):
                found = _ask(rule, rows)
                expect(
                    found.shape == rows.shape, f"{directions}: {tuple(found.shape)}, not {tuple(rows.shape)}"
                )
                expect(found.dtype == dtype, f"{directions}: {found.dtype}, not {dtype}")
                _advance(rule, rows)


@check(shapes=("transform",))
def transform_is_finite(make_rule: MakeRule, card: Card) -> None:
    """Every input of the library gives finite rows, from size 1e-12 to 1e12, in float32 too."""
    for directions in library():
        for scale in (1e-12, 1.0, 1e12):
            for dtype in (torch.float64, torch.float32):
                rule, rows = make_rule(), (scale * directions.rows).to(dtype)
                for _ in range(STEPS):
                    found = _ask(rule, rows)
                    where = f"{directions} times {scale:g} in {dtype}"
                    expect(bool(found.isfinite().all()), f"{where}: {found.tolist()}")
                    _advance(rule, rows)


@check(shapes=("transform",))
def transform_of_zero_rows(make_rule: MakeRule, card: Card) -> None:
    """A row that was always zero stays zero, alone and among others, and changes nothing of them."""
    rows = torch.tensor([[1.0, 0.0, 0.5], [-0.3, 0.8, 0.0]], dtype=torch.float64)
    zero, names = torch.zeros(1, 3, dtype=torch.float64), names_for(3)
    rule = make_rule()
    expect(not _ask(rule, zero.expand(2, -1).clone()).any(), "zero rows alone do not stay zero")
    plain = _ask(make_rule(), rows, names=names[:2])
    for place in range(3):
        order = [*names[:place], "zero", *names[place:2]]
        found = _ask(make_rule(), torch.cat([rows[:place], zero, rows[place:]]), names=order)
        expect(not found[place].any(), f"zero row {place} became {found[place].tolist()}")
        others = torch.cat([found[:place], found[place + 1 :]])
        expect_close(others, plain, float(plain.norm()), f"beside zero row {place}")


@check(shapes=("transform",))
def transform_is_pure(make_rule: MakeRule, card: Card) -> None:
    """`forward` twice gives the same bits, and changes neither state nor input nor torch's generator."""
    for directions in library():
        rule, rows = make_rule(), directions.rows.clone()
        _advance(rule, rows)
        state, seed = deepcopy(rule.state_dict()), torch.get_rng_state()
        first, second = _ask(rule, rows).clone(), _ask(rule, rows)
        expect(torch.equal(first, second), f"{directions}: the second forward differs from the first")
        expect(_same(state, rule.state_dict()), f"{directions}: forward changed the state")
        expect(torch.equal(rows, directions.rows), f"{directions}: forward changed its input")
        expect(
            torch.equal(seed, torch.get_rng_state()), f"{directions}: forward drew from the global generator"
        )


@check("PERMUTATION", ("transform",))
def transform_permutation(make_rule: MakeRule, card: Card) -> None:
    """Objectives in another order give the same rows in that order, at first and after `update`."""
    for directions in library():
        rows, names = directions.rows, names_for(len(directions.rows))
        rule, size = make_rule(), max(float(rows.norm()), 1e-300)
        for _ in range(2):
            plain = _ask(rule, rows)
            for order in (torch.arange(len(rows)).flip(0), torch.arange(len(rows)).roll(1)):
                found = _ask(rule, rows[order], names=[names[i] for i in order.tolist()])
                allowed = max(size, float(plain.norm()))
                expect_close(found, plain[order], allowed, f"{directions} in the order {order.tolist()}")
            _advance(rule, rows / 2)


@check("HOMOGENEOUS", ("transform",))
def transform_homogeneous(make_rule: MakeRule, card: Card) -> None:
    """Rows times c give the rows found times c^k, at first and after steps on rows times c."""
    degree = card.degree()
    expect(degree is not None, "HOMOGENEOUS says no degree")
    for directions in library():
        for scale in (1e-12, 1e-3, 1e3, 1e12):
            plain, scaled = make_rule(), make_rule()
            for _ in range(2):
                wanted, found = _ask(plain, directions.rows), _ask(scaled, scale * directions.rows)
                found = found / scale ** (degree or 0.0)
                size = max(float(wanted.norm()), float(directions.rows.norm()))
                expect_close(found, wanted, size, f"{directions} times {scale:g}")
                _advance(plain, directions.rows / 2)
                _advance(scaled, scale * directions.rows / 2)


@check("STATEFUL", ("transform",))
def transform_state_moves(make_rule: MakeRule, card: Card) -> None:
    """`update` changes the state, and the state changes the rows found, be it after many steps."""
    rule, rows = make_rule(), named("three in conflict").rows
    before, first = deepcopy(rule.state_dict()), _ask(rule, rows).clone()
    _train(rule)
    expect(not _same(before, rule.state_dict()), f"{STEPS} updates left the state as it was")
    for _ in range(PATIENCE):
        if not torch.equal(first, _ask(rule, rows)):
            return
        _advance(rule, rows)
    expect(False, f"{PATIENCE} updates left the rows found as they were")


@check(shapes=("transform",))
def transform_declares_its_state(make_rule: MakeRule, card: Card) -> None:
    """`update` leaves a transform alone that is neither STATEFUL nor RANDOM."""
    if card.promises("STATEFUL") or card.promises("RANDOM"):
        return
    rule, rows = make_rule(), named("three in conflict").rows
    before, first = deepcopy(rule.state_dict()), _ask(rule, rows).clone()
    _train(rule)
    moved = not _same(before, rule.state_dict()) or not torch.equal(first, _ask(rule, rows))
    expect(not moved, "`update` moved it; the card says neither STATEFUL nor RANDOM")


@check(shapes=("transform",))
def transform_state_round_trip(make_rule: MakeRule, card: Card) -> None:
    """A trained transform, saved and loaded into a new one or a used one, goes on alike on every block."""
    rows, used = named("three in conflict").rows, make_rule()
    _train(used, drawn(5, 9, seed=11))
    for name, target in (("a new one", make_rule()), ("a used one", used)):
        rule = make_rule()
        _train(rule)
        target.load_state_dict(reload(rule.state_dict()))
        for _ in range(2):
            for block in BLOCKS:
                same = torch.equal(_ask(rule, rows, block=block), _ask(target, rows, block=block))
                expect(same, f"{name} gives other rows on the block {block!r}")
            _advance(rule, rows)
            _advance(target, rows)


@check(shapes=("transform",))
def transform_of_absent_objectives(make_rule: MakeRule, card: Card) -> None:
    """Objectives may be absent from a step, come back, and appear late."""
    rows, names = drawn(4, 7, seed=12), names_for(4)
    rule = make_rule()
    for present in ((0, 1), (0, 1, 2), (0, 2), (2, 1, 0), (3,), (0, 1, 2, 3)):
        chosen = [names[i] for i in present]
        found = _ask(rule, rows[list(present)], names=chosen)
        expect(found.shape == (len(present), 7), f"objectives {chosen}: shape {tuple(found.shape)}")
        expect(bool(found.isfinite().all()), f"objectives {chosen}: {found.tolist()}")
        _advance(rule, rows[list(present)], names=chosen)


@check(shapes=("transform",))
def transform_rounds_as_float32(make_rule: MakeRule, card: Card) -> None:
    """Rows rounded to float32 give nearly the same rows."""
    for directions in independent():
        exact = _ask(make_rule(), directions.rows)
        rounded = _ask(make_rule(), directions.rows.float()).double()
        size = max(float(exact.norm()), float(directions.rows.norm()))
        expect_close(rounded, exact, size, directions, torch.float32)


def _ask(
    rule: Rule, rows: Tensor, *, names: Sequence[str] | None = None, block: str = BLOCKS[0]
) -> Tensor:  # (m, k) -> (m, k)
    with torch.no_grad():
        return rule.apply_to(rows, block=block, names=tuple(names or names_for(len(rows))))


def _advance(rule: Rule, rows: Tensor, *, names: Sequence[str] | None = None) -> None:
    """One training step in miniature, over two blocks."""
    names = tuple(names or names_for(len(rows)))
    for block in BLOCKS:
        _ask(rule, rows, names=names, block=block)
    rule.update(Step(names, losses_for(len(rows)).double(), None), epoch_ended=True)


def _train(rule: Rule, rows: Tensor | None = None) -> None:
    rows = named("three in conflict").rows if rows is None else rows
    for step in range(STEPS):
        _advance(rule, rows * 0.5**step)


def _same(first: dict[str, object], second: dict[str, object]) -> bool:
    """Whether two state dicts hold the same, whatever the depth of the state of their rows."""
    return _flat(first) == _flat(second)


def _flat(state: object) -> object:
    match state:
        case Tensor():
            return state.tolist()
        case dict():
            return {key: _flat(value) for key, value in state.items()}
    return state
