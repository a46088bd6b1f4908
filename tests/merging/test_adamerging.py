"""AdaMerging takes the steps that the paper writes down, and notices when predictions collapse."""

import math

import pytest
import torch
from tests.merging.experts import accuracy, experts, held, network

from equipoise.merging import TIES, AdaMerging, merge
from equipoise.merging.adamerging import Check, collapsed, entropy
from equipoise.merging.agreedarithmetic import AgreedArithmetic
from equipoise.merging.combined import Coefficients


def unlabelled(size=100):
    return {name: [x for x, _ in found] for name, found in held(size).items()}


def test_entropy():
    assert entropy(torch.zeros(2, 4)).tolist() == pytest.approx([math.log(4)] * 2)
    logits = torch.tensor([2.0, -1.0, 0.5])
    assert entropy(logits).item() == pytest.approx(
        torch.distributions.Categorical(logits=logits).entropy().item()
    )


@pytest.mark.parametrize("by", ["task", "tensor"])
def test_the_steps_are_those_of_the_paper(by):
    """Adam at 1e-3 from 0.3 on the summed entropies of a batch of each task, lambda clamped to [0, 1]."""
    models, base = experts()
    batches = unlabelled()
    found = AdaMerging(by=by, steps=4, every=4).fit(network(), models, base, batches)
    rows = len(base) if by == "tensor" else 1
    raw = torch.full((rows, 3), 0.3, requires_grad=True)
    adam = torch.optim.Adam([raw], lr=1e-3, betas=(0.9, 0.999))
    for step in range(4):
        lambdas = raw.clamp(0, 1)
        tensors = {
            name: first
            + sum(
                lambdas[place if by == "tensor" else 0, i] * (model[name] - first)
                for i, model in enumerate(models.values())
            )
            for place, (name, first) in enumerate(base.items())
        }
        loss = torch.zeros(())
        for images in (found[step] for found in batches.values()):
            logits = torch.func.functional_call(network(), tensors, (images,))
            loss = loss - (logits.softmax(1) * logits.log_softmax(1)).sum(1).mean(0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert isinstance(found.last, Coefficients)
    weights = [list(row.values()) for row in found.last.weights.values()]
    torch.testing.assert_close(torch.tensor(weights), raw.detach(), rtol=0.0, atol=1e-6)


def test_entropy_falls_and_the_model_stays():
    models, base = experts()
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = AdaMerging(steps=100).fit(model, models, base, unlabelled())
    first, last = found.checks[0], found.checks[-1]
    assert (first.step, last.step) == (0, 100)
    assert sum(last.entropy.values()) < sum(first.entropy.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_guard_keeps_what_collapse_would_destroy():
    """A rate ten times the paper's drives far experts to few classes; the last step is much worse."""
    models, base = experts()
    found = AdaMerging(steps=300, learning_rate=0.01, every=10).fit(network(), models, base, unlabelled())
    assert found.collapsed
    kept, last = (accuracy(merge(models, base, method=method)) for method in (found.method, found.last))
    assert sum(kept.values()) > sum(last.values()) + 0.3
    assert found.step < 300


def test_a_labelled_score_decides_where_it_is_given():
    models, base = experts()

    def score(model):
        with torch.no_grad():
            return -sum(
                torch.nn.functional.cross_entropy(model(x), y).item()
                for found in held().values()
                for x, y in found
            )

    found = AdaMerging(steps=40, every=10).fit(network(), models, base, unlabelled(), evaluate=score)
    best = max(found.checks, key=lambda check: check.score)
    assert found.step == best.step
    model = network()
    model.load_state_dict(merge(models, base, method=found.method))
    assert score(model) == pytest.approx(best.score, rel=1e-4)


def test_collapse_is_told_by_the_marginal_entropy():
    def check(step, marginal):
        return Check(step, 0.0, {"a": 0.1, "b": 0.1}, dict(zip("ab", marginal, strict=True)))

    assert collapsed([check(0, (1.0, 2.0)), check(1, (2.2, 2.1)), check(2, (1.0, 1.9))]) == ("a",)
    assert collapsed([check(0, (1.0, 2.0))]) == ()


def test_one_model_and_one_equal_to_the_base():
    models, base = experts()
    for given in ({"plain": models["plain"]}, {"plain": models["plain"], "same": base}):
        found = AdaMerging(by="task", steps=3, every=2).fit(network(), given, base, unlabelled())
        weights = found.weights["all"]
        assert all(0 <= weight <= 1 for weight in weights.values())
        assert weights.get("same", 0.3) == pytest.approx(0.3)  # no gradient moves it


def test_trimmed_and_elected_task_vectors():
    """With all weights 1 the sum of what TIES leaves is TIES with the sum; each alone is what it adds."""
    models, base = experts()
    ties = TIES(preset="fusion_bench", scale=1.0)
    whole = merge(models, base, method=ties)
    mine = merge(models, base, method=AgreedArithmetic(1.0))
    for name in base:
        torch.testing.assert_close(mine[name], whole[name], rtol=1e-5, atol=1e-6)
    found = AdaMerging(steps=5, every=5, ties=ties).fit(network(), models, base, unlabelled())
    merged = merge(models, base, method=found.last)
    assert set(found.weights) == set(base)
    change = torch.cat([(merged[name] - base[name]).flatten() for name in base])
    assert 0 < (change != 0).float().mean() < 0.6  # a fifth of each of three
    start = AdaMerging(steps=1, every=1, ties=ties, learning_rate=1e-12).fit(
        network(), models, base, unlabelled()
    )
    third = merge(models, base, method=AgreedArithmetic(0.3))
    for name, tensor in merge(models, base, method=start.last).items():
        torch.testing.assert_close(tensor, third[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("options", "words"), [
    ({"steps": 0}, "steps is 0"),
    ({"low": 1.0}, "high must be above low"),
    ({"learning_rate": -1.0}, "learning_rate is -1.0"),
])  # fmt: skip
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        AdaMerging(**options)


def test_a_masked_class_has_no_part_in_entropy():
    logits = torch.tensor([[1.0, 0.5, -math.inf], [2.0, -1.0, -math.inf]], requires_grad=True)
    (masked,) = torch.autograd.grad(entropy(logits).sum(), logits)
    (alone,) = torch.autograd.grad(entropy(logits[:, :2]).sum(), logits)
    torch.testing.assert_close(masked, alone)
    torch.testing.assert_close(entropy(logits), entropy(logits[:, :2]))
    assert torch.equal(masked[:, 2], torch.zeros(2))


def test_the_weights_with_a_masked_class_are_those_without_it():
    models, base = experts()
    batches = unlabelled()

    def masked(model, task, batch):
        del task
        classes = torch.arange(10)
        return model(batch).masked_fill(classes == 9, -math.inf)

    def left_out(model, task, batch):
        del task
        return model(batch)[:, :9]

    rule = AdaMerging(by="task", steps=4, every=4)
    found, same = (rule.fit(network(), models, base, batches, predict=p) for p in (masked, left_out))
    for one, other in zip(found.checks, same.checks, strict=True):
        assert one.entropy == pytest.approx(other.entropy, rel=1e-6)
        assert one.marginal == pytest.approx(other.marginal, rel=1e-6)
    for group, row in found.weights.items():
        assert row == pytest.approx(same.weights[group], rel=1e-6)


@pytest.mark.parametrize("where", ["held", "batches", "evaluate"])
def test_what_is_not_finite_is_told_at_once(where):
    models, base = experts()
    good = unlabelled()
    bad = {name: [x * math.nan if name == "turned" else x for x in found] for name, found in good.items()}
    words = {
        "held": "entropy of held-out task 'turned' is nan at step 0",
        "batches": "entropy of task 'turned' is nan at step 0",
        "evaluate": "score of evaluate is nan at step 0",
    }[where]
    with pytest.raises(ValueError, match=words):
        AdaMerging(steps=2, every=1).fit(
            network(),
            models,
            base,
            bad if where == "batches" else good,
            held=bad if where == "held" else good,
            evaluate=(lambda _: math.nan) if where == "evaluate" else None,
        )


def test_a_guard_without_data_is_refused():
    models, base = experts()
    with pytest.raises(ValueError, match="no batch of plain"):
        AdaMerging().fit(network(), models, base, unlabelled(), held={"plain": []})
