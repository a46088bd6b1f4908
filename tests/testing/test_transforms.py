"""The checks of transforms can fail: each transform here breaks one promise, and the check for it says so."""

import pytest
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.rule import RowTransform, Rule
from equipoise.testing import checks, conform

CAUGHT = []


def breaks(check: str, *guarantees: str):
    """Register a transform that must fail the check of this name under a card with these guarantees."""

    def register(kind):
        card = Card(name=kind.__name__, shape="transform", summary="", guarantees=guarantees, single="itself")
        CAUGHT.append(pytest.param(check, kind, card, id=f"{check}-{kind.__name__}"))
        return kind

    return register


class Honest(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return 2 * rows


@breaks("transform_homogeneous", "HOMOGENEOUS(2)")
@breaks("transform_homogeneous", "HOMOGENEOUS")
@breaks("transform_state_moves", "STATEFUL")
class Twice(Honest):
    pass


@breaks("transform_card_matches")
class NoTransform(Rule):
    def forward(self, rows: Tensor) -> Tensor:
        return rows


@breaks("transform_keeps_shape")
class Wide(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.double()


@breaks("transform_is_finite")
@breaks("transform_of_zero_rows")
class ByLength(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows / rows.norm(dim=1, keepdim=True)


@breaks("transform_of_zero_rows")
class Centred(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows - rows.mean(0)


@breaks("transform_permutation", "PERMUTATION")
class FirstCountsMost(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.arange(len(rows), 0, -1).to(rows)[:, None]


@breaks("transform_is_pure")
class SpoilsItsInput(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.mul_(2)


@breaks("transform_is_pure")
class DrawsFromAll(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.rand(()).to(rows)


class Total(RowTransform):
    """The sum of all rows seen."""

    def forward(self, rows: Tensor, *, block: str = "", names: tuple[str, ...] = ()) -> Tensor:
        known = self.known(block, names)
        moved = [row if old is None else old.to(row) + row for row, old in zip(rows, known, strict=True)]
        return self.becomes(block, names, torch.stack(moved))


@breaks("transform_declares_its_state")
class UndeclaredState(Total):
    pass


@breaks("transform_state_round_trip", "STATEFUL")
class StateOutsideItsDict(Total):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        pass

    def _load_from_state_dict(self, *arguments):
        pass


@breaks("transform_of_absent_objectives", "STATEFUL")
class ByPlace(RowTransform):
    """State by the place in the batch, of which the first step says the number."""

    seen: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        self._rows = rows.clone()
        return rows if self.seen is None else rows + self.seen[: len(rows)]

    def update(self, step, losses=None, epoch_ended=False):
        self.seen = self._rows if self.seen is None else self.seen


@breaks("transform_rounds_as_float32")
class ChasesDigits(RowTransform):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * (1 + (rows.double() * 1e9).frac().abs().amax()).to(rows)


@pytest.mark.parametrize(("check", "kind", "card"), CAUGHT)
def test_a_broken_promise_is_caught(check, kind, card):
    found = {str(c): c for c in checks(card)}[check]
    with pytest.raises((AssertionError, RuntimeError)):
        found(kind, card)


def test_a_transform_that_keeps_its_promises_passes():
    kept = ("PERMUTATION", "HOMOGENEOUS(1)")
    for kind, guarantees in ((Honest, kept), (Total, (*kept, "STATEFUL"))):
        conform(
            kind, Card(name=kind.__name__, shape="transform", summary="", guarantees=guarantees, single="x")
        )


def test_every_check_is_broken_by_some_transform():
    everything = ("PERMUTATION", "HOMOGENEOUS(1)", "STATEFUL")
    called = checks(Card(name="X", shape="transform", summary="", guarantees=everything))
    assert {str(check) for check in called} == {case.values[0] for case in CAUGHT}


def test_rules_are_not_asked_what_transforms_are():
    for shape in ("gramian", "row", "scalarizer", "wrapper", "system"):
        called = checks(Card(name="X", shape=shape, summary="", guarantees=("PERMUTATION", "STATEFUL")))
        assert not [check for check in called if str(check).startswith("transform_")]
