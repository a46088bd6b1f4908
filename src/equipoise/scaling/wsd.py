"""WSD: a learning rate that warms up, stays, and falls at the end."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from equipoise.core.card import Card
from equipoise.core.checks import check_count, check_share
from equipoise.scaling.falling import Decay, fall

CARD = Card(
    name="WSD",
    shape="system",
    summary="A learning rate that warms up, stays, and falls in the last steps alone.",
    formula="eta(t) = eta t / w, eta, eta f((t - (T - d)) / d)",
    title="MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies",
    authors=("Shengding Hu", "Yuge Tu", "Xu Han", "Chaoqun He", "Ganqu Cui", "Xiang Long"),
    venue="COLM",
    year=2024,
    arxiv="2404.06395",
    single="any loss",
    cost="nothing",
    use="several lengths of training from one run: fall from any of its checkpoints",
    avoid="one length that is known: a cosine is as good",
    status="main",
)


class WSD(LambdaLR):
    """Up from 0 in `warmup` steps, the optimizer's learning rates, then down in the last `decay` of `total`.

    total: steps in all; None stays up for ever. decay: steps, 10% of the total by default. shape: "linear",
    "cosine" or "sqrt". floor: the factor at the end. Raises ValueError for numbers out of range, and phases
    that are longer than the total.

    Source: Hu et al. 2024, section 4.2; 10% is enough there.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total: int | None = None,
        warmup: int = 0,
        decay: int | None = None,
        shape: Decay = "linear",
        floor: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_count(1, total=total)
        check_count(0, warmup=warmup, decay=decay)
        check_share(floor=floor)
        if total is None and decay:
            raise ValueError(f"decay is {decay}, but the total of steps is not given")
        falling = 0 if total is None else round(0.1 * total) if decay is None else decay
        if total is not None and warmup + falling > total:
            raise ValueError(f"warmup {warmup} and decay {falling} are more than the total of {total} steps")

        def factor(step: int) -> float:
            rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
            return rising * (floor + (1 - floor) * fall(step, total, falling, shape))

        super().__init__(optimizer, factor, last_epoch)
