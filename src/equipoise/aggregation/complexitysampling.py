"""ComplexitySampling: neighbouring steps train sub-networks of like size, the good ones more often."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.errors import unknown

CARD = Card(
    name="ComplexitySampling",
    shape="system",
    summary="Draws objectives whose complexity changes little between steps, good ones more often.",
    formula="level <- level + u, u from {-1, 0, 1}; then objectives of that level, and its smallest preset",
    title="ElasticViT: Conflict-aware Supernet Training for Deploying Fast Vision Transformer "
    "on Diverse Mobile Devices",
    authors=(
        "Chen Tang",
        "Li Lyna Zhang",
        "Huiqiang Jiang",
        "Jiahang Xu",
        "Ting Cao",
        "Quanlu Zhang",
        "Yuqing Yang",
        "Zhi Wang",
        "Mao Yang",
    ),
    venue="ICCV",
    year=2023,
    arxiv="2303.09730",
    guarantees=("STATEFUL", "RANDOM"),
    single="it is drawn in every step",
    cost="nothing beside the losses that are noted",
    use="where one set of weights serves sub-networks of very different size, whose gradients conflict",
    avoid="with few or like complexities: there is nothing to order, and a level is trained for many steps",
    status="experimental",
)


class ComplexitySampling(nn.Module):
    """Decides which objectives, or sub-networks, a step trains: of one size, and not far from the last.

    Objectives are put into levels, each to the nearest of the `levels` targets (a number of targets spread
    evenly over the complexities, or the targets themselves; empty ones are left out). Every `draw` first
    takes the level one up, one down or leaves it, a third each; at either end it stays in two cases of three.
    Then it draws `per_step` objectives of the level, each once, and adds the level's preset: levels are cut
    into `presets` stretches, and the least complex objective of a stretch is the preset of all its levels.
    With probability `exploit` a draw is from the level's memory bank, the `bank` objectives of least loss so
    far (at most half of the level), in proportion to exp(-loss), once the bank is more than half full; else
    it is uniform.

    Use it for supernets. The step trains the sum or the mean of what is drawn, or gives it to a rule. Not
    where complexities are much alike.

    complexities: name -> positive number such as FLOPs. generator: seeds the draws (copied; seed 0 by
    default). State is in `state_dict`. Raises ValueError for complexities that are none or not positive,
    options out of range, an unknown name, and a loss that is not finite.

    Source: Tang et al. 2023, complexity-aware and performance-aware sampling; walk, bank and their defaults
    as in the authors' code. Levels and presets made from a finite list are ours; the authors also prefer
    candidates by how depth and width share their FLOPs, which has no counterpart here.

    >>> sampler = ComplexitySampling({"small": 1.0, "middle": 2.0, "large": 4.0}, levels=[1, 4], per_step=1)
    >>> sampler.groups
    (('small', 'middle'), ('large',))
    """

    level: Tensor
    losses: Tensor
    generator_state: Tensor

    def __init__(
        self,
        complexities: Mapping[str, float],
        *,
        levels: int | Sequence[float] = 8,
        per_step: int = 3,
        presets: int = 3,
        exploit: float = 0.2,
        bank: int = 150,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not complexities:
            raise ValueError("there are no complexities; give one for each objective by name")
        for name, value in complexities.items():
            if not (isfinite(value) and value > 0):
                raise ValueError(f"the complexity of {name!r} is {value}; it must be positive")
        for option, value in (("per_step", per_step), ("presets", presets), ("bank", bank)):
            if value < 1:
                raise ValueError(f"{option} is {value}; it is at least 1")
        if not 0 <= exploit <= 1:
            raise ValueError(f"exploit is {exploit}; it lies between 0 and 1")
        self.complexities = dict(sorted(complexities.items(), key=lambda pair: (pair[1], pair[0])))
        self.names = tuple(self.complexities)
        self.groups = _grouped(self.complexities, levels)
        self.per_step, self.exploit, self.bank = per_step, exploit, bank
        count = len(self.groups)
        starts = [k * count // min(presets, count) for k in range(min(presets, count))]
        self.presets = tuple(self.groups[max(s for s in starts if s <= k)][0] for k in range(count))
        source = torch.Generator().manual_seed(0) if generator is None else generator
        self.register_buffer("level", torch.zeros((), dtype=torch.long))
        self.register_buffer("losses", torch.full((len(self.names),), torch.nan, dtype=torch.float64))
        self.register_buffer("generator_state", source.get_state().clone())

    def extra_repr(self) -> str:
        return f"{len(self.names)} objectives in {len(self.groups)} levels, exploit={self.exploit}"

    def draw(self) -> tuple[str, ...]:
        """The names of the objectives of the next step: those of its level, then its preset."""
        generator = torch.Generator()
        generator.set_state(self.generator_state.cpu())
        move = int(torch.randint(-1, 2, (), generator=generator))
        self.level.copy_((self.level + move).clamp(0, len(self.groups) - 1))
        group, chosen = self.groups[int(self.level)], []
        for _ in range(min(self.per_step, len(group))):
            rest = [name for name in group if name not in chosen]
            known = [name for name in self.banked(int(self.level)) if name in rest]
            lucky = float(torch.rand((), generator=generator)) < self.exploit
            weights = torch.ones(len(rest), dtype=torch.float64)
            if lucky and known:
                rest = known
                weights = (-self.losses[[self.names.index(name) for name in rest]].cpu()).softmax(0)
            chosen.append(rest[int(torch.multinomial(weights, 1, generator=generator))])
        self.generator_state.copy_(generator.get_state())
        return tuple(dict.fromkeys((*chosen, self.presets[int(self.level)])))

    def observe(self, losses: Mapping[str, float | Tensor]) -> None:
        """Note the present losses of some objectives, for the memory banks."""
        for name, loss in losses.items():
            if name not in self.complexities:
                raise ValueError(unknown("objective", name, self.names))
            if not isfinite(float(loss)):
                raise ValueError(f"the loss of {name!r} is {float(loss)}; leave it out")
            self.losses[self.names.index(name)] = float(loss)

    def banked(self, level: int) -> tuple[str, ...]:
        """The memory bank of a level, best first; empty until it would be more than half full."""
        group = self.groups[level]
        known = {name: float(self.losses[self.names.index(name)]) for name in group}
        found = sorted((name for name in group if not isnan(known[name])), key=lambda name: known[name])
        size = min(self.bank, max(1, len(group) // 2))
        return tuple(found[:size]) if len(found) > size // 2 else ()


def _grouped(complexities: Mapping[str, float], levels: int | Sequence[float]) -> tuple[tuple[str, ...], ...]:
    """Names by nearest target, targets in order, names by complexity."""
    values = list(complexities.values())
    if isinstance(levels, int):
        if levels < 1:
            raise ValueError(f"levels is {levels}; there is at least one")
        targets = torch.linspace(min(values), max(values), levels, dtype=torch.float64).tolist()
    else:
        targets = sorted(float(target) for target in levels)
        if not targets:
            raise ValueError("levels is empty; give a number of levels, or their targets")
    groups: dict[float, list[str]] = {target: [] for target in targets}
    for name, value in complexities.items():
        groups[min(targets, key=lambda target: abs(target - value))].append(name)
    return tuple(tuple(names) for names in groups.values() if names)
