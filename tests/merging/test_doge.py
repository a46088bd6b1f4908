"""DOGE: the published algorithm in full decompositions and autograd, worked values, and hard inputs."""

import pytest
import torch
from tests.merging.matrices import check_hard_inputs, drawn, every_kind_of_tensor

from equipoise.merging import DOGE, merge


def published(layers, eta=0.07, density=0.3, subspace=6, iterations=400, rate=1e-4):
    """`DOGE_TA_Algorithm` of fusion_bench on {name: (m, out, in)}: its loss, projection and global mask."""
    changes, lengths = {}, {}
    for name, deltas in layers.items():
        m, rank = len(deltas), min(deltas.shape[1:])
        lengths[name] = eta / deltas.flatten(1).norm(dim=1).view(m, 1, 1)
        left = torch.cat([torch.linalg.svd(d, full_matrices=False)[0][:, : rank // m] for d in deltas], 1)
        shared = torch.linalg.svd(left, full_matrices=False)[0][:, : rank // subspace]
        change = torch.zeros_like(deltas[0], requires_grad=True)
        optimizer = torch.optim.Adam([change], lr=rate)
        for _ in range(iterations):
            optimizer.zero_grad()
            rest = deltas - (lengths[name] * (deltas + change)).sum(0)
            (deltas * rest).sum(2).square().sum().backward()
            assert change.grad is not None
            change.grad -= shared @ shared.T @ change.grad
            optimizer.step()
        changes[name] = change.detach()
    flat = torch.cat([deltas.flatten(1) for deltas in layers.values()], 1).abs()
    place = flat.shape[1] - int(flat.shape[1] * density)
    least = flat.kthvalue(place, dim=1).values.view(-1, 1, 1)
    return {
        name: (lengths[name] * (deltas + changes[name]) * (deltas.abs() >= least)).sum(0)
        for name, deltas in layers.items()
    }


def merged(rule, layers, **options):
    m = len(next(iter(layers.values())))
    models = [{name: deltas[i] for name, deltas in layers.items()} for i in range(m)]
    base = {name: torch.zeros_like(deltas[0]) for name, deltas in layers.items()}
    return merge(models, base, method=rule, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [2, 3])
def test_it_is_the_published_algorithm(dtype, m):
    layers = {"u": 0.01 * drawn((12, 18), m, dtype, 1), "w": 0.03 * drawn((20, 7), m, dtype, 2)}
    found = merged(DOGE(), layers)
    for name, right in published(layers).items():
        torch.testing.assert_close(
            found[name], right, atol=1e-7 if dtype == torch.float32 else 1e-12, rtol=1e-4
        )


def test_the_objective_falls_off_the_shared_directions():
    """With all elements kept and unit lengths, the change lowers the loss that the paper states."""
    deltas = drawn((12, 9), 3)
    lengths = 2 / deltas.flatten(1).norm(dim=1).view(3, 1, 1)

    def loss(rule):
        found = merged(rule, {"w": deltas})["w"]
        return (deltas * (deltas - found)).sum(2).square().sum()

    assert (lengths > 0).all()
    still, moved = (loss(DOGE(eta=2, density=1, iterations=n, rate=1e-2)) for n in (0, 400))
    assert moved < 0.5 * still


def test_without_steps_each_model_adds_its_length():
    """Plain task arithmetic with lambda_i = eta / |D_i| where nothing is cut off."""
    deltas = drawn((5, 6), 2)
    found = merged(DOGE(iterations=0, density=1, eta=0.5), {"w": deltas})["w"]
    torch.testing.assert_close(found, sum(0.5 * delta / delta.norm() for delta in deltas))


def test_the_share_kept_is_that_of_all_matrices():
    """A loud layer and a quiet one of equal size: at a third of all, nothing of the quiet one is kept."""
    layers = {"loud": 1 + drawn((6, 6), 1).abs(), "quiet": 0.1 * drawn((6, 6), 1).clamp(-1, 1)}
    found = merged(DOGE(density=0.3, iterations=0), layers)
    assert not found["quiet"].any()
    assert found["loud"].count_nonzero() == int(0.3 * 72) + 1


def test_the_rest_keeps_the_base_or_is_averaged():
    models, base = every_kind_of_tensor()
    found = merge(models, base, method=DOGE())
    averaged = merge(models, base, method=DOGE(others="average"))
    for name in ("s", "b", "k"):
        assert torch.equal(found[name], base[name])
        right = torch.stack([one[name] for one in models.values()]).mean(0)
        torch.testing.assert_close(averaged[name], right)


def test_what_is_refused():
    with pytest.raises(ValueError, match="density is 0"):
        DOGE(density=0)
    with pytest.raises(ValueError, match="subspace is 0"):
        DOGE(subspace=0)
    with pytest.raises(ValueError, match="others is 'sum'"):
        DOGE(others="sum")  # pyright: ignore[reportArgumentType]


def test_hard_inputs():
    check_hard_inputs(DOGE(kernels=True, iterations=20))
