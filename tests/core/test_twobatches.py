"""Two batches in one step: what the rule sees, what the parameters get, and that the estimate is unbiased."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import equipoise
from equipoise import TwoBatches, pair
from equipoise.aggregation import CRMOGM, MGDA, AlignedMTL, GradVac, Mean, MoCo, MoDo, SDMGrad, UPGrad
from equipoise.core.rule import GramianRule
from equipoise.scalarization import Linear

SECOND = " (second batch)"


class Recorded(GramianRule):
    """Equal weights; remembers what it was shown."""

    def __init__(self, crosses: bool = True) -> None:
        super().__init__()
        self.crosses = crosses
        self.seen: list[Tensor] = []
        self.losses, self.names, self.steps = torch.empty(0), (), []

    def forward(self, gramian: Tensor, *, losses: Tensor, names: tuple[str, ...]) -> Tensor:
        self.seen.append(gramian)
        self.losses, self.names = losses, names
        return torch.full((len(names),), 1 / len(names), dtype=torch.float64)

    def update(self, step, losses=None, epoch_ended=False):
        self.steps.append((step, losses))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float64), torch.tensor(data.target)


def losses_on(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Even or odd, and small or large: two objectives on the digits."""
    out = model(x)
    loss = nn.functional.binary_cross_entropy_with_logits
    return {"odd": loss(out[:, 0], (y % 2).double()), "large": loss(out[:, 1], (y > 4).double())}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def batches(digits: tuple[Tensor, Tensor], seed: int, size: int = 32) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(seed)
    places = torch.randint(len(digits[0]), (2, size), generator=drawn)
    return [(digits[0][rows], digits[1][rows]) for rows in places]


def test_the_rule_sees_the_cross_gramian_mean_losses_and_plain_names(digits):
    model, rule = network(), Recorded()
    one, two = batches(digits, 0)
    rows = [equipoise.gradients(losses_on(model, *batch), model) for batch in (one, two)]
    first, second = (torch.cat([b.flatten(1) for b in r.blocks.values()], 1) for r in rows)
    step = equipoise.backward(pair(losses_on(model, *one), losses_on(model, *two)), TwoBatches(rule))
    torch.testing.assert_close(rule.seen[0], first @ second.T)
    assert rule.names == ("odd", "large")
    both = zip(losses_on(model, *one).values(), losses_on(model, *two).values(), strict=True)
    torch.testing.assert_close(rule.losses, torch.stack([(a + b) / 2 for a, b in both]).detach())
    assert step.names == ("odd", "large", "odd" + SECOND, "large" + SECOND)


def test_the_update_is_the_weighted_mean_of_both_batches(digits):
    """The same as the rule's weights on the gradients of the union of the two batches, which are as large."""
    model, rule = network(), TwoBatches(UPGrad())
    one, two = batches(digits, 1)
    step = equipoise.backward(pair(losses_on(model, *one), losses_on(model, *two)), rule)
    union = [torch.cat(parts) for parts in zip(one, two, strict=True)]
    whole = equipoise.gradients(losses_on(model, *union), model)
    assert step.weights is not None
    torch.testing.assert_close(step.weights[:2], step.weights[2:])
    for name, wanted in whole.combine(step.weights[:2]).items():
        torch.testing.assert_close(model.get_parameter(name).grad, wanted)


def test_the_cross_gramian_is_unbiased_and_that_of_one_batch_is_not(digits):
    """Over draws with replacement the mean is the Gramian of all data; one batch's squares are larger."""
    model = network()
    true = equipoise.gradients(losses_on(model, *digits), model).gramian()
    rule, single = Recorded(), []
    for seed in range(300):
        one, two = batches(digits, seed)
        step = equipoise.backward(pair(losses_on(model, *one), losses_on(model, *two)), TwoBatches(rule))
        assert step.gramian is not None
        single.append(4 * step.gramian[:2, :2])
        model.zero_grad()
    crossed = torch.stack(rule.seen)
    error = crossed.std(0) / len(crossed) ** 0.5
    assert bool(((crossed.mean(0) - true).abs() < 4 * error).all())
    alone = torch.stack(single)
    over = (alone.mean(0) - true).diagonal() / (alone.std(0).diagonal() / len(alone) ** 0.5)
    assert bool((over > 4).all())


@pytest.mark.parametrize("inner", [UPGrad, MGDA, SDMGrad, AlignedMTL, MoDo, GradVac, CRMOGM])
def test_the_same_batch_twice_is_one_batch(digits, inner):
    """J1 = J2: the cross-Gramian is the Gramian, and the update that of the rule alone."""
    one, _ = batches(digits, 2)
    plain, doubled = network(), network()
    alone = equipoise.backward(losses_on(plain, *one), inner())
    both = equipoise.backward(pair(losses_on(doubled, *one), losses_on(doubled, *one)), TwoBatches(inner()))
    assert alone.weights is not None
    assert both.weights is not None
    torch.testing.assert_close(both.weights[:2], alone.weights, rtol=1e-6, atol=1e-9)
    for a, b in zip(plain.parameters(), doubled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)


def test_other_rules_get_a_true_gramian():
    """Where batches disagree the mean of J1 J2' and J2 J1' has a negative eigenvalue, which becomes zero."""
    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    one = {"a": 2 * point[0], "b": point[1]}
    two = {"a": -2 * point[0], "b": point[1]}
    rule = Recorded(crosses=False)
    equipoise.backward(pair(one, two), TwoBatches(rule))
    torch.testing.assert_close(rule.seen[0], torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    step = equipoise.backward(pair(one, two), TwoBatches(UPGrad()))
    assert step.weights is not None
    assert bool(step.weights.isfinite().all())


def headed() -> nn.ModuleDict:
    torch.manual_seed(0)
    parts = {"trunk": nn.Linear(64, 8), "odd": nn.Linear(8, 1), "large": nn.Linear(8, 1)}
    return nn.ModuleDict(parts).double()


def headed_losses(model: nn.ModuleDict, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    features = torch.tanh(model["trunk"](x))
    targets = {"odd": (y % 2).double(), "large": (y > 4).double()}
    loss = nn.functional.binary_cross_entropy_with_logits
    return {name: loss(model[name](features)[:, 0], target) for name, target in targets.items()}


ROUTES = {
    "directions": (MoDo, {}),
    "stages": (MoCo, {}),
    "one pass": (Mean, {}),
    "wrapped": (lambda: CRMOGM(MoDo()), {}),
    "shares": (MoDo, {"max_memory": 10000}),
    "sketch": (MoDo, {"gramian": "sketch"}),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("private", ["own", "weighted"])
def test_a_head_that_both_halves_reach_is_private(digits, route, private):
    """It gets the gradient of its own loss over both batches, and does not enter the rule's Gramian."""
    make, options = ROUTES[route]
    model, (one, two) = headed(), batches(digits, 7)
    losses = pair(headed_losses(model, *one), headed_losses(model, *two))
    rule = TwoBatches(make())
    step = equipoise.backward(losses, rule, parameters=model, private=private, **options)
    union = [torch.cat(parts) for parts in zip(one, two, strict=True)]
    assert step.weights is not None
    for name, weight in zip(("odd", "large"), step.weights.tolist(), strict=False):
        factor = 1.0 if private == "own" else weight
        own = torch.autograd.grad(headed_losses(model, *union)[name], list(model[name].parameters()))
        for parameter, wanted in zip(model[name].parameters(), own, strict=True):
            torch.testing.assert_close(parameter.grad, factor * wanted)
    assert {layer.name for layer in step.plan.layers} <= {"trunk.weight", "trunk.bias"}


def test_a_wrapper_around_two_batches_tells_the_halves_too(digits):
    model, (one, two) = headed(), batches(digits, 7)
    losses = pair(headed_losses(model, *one), headed_losses(model, *two))
    step = equipoise.backward(losses, CRMOGM(TwoBatches(MoDo())), parameters=model)
    assert {layer.name for layer in step.plan.layers} == {"trunk.weight", "trunk.bias"}


def test_one_objective_alone_shares_everything(digits):
    model, (one, two) = headed(), batches(digits, 7)
    halves = [{"odd": headed_losses(model, *batch)["odd"]} for batch in (one, two)]
    step = equipoise.backward(pair(*halves), TwoBatches(MoDo()), parameters=model)
    assert "odd.weight" in {layer.name for layer in step.plan.layers}


def test_micro_batches_of_pairs_keep_heads_private(digits):
    """Accumulated in two parts, both halves of a head's gradient are there."""
    model, (one, two) = headed(), batches(digits, 7)
    accumulator = equipoise.Accumulator(TwoBatches(MoDo()), parameters=model)
    for part in (slice(None, 16), slice(16, None)):
        halves = [headed_losses(model, x[part], y[part]) for x, y in (one, two)]
        accumulator.add(pair(*halves))
    accumulator.backward()
    found = model["odd"].weight.grad
    union = [torch.cat(parts) for parts in zip(one, two, strict=True)]
    (wanted,) = torch.autograd.grad(headed_losses(model, *union)["odd"], [model["odd"].weight])
    torch.testing.assert_close(found, wanted)


def test_update_hands_on_a_step_of_m_names(digits):
    model, inner = network(), Recorded()
    one, two = batches(digits, 3)
    rule = TwoBatches(inner)
    losses = pair(losses_on(model, *one), losses_on(model, *two))
    step = equipoise.backward(losses, rule, parameters=model, groups="layer")
    rule.update(step, losses=lambda: {name: loss.detach() for name, loss in losses.items()})
    small, after = inner.steps[0]
    assert small.names == ("odd", "large")
    assert small.weights is None
    assert set(small.groups) == set(step.groups)
    assert all(group.gramian.shape == (2, 2) for group in small.groups.values())
    torch.testing.assert_close(small.gramian, sum(group.gramian for group in small.groups.values()))
    mean = (losses_on(model, *one)["odd"] + losses_on(model, *two)["odd"]).detach() / 2
    torch.testing.assert_close(after()["odd"], mean)
    torch.testing.assert_close(small.losses[0], mean)


def test_modo_moves_by_the_cross_gramian(digits):
    model, rule = network(), TwoBatches(MoDo(relative=False))
    seen, alone = Recorded(), MoDo(relative=False)
    for number in range(3):
        one, two = batches(digits, number)
        losses = pair(losses_on(model, *one), losses_on(model, *two))
        equipoise.backward(losses, TwoBatches(seen), retain_graph=True)
        step = equipoise.backward(losses, rule)
        wanted = alone(seen.seen[-1], names=("odd", "large"))
        torch.testing.assert_close(step.weights, wanted.repeat(2))
        rule.update(step)
        alone.update(equipoise.Step(("odd", "large"), torch.ones(2), wanted, seen.seen[-1]))
    assert isinstance(rule.rule, MoDo)
    torch.testing.assert_close(rule.rule.shares_of(("odd", "large")), alone.shares_of(("odd", "large")))


def test_a_preference_is_paired_as_the_losses_are(digits):
    one, _ = batches(digits, 4)
    plain, doubled = network(), network()
    preference = {"odd": 0.8, "large": 0.2}
    alone = equipoise.backward(losses_on(plain, *one), SDMGrad(), preference=preference)
    both = equipoise.backward(
        pair(losses_on(doubled, *one), losses_on(doubled, *one)),
        TwoBatches(SDMGrad()),
        preference=pair(preference, preference),
    )
    assert alone.weights is not None
    torch.testing.assert_close(both.weights, alone.weights.repeat(2), rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="TwoBatches takes no preference"):
        equipoise.backward(
            pair(losses_on(plain, *one), losses_on(plain, *one)),
            TwoBatches(MGDA()),
            preference=pair(preference, preference),
        )


def test_rules_that_need_no_directions_take_one_pass(digits):
    model = network()
    one, two = batches(digits, 5)
    step = equipoise.backward(pair(losses_on(model, *one), losses_on(model, *two)), TwoBatches(Mean()))
    assert step.plan.passes == 1
    assert step.weights is not None
    assert step.weights.tolist() == [0.5] * 4


def test_an_objective_with_one_half_has_no_weight():
    point = torch.ones(2, dtype=torch.float64, requires_grad=True)
    one = {"a": point.square().sum(), "b": point[0] * 3}
    two = {"a": point.square().sum(), "b": point[0] * float("nan")}
    rule = TwoBatches(MoDo())
    step = equipoise.backward(pair(one, two), rule, on_nonfinite="skip")
    assert step.skipped == ("b" + SECOND,)
    assert step.weights is not None
    assert step.weights.tolist() == [1.0, 0.0, 1.0, 0.0]
    rule.update(step)
    assert isinstance(rule.rule, MoDo)
    assert rule.rule.objectives == ("a",)


def test_pairs():
    assert list(pair([1.0, 2.0], [3.0, 4.0])) == ["0", "1", "0" + SECOND, "1" + SECOND]
    absent = pair({"a": 1.0, "b": None}, {"a": 3.0, "b": 2.0})
    assert absent == {"a": 0.5, "a" + SECOND: 1.5}
    with pytest.raises(ValueError, match="only one has b"):
        pair({"a": 1.0, "b": 2.0}, {"a": 1.0})
    point = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="takes the losses of two batches"):
        equipoise.backward({"a": point.sum(), "b": -point.sum()}, TwoBatches(MGDA()))
    with pytest.raises(TypeError, match="no GramianRule"):
        TwoBatches(Linear())
