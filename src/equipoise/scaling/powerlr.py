"""PowerLR: a learning rate that does not ask how long training will be."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_finite, check_positive
from equipoise.scaling.falling import Decay, fall

CARD = Card(
    name="PowerLR",
    shape="system",
    summary="A learning rate that falls as a power of the tokens seen, whatever the end and the batch.",
    formula="eta(n) = min(eta_max, batch a n^b)",
    title="Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
    authors=(
        "Yikang Shen",
        "Matthew Stallone",
        "Mayank Mishra",
        "Gaoyuan Zhang",
        "Shawn Tan",
        "Aditya Prasad",
        "Adriana Meza Soria",
        "David D. Cox",
        "Rameswar Panda",
    ),
    venue="arXiv",
    year=2024,
    arxiv="2408.13359",
    single="any loss",
    cost="nothing",
    use="the number of tokens is not settled, or will be added to; with muP",
    avoid="a and b of other models without a small fit of your own",
    status="main",
)


def power_lr(tokens: float, *, batch: float, peak: float = 0.02, a: float = 4.6, b: float = -0.51) -> float:
    """min(peak, batch a tokens^b).

    tokens: seen so far. batch: examples in a batch. a, b: the paper's. Raises ValueError for numbers out of
    range.

    Source: Shen et al. 2024, equation 6.

    >>> round(power_lr(1e9, batch=128), 6)
    0.015134
    """
    check_positive(batch=batch, peak=peak, a=a)
    check_finite(b=b)
    return peak if tokens <= 0 else min(peak, batch * a * tokens**b)


class PowerLR(LambdaLR):
    """`power_lr` for an optimizer, whose learning rate is the peak; multiples between groups stay.

    tokens: of a step. batch: examples of a step. warmup: steps from 0 up. total, decay: where known, the last
    `decay` steps of `total` fall to 0 in the form `shape`, "linear", "cosine" or "sqrt".

    Raises ValueError for numbers out of range, and a decay without a total.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        tokens: float,
        batch: float,
        a: float = 4.6,
        b: float = -0.51,
        warmup: int = 0,
        total: int | None = None,
        decay: int = 0,
        shape: Decay = "linear",
        last_epoch: int = -1,
    ) -> None:
        check_positive(tokens=tokens, batch=batch, a=a)
        check_count(0, warmup=warmup, decay=decay)
        if decay and total is None:
            raise ValueError(f"decay is {decay}, but the total of steps is not given")
        held = max(float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups)

        def factor(step: int) -> float:
            kept = power_lr(step * tokens, batch=batch, peak=held, a=a, b=b) / held
            rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
            return kept * rising * fall(step, total, decay, shape)

        super().__init__(optimizer, factor, last_epoch)
