"""Plan: what muP says of each parameter, and its application to a model."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

import torch
from torch import nn

from equipoise.core.checks import check_not_negative, check_positive
from equipoise.scaling.parameteruses import Use, chosen, uses_of

Kind = Literal["input", "vector", "hidden", "output", "fixed"]
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


class Entry(TypedDict):
    """What a plan says of one parameter; init_std is None where the model's own values stay."""

    kind: Kind
    shape: list[int]
    init_std: float | None
    lr_mult: float
    wd_mult: float
    fwd_mult: float


class Plan(dict[str, Entry]):
    """{parameter name: entry}, to be applied to a model of the width that it was made for.

    A mapping of plain values: nothing is hung on parameters, so it goes through pickle, copies, `torch.save`
    and `torch.load(weights_only=True)` (once this module is imported, which lists `Plan` as safe) and, by
    name, finds the parameters of a model under FSDP, DDP or `torch.compile`. `dict(plan)` and `Plan(that)`
    lead out and back.

    Raises ValueError for an entry that lacks a value.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        for name, entry in entries.items():
            lacking = [key for key in Entry.__annotations__ if key not in entry]
            if lacking:
                raise ValueError(f"the entry of {name} lacks {', '.join(lacking)}")
            self[name] = Entry(**entry)  # pyright: ignore[reportArgumentType]

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, (dict(self),)

    def apply_(self, model: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
        """Draw the parameters anew: normal with each `init_std`, 0 where that is 0, None left as they are.

        Before the model is sharded. Rows of `padding_idx` stay 0. Gives the model back.

        Raises ValueError for a model that is not the one planned for, by names or shapes.
        """
        uses = self._uses(model)
        for name, found in uses.items():
            if list(found[0].parameter.shape) != list(self[name]["shape"]):
                raise ValueError(
                    f"{name} is {tuple(found[0].parameter.shape)}; the plan is for a model in which it is "
                    f"{tuple(self[name]['shape'])}"
                )
        with torch.no_grad():
            for name, found in uses.items():
                std = self[name]["init_std"]
                if std is None:
                    continue
                drawn = found[0].parameter
                drawn.normal_(0.0, std, generator=generator) if std else drawn.zero_()
                for use in found:
                    padding = getattr(use.module, "padding_idx", None)
                    if padding is not None:
                        use.parameter[padding].zero_()
        return model

    def param_groups(
        self,
        model: nn.Module,
        lr: float,
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        undecayed: Iterable[str] = (),
    ) -> list[dict[str, Any]]:
        """Groups for an optimizer: parameters that share multipliers, with "lr" and "weight_decay" of theirs.

        "lr_mult" stays in the group, for schedules that set "lr" themselves: `lr_now * group["lr_mult"]`.
        decoupled: False for what shrinks by weight_decay lr, as all of torch's optimizers do, AdamW among
        them: the decay is divided by what lr is multiplied with. True where the decay does not see lr: it
        stays. undecayed: patterns of names without decay, e.g. "*.bias". Frozen parameters are left out.

        Raises ValueError for a model that is not the one planned for, and lr or weight_decay below 0.
        """
        check_positive(lr=lr)
        check_not_negative(weight_decay=weight_decay)
        patterns, groups = tuple(undecayed), {}
        for name, found in self._uses(model).items():
            if not found[0].parameter.requires_grad:
                continue
            entry = self[name]
            decay = 0.0 if chosen(name, dict.fromkeys(patterns, True)) else weight_decay
            key = (entry["lr_mult"], decay * (1.0 if decoupled else entry["wd_mult"]))
            groups.setdefault(key, []).append(found[0].parameter)
        return [
            {"params": parameters, "lr": lr * mult, "weight_decay": decay, "lr_mult": mult}
            for (mult, decay), parameters in groups.items()
        ]

    def multiply_(self, model: nn.Module) -> nn.Module:
        """Have readouts multiply what enters them by their `fwd_mult`; once is enough, twice does no harm.

        A hook before the forward of the layer does it: weights and the names in `state_dict` stay as they
        are, and so do biases. A hook goes with copies and pickles of the model but is not in `state_dict`:
        call this again on a model that is built anew, with the plan of the checkpoint. Gives the model back.

        Raises ValueError for a model that is not the one planned for, and a readout that is no layer.
        """
        for name, found in self._uses(model).items():
            factor = self[name]["fwd_mult"]
            for use in found:
                hooks = [h for h in use.module._forward_pre_hooks.values() if isinstance(h, _Multiplied)]
                if use.rows or use.leaf != "weight" or (factor == 1 and not hooks):
                    if factor != 1 and not use.rows:
                        raise ValueError(
                            f"{name} is a readout but not the weight of a layer, so what enters it cannot "
                            f"be multiplied by {factor:.4g}; plan with readout='folded'"
                        )
                    continue
                if hooks:
                    hooks[0].factor = factor
                else:
                    use.module.register_forward_pre_hook(_Multiplied(factor), with_kwargs=True)
        return model

    def __str__(self) -> str:
        wide = max((len(name) for name in self), default=0)
        head = f"{'parameter':<{max(wide, 9)}}  kind         std       lr  decay  forward"
        rows = (
            f"{name:<{max(wide, 9)}}  {e['kind']:<6}  {_number(e['init_std']):>8} {e['lr_mult']:>8.4g} "
            f"{e['wd_mult']:>6.4g} {e['fwd_mult']:>8.4g}"
            for name, e in self.items()
        )
        return "\n".join([head, *rows])

    def _uses(self, model: nn.Module) -> dict[str, list[Use]]:
        """The uses of each parameter under the plan's names."""
        found = {self._name(name): uses for name, uses in uses_of(model).items()}
        lacking, more = [n for n in self if n not in found], [n for n in found if n not in self]
        if lacking or more:
            sides = (("the model lacks", lacking), ("the plan lacks", more))
            parts = [f"{what} {', '.join(names[:5])}" for what, names in sides if names]
            raise ValueError(f"the plan is for another model; {'; '.join(parts)}")
        return found

    def _name(self, name: str) -> str:
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "")
        return name if name in self else name.removeprefix("module.")


torch.serialization.add_safe_globals([Plan])


class _Multiplied:
    """A hook that multiplies what enters a layer."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (args[0] * self.factor, *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: kwargs[first] * self.factor}


def _number(value: float | None) -> str:
    return "as built" if value is None else f"{value:.4g}"
