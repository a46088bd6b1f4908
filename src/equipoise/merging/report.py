"""What was found of the models before anything is written: faults that end the merge, and notes."""

from dataclasses import dataclass, field

_SHOWN = 20


@dataclass
class Report:
    """Faults and notes, each a line that names the file and the tensor."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*shown(self.faults), *(f"note: {note}" for note in self.notes)])

    def refuse(self) -> None:
        """Raise ValueError with the faults, if there are any."""
        if self.faults:
            missing = any(fault.endswith("is missing") for fault in self.faults)
            way_on = " (on_missing=base or skip goes on without what is missing)" if missing else ""
            raise ValueError("\n".join([f"the models do not match{way_on}:", *shown(self.faults)]))


def shown(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"and {more} more"]


def several(names: list[str], what: str = "tensor") -> str:
    """A number of things with the first as an example."""
    if len(names) == 1:
        return f"{what} {names[0]!r}"
    return f"{len(names)} {what}s (as {names[0]!r})"
