"""DHO: one head for the labels, one for the teacher, on one feature extractor."""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.card import Card

CARD = Card(
    name="DHO",
    shape="system",
    summary="Gives the labels and the teacher a head each, and mixes the two predictions afterwards.",
    formula="CE(h_1), KL(h_2); p = alpha softmax(h_1) + (1 - alpha) softmax(h_2 / beta)",
    title=(
        "Simple yet Effective Semi-supervised Knowledge Distillation from Vision-Language Models via "
        "Dual-Head Optimization"
    ),
    authors=("Seongjae Kang", "Dong Bok Lee", "Hyungjoon Jang", "Sung Ju Hwang"),
    venue="arXiv",
    year=2025,
    arxiv="2505.07675",
    single="the labels alone train the extractor and one head",
    cost="one more head; alpha and beta are chosen after training",
    use="few labels and a teacher that is good but not always right",
    avoid="where the teacher is right about all that the labels say: one head does as well",
    status="main",
    evidence="dual_head",
)

ALPHAS = tuple(i / 20 for i in range(20, -1, -1))
BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)


class DHO(nn.Module):
    """A classifier with a supervised head and a distilled head on one feature extractor.

    With z = `extractor`(x), h_1 = `supervised`(z) and h_2 = `distilled`(z), training has two losses,

        supervised    CE(h_1, labels) on the labelled images,
        distillation  T^2 KL(softmax(t / T) | softmax(h_2 / T)), t the teacher's logits, T = `temperature`;
                      the mean over the labelled images plus the mean over the unlabelled ones,

    which no longer meet in a head. Predictions are alpha softmax(h_1) + (1 - alpha) softmax(h_2 / beta).
    `calibrate` chooses `alpha` and `beta`, which are buffers, on validation images without training again.

    The paper's lambda L_CE + (1 - lambda) L_KD is `Linear` under the preference (lambda, 1 - lambda); lambda
    is 1/2 in the authors' runs with few examples. Any rule may stand there instead.

    Use it for few labels beside a good teacher. Not where one of the two signals has nothing to add.

    temperature: positive, 2 in the authors' code. alpha in [0, 1] and beta positive: both 0.5 in their runs
    on ImageNet with few labels. Logits are (n, classes); `forward` gives those of both heads.

    Raises ValueError for options out of range and logits of other shapes. Source: Kang et al. 2025, equations
    4 to 8 of the second version, and train_others.py and train_imgnet_semi.py of its authors.

    >>> model = DHO(nn.Identity(), nn.Linear(2, 3), nn.Linear(2, 3))
    >>> losses = model.losses(torch.ones(1, 2), torch.tensor([0]), torch.zeros(1, 3))
    >>> sorted(losses), model.predict(torch.ones(4, 2)).shape
    (['distillation', 'supervised'], torch.Size([4, 3]))
    """

    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        extractor: nn.Module,
        supervised: nn.Module,
        distilled: nn.Module,
        *,
        temperature: float = 2.0,
        alpha: float = 0.5,
        beta: float = 0.5,
    ) -> None:
        super().__init__()
        if not temperature > 0 or not beta > 0:
            raise ValueError(f"temperature is {temperature} and beta {beta}; both must be positive")
        if not 0 <= alpha <= 1:
            raise ValueError(
                f"alpha is {alpha}; it lies between 0, the distilled head, and 1, the supervised"
            )
        self.extractor = extractor
        self.supervised = supervised
        self.distilled = distilled
        self.temperature = temperature
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float64))
        self.register_buffer("beta", torch.tensor(beta, dtype=torch.float64))

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, alpha={float(self.alpha):g}, beta={float(self.beta):g}"

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # (n, *shape) -> (n, c), (n, c)
        """The logits of the supervised head and those of the distilled one."""
        features = self.extractor(inputs)
        return self.supervised(features), self.distilled(features)

    def losses(
        self,
        inputs: Tensor,
        labels: Tensor,
        teacher: Tensor,
        unlabelled: Tensor | None = None,
        unlabelled_teacher: Tensor | None = None,
    ) -> dict[str, Tensor]:  # (n, *shape), (n,), (n, c), (k, *shape), (k, c) -> {name: ()}
        """The two losses by name; `teacher` are the teacher's logits on the labelled images."""
        if (unlabelled is None) != (unlabelled_teacher is None):
            raise ValueError("unlabelled images and the teacher's logits on them go together; one is missing")
        together = inputs if unlabelled is None else torch.cat([inputs, unlabelled])
        supervised, distilled = self(together)
        count = len(inputs)
        distillation = self._divergence(distilled[:count], teacher)
        if unlabelled_teacher is not None:
            distillation = distillation + self._divergence(distilled[count:], unlabelled_teacher)
        return {
            "supervised": functional.cross_entropy(supervised[:count], labels),
            "distillation": distillation,
        }

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:  # (n, c), (n, c) -> ()
        if student.shape != teacher.shape:
            shapes = f"{tuple(teacher.shape)}, the student's {tuple(student.shape)}"
            raise ValueError(f"the teacher's logits have shape {shapes}; give one row of logits an image")
        mine = (student / self.temperature).log_softmax(1)
        theirs = (teacher.detach() / self.temperature).log_softmax(1)
        divergence = functional.kl_div(mine, theirs, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:  # (n, *shape) -> (n, c)
        """Probabilities: the mixture of both heads, in evaluation mode."""
        supervised, distilled = self._evaluated(inputs)
        return _mixture(supervised.softmax(1), distilled, float(self.alpha), float(self.beta))

    @torch.no_grad()
    def calibrate(self, inputs: Tensor, labels: Tensor) -> float:  # (n, *shape), (n,) -> accuracy
        """Set alpha and beta to the pair with the best accuracy on validation images; gives that accuracy.

        alpha is one of 0, 0.05, ..., 1 and beta one of 0.5, 0.75, 1, 1.25, 1.5, 2, 4, as in the authors'
        code; of equally good pairs that with the lowest beta, then with the highest alpha. Both heads are
        looked at in evaluation mode.
        """
        supervised, distilled = self._evaluated(inputs)
        supervised = supervised.softmax(1)
        best = -1
        for beta, alpha in product(BETAS, ALPHAS):
            chosen = _mixture(supervised, distilled, alpha, beta).argmax(1)
            right = int((chosen == labels).sum())
            if right > best:
                best = right
                self.alpha.fill_(alpha)
                self.beta.fill_(beta)
        return best / len(labels)

    def _evaluated(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # (n, *shape) -> (n, c), (n, c)
        """Both logits in evaluation mode; every module is then in the mode that it was in."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            return self(inputs)
        finally:
            for module, training in modes:
                module.training = training


def _mixture(supervised: Tensor, distilled: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * supervised + (1 - alpha) * (distilled / beta).softmax(1)
