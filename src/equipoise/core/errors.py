"""Errors that name what is at fault, and the neighbours of a name that does not exist."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class NonFiniteDirection(ValueError):
    """A direction holds NaN or infinity. `names` lists the objectives (or parameters) at fault."""

    def __init__(self, names: Iterable[str], remedy: str = "") -> None:
        self.names = tuple(names)
        message = f"not finite: the direction of {', '.join(map(repr, self.names))}"
        super().__init__(f"{message}; {remedy}" if remedy else message)

    def __reduce__(self):
        return type(self)._rebuilt, (self.names, str(self))

    @classmethod
    def _rebuilt(cls, names: tuple[str, ...], message: str) -> "NonFiniteDirection":
        error = cls(names)
        error.args = (message,)
        return error


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: its nearest neighbours, else all that do."""
    known = sorted(known)
    folded = {k.lower(): k for k in known}
    near = [folded[k] for k in get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known) or 'none'}"
    return f"no {kind} is called {name!r}; {hint}"


def check_choice(option: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError where an option is none of its choices.

    >>> check_choice("order", "sidewise", ("up", "down"))
    Traceback (most recent call last):
    ValueError: order is 'sidewise'; choices are 'up', 'down'
    """
    if value not in choices:
        raise ValueError(f"{option} is {value!r}; choices are {', '.join(map(repr, choices))}")


class VerificationFailed(RuntimeError):
    """What the engine found for some parameters is not what plain autograd gives. `names` lists them."""

    def __init__(self, names: Iterable[str], detail: str = "") -> None:
        self.names = tuple(names)
        super().__init__(f"verify=True: wrong for the parameters {', '.join(self.names)}; {detail}")
