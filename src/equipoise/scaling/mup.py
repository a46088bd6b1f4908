"""MuP: the initialisation, step and factor of each parameter with which settings hold at all widths."""

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_positive
from equipoise.core.errors import check_choice
from equipoise.scaling.mupplan import Entry, Kind, Plan
from equipoise.scaling.parameteruses import Use, chosen, uses_of

CARD = Card(
    name="MuP",
    shape="parametrisation",
    summary="Scales initialisation, steps and outputs with width, so that the best learning rate stays.",
    formula="hidden: std ~ 1/sqrt(m), Adam lr/m, SGD lr m_out/m; output: forward 1/m; SGD vectors: lr m",
    title="Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer",
    authors=(
        "Greg Yang",
        "Edward J. Hu",
        "Igor Babuschkin",
        "Szymon Sidor",
        "Xiaodong Liu",
        "David Farhi",
        "Nick Ryder",
        "Jakub Pachocki",
        "Weizhu Chen",
        "Jianfeng Gao",
    ),
    venue="NeurIPS",
    year=2021,
    arxiv="2203.03466",
    single="one loss",
    cost="three models without storage, once; a product at the readout",
    use="a learning rate that was tuned at a small width is to serve a large one",
    avoid="fine-tuning: initialisation is half of it; where depth or batch grows, not width",
    status="main",
    evidence="mup",
)

Rule = Literal["adam", "sgd"]
MakeModel = Callable[[int], nn.Module]


def plan(
    make_model: MakeModel,
    *,
    base: int,
    width: int,
    delta: int | None = None,
    optimizer: Rule = "adam",
    gain: float = 1.0,
    base_std: Mapping[str, float | None] | None = None,
    fan_in: Mapping[str, int] | None = None,
    readout: Literal["forward", "folded"] = "forward",
    tied: bool = False,
    device: str = "meta",
) -> Plan:
    """What each parameter of `make_model(width)` needs for the settings of `make_model(base)` to serve it.

    Models of widths base, delta (twice the base) and width are built without storage. A dimension that
    differs between base and delta grows; m = its size at `width` over that at `base`. By the dimension that
    the layer sums over, the fan-in, a parameter is

    | kind | grows | std | Adam lr | SGD lr | forward |
    | --- | --- | --- | --- | --- | --- |
    | hidden | fan-in and fan-out | that at base / sqrt(m_in) | 1/m_in | m_out/m_in | 1 |
    | output | fan-in | that at base | 1 | m_in | 1/m_in |
    | input, embedding | fan-out | that at base | 1 | m_out | 1 |
    | vector: bias, norm | itself | biases 0, others as built | 1 | m | 1 |
    | fixed | nothing | as built; biases 0 | 1 | 1 | 1 |

    Weight decay is multiplied by 1 over the factor of lr (see `Plan.param_groups`). At the base width all
    factors are 1. Attention is not seen: scale its logits by `attention_scale`.

    gain: the std at base is gain / sqrt(fan-in), of embeddings 1; 3 ** -0.5 is what torch gives to linear
    layers. base_std: {pattern of names: std at base}, which goes before; None leaves the model's own values.
    fan_in: {pattern: dimension summed over}, for parameters that are not of torch's layers.
    readout: "folded" divides the output's std by m instead and steps it by lr/m, under both rules, for
    models whose forward shall stay. tied: allow an embedding that is the readout's weight too; it is drawn
    and stepped as an embedding. device: "cpu" for models that cannot be built without storage.

    Raises ValueError naming the parameter where a shape is not understood, for models that differ in more
    than shapes, a tied readout, patterns that fit nothing, and where nothing grows.

    Source: Yang et al. 2021, tables 3 and 8 and appendix B; microsoft/mup for weight decay.

    >>> made = plan(lambda w: nn.Sequential(nn.Linear(8, w), nn.Linear(w, w), nn.Linear(w, 2)),
    ...             base=32, width=128)
    >>> made["1.weight"]["lr_mult"], made["2.weight"]["fwd_mult"]
    (0.25, 0.25)
    """
    check_count(1, base=base, width=width, delta=delta)
    check_positive(gain=gain)
    check_choice("optimizer", optimizer, ("adam", "sgd"))
    check_choice("readout", readout, ("forward", "folded"))
    delta = 2 * base if delta is None else delta
    if delta == base:
        raise ValueError(f"delta and base are both {base}; a delta of another width shows what grows")
    sizes = (base, delta, width)
    models = [_built(make_model, size, device) for size in sizes]
    uses = [uses_of(model) for model in models]
    for size, other in zip(sizes[1:], uses[1:], strict=True):
        odd = sorted(set(other) ^ set(uses[0]))
        if odd:
            raise ValueError(f"{odd[0]} is a parameter at one of the widths {base} and {size} only")
    stds, fans = dict(base_std or {}), dict(fan_in or {})
    for option, patterns in (("base_std", stds), ("fan_in", fans)):
        idle = [p for p in patterns if not any(fnmatchcase(name, p) for name in uses[0])]
        if idle:
            raise ValueError(f"{option}: {idle[0]!r} fits no parameter of {', '.join(uses[0])}")
    entries, grown = {}, False
    for name, found in uses[0].items():
        shapes = [_shape(name, other[name][0].parameter) for other in uses]
        grows = _growing(name, shapes, sizes)
        grown |= bool(grows)
        part = _part(name, found, shapes[0], shapes[2], grows, chosen(name, fans), tied)
        if tied and readout == "folded" and part.kind == "input" and part.forward != 1:
            raise ValueError(f"{name} is embedding and readout: a folded readout would shrink the embedding")
        listed = any(fnmatchcase(name, pattern) for pattern in stds)
        std = chosen(name, stds) if listed else _std(found[0], part, shapes[0], gain)
        entries[name] = _entry(part, shapes[2], std, optimizer, folded=readout == "folded")
    if not grown:
        raise ValueError(
            f"no parameter grows between the widths {base} and {delta}: {', '.join(uses[0]) or 'none'}; "
            "make_model has to use its argument"
        )
    return Plan(entries)


def attention_scale(d_head: int, *, base: int | None = None) -> float:
    """What attention multiplies q·k with: 1 / d_head, instead of 1 / sqrt(d_head).

    base: the head's size at the base width, at which the usual scale shall hold: sqrt(base) / d_head.

    >>> attention_scale(64), attention_scale(64, base=16), attention_scale(16, base=16)
    (0.015625, 0.0625, 0.25)
    """
    check_count(1, d_head=d_head, base=base)
    return math.sqrt(base or 1) / d_head


class _Part(NamedTuple):
    """What a parameter is: its kind, the multiples of fan-in and fan-out, the factor of a readout."""

    kind: Kind
    m_in: float
    m_out: float
    forward: float
    summed: int | None


def _built(make_model: MakeModel, width: int, device: str) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return make_model(width)
    except (RuntimeError, NotImplementedError) as error:
        hint = "; plan with device='cpu' if it needs storage" if device == "meta" else ""
        raise ValueError(f"make_model({width}) failed on the device {device!r}: {error}{hint}") from error


def _shape(name: str, parameter: Tensor) -> tuple[int, ...]:
    if isinstance(parameter, nn.UninitializedParameter):
        raise ValueError(f"{name} is lazy and has no shape yet; give its layer all sizes")
    return tuple(parameter.shape)


def _growing(name: str, shapes: list[tuple[int, ...]], sizes: tuple[int, int, int]) -> list[int]:
    """The dimensions that differ between base and delta."""
    said = ", ".join(f"{shape} at {size}" for shape, size in zip(shapes, sizes, strict=True))
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(f"{name} has another number of dimensions at another width: {said}")
    for i, (at_base, at_delta, at_width) in enumerate(zip(*shapes, strict=True)):
        if at_base == at_delta != at_width:
            raise ValueError(f"{name}: dimension {i} grows at width {sizes[2]} but not at {sizes[1]}: {said}")
        if 0 in (at_base, at_width):
            raise ValueError(f"{name} is empty: {said}")
    return [i for i, (a, b) in enumerate(zip(*shapes[:2], strict=True)) if a != b]


def _part(
    name: str,
    uses: list[Use],
    at_base: tuple[int, ...],
    at_width: tuple[int, ...],
    grows: list[int],
    given: int | None,
    tied: bool,
) -> _Part:
    """What a parameter is, by all modules that hold it."""
    parts = {_single(name, use, at_base, at_width, grows, given): use for use in uses}
    if len(parts) == 1:
        return next(iter(parts))
    kinds = {part.kind: part for part in parts}
    if kinds.keys() != {"input", "output"}:
        raise ValueError(f"{name} is shared by layers that sum over different dimensions of it")
    if not tied:
        raise ValueError(
            f"{name} is embedding and readout at once, which are drawn and stepped differently; untie them, "
            "or plan with tied=True to treat it as an embedding and multiply at the readout"
        )
    return kinds["input"]._replace(forward=1 / kinds["output"].m_in)


def _single(
    name: str,
    use: Use,
    at_base: tuple[int, ...],
    at_width: tuple[int, ...],
    grows: list[int],
    given: int | None,
) -> _Part:
    summed = use.summed() if given is None else given
    if summed is not None and not 0 <= summed < len(at_base):
        raise ValueError(f"fan_in of {name} is {summed}; it has dimensions 0 to {len(at_base) - 1}")
    multiples = [at_width[i] / at_base[i] for i in grows]
    if not grows:
        return _Part("fixed", 1.0, 1.0, 1.0, summed)
    if summed is None and len(grows) == 1 and math.prod(at_base) == at_base[grows[0]]:
        return _Part("vector", 1.0, multiples[0], 1.0, None)
    said = f"{name}, {at_base} at base, {at_width} at width, of {type(use.module).__name__}"
    if summed is None:
        raise ValueError(f"{said}: say which dimension is summed over, fan_in={{{name!r}: dimension}}")
    if use.rows and 0 in grows:
        raise ValueError(f"{said}: the number of rows of an embedding grows with width")
    if len(grows) > 2 or (len(grows) == 2 and summed not in grows):
        raise ValueError(f"{said}: dimensions {grows} grow, {summed} is summed over; no layer does that")
    at = dict(zip(grows, multiples, strict=True))
    m_in = at.pop(summed, 1.0)
    m_out = next(iter(at.values()), 1.0)
    kind: Kind = "input" if summed not in grows else "hidden" if at else "output"
    return _Part(kind, m_in, m_out, 1 / m_in if kind == "output" else 1.0, summed)


def _std(use: Use, part: _Part, at_base: tuple[int, ...], gain: float) -> float | None:
    """The std at base."""
    if "bias" in use.leaf and use.parameter.dim() == 1:
        return 0.0
    if part.kind in ("vector", "fixed") or part.summed is None:
        return None
    if use.rows:
        return 1.0
    kernel = math.prod(at_base[2:]) if isinstance(use.module, _ConvNd) else 1
    return gain / math.sqrt(at_base[part.summed] * kernel)


def _entry(part: _Part, shape: tuple[int, ...], std: float | None, optimizer: Rule, folded: bool) -> Entry:
    lr, forward = 1.0, part.forward
    match part.kind, optimizer:
        case "hidden", "adam":
            lr = 1 / part.m_in
        case (("hidden" | "input" | "vector"), "sgd"):
            lr = part.m_out / part.m_in
        case "output", "sgd":
            lr = part.m_in
    if part.kind == "hidden" and std is not None:
        std /= math.sqrt(part.m_in)
    if folded and part.kind == "output":
        lr *= forward if optimizer == "adam" else forward**2
        std = None if std is None else std * forward
        forward = 1.0
    return Entry(
        kind=part.kind, shape=list(shape), init_std=std, lr_mult=lr, wd_mult=1 / lr, fwd_mult=forward
    )
