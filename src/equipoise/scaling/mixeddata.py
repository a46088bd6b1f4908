"""MixedData: batches of indices over several data sets, in the ratios of a schedule."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from equipoise.core.checks import check_count
from equipoise.scaling.objectivesampler import ObjectiveSampler, Turn


class MixedData(Sampler[list[int]]):
    """A `batch_sampler` for `DataLoader(ConcatDataset(...))`, of batches by a sampler's turns.

    sizes: {name: examples} in the order in which the data sets are joined. sampler: over the same names, in
    any order. Examples of a source are shuffled and not seen again before all have been; `epochs` says how
    often that was. `turn` is what the last batch given out was made from: its losses count `turn.weights`.

    A resume takes `state_dict` of the last batch that was trained on: with workers the loader runs ahead of
    the training, so keep the states beside the batches or use `num_workers=0`.

    Raises ValueError for names that differ from the sampler's and a source without examples.

    >>> from torch.utils.data import ConcatDataset, DataLoader
    >>> from equipoise.scaling import ObjectiveSampler, Static
    >>> mixed = MixedData({"a": 8, "b": 2}, ObjectiveSampler(Static({"a": 3, "b": 1}), batch=4, steps=2))
    >>> loader = DataLoader(ConcatDataset([range(8), range(100, 102)]), batch_sampler=mixed)
    >>> [int((batch >= 100).sum()) for batch in loader]
    [1, 1]
    """

    def __init__(self, sizes: Mapping[str, int], sampler: ObjectiveSampler, *, seed: int = 0) -> None:
        if set(sizes) != set(sampler.names):
            odd = sorted(set(sizes) ^ set(sampler.names))
            raise ValueError(f"{', '.join(odd)}: in the sizes or in the sampler, but not in both")
        for name, size in sizes.items():
            check_count(1, **{f"sizes[{name}]": size})
        self.sizes, self.sampler, self.seed = dict(sizes), sampler, seed
        starts = np.cumsum([0, *self.sizes.values()])[:-1].tolist()
        self._starts = dict(zip(self.sizes, starts, strict=True))
        self.seen = dict.fromkeys(self.sizes, 0)
        self._orders: dict[tuple[str, int], np.ndarray] = {}
        self.turn: Turn | None = None

    @property
    def epochs(self) -> dict[str, float]:
        """How often each source has been gone through."""
        return {name: self.seen[name] / size for name, size in self.sizes.items()}

    def __len__(self) -> int:
        if self.sampler.steps is None:
            raise TypeError("the sampler has no number of steps")
        return self.sampler.steps - self.sampler.step

    def __iter__(self) -> Iterator[list[int]]:
        for turn in self.sampler:
            self.turn = turn
            yield [index for name, count in turn.counts.items() for index in self._taken(name, count)]

    def _taken(self, name: str, count: int) -> list[int]:
        found = []
        for _ in range(count):
            epoch, place = divmod(self.seen[name], self.sizes[name])
            found.append(self._starts[name] + int(self._order(name, epoch)[place]))
            self.seen[name] += 1
        return found

    def _order(self, name: str, epoch: int) -> np.ndarray:
        """The order of a source in one epoch: the same whenever it is asked for."""
        if (name, epoch) not in self._orders:
            self._orders.pop((name, epoch - 1), None)
            place = list(self.sizes).index(name)
            draws = np.random.default_rng([self.seed, place, epoch])
            self._orders[name, epoch] = draws.permutation(self.sizes[name])
        return self._orders[name, epoch]

    def state_dict(self) -> dict[str, Any]:
        """Where it and its sampler are, as plain values."""
        return {"seen": dict(self.seen), "seed": self.seed, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; raises ValueError for the state of other sources."""
        if set(state["seen"]) != set(self.sizes):
            raise ValueError(f"the state is of {', '.join(state['seen'])}, not of {', '.join(self.sizes)}")
        self.seen = {name: int(state["seen"][name]) for name in self.sizes}
        self.seed = int(state["seed"])
        self._orders.clear()
        self.sampler.load_state_dict(state["sampler"])
