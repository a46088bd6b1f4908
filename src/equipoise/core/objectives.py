"""What a caller may pass as losses, parameters and preference, checked and named."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from equipoise.core.errors import unknown

Losses = Mapping[str, Tensor | None] | Sequence[Tensor] | Tensor
Parameters = nn.Module | Mapping[str, Tensor] | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | None
Preference = Tensor | Sequence[float] | Mapping[str, float] | None


def named_losses(losses: Losses) -> dict[str, Tensor]:
    """The losses that are present, by name; a sequence is named "0", "1", ...

    Raises TypeError for a loss that is no tensor and for one loss alone, and ValueError for one that is not a
    scalar, is complex, lies on the device meta or needs no gradient, both by name, and where there is none.
    """
    if isinstance(losses, Tensor) and losses.dim() == 0:
        raise TypeError(
            "one loss was given, in which the objectives are summed already; give them by name, such as "
            '{"left": loss, "right": other}'
        )
    pairs = losses.items() if isinstance(losses, Mapping) else ((str(i), x) for i, x in enumerate(losses))
    present = {name: loss for name, loss in pairs if loss is not None}
    if not present:
        raise ValueError("no losses: give a mapping of names to scalar losses")
    for name, loss in present.items():
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss of {name!r} is {loss!r}, not a tensor; leave out .item() or float()")
        if loss.numel() != 1:
            shape = tuple(loss.shape)
            raise ValueError(f"the loss of {name!r} has shape {shape}, not one number; reduce it first")
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of {name!r} depends on nothing that requires a gradient; was it detached, or "
                "computed under no_grad?"
            )
        if loss.is_complex():
            raise ValueError(f"the loss of {name!r} is {loss.dtype}; take its absolute value or real part")
        if loss.is_meta:
            raise ValueError(
                f"the loss of {name!r} is on the device meta, which holds no numbers; move its model and "
                "data to a device"
            )
    return {name: loss.reshape(()) if loss.dim() else loss for name, loss in present.items()}


def sample_losses(losses: Losses) -> Tensor:  # -> (m,)
    """The losses of m samples.

    Raises ValueError for anything but one vector that needs a gradient: a loss that is not a mean over
    samples (a gap of rates, a ranking or contrastive loss) is an objective of the batch.
    """
    if not isinstance(losses, Tensor) or losses.dim() != 1 or losses.numel() == 0:
        got = f"losses by name ({', '.join(losses)})" if isinstance(losses, Mapping) else repr(losses)
        got = f"a tensor of shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else got
        raise ValueError(
            f"samples=True takes one loss for each sample, a tensor (m,), such as cross_entropy(..., "
            f'reduction="none"); got {got[:80]}. A loss of the whole batch is an ordinary objective'
        )
    if not losses.requires_grad:
        raise ValueError("the losses of the samples depend on nothing that requires a gradient")
    return losses


def named_parameters(parameters: Parameters) -> dict[str, Tensor] | None:
    """Parameters by name, each once; nameless ones are called "0", "1", ... None stays None.

    Raises TypeError for what is no tensor, ValueError for one that is no leaf, or where two share a name.
    """
    if parameters is None:
        return None
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, parameter in _pairs(parameters):
        if id(parameter) in seen or not parameter.requires_grad:
            continue
        if not parameter.is_leaf:
            raise ValueError(f"parameter {name!r} is computed from others; give the leaves it comes from")
        if name in named:
            raise ValueError(f"two parameters are called {name!r}")
        seen.add(id(parameter))
        named[name] = parameter
    return named


def _pairs(
    parameters: nn.Module | Mapping[str, Tensor] | Iterable[Tensor] | Iterable[tuple[str, Tensor]],
) -> Iterator[tuple[str, Tensor]]:
    if isinstance(parameters, nn.Module):
        yield from parameters.named_parameters()
    elif isinstance(parameters, Mapping):
        yield from cast("Mapping[str, Tensor]", parameters).items()
    else:
        for position, entry in enumerate(parameters):
            if isinstance(entry, Tensor):
                yield str(position), entry
            elif isinstance(entry, Sequence) and len(entry) == 2:
                yield entry
            else:
                kind = type(entry).__name__
                raise TypeError(
                    f"parameters holds a {kind} at place {position}; give tensors, pairs (name, tensor), or "
                    "a module as a whole"
                )


def refuse_complex(leaves: Iterable[Tensor]) -> None:
    """Raise ValueError for a complex parameter."""
    for leaf in leaves:
        if leaf.is_complex():
            raise ValueError(f"a parameter of shape {tuple(leaf.shape)} is {leaf.dtype}; directions are real")


def simplex_preference(
    preference: Preference, names: Sequence[str], given: Sequence[str] | None = None
) -> Tensor | None:  # -> (m,)
    """The preference over the objectives at hand, scaled to sum 1, float64 on the CPU.

    A mapping may name more than `names`. A tensor or sequence has one entry for each objective `given`,
    which may be more than `names`, since some may be absent from a batch.

    Raises ValueError where it has another length, lacks an objective, or is negative, not finite or
    zero everywhere on `names`.
    """
    if preference is None:
        return None
    if isinstance(preference, Mapping):
        for name in names:
            if name not in preference:
                raise ValueError(
                    f"the preference says nothing of {name!r}; {unknown('entry', name, preference)}"
                )
        preference, given = [preference[name] for name in names], names
    values = torch.as_tensor(preference, dtype=torch.float64).detach().cpu()
    given = names if given is None else given
    if values.shape != (len(given),):
        raise ValueError(
            f"preference has {values.numel()} entries but there are {len(given)} objectives: "
            f"{', '.join(given)}"
        )
    values = values[[i for i, name in enumerate(given) if name in names]]
    if not bool((values.isfinite() & (values >= 0)).all()) or float(values.sum()) <= 0:
        kept = [name for name in given if name in names]
        told = ", ".join(f"{name} {value:g}" for name, value in zip(kept, values.tolist(), strict=True))
        raise ValueError(f"preference {told}: it must be finite, not negative, and positive somewhere")
    return values / values.sum()
