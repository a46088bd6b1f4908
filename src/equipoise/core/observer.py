"""Observers: who is told what a step saw and did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from equipoise.core.step import Step


@dataclass(frozen=True, slots=True)
class Collection:
    """What is known before an update is written.

    `losses` are (m,) float64 on the CPU in the order of `names`. `gramian` is (m, m) float64 on the CPU, with
    zero for what is left out as not finite, None on a route that forms no directions (a scalariser, reused
    weights). `layers` has the Gramian of each layer, where an observer asked for it.
    """

    names: tuple[str, ...]
    losses: Tensor
    gramian: Tensor | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)


class Observer:
    """Is told of each step of `backward`: override what you want to hear.

    An observer changes nothing, and where none is given nothing is spent. `layers` asks for the Gramian of
    each layer, which is summed on the way; layers have names where `parameters` was given to `backward`. What
    an observer raises ends the step.

    >>> class Opposed(Observer):
    ...     def combined(self, step):
    ...         print("share of opposed pairs:", step.conflict().share)
    """

    layers: bool = False

    def collected(self, seen: Collection) -> None:
        """The directions are known, no `.grad` has been touched. Behind transforms the Gramian is that of the
        rows that the rule sees."""

    def combined(self, step: Step) -> None:
        """`.grad` holds the update."""

    def stepped(self, step: Step, losses: Mapping[str, float] | None = None) -> None:
        """The optimizer has stepped: the loop says so, for `backward` does not see it.

        losses: those of the same batch after the step, where the loop has them.
        """


Observers = Observer | Sequence[Observer]


def as_observers(given: Observers) -> tuple[Observer, ...]:
    """One or several as a tuple; raises TypeError for what is none."""
    observers = (given,) if isinstance(given, Observer) else tuple(given)
    for one in observers:
        if not isinstance(one, Observer):
            raise TypeError(f"{one!r} is no observer; derive it from equipoise.Observer")
    return observers
