"""ImportanceSampling: draw objectives, or samples, in proportion to the length of their gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equipoise.core.card import Card
from equipoise.core.errors import unknown

CARD = Card(
    name="ImportanceSampling",
    shape="system",
    summary="Draws objectives or samples in proportion to gradient length, with weights that keep the mean.",
    formula="p_i = t |g_i| / sum_j |g_j| + (1 - t) / n; a drawn g_i counts 1 / (n p_i)",
    title="PA&DA: Jointly Sampling PAth and DAta for Consistent NAS",
    authors=(
        "Shun Lu",
        "Yu Hu",
        "Longxing Yang",
        "Zihao Sun",
        "Jilin Mei",
        "Jianchao Tan",
        "Chengru Song",
    ),
    venue="CVPR",
    year=2023,
    arxiv="2302.14772",
    guarantees=("STATEFUL", "RANDOM"),
    single="the direction itself, with weight 1",
    cost="a number for each item; its length comes from the forward pass (`last_layer`) or a Gramian",
    use="with many samples or objectives a step cannot hold, of which few have long gradients",
    avoid="where lengths change faster than they are seen again, or labels are wrong: those are longest",
    status="main",
    evidence="sampling",
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: `indices` (b,), importance `weights` (b,) float64, of mean 1 on average, and names."""

    indices: Tensor
    weights: Tensor
    names: tuple[str, ...] = ()


class ImportanceSampling(nn.Module):
    """Decides which of n objectives or samples a step trains on: long gradients are drawn more often.

    p_i = t |g_i| / sum_j |g_j| + (1 - t) / n, with t `trust` in the lengths. Of all probabilities those in
    proportion to |g_i| make the variance of the estimate 1/b sum_k g_{i_k} / (n p_{i_k}) least; its
    expectation is the mean of all g_i for any p. `observe` notes lengths as they are seen, the mean of the
    old and the new one where an item is seen again in the same round; `refresh` ends the round and makes the
    probabilities. An item not seen in the round keeps its length; one never seen counts as the mean.

    Use it over samples (`ImportanceSampling(len(data))`) with the lengths of `last_layer`, an upper bound up
    to a factor, or over objectives (`ImportanceSampling(names)`) with `bundle.norms()`. Not with noisy
    labels. Leave the weights out (all 1) to do as the authors' code does, which accepts the bias.

    items: how many, or their names. generator: seeds the draws (copied; seed 0 by default). State, the draws'
    included, is in `state_dict`. Raises ValueError for items that are none or repeat, an index or name that
    does not exist, lengths that are negative or not finite, and a trust outside [0, 1].

    Source: Lu et al. 2023, sampling distributions of path and data with their smoothing, which ends as
    training goes on: t = epoch / epochs in the authors' code. Lengths that survive a round are ours: there an
    item not seen counts 0, and at t = 1 is never drawn again.

    >>> sampler = ImportanceSampling(["a", "b"])
    >>> sampler.observe(["a", "b"], torch.tensor([3.0, 1.0]))
    >>> sampler.refresh(trust=1.0).tolist()
    [0.75, 0.25]
    """

    lengths: Tensor
    fresh: Tensor
    probabilities: Tensor
    generator_state: Tensor

    def __init__(self, items: int | Sequence[str], *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if isinstance(items, str):
            raise ValueError(f"items is the string {items!r}; give a number or a sequence of names")
        self.names: tuple[str, ...] = () if isinstance(items, int) else tuple(items)
        count = items if isinstance(items, int) else len(self.names)
        if count < 1 or len(set(self.names)) < len(self.names):
            raise ValueError(f"items is {items!r}; give at least one, each once")
        source = torch.Generator().manual_seed(0) if generator is None else generator
        self.register_buffer("lengths", torch.full((count,), torch.nan, dtype=torch.float64))
        self.register_buffer("fresh", torch.zeros(count, dtype=torch.bool))
        self.register_buffer("probabilities", torch.full((count,), 1 / count, dtype=torch.float64))
        self.register_buffer("generator_state", source.get_state().clone())

    def __len__(self) -> int:
        return len(self.lengths)

    def extra_repr(self) -> str:
        return ", ".join(self.names) or str(len(self))

    def draw(self, count: int) -> Drawn:
        """`count` items, with replacement, and their importance weights 1 / (n p_i)."""
        if count < 1:
            raise ValueError(f"count is {count}; draw at least one")
        generator = torch.Generator()
        generator.set_state(self.generator_state.cpu())
        p = self.probabilities.cpu()
        indices = torch.multinomial(p, count, replacement=True, generator=generator)
        self.generator_state.copy_(generator.get_state())
        names = tuple(self.names[i] for i in indices.tolist()) if self.names else ()
        return Drawn(indices, 1 / (len(self) * p[indices]), names)

    def observe(self, items: Tensor | Sequence[int] | Sequence[str], lengths: Tensor) -> None:
        """Note the lengths (b,) of the gradients of some items; an item may come twice."""
        places = self._places(items)
        values = torch.as_tensor(lengths).detach().reshape(-1).to(torch.float64).cpu()
        if len(values) != len(places):
            raise ValueError(f"{len(values)} lengths for {len(places)} items")
        for place, value in zip(places, values.tolist(), strict=True):
            if not 0 <= value < float("inf"):
                raise ValueError(f"the gradient of {self._label(place)} has length {value}")
            old = float(self.lengths[place])
            self.lengths[place] = (old + value) / 2 if self.fresh[place] else value
            self.fresh[place] = True

    def refresh(self, trust: float) -> Tensor:  # -> (n,)
        """End the round: new probabilities, by the lengths as far as they are trusted. Gives them back.

        trust: 0 is uniform, 1 by the lengths alone; over training it goes from 0 to 1.
        """
        if not 0 <= trust <= 1:
            raise ValueError(f"trust is {trust}; it lies between 0 and 1")
        known = ~self.lengths.isnan()
        mean = self.lengths[known].mean() if bool(known.any()) else self.lengths.new_ones(())
        lengths = torch.where(known, self.lengths, mean)
        largest = lengths.amax()
        uniform = torch.full_like(lengths, 1 / len(self))
        shares = lengths / largest
        by_length = shares / shares.sum() if bool(largest > 0) else uniform
        self.probabilities.copy_(trust * by_length + (1 - trust) * uniform)
        self.fresh.fill_(False)
        return self.probabilities.clone()

    def variance(self, gramian: Tensor) -> float:  # (n, n)
        """The variance of one weighted draw around the mean of all: 1/n^2 sum_i |g_i|^2 / p_i - |mean|^2.

        gramian: inner products of all n gradients. Infinite where a gradient is not zero but its p_i is.
        """
        if gramian.shape != (len(self), len(self)):
            raise ValueError(f"the Gramian is {tuple(gramian.shape)}, and there are {len(self)} items")
        gramian, p = gramian.to(torch.float64).cpu(), self.probabilities.cpu()
        squares = gramian.diagonal().clamp(min=0)
        terms = torch.where(squares > 0, squares / p, 0.0)
        return float((terms.sum() - gramian.sum()) / len(self) ** 2)

    @staticmethod
    def last_layer(logits: Tensor, labels: Tensor) -> Tensor:  # (b, classes), (b,) -> (b,)
        """|softmax(logits) - one-hot(labels)|: each sample's gradient of the cross-entropy by its logits."""
        with torch.no_grad():
            shares = logits.detach().softmax(1)
            return (shares - nn.functional.one_hot(labels, logits.shape[1]).to(shares)).norm(dim=1)

    def _places(self, items: Tensor | Sequence[int] | Sequence[str]) -> list[int]:
        given = items.tolist() if isinstance(items, Tensor) else list(items)
        places = []
        for item in given:
            if isinstance(item, str):
                if item not in self.names:
                    raise ValueError(unknown("item", item, self.names))
                places.append(self.names.index(item))
            elif 0 <= item < len(self):
                places.append(int(item))
            else:
                raise ValueError(f"there is no item {item}; they are counted from 0 to {len(self) - 1}")
        return places

    def _label(self, place: int) -> str:
        return repr(self.names[place]) if self.names else f"item {place}"
