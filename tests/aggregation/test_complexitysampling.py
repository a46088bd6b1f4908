from collections import Counter

import pytest
import torch

from equipoise.aggregation import ComplexitySampling

SIZES = {f"net {i}": float(i) for i in range(1, 41)}


def test_levels_hold_what_is_nearest_to_their_targets():
    sampler = ComplexitySampling({"a": 1.0, "b": 2.4, "c": 2.6, "d": 9.0}, levels=[9, 1, 4, 100])
    assert sampler.groups == (("a", "b"), ("c",), ("d",))
    assert len(ComplexitySampling(SIZES, levels=5).groups) == 5
    assert ComplexitySampling({"only": 3.0}).groups == (("only",),)


def test_neighbouring_steps_differ_by_one_level_at_most():
    """Tang et al. 2023, what complexity-aware sampling is for, against uniform draws."""
    sampler = ComplexitySampling(SIZES, levels=8)
    level, jumps, uniform = int(sampler.level), [], []
    last, generator = None, torch.Generator().manual_seed(0)
    other = None
    for _ in range(400):
        drawn = sampler.draw()
        assert abs(int(sampler.level) - level) <= 1
        level = int(sampler.level)
        mean = sum(SIZES[name] for name in drawn[:3]) / 3
        free = float(torch.randint(1, 41, (3,), generator=generator).double().mean())
        if last is not None and other is not None:
            jumps.append(abs(mean - last))
            uniform.append(abs(free - other))
        last, other = mean, free
    assert max(jumps) <= 10
    assert sum(jumps) < 0.5 * sum(uniform)


def test_the_walk_stays_in_two_cases_of_three_at_an_end():
    """The authors' code chooses from (0, 0, 1) at the lowest level, and from (-1, 0, 1) between the ends."""
    sampler = ComplexitySampling(SIZES, levels=4)
    moves: dict[int, Counter[int]] = {k: Counter() for k in range(4)}
    level = 0
    for _ in range(6000):
        sampler.draw()
        moves[level][int(sampler.level) - level] += 1
        level = int(sampler.level)
    for level, wanted in ((0, {0: 2 / 3, 1: 1 / 3}), (1, {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}), (3, {-1: 1 / 3})):
        total = sum(moves[level].values())
        for move, share in wanted.items():
            assert moves[level][move] / total == pytest.approx(
                share, abs=4 * (share * (1 - share) / total) ** 0.5
            )


def test_every_size_is_covered():
    sampler = ComplexitySampling(SIZES, levels=8)
    seen = Counter(name for _ in range(3000) for name in sampler.draw()[:3])
    assert set(seen) == set(SIZES)
    assert max(seen.values()) < 4 * min(seen.values())


def test_each_stretch_of_levels_has_its_smallest_preset():
    """Several smallest sub-networks in place of one: six levels and three presets."""
    sampler = ComplexitySampling({f"{i}": float(i) for i in range(1, 13)}, levels=6, presets=3)
    assert [len(group) for group in sampler.groups] == [2] * 6
    assert sampler.presets == ("1", "1", "5", "5", "9", "9")
    for _ in range(50):
        drawn = sampler.draw()
        preset = sampler.presets[int(sampler.level)]
        assert preset in drawn
        assert set(drawn) <= {*sampler.groups[int(sampler.level)], preset}
        assert len(set(drawn)) == len(drawn)


def test_the_bank_keeps_the_best_and_fills_before_it_is_used():
    sampler = ComplexitySampling(SIZES, levels=1, bank=4)
    sampler.observe({"net 1": 3.0, "net 2": 2.0})
    assert sampler.banked(0) == ()
    sampler.observe({"net 3": 1.0, "net 4": 5.0, "net 5": 4.0})
    assert sampler.banked(0) == ("net 3", "net 2", "net 1", "net 5")
    sampler.observe({"net 3": 9.0})
    assert sampler.banked(0)[0] == "net 2"


def test_good_ones_are_drawn_in_proportion_to_the_exponential_of_minus_their_loss():
    sampler = ComplexitySampling(SIZES, levels=1, per_step=1, presets=1, bank=2, exploit=1.0)
    sampler.observe({"net 7": 0.0, "net 9": 1.0, "net 11": 2.0})
    found = Counter(sampler.draw()[0] for _ in range(3000))
    wanted = 1 / (1 + torch.tensor(-1.0).exp().item())
    assert set(found) == {"net 7", "net 9"}
    assert found["net 7"] / 3000 == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 3000) ** 0.5)


def test_exploit_says_how_often_the_bank_is_asked():
    sampler = ComplexitySampling(SIZES, levels=1, per_step=1, presets=1, bank=1, exploit=0.5)
    sampler.observe({"net 40": 0.1})
    share = sum(sampler.draw()[0] == "net 40" for _ in range(3000)) / 3000
    assert share == pytest.approx(0.5 + 0.5 / 40, abs=4 * (0.25 / 3000) ** 0.5)


def test_saved_and_loaded_it_draws_on_alike_and_leaves_the_global_generator_alone():
    sampler, other = ComplexitySampling(SIZES), ComplexitySampling(SIZES)
    state = torch.get_rng_state()
    for name in sampler.draw():
        sampler.observe({name: torch.tensor(0.5)})
    other.load_state_dict(sampler.state_dict())
    assert [sampler.draw() for _ in range(20)] == [other.draw() for _ in range(20)]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_unit_of_complexity_does_not_matter(scale: float):
    plain, scaled = ComplexitySampling(SIZES), ComplexitySampling({k: scale * v for k, v in SIZES.items()})
    assert plain.groups == scaled.groups
    assert plain.draw() == scaled.draw()


@pytest.mark.parametrize(
    ("complexities", "options", "message"),
    [
        ({}, {}, "there are no complexities"),
        ({"a": 0.0}, {}, "the complexity of 'a' is 0"),
        ({"a": float("nan")}, {}, "the complexity of 'a' is nan"),
        ({"a": 1.0}, {"levels": 0}, "levels is 0"),
        ({"a": 1.0}, {"levels": []}, "levels is empty"),
        ({"a": 1.0}, {"per_step": 0}, "per_step is 0"),
        ({"a": 1.0}, {"presets": 0}, "presets is 0"),
        ({"a": 1.0}, {"bank": 0}, "bank is 0"),
        ({"a": 1.0}, {"exploit": 1.5}, "exploit is 1"),
    ],
)
def test_refusals(complexities, options, message: str):
    with pytest.raises(ValueError, match=message):
        ComplexitySampling(complexities, **options)


def test_losses_of_strangers_and_losses_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="no objective is called 'net 99'"):
        ComplexitySampling(SIZES).observe({"net 99": 0.5})
    with pytest.raises(ValueError, match="the loss of 'net 9' is inf"):
        ComplexitySampling(SIZES).observe({"net 9": float("inf")})
