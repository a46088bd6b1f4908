"""GradientFreezing: an objective leaves a block alone while its pull there goes steadily one way."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.keyed import numbered
from equipoise.core.rule import RowTransform

CARD = Card(
    name="GradientFreezing",
    shape="transform",
    summary="Takes one objective out of those blocks on which the sign of its gradient seldom changes.",
    formula="every K steps: row 0 on a block where the share of sign changes over K steps is below r",
    title="GAQAT: gradient-adaptive quantization-aware training for domain generalization",
    authors=("Jiacheng Jiang", "Yuan Meng", "Chen Tang", "Han Yu", "Qun Li", "Zhi Wang", "Wenwu Zhu"),
    venue="arXiv",
    year=2024,
    arxiv="2412.05551",
    guarantees=("HOMOGENEOUS(1)", "STATEFUL"),
    single="the direction itself: what stands alone is not frozen",
    cost="8 bytes for each number of the blocks that are watched",
    use="for the scales of quantisers under a task loss and a flatness loss that pull apart",
    avoid="on ordinary weights: a steady gradient is what moves them",
    status="experimental",
    evidence="gaqat",
)

SINGLES = 3  # numbers that are kept beside the signs of a block
OPEN = 2.0  # in place of a disorder, above every share: no window has closed


class GradientFreezing(RowTransform):
    """Sets the rows of one objective to zero on blocks where its gradient keeps its sign.

    The disorder of the objective on a block is the share of its numbers whose sign differs from that of the
    step before, averaged over `window` steps (the paper's K). When a window closes, the block is frozen for
    the objective until the next one closes where the disorder is below `threshold` (r), and let go elsewhere;
    it is measured all the while. In the paper the objective is the task loss, the other one the flatness loss
    of sharpness-aware training, and a block the scale of one quantiser: there a low disorder marks a scale on
    which the two pull steadily against each other, and flatness is left to move it alone.

    Use it before any rule, for quantiser scales. Not on ordinary weights.

    objective: the name of the one that is frozen; None takes the first of each step. blocks: a function of a
    block's name that says whether to watch it; None watches all. window: steps, at least 1. threshold: in
    [0, 1]; 0 freezes nothing. The paper tunes both for each data set, the defaults are ours.

    rows: (m, k) of one block. State moves in `update` alone. A step whose row is not finite counts as not
    seen, and the row stays not finite. Raises ValueError for options out of range, for an objective that no
    step had so far, and for a block whose size has changed.

    Source: Jiang et al. 2024, gradient disorder and selective freezing. Its text could not be had in full:
    that the two signs of a pair are those of successive steps, and that a frozen block is let go again, is
    our reading of its definition and of what its reviewers say of it.

    >>> freezing = GradientFreezing(window=2, threshold=0.5)
    >>> for step in range(4):
    ...     seen = freezing(torch.tensor([[1.0], [-2.0]]), block="scale", names=("task", "flat"))
    ...     freezing.update(None)
    >>> seen.tolist(), freezing.disorder
    ([[0.0], [-2.0]], {'scale': 0.0})
    """

    def __init__(
        self,
        *,
        objective: str | None = None,
        blocks: Callable[[str], bool] | None = None,
        window: int = 350,
        threshold: float = 0.3,
    ) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window is {window}; it is a number of steps, at least 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; a share of sign changes lies between 0 and 1")
        self.objective = objective
        self.blocks = blocks
        self.window = window
        self.threshold = threshold

    def extra_repr(self) -> str:
        return f"objective={self.objective!r}, window={self.window}, threshold={self.threshold}"

    @property
    def disorder(self) -> dict[str, float]:
        """Block -> disorder over the last window that closed, where one has."""
        return {block: _share(kept) for block, kept in self._closed().items()}

    @property
    def frozen(self) -> tuple[str, ...]:
        """The blocks that are frozen now."""
        return tuple(block for block, kept in self._closed().items() if _share(kept) < self.threshold)

    def forward(self, rows: Tensor, *, block: str = "", names: Sequence[str] = ()) -> Tensor:  # -> (m, k)
        names = numbered(names or None, len(rows))
        name = names[0] if self.objective is None else self.objective
        if name not in names:
            if not any(name in kept for kept in self._state.values()):
                raise ValueError(f"{unknown('objective', name, names)}; objective= names the one to freeze")
            return rows
        if self.blocks is not None and not self.blocks(block):
            return rows
        place = names.index(name)
        (old,) = self.known(block, (name,), rows.shape[1] + SINGLES)
        self.becomes(block, (name,), self._advanced(old, rows[place])[None])
        if old is None or len(rows) == 1 or not _share(old) < self.threshold:
            return rows
        frozen = rows.clone()
        frozen[place] = 0 * rows[place]
        return frozen

    def _advanced(self, old: Tensor | None, row: Tensor) -> Tensor:  # (k + 3,), (k,) -> (k + 3,)
        """The signs, the changes and steps of the open window, the disorder of the closed one."""
        signs = torch.where(row.isfinite(), row.detach().double().sign(), torch.nan)
        if old is None:
            return torch.cat([signs, signs.new_tensor([0.0, 0.0, OPEN])])
        old = old.to(signs)
        changes, steps, share = old[-3] + (signs != old[:-SINGLES]).sum(), old[-2] + 1, old[-1]
        if steps == self.window:
            share, changes, steps = changes / (self.window * max(len(row), 1)), 0 * changes, 0 * steps
        return torch.cat([signs, torch.stack([changes, steps, share])])

    def _closed(self) -> dict[str, Tensor]:
        states = {block: next(iter(kept.values())) for block, kept in self._state.items() if kept}
        return {block: kept for block, kept in states.items() if _share(kept) != OPEN}


def _share(kept: Tensor) -> float:
    return float(kept[-1])
