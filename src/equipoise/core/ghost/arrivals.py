"""Output gradients as layers see them, after every hook."""

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge


class Arrivals:
    """Notes what arrives at the nodes of some targets of a backward pass while it is open.

    Autograd hands over the gradient at an edge before the hooks on that tensor where the node behind it runs
    as well (for a bias, or for layers below); a hook of one's own, which comes last, sees what the node sees.
    """

    def __init__(self, targets: Sequence[Tensor | GradientEdge]) -> None:
        self._targets = targets
        self._seen: dict[int, Tensor | None] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> "Arrivals":
        for place, target in enumerate(self._targets):
            if isinstance(target, GradientEdge):
                self._handles.append(target.node.register_prehook(partial(self._note, place)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def settled(self, found: Sequence[Tensor | None], places: Sequence[int]) -> list[Tensor | None]:
        """What a pass towards the targets at `places` found, with what their nodes saw in its place."""
        settled = [self._seen.get(place, one) for place, one in zip(places, found, strict=True)]
        self._seen.clear()
        return settled

    def _note(self, place: int, gradients: tuple[Tensor | None, ...]) -> None:
        self._seen[place] = gradients[0]
