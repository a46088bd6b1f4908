"""Self-supervised learning on a graph with four pretext tasks at once, under the mean and under MGDA.

The graph: the 1,797 handwritten digits that ship with scikit-learn, each joined to its nearest neighbours.
The tasks, each of another kind: rebuild hidden pixels, tell joined pairs from others, give two views of a
node the same and uncorrelated features, tell the graph from a shuffled one. After Ju et al., "Multi-task
Self-supervised Graph Neural Networks Enable Stronger Task Generalization", ICLR 2023 (arXiv 2210.02016),
which combines pretext tasks by MGDA. The judge is a linear probe: logistic regression on the frozen features,
ten labels a class.

    python examples/graph_pretexts.py --seeds 3 --steps 100
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np
import torch
from _gallery import dots, figure, finish, parser, spread
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import MGDA, Mean, UPGrad
from equipoise.core.rule import GramianRule

NEIGHBOURS, WIDTH, SIZE, LABELS = 6, 64, 32, 10
RULES: Mapping[str, Callable[[], GramianRule]] = {
    "mean of four": Mean,
    "MGDA": MGDA,
    "MGDA, unit lengths": lambda: MGDA(normalize="l2"),
    "UPGrad": UPGrad,
}


@dataclass(frozen=True)
class Graph:
    """Features x (n, 64), classes y (n,), edges (2, e) and the normalised adjacency (n, n), sparse."""

    x: Tensor
    y: Tensor
    edges: Tensor
    adjacency: Tensor


@cache
def digits_graph() -> Graph:
    images, labels = load_digits(return_X_y=True)
    joined = kneighbors_graph(images, NEIGHBOURS, mode="connectivity")
    joined = joined.maximum(joined.T).tocoo()
    edges = torch.from_numpy(np.stack([joined.row, joined.col])).long()
    return Graph(
        torch.tensor(images, dtype=torch.float32) / 16,
        torch.tensor(labels),
        edges,
        normalised(edges, len(labels)),
    )


def normalised(edges: Tensor, n: int) -> Tensor:  # (2, e) -> (n, n) sparse
    """D^-1/2 (A + I) D^-1/2, as in graph convolution."""
    index = torch.cat([edges, torch.arange(n).expand(2, n)], 1)
    degree = torch.bincount(index[0], minlength=n).float()
    values = (degree[index[0]] * degree[index[1]]).rsqrt()
    return torch.sparse_coo_tensor(index, values, (n, n), check_invariants=True).coalesce()


class Encoder(nn.Module):
    """Two graph convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, WIDTH), nn.Linear(WIDTH, SIZE)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:  # (n, 64), (n, n) -> (n, SIZE)
        hidden = torch.sparse.mm(adjacency, self.first(x)).relu()
        return torch.sparse.mm(adjacency, self.second(hidden))


class Pretexts(nn.Module):
    """The encoder and the heads of the tasks; `losses` draws what each task hides or corrupts."""

    names = ("features", "links", "views", "shuffle")

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.pixels, self.summary = nn.Linear(SIZE, 64), nn.Linear(SIZE, SIZE, bias=False)

    def losses(self, graph: Graph, names: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
        return {name: getattr(self, f"_{name}")(graph, generator) for name in names}

    def _features(self, graph: Graph, generator: torch.Generator) -> Tensor:
        """Rebuild the pixels of nodes that were hidden, from their neighbours."""
        hidden = torch.rand(len(graph.x), 1, generator=generator) < 0.5
        found = self.pixels(self.encoder(graph.x * ~hidden, graph.adjacency))
        return ((found - graph.x).square() * hidden).sum() / (graph.x.square() * hidden).sum()

    def _links(self, graph: Graph, generator: torch.Generator) -> Tensor:
        """Tell pairs that are joined from pairs drawn at random."""
        z = functional.normalize(self.encoder(graph.x, graph.adjacency), dim=1)
        picks = torch.randint(graph.edges.shape[1], (2000,), generator=generator)
        others = torch.randint(len(z), (2, 2000), generator=generator)
        pairs = torch.cat([graph.edges[:, picks], others], 1)
        scores = 5 * (z[pairs[0]] * z[pairs[1]]).sum(1)
        return functional.binary_cross_entropy_with_logits(scores, torch.arange(4000).lt(2000).float())

    def _views(self, graph: Graph, generator: torch.Generator) -> Tensor:
        """Two views, with pixels and edges left out, are to agree in features that are uncorrelated."""
        one, two = (self._view(graph, generator) for _ in range(2))
        n = len(one)
        apart = sum(((z.T @ z / n - torch.eye(SIZE)).square().sum() for z in (one, two)), one.new_zeros(()))
        return ((one - two).square().sum() / n + 0.01 * apart) / SIZE

    def _view(self, graph: Graph, generator: torch.Generator) -> Tensor:
        kept = torch.rand(graph.edges.shape[1], generator=generator) < 0.7
        shown = torch.rand(1, 64, generator=generator) < 0.7
        z = self.encoder(graph.x * shown, normalised(graph.edges[:, kept], len(graph.x)))
        return (z - z.mean(0)) / (z.std(0) + torch.finfo(z.dtype).eps)

    def _shuffle(self, graph: Graph, generator: torch.Generator) -> Tensor:
        """Nodes are to agree with the summary of the graph, and not where pixels were dealt to others."""
        order = torch.randperm(len(graph.x), generator=generator)
        real = self.encoder(graph.x, graph.adjacency)
        false = self.encoder(graph.x[order], graph.adjacency)
        whole = self.summary(real.mean(0).sigmoid())
        scores = torch.cat([real @ whole, false @ whole])
        return functional.binary_cross_entropy_with_logits(
            scores, torch.arange(len(scores)).lt(len(real)).float()
        )


def embed(names: Sequence[str], rule: GramianRule, steps: int, rate: float, seed: int) -> Tensor:
    """The features of all nodes after training on the tasks of these names."""
    torch.manual_seed(seed)
    model, graph, generator = Pretexts(), digits_graph(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        equipoise.backward(model.losses(graph, names, generator), rule)
        optimizer.step()
    with torch.no_grad():
        return model.encoder(graph.x, graph.adjacency)


def probe(features: Tensor, seed: int) -> float:
    """Accuracy on all other nodes of a linear classifier of LABELS nodes a class, drawn by the seed."""
    graph = digits_graph()
    order = torch.randperm(len(graph.y), generator=torch.Generator().manual_seed(seed))
    shown = torch.cat([order[graph.y[order] == digit][:LABELS] for digit in range(10)])
    rest = order[~torch.isin(order, shown)]
    scaled = ((features - features.mean(0)) / features.std(0).clamp(min=1e-6)).double().numpy()
    classifier = LogisticRegression(max_iter=1000).fit(scaled[shown], graph.y[shown].numpy())
    return float(classifier.score(scaled[rest], graph.y[rest].numpy()))


def compare(seeds: int, steps: int, rate: float) -> dict[str, list[float]]:
    """Row of the table -> accuracy of the probe for each seed."""
    found: dict[str, list[float]] = {"pixels": [], "untrained": []}
    for seed in range(seeds):
        found["pixels"].append(probe(digits_graph().x, seed))
        found["untrained"].append(probe(embed((), Mean(), 0, rate, seed), seed))
        for name in Pretexts.names:
            features = embed((name,), Mean(), steps, rate, seed)
            found.setdefault(f"{name} alone", []).append(probe(features, seed))
        for label, rule in RULES.items():
            features = embed(Pretexts.names, rule(), steps, rate, seed)
            found.setdefault(label, []).append(probe(features, seed))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parser(__doc__)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=100)
    asked.add_argument("--rate", type=float, default=0.005, help="the learning rate of all rows")
    options = asked.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"accuracy of the probe after {options.steps} steps, {options.seeds} seeds")
    found = compare(options.seeds, options.steps, options.rate)
    for label, values in found.items():
        print(f"{label:<20}  {spread(values, 3)}")
    alone = max((f"{name} alone" for name in Pretexts.names), key=lambda label: mean(found[label]))
    best = max(RULES, key=lambda label: mean(found[label]))
    drawn, (plot,) = figure(height=4.0)
    dots(plot, found, max(found, key=lambda label: mean(found[label])))
    plot.set_xlabel(f"accuracy of the probe (each of {options.seeds} seeds, and their mean)")
    plot.set_title("Features of a graph, by what they were trained on")
    finish(
        options.out,
        "graph_pretexts",
        drawn,
        f"Trained on the four tasks together, features are best under {best}, {spread(found[best], 3)}; "
        f"{alone} reaches {spread(found[alone], 3)}, and the pixels themselves {spread(found['pixels'], 3)}.",
    )


if __name__ == "__main__":
    main()
