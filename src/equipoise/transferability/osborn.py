"""OSBORN: a set of sources judged by domain, task and cohesion."""

from collections.abc import Iterable, Mapping

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample
from equipoise.transferability.transport import conditional_entropy, matched

CARD = Card(
    name="Osborn",
    shape="score",
    needs=("features", "labels", "probabilities", "source", "pool"),
    summary="Minus the distance of domains, the distance of tasks and the disagreement of a set of sources",
    formula="-(sum_k W_D(k) + sum_k W_T(k) + sum_{j != k} W_C(j, k)), W_C = H(z_j | z_k) of predictions z",
    title="Building a Winning Team: Selecting Source Model Ensembles using a Submodular Transferability "
    "Estimation Approach",
    authors=("Vimal", "Bachu", "Garg", "Narasimhan", "Konuru", "Balasubramanian"),
    venue="ICCV",
    year=2023,
    arxiv="2309.02429",
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="an optimal transport for each source, limit^3; N for each pair of sources",
    use="a set of sources whose predictions will be averaged, with the data that they learnt from",
    avoid="sets of unlike size: each source lowers it",
    single="minus the distances of domain and task of that source",
    evidence="osborn",
)


class Osborn:
    """Scores any set of a pool of sources by OSBORN; what transport costs is computed once.

    For source k, W_D is the squared 2-Wasserstein distance between its source and target features, divided
    by their mean squared distance from the mean of both, so that models of unlike scale compare; W_T is the
    entropy of the target labels given the source labels that the transport carries them to. For two sources,
    W_C is H(z_j | z_k) of their predicted classes on the target, both ways. The score of a set is minus the
    sum of all, with equal weights: it is submodular, and 0 for the empty set. Higher is better, among sets
    of one size.

    Our reading of the paper: that all three count as costs, and the scale of W_D.

    pool: target features, labels and probabilities of each source by name. sources: features and labels of
    the data that each learnt from, under the same model. At most `limit` samples of each go into a
    transport, drawn from `seed`. Raises ValueError for a source without its data, and unlike sizes, by name.

    Source: Vimal et al. 2023, section 3.

    >>> one = Sample([[0.0], [1.0]], [0, 1], [[1.0, 0.0], [0.0, 1.0]])
    >>> Osborn({"a": one, "b": one}, {"a": one, "b": one})(["a", "b"])
    0.0
    """

    def __init__(
        self,
        pool: Mapping[str, Sample],
        sources: Mapping[str, Sample],
        *,
        limit: int = 1000,
        seed: int = 0,
    ) -> None:
        if not pool:
            raise ValueError("the pool holds no models")
        if missing := [name for name in pool if name not in sources]:
            raise ValueError(f"no source data are given for {', '.join(missing)}")
        self.names = tuple(pool)
        self.domain: dict[str, float] = {}
        self.task: dict[str, float] = {}
        for name, target in pool.items():
            source = sources[name]
            left, right, cost = matched(source, target, limit=limit, seed=seed)
            scale = _variance(source, target)
            self.domain[name] = cost / scale if scale > 0 else 0.0
            self.task[name] = conditional_entropy(source.labels[left], target.labels[right])
        said = {name: sample.probabilities.argmax(1) for name, sample in pool.items()}
        if len({len(one) for one in said.values()}) > 1:
            sizes = ", ".join(f"{name} {len(one)}" for name, one in said.items())
            raise ValueError(f"the sources predict unlike numbers of samples: {sizes}")
        self.disagreement = np.array(
            [[conditional_entropy(said[k], said[j]) for k in pool] for j in pool]
        )  # (m, m)

    def __call__(self, chosen: Iterable[str]) -> float:
        """The score of the sources of these names; a mapping by name will do."""
        names = list(chosen)
        if unknown := [name for name in names if name not in self.domain]:
            raise ValueError(f"no source {', '.join(unknown)}; there are {', '.join(self.names)}")
        places = [self.names.index(name) for name in names]
        between = self.disagreement[np.ix_(places, places)]
        cohesion = float(between.sum() - between.trace())
        return -(sum(self.domain[n] + self.task[n] for n in names) + cohesion) + 0.0


def _variance(*sides: Sample) -> float:
    """The mean squared distance of all samples from their mean."""
    size = sum(side.size for side in sides)
    mean = sum(chunk.sum(0) for side in sides for chunk in side.chunks()) / size
    return sum(float(((chunk - mean) ** 2).sum()) for side in sides for chunk in side.chunks()) / size


def osborn(
    pool: Mapping[str, Sample], *, sources: Mapping[str, Sample], limit: int = 1000, seed: int = 0
) -> float:
    """The OSBORN score of all sources of a pool as one set; higher is better, among sets of one size.

    To score many sets, as greedy choice does, take `Osborn`, which transports once: see there.

    Source: Vimal et al. 2023, section 3.

    >>> one = Sample([[0.0], [1.0]], [0, 1], [[1.0, 0.0], [0.0, 1.0]])
    >>> osborn({"a": one}, sources={"a": one})
    0.0
    """
    return Osborn(pool, sources, limit=limit, seed=seed)(pool)
