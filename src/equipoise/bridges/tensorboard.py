"""TensorBoard: the numbers of each step as scalars."""

from collections.abc import Mapping
from pathlib import Path

from equipoise.bridges.tracker import Tracker
from equipoise.core.optional import require


class TensorBoard(Tracker):
    """Scalars in an event file below `folder`, or by a `SummaryWriter` of your own, which stays open.

    Raises what `Tracker` raises, and ImportError naming the extra `trackers` where tensorboard is not
    installed.
    """

    def __init__(
        self, folder: str | Path | object, *, every: int = 1, layers: bool = True, number: int = 0
    ) -> None:
        super().__init__(every=every, layers=layers, number=number)
        self._own = isinstance(folder, str | Path)
        require("tensorboard", "trackers")
        if self._own:
            from torch.utils.tensorboard import SummaryWriter

            purge = number or None  # TensorBoard then hides what a killed run had written beyond
            folder = SummaryWriter(str(folder), purge_step=purge)
        self.writer = folder

    def log(self, values: Mapping[str, float], number: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, number)  # pyright: ignore[reportAttributeAccessIssue]

    def close(self) -> None:
        super().close()
        if self._own:
            self.writer.close()  # pyright: ignore[reportAttributeAccessIssue]
