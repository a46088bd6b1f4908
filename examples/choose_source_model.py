"""Choosing a source model: which of eight encoders to fine-tune for a new task, without tuning them all.

Encoders were trained on other things: digits, garments, photographs, letters of three alphabets; one on
nothing. A transferability score looks at the features that each gives for the target, 100 digits of another
source, and ranks them in a second. Here all eight are then fine-tuned, to see whether the score was right.

What to look at: whether the choice of the score is the best encoder, and whether a plain nearest-neighbour
probe would have said the same.

    EQUIPOISE_DATA=... python examples/choose_source_model.py
"""

from statistics import mean

import numpy as np
import torch
from _gallery import figure, finish, parser
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.nn import functional

from equipoise.problems.data import find
from equipoise.transferability import Sample, rank

SEED, TARGET, STEPS = 0, 100, 60
Labelled = tuple[Tensor, Tensor]


def opened(folder: str, file: str) -> dict[str, np.ndarray]:
    path = find(folder, file, download=None)
    assert path is not None
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def small(images: np.ndarray) -> Tensor:  # (n, h, w) or (n, h, w, 3), uint8 -> (n, 1, 16, 16)
    """Grey images of 16 x 16 pixels in [0, 1]."""
    x = torch.from_numpy(images).float() / 255
    x = x.mean(-1) if x.ndim == 4 else x
    return functional.interpolate(x[:, None], (16, 16), mode="area")


def sources() -> dict[str, Labelled]:
    """What encoders are trained on, 2,500 images at most; digits without a margin, as the target has none."""
    mnist, coloured = opened("mnist", "mnist.npz"), opened("mnist_m", "mnist_m_7k.npz")
    garments, photographs = (
        opened("fashion_mnist_900", "fashion_mnist_900.npz"),
        opened("cifar10", "cifar10_8k.npz"),
    )
    letters = opened("omniglot_small", "omniglot_small.npz")
    found = {
        "MNIST": (mnist["x_train"][:, 4:24, 4:24], mnist["y_train"]),
        "coloured MNIST": (coloured["x_train"][:, 4:24, 4:24], coloured["y_train"]),
        "garments": (garments["x"], garments["y"]),
        "photographs": (photographs["x_train"], photographs["y_train"]),
    }
    for number in (0, 3, 6):
        rows = letters["alphabet"] == number
        name = str(letters["alphabet_names"][number]).replace("_", " ")
        characters = np.unique(letters["character"][rows], return_inverse=True)[1]
        found[f"letters: {name}"] = (letters["x"][rows], characters)
    return {
        name: (small(x[:2500]), torch.from_numpy(y[:2500].astype(np.int64))) for name, (x, y) in found.items()
    }


def network(classes: int) -> nn.Sequential:
    """An encoder of 64 features and a linear classifier."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip


def trained(model: nn.Sequential, x: Tensor, y: Tensor, steps: int, rate: float) -> nn.Sequential:
    """The model after so many steps, changed in place."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        index = torch.randint(len(x), (64,), generator=generator)
        functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def tuned(encoder: nn.Sequential, target: Labelled, judged: Labelled) -> float:
    """Test accuracy on the target after fine-tuning a copy, in %, the mean of three draws of the head."""
    found = []
    for draw in range(3):
        torch.manual_seed(draw)
        model = network(10)
        model[:7].load_state_dict(encoder.state_dict())
        trained(model, *target, STEPS, 1e-3)
        with torch.no_grad():
            found.append(100 * float((model(judged[0]).argmax(1) == judged[1]).double().mean()))
    return mean(found)


def main() -> None:
    out = parser(__doc__).parse_args().out
    usps = opened("usps", "usps.npz")
    target = small(usps["x_train"][:TARGET]), torch.from_numpy(usps["y_train"][:TARGET].astype(np.int64))
    judged = small(usps["x_test"]), torch.from_numpy(usps["y_test"].astype(np.int64))
    encoders: dict[str, nn.Sequential] = {}
    torch.manual_seed(SEED)
    encoders["nothing"] = network(10)[:7]
    for name, (x, y) in sources().items():
        torch.manual_seed(SEED)
        encoders[name] = trained(network(int(y.max()) + 1), x, y, 300, 1e-3)[:7]
    with torch.no_grad():
        pool = {name: Sample(encoder(target[0]), target[1]) for name, encoder in encoders.items()}
    truth = {name: tuned(encoder, target, judged) for name, encoder in encoders.items()}
    ranking = rank(pool, scores="logme", truth=truth)
    score, probe = (dict(ranking.column(name).values) for name in ("LogME", "KNN"))
    for name in sorted(truth, key=lambda name: -truth[name]):
        print(
            f"{name:24} tuned {truth[name]:5.1f} %   LogME {score[name]:+.3f}   neighbours {probe[name]:.3f}"
        )
    drawn, (plot,) = figure(height=3.8)
    for name in truth:
        plot.plot(score[name], truth[name], "o", color="C0")
        plot.annotate(f" {name}", (score[name], truth[name]), fontsize=8, va="center")
    plot.set_xlabel(f"LogME of the features of {TARGET} digits, before any tuning")
    plot.set_ylabel("test accuracy after fine-tuning, %")
    plot.set_title("Encoders for USPS digits")
    plot.margins(x=0.2)
    chosen, best = (max(column, key=lambda name, column=column: column[name]) for column in (score, truth))
    taus = [
        kendalltau([column[name] for name in truth], list(truth.values())).statistic
        for column in (score, probe)
    ]
    place = 1 + sum(value > truth[chosen] for value in truth.values())
    finish(
        out,
        "choose_source_model",
        drawn,
        f"LogME chooses {chosen}, number {place} of {len(truth)} after tuning ({best} is best); its order "
        f"agrees with the true one by a Kendall tau of {taus[0]:.2f}, that of neighbours by {taus[1]:.2f}.",
    )


if __name__ == "__main__":
    main()
