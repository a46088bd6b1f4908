"""WUDI: zero gradient of the objective, the vectors of both solvers, and hard inputs."""

from typing import Any

import pytest
import torch
from tests.merging.matrices import (
    check_averages_the_rest,
    check_hard_inputs,
    combined,
    drawn,
    moved_by,
    needs_vectors,
)

from equipoise.merging import WUDI


def interference(merged, deltas, weights=(1, 1, 1)):
    """The paper's objective."""
    gaps = [(merged - delta) @ delta.T / delta.norm() for delta in deltas]
    return torch.stack([w * gap.square().sum() for w, gap in zip(weights, gaps, strict=True)]).sum()


@needs_vectors
@pytest.mark.parametrize(
    ("rule", "name"),
    [(WUDI(ridge=0), "WUDI closed form"), (WUDI(solver="adam"), "WUDI task vector Adam")],
    ids=["closed", "adam"],
)
def test_conformance_vector(rule, name):
    found, right = moved_by(rule, name)
    torch.testing.assert_close(found, right, atol=1e-10, rtol=0)


@pytest.mark.parametrize("solver", ["closed", "adam"])
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_few_rows_are_solved_as_many_are(solver, ridge):
    """Among the six rows of all, or among inputs where rows of zeros make them more than the inputs."""
    deltas = drawn((2, 20))
    rule = WUDI(solver=solver, ridge=ridge)
    filled = torch.cat([deltas, torch.zeros(3, 8, 20, dtype=deltas.dtype)], 1)
    torch.testing.assert_close(combined(rule, filled)[:2], combined(rule, deltas))


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (2, 30)])
def test_gradient_of_the_objective_is_zero(shape):
    deltas = drawn(shape)
    weights = [1.0, 0.5, 3.0]
    found = combined(WUDI(ridge=0, weight=weights), deltas).requires_grad_()
    zero = torch.zeros_like(found, requires_grad=True)
    (gradient,) = torch.autograd.grad(interference(found, deltas, weights), found)
    (start,) = torch.autograd.grad(interference(zero, deltas, weights), zero)
    assert gradient.norm() < 1e-10 * start.norm()


def test_gradient_with_ridge():
    """`ridge` |M|^2 is added, as a share of the mean diagonal of sum H, whose trace is m."""
    deltas = drawn()
    found = combined(WUDI(ridge=0.05), deltas).requires_grad_()
    objective = interference(found, deltas) + 0.05 * 3 / 12 * found.square().sum()
    (gradient,) = torch.autograd.grad(objective, found)
    assert gradient.norm() < 1e-12 * found.norm()


def test_adam_at_a_rate_of_its_size_comes_near_the_minimum():
    deltas = drawn()
    least = interference(combined(WUDI(ridge=0), deltas), deltas)
    start = interference(deltas.sum(0), deltas)
    found = interference(combined(WUDI(solver="adam", rate=0.02, iterations=2000), deltas), deltas)
    assert least <= found < least + 0.02 * (start - least)


def test_task_vectors_that_do_not_meet_are_added_up():
    """Inputs of their own: each model's rows keep their outputs exactly."""
    deltas = torch.zeros(3, 4, 9)
    for i in range(3):
        deltas[i, :, 3 * i : 3 * i + 3] = drawn((4, 3), 1, torch.float32, i)[0]
    torch.testing.assert_close(combined(WUDI(ridge=0), deltas), deltas.sum(0))


def test_one_model_is_itself_without_ridge():
    deltas = drawn((3, 12), 1)
    torch.testing.assert_close(combined(WUDI(ridge=0), deltas), deltas[0])
    shrunk = combined(WUDI(), deltas)
    assert 0.9 * deltas.norm() < shrunk.norm() < deltas.norm()


def test_a_model_given_twice_changes_nothing():
    deltas = drawn()
    for ridge in (0.0, 0.01):
        twice = combined(WUDI(ridge=ridge), torch.cat([deltas, deltas]))
        torch.testing.assert_close(twice, combined(WUDI(ridge=ridge), deltas))


def test_what_is_refused():
    with pytest.raises(ValueError, match="solver is 'sgd'"):
        WUDI(solver="sgd")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="m0: 1, m1: -1, m2: 1; none may be negative"):
        combined(WUDI(weight=[1, -1, 1]), drawn())
    wrong: list[dict[str, Any]] = [{"iterations": -3}, {"rate": float("nan")}, {"ridge": -1.0}]
    for options in wrong:
        with pytest.raises(ValueError, match=rf"{next(iter(options))} is .*; it is a finite number"):
            WUDI(**options)


def test_hard_inputs_and_the_rest():
    for rule in (WUDI(kernels=True), WUDI(ridge=0, kernels=True), WUDI(solver="adam", kernels=True)):
        check_hard_inputs(rule)
    check_averages_the_rest(WUDI())
