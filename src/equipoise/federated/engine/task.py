"""What goes to a client in a round, and what comes back."""

from dataclasses import dataclass

from torch import Tensor

from equipoise.federated.clientalgorithm import Reply, Tensors


@dataclass(frozen=True, slots=True)
class Task:
    """One client's part of a round, before it begins.

    received: the parameters sent, {} where the client has its own. buffers: those of the model.
    effort: the share of its local steps that it does.
    """

    client: str
    received: Tensors
    buffers: Tensors
    kept: Tensors
    context: Tensors
    effort: float = 1.0


@dataclass(frozen=True, slots=True)
class Trained:
    """One client's part of a round, done. `side` holds float64 scalars and small vectors by name."""

    client: str
    reply: Reply
    side: Tensors
    buffers: Tensors


@dataclass(frozen=True, slots=True)
class Replies:
    """The same for m clients, row i of every tensor belonging to `names[i]`."""

    names: tuple[str, ...]
    update: Tensors
    sent: Tensors
    kept: Tensors
    side: Tensors
    buffers: Tensors

    @property
    def parts(self) -> tuple[Tensors, ...]:
        """What went to the server: all but what clients keep."""
        return self.update, self.sent, self.side, self.buffers

    def take(self, rows: Tensor) -> "Replies":  # (k,) int64
        """Some of the replies, in the order of `rows`."""
        names = tuple(self.names[i] for i in rows.tolist())
        parts = (self.update, self.sent, self.kept, self.side, self.buffers)
        return Replies(names, *({key: t[rows.to(t.device)] for key, t in part.items()} for part in parts))

    def split(self) -> list[Trained]:
        """One by one; the tensors are views."""
        return [
            Trained(
                name,
                Reply(_row(self.update, i), _row(self.sent, i), _row(self.kept, i)),
                _row(self.side, i),
                _row(self.buffers, i),
            )
            for i, name in enumerate(self.names)
        ]


def _row(part: Tensors, i: int) -> dict[str, Tensor]:
    return {name: tensor[i] for name, tensor in part.items()}
