"""ObjectiveMomentum: a rule combines what each objective has been asking for, not the last batch alone."""

from collections.abc import Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.gramian import wide
from equipoise.core.keyed import numbered
from equipoise.core.rule import RowTransform

CARD = Card(
    name="ObjectiveMomentum",
    shape="transform",
    summary="Keeps a momentum for each objective, which the rule combines in place of the gradients.",
    formula="v_i <- b v_i + (1 - d) g_i, at first v_i = g_i",
    title="Some methods of speeding up the convergence of iteration methods",
    authors=("Boris T. Polyak",),
    venue="USSR Computational Mathematics and Mathematical Physics 4(5)",
    year=1964,
    doi="10.1016/0041-5553(64)90137-5",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "STATEFUL"),
    single="its momentum, at first the direction itself",
    cost="m more copies of the parameters",
    use="where noise makes objectives seem to conflict in single batches",
    avoid="with a momentum in the optimizer as well, unless that is set to 0",
    status="main",
)


class ObjectiveMomentum(RowTransform):
    """Lets a rule see each objective's momentum, in which the noise of single batches is averaged away.

    v_i <- b v_i + (1 - d) g_i with b `momentum`, d `dampening` and v_i = g_i where an objective is seen for
    the first time, as in torch.optim.SGD, but one v_i for each objective. With d = b (the default) v_i is a
    running mean of the rows and as long as they are; with d = 0 it is the heavy ball, up to 1 / (1 - b) times
    as long.

    Use it where batches are noisy. Set the optimizer's own momentum to 0. Not where parameters move so fast
    that old gradients mislead. An absent objective keeps its v_i as it is.

    rows: (m, k) of one block, in any floating-point dtype; v_i is kept in float32 at least. State moves in
    `update` alone, so a second look at the same batch gives the same rows. Raises ValueError for a momentum
    or dampening outside [0, 1), and naming a block whose size has changed.

    Source: Polyak 1964, the heavy ball, for each objective on its own. Behind it the Sum with plain descent
    does what torch.optim.SGD does with this momentum, as the tests show.

    >>> import torch
    >>> ObjectiveMomentum()(torch.tensor([[2.0, 0.0]]), block="w", names=("a",)).tolist()
    [[2.0, 0.0]]
    """

    def __init__(self, *, momentum: float = 0.9, dampening: float | None = None) -> None:
        super().__init__()
        dampening = momentum if dampening is None else dampening
        for name, value in (("momentum", momentum), ("dampening", dampening)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; it lies in [0, 1)")
        self.momentum, self.dampening = momentum, dampening

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}, dampening={self.dampening}"

    def forward(self, rows: Tensor, *, block: str = "", names: Sequence[str] = ()) -> Tensor:  # -> (m, k)
        names = numbered(names or None, len(rows))
        moved = rows.to(wide(rows.dtype), copy=True)
        for i, old in enumerate(self.known(block, names, moved.shape[1])):
            if old is None:
                continue
            moved[i] = self.momentum * old.to(moved) + (1 - self.dampening) * moved[i]
        return self.becomes(block, names, moved).to(rows.dtype)
