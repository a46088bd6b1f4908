"""What autograd says when a backward pass fails, with the losses at fault by name and the way on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DONATED = (
    "m directions need m backward passes, and a compiled model may have given its buffers away to the "
    "first: set torch._functorch.config.donated_buffer = False for the whole program, before it is compiled"
)
SHOWN = 8
"""Names that are told; samples may be thousands."""


@contextmanager
def explained(names: Sequence[str]) -> Iterator[None]:
    """Within, a backward pass of the losses of these names, or a look at their graph.

    Raises RuntimeError with autograd's own as its cause: for a graph that is gone, and for an activation that
    was changed in place. What a compiled model gave away is told in a note.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if "backward through the graph a second time" in said:
            raise RuntimeError(
                f"{_losses(names)} cannot be differentiated a second time, for its graph is gone: compute "
                "the losses anew, or give retain_graph=True the first time"
            ) from error
        if "modified by an inplace operation" in said:
            what = said.partition("operation: ")[2].partition(". Hint")[0]
            raise RuntimeError(
                f"{_losses(names)} cannot be differentiated, for a tensor that it needs was modified by an "
                f"inplace operation after its use ({what}): write y = x + 1 for x += 1, relu(x) for relu_(x)"
            ) from error
        if "donated buffers" in said:
            error.add_note(DONATED)
        raise


def _losses(names: Sequence[str]) -> str:
    """The losses of a pass, by name; which of several is at fault, autograd does not tell."""
    told = ", ".join(map(repr, names[:SHOWN]))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the loss of {told}" if len(names) == 1 else f"a loss among {told}{more}"
