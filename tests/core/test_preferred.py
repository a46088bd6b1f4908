import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise import Preferred
from equipoise.aggregation import MGDA, GradDrop, PCGrad, UPGrad
from equipoise.core.card import Card
from equipoise.core.errors import NonFiniteDirection
from equipoise.core.rule import GramianRule, Rule, Scalarizer
from equipoise.core.step import Step
from equipoise.scalarization import (
    DWA,
    FAMO,
    IMTLL,
    PBI,
    Linear,
    OMDTchebycheff,
    Tchebycheff,
    UncertaintyWeighting,
)
from equipoise.testing import conform
from equipoise.testing.ask import weigh

NAMES = ("a", "b", "c")
LOSSES = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
ROWS = torch.tensor([[1, 0, 0, 0.2], [-0.9, 0.3, 0, 0.2], [0.1, -0.8, 0.4, 0.2]], dtype=torch.float64)
GRAMIAN = ROWS @ ROWS.T


class Recorder(GramianRule):
    """Remembers what its update was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, gramian: Tensor, *, preference: Tensor | None = None) -> Tensor:
        assert preference is not None
        return preference

    def update(self, step, losses=None, epoch_ended=False):
        self.told.append((step.preference, losses() if callable(losses) else losses))


def losses_of(model: nn.Module) -> dict[str, Tensor]:
    inputs = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
    out = model(inputs)
    targets = {"a": inputs[:, :1], "b": 3 - inputs[:, 1:], "c": inputs.sum(1, keepdim=True) ** 2}
    return {name: (out - target).square().mean() for name, target in targets.items()}


def train(rule: Rule, steps: int = 4) -> Tensor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        step = equipoise.backward(losses_of(model), rule)
        optimizer.step()
        rule.update(step, losses=lambda: losses_of(model))
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_famo_decides_how_much_and_upgrad_how():
    """The preference is FAMO's weights, which follow its logits; by hand it is the same."""
    famo = FAMO()
    famo.update(Step(NAMES, LOSSES, None), losses=dict(zip(NAMES, 0.5 * LOSSES.roll(1), strict=True)))
    rule = Preferred(UPGrad(), famo)
    expected = UPGrad()(GRAMIAN, preference=weigh(famo, LOSSES, names=NAMES))
    torch.testing.assert_close(rule.apply_to(GRAMIAN, losses=LOSSES, names=NAMES), expected)
    assert float((ROWS @ (expected @ ROWS)).min()) > -1e-9


def test_with_linear_it_is_as_without():
    assert torch.equal(train(Preferred(UPGrad(), Linear())), train(UPGrad()))
    given = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    wrapped = Preferred(UPGrad(), Linear()).apply_to(GRAMIAN, losses=LOSSES, preference=given, names=NAMES)
    torch.testing.assert_close(wrapped, UPGrad()(GRAMIAN, preference=given))


def test_end_to_end_it_is_the_preference_given_by_hand_at_every_step():
    class ByHand(GramianRule):
        def __init__(self):
            super().__init__()
            self.famo = FAMO(step_size=0.5)

        def forward(self, gramian, *, losses, names):
            return UPGrad()(gramian, preference=weigh(self.famo, losses, names=names))

        def update(self, step, losses=None, epoch_ended=False):
            self.famo.update(step, losses)

    famo = FAMO(step_size=0.5)
    torch.testing.assert_close(train(Preferred(UPGrad(), famo)), train(ByHand()))
    assert float(famo.logits.abs().max()) > 0.1
    assert not torch.equal(train(Preferred(UPGrad(), FAMO(step_size=0.5))), train(UPGrad()))


@pytest.mark.parametrize(("rule", "shape"), [(UPGrad(), GramianRule), (Tchebycheff(), Scalarizer)])
def test_it_keeps_the_shape_of_the_rule_and_goes_through_the_engine(rule, shape):
    weights = OMDTchebycheff(step_size=0.7)
    wrapped = Preferred(rule, weights)
    assert isinstance(wrapped, shape)
    assert isinstance(wrapped, Preferred)
    assert bool(train(wrapped).isfinite().all())
    assert float(weights.shares(NAMES)[0]) != pytest.approx(1 / 3)


def test_a_scalariser_is_weighted_by_another():
    chosen = weigh(FAMO(), LOSSES)
    found = weigh(Preferred(Tchebycheff(), FAMO()), LOSSES)
    torch.testing.assert_close(found, weigh(Tchebycheff(), LOSSES, preference=chosen))


def test_groups_of_parameters_share_the_preference():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    step = equipoise.backward(
        losses_of(model),
        Preferred(UPGrad(), FAMO()),
        parameters=model,
        groups=lambda name: name.split(".")[0],
    )
    chosen = weigh(FAMO(), step.losses, names=NAMES)
    for group in step.groups.values():
        torch.testing.assert_close(group.weights, UPGrad()(group.gramian, preference=chosen))


def test_it_keeps_the_promises_of_upgrad():
    card = Card(
        name="Preferred",
        shape="gramian",
        summary="UPGrad with the weights of OMDTchebycheff",
        single="the direction itself",
        guarantees=(
            "PERMUTATION",
            "NON_CONFLICTING",
            "HOMOGENEOUS(1)",
            "LINEAR_IN_ROW_SCALE",
            "STRONGLY_STATIONARY",
            "NON_NEGATIVE",
            "PREFERENCE",
            "STATEFUL",
        ),
    )
    conform(lambda: Preferred(UPGrad(), OMDTchebycheff()), card)


def test_update_reaches_both_and_the_rule_is_told_its_preference():
    called = []

    def after() -> dict[str, Tensor]:
        called.append(1)
        return dict(zip(NAMES, 0.5 * LOSSES, strict=True))

    recorder, famo = Recorder(), FAMO()
    rule = Preferred(recorder, famo)
    losses = LOSSES.clone()
    losses[1] = float("nan")
    rule.update(Step(NAMES, losses, None, skipped=("b",)), losses=after)
    told, _ = recorder.told[0]
    assert told.tolist() == pytest.approx([1 / 3, 0, 2 / 3])  # 1 / f of FAMO, b was skipped
    assert called == [1]
    assert famo.read("count", NAMES).tolist() == [1, 0, 1]


def test_state_dict_holds_both_and_copies_go_on_alike():
    trained = Preferred(UPGrad(), FAMO(step_size=0.5))
    train(trained)
    assert any(key.startswith("weights.") for key in trained.state_dict())
    loaded = Preferred(UPGrad(), FAMO(step_size=0.5))
    loaded.load_state_dict(trained.state_dict())
    for other in (loaded, copy.deepcopy(trained), pickle.loads(pickle.dumps(trained))):
        found = [r.apply_to(GRAMIAN, losses=LOSSES, names=NAMES) for r in (trained, other)]
        assert torch.equal(*found)


def test_groups_are_solved_at_once():
    rule = Preferred(UPGrad(), DWA())
    stack = torch.stack([GRAMIAN, 2 * GRAMIAN.flip(0, 1)])
    together = rule.apply_to(stack, losses=LOSSES, names=NAMES)
    apart = [rule.apply_to(one, losses=LOSSES, names=NAMES) for one in stack]
    torch.testing.assert_close(together, torch.stack(apart))


def test_weights_of_zero_leave_the_uniform_preference():
    class Nothing(Scalarizer):
        def forward(self, losses: Tensor) -> Tensor:
            return 0 * losses.sum()

    found = Preferred(UPGrad(), Nothing()).apply_to(GRAMIAN, losses=LOSSES, names=NAMES)
    torch.testing.assert_close(found, UPGrad()(GRAMIAN))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"PCGrad takes no preference; `equipoise list`"):
        Preferred(PCGrad(), FAMO())
    with pytest.raises(ValueError, match="FAMO takes no preference, and it finds that of UPGrad"):
        Preferred(UPGrad(), FAMO()).apply_to(GRAMIAN, losses=LOSSES, preference=torch.ones(3) / 3)
    with pytest.raises(ValueError, match="FAMO takes no preference, and it finds that of UPGrad"):
        equipoise.backward(
            losses_of(nn.Linear(2, 1).double()), Preferred(UPGrad(), FAMO()), preference=[1, 1, 1]
        )
    with pytest.raises(TypeError, match="is no GramianRule or Scalarizer"):
        Preferred(GradDrop(), FAMO())
    with pytest.raises(TypeError, match="is no GramianRule"):
        Preferred("UPGrad", FAMO())  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="MGDA"):
        Preferred(UPGrad(), MGDA())  # pyright: ignore[reportArgumentType]
    for learner in (UncertaintyWeighting(), IMTLL()):
        with pytest.raises(ValueError, match=f"{type(learner).__name__} learns its weights by gradient"):
            Preferred(UPGrad(), learner)
    with pytest.raises(ValueError, match="'c' a negative weight"):
        Preferred(UPGrad(), PBI()).apply_to(GRAMIAN, losses=torch.tensor([4.0, 4.0, 0.1]), names=NAMES)
    with pytest.raises(ValueError, match="none were given"):
        Preferred(UPGrad(), FAMO())(GRAMIAN)


def test_a_weight_that_is_not_finite_is_named():
    class Steep(Scalarizer):
        def forward(self, losses: Tensor) -> Tensor:
            return losses.sqrt().sum()

    with pytest.raises(NonFiniteDirection) as caught:
        Preferred(UPGrad(), Steep()).apply_to(GRAMIAN, losses=torch.tensor([1.0, 0.0, 1.0]), names=NAMES)
    assert caught.value.names == ("b",)


@pytest.mark.parametrize("rule", [UPGrad(), Linear()])
def test_it_is_called_by_its_public_name(rule):
    preferred = Preferred(rule, FAMO())
    assert repr(preferred).startswith("Preferred(")
    assert type(pickle.loads(pickle.dumps(preferred))) is type(preferred)
