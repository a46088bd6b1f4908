"""Cases in which TorchJD gives no answer or a wrong one: its answer, the explicit one, and ours.

Both libraries are used as a training loop uses them: losses in, `.grad` out.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchjd.aggregation as peers
from tests.external import explicit, replicas
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchjd import autojac
from torchjd.autogram import Engine

import equipoise
from equipoise import aggregation
from equipoise.core.rule import Rule

IN_CONFLICT = torch.tensor([[3.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
TINY = 1e-3  # ||J||_F is then 3.2e-3, below the 1e-2 at which TorchJD takes a Jacobian for zero


@dataclass(frozen=True, slots=True)
class Fault:
    """One case: an answer is a tensor, or the text of what was raised in its place."""

    title: str
    shown: str
    explicit: Tensor
    theirs: Tensor | str
    ours: Tensor | str
    allowed: float
    """How far ours may lie from the explicit answer: relative, or absolute where that is zero."""
    why: str

    def off(self, answer: Tensor | str) -> float:
        """Distance from the explicit answer, relative to its size; infinite for an error or NaN."""
        if isinstance(answer, str) or not bool(answer.isfinite().all()):
            return float("inf")
        size = float(self.explicit.double().norm())
        return float((answer.double() - self.explicit.double()).norm()) / (size or 1.0)


def grad_of(step: Callable[[list[Tensor], Tensor], object], rows: Tensor, dtype: torch.dtype) -> Tensor | str:
    """`.grad` after one step on losses whose gradients are the rows (m, d)."""
    point = torch.zeros(rows.shape[1], dtype=dtype, requires_grad=True)
    losses = list((rows.to(dtype) @ point).unbind())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cvxpy's, on the way to TorchJD's answer
            step(losses, point)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    assert point.grad is not None
    return point.grad


def by_torchjd(aggregator: peers.Aggregator) -> Callable[[list[Tensor], Tensor], object]:
    def step(losses: list[Tensor], point: Tensor) -> None:
        autojac.backward(losses)
        autojac.jac_to_grad([point], aggregator)

    return step


def by_equipoise(rule: Rule) -> Callable[[list[Tensor], Tensor], object]:
    return lambda losses, point: equipoise.backward(losses, rule, parameters=[point])


def _tiny(name: str, answer: Tensor, aggregator: peers.Aggregator, rule: Rule, why: str) -> Fault:
    rows = TINY * IN_CONFLICT
    theirs, ours = (
        grad_of(step, rows, torch.float32) for step in (by_torchjd(aggregator), by_equipoise(rule))
    )
    return Fault(f"{name}, gradients of 1e-3", "update", answer, theirs, ours, 1e-5, why)


def tiny_upgrad() -> Fault:
    return _tiny(
        "UPGrad",
        explicit.upgrad(TINY * IN_CONFLICT),
        peers.UPGrad(),
        aggregation.UPGrad(),
        "the mean is returned, which hurts the second objective",
    )


def tiny_dualproj() -> Fault:
    return _tiny(
        "DualProj",
        explicit.dualproj(TINY * IN_CONFLICT),
        peers.DualProj(),
        aggregation.DualProj(),
        "the mean is returned, which hurts the second objective",
    )


def tiny_cagrad() -> Fault:
    return _tiny(
        "CAGrad",
        explicit.cagrad(TINY * IN_CONFLICT, 0.5),
        peers.CAGrad(c=0.5),
        aggregation.CAGrad(c=0.5, rescale=0),
        "zero is returned: training stops",
    )


def opposite_imtlg() -> Fault:
    """Equal projections on g / |g| and on its opposite are zero: for each library the worst of ten rows."""
    worst = []
    for step in (by_torchjd(peers.IMTLG()), by_equipoise(aggregation.IMTLG())):
        drawn = torch.Generator().manual_seed(0)
        rows = [torch.randn(5, generator=drawn) for _ in range(10)]
        found = [grad_of(step, torch.stack([row, -row]), torch.float32) for row in rows]
        worst.append(max(found, key=lambda update: float(torch.as_tensor(update).norm())))
    why = "rounding in a pseudo-inverse is divided by rounding"
    answer = torch.zeros(5, dtype=torch.float64)
    return Fault("IMTL-G, exact opposites", "update", answer, *worst, 1e-6, why)


def bfloat16_upgrad() -> Fault:
    theirs, ours = (
        grad_of(step, IN_CONFLICT, torch.bfloat16)
        for step in (by_torchjd(peers.UPGrad()), by_equipoise(aggregation.UPGrad()))
    )
    answer = explicit.upgrad(IN_CONFLICT)
    why = "the Gramian goes to NumPy, which has no bfloat16"
    return Fault("UPGrad, bfloat16 parameters", "update", answer, theirs, ours, 2**-8, why)


def many_mgda() -> Fault:
    rows = torch.randn(128, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answer = explicit.mgda(rows).square().sum()
    squares = []
    for step in (by_torchjd(peers.MGDA()), by_equipoise(aggregation.MGDA())):
        found = grad_of(step, rows, torch.float64)
        squares.append(found if isinstance(found, str) else found.square().sum())
    why = "100 steps of Frank-Wolfe are not enough; the squared norm should be least"
    return Fault("MGDA, 128 objectives", "squared norm", answer, *squares, 1e-9, why)


def nash_with_a_zero() -> Fault:
    rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    theirs = grad_of(by_torchjd(peers.NashMTL(2)), rows, torch.float64)
    ours = grad_of(by_equipoise(aggregation.NashMTL()), rows, torch.float64)
    why = "the first step divides by a row sum of the Gramian, here zero, and weights (1, 1) stay"
    return Fault("NashMTL, a row sum of zero", "update", explicit.nash(rows), theirs, ours, 1e-9, why)


def tiny_nash() -> Fault:
    rows = 1e-6 * IN_CONFLICT
    theirs = grad_of(by_torchjd(peers.NashMTL(2)), rows, torch.float64)
    ours = grad_of(by_equipoise(aggregation.NashMTL()), rows, torch.float64)
    why = "the norm of the Gramian enters the constraints: the answer depends on scale, as a bargain does not"
    return Fault("NashMTL, gradients of 1e-6", "update", explicit.nash(rows), theirs, ours, 1e-9, why)


def tiny_fairgrad() -> Fault:
    """alpha = 1 is the bargain without a limit on the norm, so the answer is sqrt(2) times as long."""
    rows = 1e-6 * IN_CONFLICT
    theirs = grad_of(by_torchjd(peers.FairGrad(alpha=1.0)), rows, torch.float64)
    ours = grad_of(by_equipoise(aggregation.FairGrad()), rows, torch.float64)
    answer = explicit.nash(rows) * 2**0.5
    why = "least squares with an absolute end stop early"
    return Fault("FairGrad, gradients of 1e-6", "update", answer, theirs, ours, 1e-9, why)


class Tied(nn.Module):
    """A classifier of words whose last layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:  # (n, k) -> (n, 11)
        return self.head(self.embedding(words).mean(1).tanh())


def tied_autogram() -> Fault:
    torch.manual_seed(0)
    model = Tied()
    words, classes = torch.randint(11, (5, 3)), torch.randint(11, (5,))

    def losses() -> Tensor:  # -> (n,)
        return cross_entropy(model(words), classes, reduction="none")

    rows = explicit.jacobian(list(losses().unbind()), list(model.parameters()))
    ours = equipoise.gramian(losses(), samples=True)
    theirs = Engine(model, batch_dim=0).compute_gramian(losses())
    why = "the cross-terms between the two uses of one weight are left out, without a word"
    return Fault("autogram batch_dim=0, tied weights", "Gramian", rows @ rows.T, theirs, ours, 1e-5, why)


def drifting_replicas() -> Fault:
    theirs, ours = replicas.drift("torchjd"), replicas.drift("equipoise")
    why = "the Jacobian never passes through the hooks that average gradients"
    title = "autojac UPGrad under DDP, 2 processes, 3 steps"
    return Fault(title, "difference of replicas", torch.zeros(()), theirs, ours, 0.0, why)


FAULTS: dict[str, Callable[[], Fault]] = {
    "tiny UPGrad": tiny_upgrad,
    "tiny DualProj": tiny_dualproj,
    "tiny CAGrad": tiny_cagrad,
    "opposite IMTL-G": opposite_imtlg,
    "bfloat16": bfloat16_upgrad,
    "MGDA of 128": many_mgda,
    "NashMTL": nash_with_a_zero,
    "tiny NashMTL": tiny_nash,
    "tiny FairGrad": tiny_fairgrad,
    "tied weights": tied_autogram,
    "replicas": drifting_replicas,
}
