"""Bundle: m named directions in R^d, block by block."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from equipoise.core.errors import NonFiniteDirection, unknown
from equipoise.core.gramian import block_gramian, cosines, wide
from equipoise.core.rule import RowRule, Rule
from equipoise.core.tensorfile import TensorFile, write_tensors

FORMAT = "equipoise.bundle"
VERSION = "1"


class Bundle:
    """m named directions over named blocks.

    `blocks` maps a block's name to a tensor (m, *shape), row i belonging to `names[i]`. It may be any
    mapping: one that loads a block when asked is never held as a whole, since every method here goes
    through the blocks one at a time. Blocks may differ in dtype and device.

    >>> bundle = Bundle(["a", "b"], {"w": torch.tensor([[2.0, 0.0], [-1.0, 1.0]])})
    >>> bundle.gramian().tolist()
    [[4.0, -2.0], [-2.0, 2.0]]
    >>> bundle.combine([0.4, 0.6])["w"]
    tensor([0.2000, 0.6000])
    """

    def __init__(self, names: Sequence[str], blocks: Mapping[str, Tensor]) -> None:
        """Raises ValueError for repeated or missing names, and TypeError for a string of names."""
        if isinstance(names, str):
            raise TypeError(f"names is the string {names!r}; give a sequence of names")
        self.names = tuple(names)
        self.blocks = blocks
        repeated = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if repeated or not self.names:
            raise ValueError(f"names repeat: {', '.join(repeated)}" if repeated else "a bundle needs a name")
        if isinstance(blocks, dict):
            for block in blocks:
                self.rows(block)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Bundle({len(self)} directions: {', '.join(self.names)}; {len(self.blocks)} blocks)"

    def rows(self, block: str) -> Tensor:  # -> (m, *shape)
        """The rows of one block; raises ValueError where it does not hold m real rows."""
        rows = self.blocks[block]
        if rows.dim() == 0 or rows.shape[0] != len(self):
            raise ValueError(f"block {block!r} has shape {tuple(rows.shape)}, not {len(self)} rows")
        if not rows.is_floating_point():
            raise ValueError(f"block {block!r} is {rows.dtype}; directions are real floating-point numbers")
        return rows

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """(block name, rows), one block at a time."""
        for block in self.blocks:
            yield block, self.rows(block)

    def gramian(self, *, check: bool = True) -> Tensor:  # -> (m, m)
        """Inner products of the directions, float64 on the CPU, in one pass over the blocks.

        Raises NonFiniteDirection naming the directions that hold NaN or infinity; with `check=False`
        their rows and columns are not finite instead.
        """
        gramian = self._accumulate(block_gramian(self.rows(block)) for block in self.blocks)
        gramian = (gramian + gramian.T) / 2
        if check:
            raise_unless_finite(gramian, self.names)
        return gramian

    def cross_gramian(self, other: "Bundle") -> Tensor:  # -> (m, n)
        """Inner products of these directions with another bundle's over the same blocks, float64.

        Raises ValueError naming the blocks that only one of the two has, or that differ in shape.
        """
        apart = sorted(set(self.blocks) ^ set(other.blocks))
        if apart:
            raise ValueError(f"only one of the two bundles has the blocks {', '.join(apart)}")
        return self._accumulate((self._products(other, block) for block in self.blocks), len(other))

    def _products(self, other: "Bundle", block: str) -> Tensor:  # -> (m, n)
        mine, others = self.rows(block), other.rows(block)
        if mine.shape[1:] != others.shape[1:]:
            shapes = f"{tuple(mine.shape[1:])} in one bundle and {tuple(others.shape[1:])} in the other"
            raise ValueError(f"block {block!r} has shape {shapes}")
        return block_gramian(mine, others)

    def _accumulate(self, parts: Iterator[Tensor], columns: int | None = None) -> Tensor:
        total: dict[torch.device, Tensor] = {}
        for part in parts:
            total[part.device] = total[part.device] + part if part.device in total else part
        zero = torch.zeros(len(self), columns or len(self), dtype=torch.float64)
        return sum((part.cpu() for part in total.values()), zero)

    def cosines(self) -> Tensor:  # -> (m, m)
        """Cosines of the angles between the directions, float64."""
        return cosines(self.gramian())

    def norms(self) -> Tensor:  # -> (m,)
        """Lengths of the directions, float64."""
        return self.gramian().diagonal().sqrt()

    def combine(self, weights: Tensor | Sequence[float]) -> dict[str, Tensor]:  # (m,) -> {block: shape}
        """The weighted sum of the directions, each block in its own dtype and on its own device.

        Raises ValueError where the number of weights is not the number of directions.
        """
        weights = torch.as_tensor(weights, dtype=torch.float64)
        if weights.shape != (len(self),):
            raise ValueError(f"{tuple(weights.shape)} weights for {len(self)} directions: {self.names}")
        return {block: weighted_sum(weights, self.rows(block)) for block in self.blocks}

    def map(self, rule: Rule, *, scale: float = 1.0) -> dict[str, Tensor]:  # -> {block: shape}
        """The direction that a row rule gives, block by block.

        Where the rows carry a factor `scale` (of a GradScaler), the rule sees them without it and the
        result has it again.

        Raises TypeError for what is no row rule, ValueError where it gives another shape than (k,).
        """
        if not isinstance(rule, RowRule):
            raise TypeError(f"map takes a RowRule, not {rule!r}; a GramianRule's weights go to combine")
        return {block: self._mapped(rule, block, scale) for block in self.blocks}

    def _mapped(self, rule: Rule, block: str, scale: float) -> Tensor:  # -> shape
        rows = self.rows(block)
        flat = (rows if rows.layout == torch.strided else rows.to_dense()).reshape(len(self), -1)
        direction = rule.apply_to(flat if scale == 1 else flat.float() / scale, block=block)
        if direction.shape != flat.shape[1:]:
            shapes = f"{tuple(direction.shape)} for rows of shape {tuple(flat.shape)}"
            raise ValueError(f"{type(rule).__name__} gave a direction of shape {shapes}")
        return (direction * scale).to(rows.dtype).reshape(rows.shape[1:])

    def subset(self, names: Sequence[str]) -> "Bundle":
        """The bundle of some of the directions, in the order given; its blocks are read when asked for.

        Raises KeyError for an unknown name, with its nearest neighbours.
        """
        for name in names:
            if name not in self.names:
                raise KeyError(unknown("direction", name, self.names))
        return Bundle(names, _Rows(self, [self.names.index(name) for name in names]))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, one block in memory at a time, atomically."""
        metadata = {"format": FORMAT, "version": VERSION, "names": json.dumps(self.names)}
        write_tensors(Path(path), self.items(), metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Open a saved bundle; its blocks are read from the file when asked for.

        Raises ValueError where the file is a safetensors file but no bundle, or one of another version.
        """
        file = TensorFile(path)
        if file.metadata.get("format") != FORMAT:
            raise ValueError(f"{path} is not a saved bundle; Bundle.save writes one")
        if file.metadata.get("version") != VERSION:
            raise ValueError(
                f"{path} has version {file.metadata.get('version')}; this release reads {VERSION}"
            )
        names = json.loads(file.metadata.get("names", "null"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path} does not say what its directions are called: names is {names!r}")
        return cls(names, file)


class _Rows(Mapping[str, Tensor]):
    """Some rows of each block of a bundle."""

    def __init__(self, bundle: Bundle, index: list[int]) -> None:
        self._bundle = bundle
        self._index = index

    def __getitem__(self, block: str) -> Tensor:
        return self._bundle.rows(block)[self._index]

    def __contains__(self, block: object) -> bool:
        return block in self._bundle.blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._bundle.blocks)

    def __len__(self) -> int:
        return len(self._bundle.blocks)


def weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:  # (m,), (m, *shape) -> shape
    """Sum of rows times weights, computed in float32 at least, returned in the dtype of the rows."""
    if rows.layout != torch.strided:
        rows = rows.to_dense()
    dtype = wide(rows.dtype)
    with torch.autocast(rows.device.type, enabled=False):
        total = weights.to(rows.device, dtype) @ rows.reshape(len(rows), -1).to(dtype)
    return total.to(rows.dtype).reshape(rows.shape[1:])


def raise_unless_finite(gramian: Tensor, names: Sequence[str]) -> None:
    """Raise NonFiniteDirection for the names whose squared length is not finite."""
    finite = gramian.diagonal().isfinite()
    if not bool(finite.all()):
        raise NonFiniteDirection(name for name, good in zip(names, finite.tolist(), strict=True) if not good)
