"""Partitions: which examples each client holds, as a function of labels or counts and a seed.

Every function gives one tensor of example numbers (int64, ascending) for each client. No example is given
twice, all are given unless the function says otherwise, and the same arguments give the same partition
(numpy's seeded generator draws them; the global seeds of torch and numpy are neither read nor moved).
"""

import numpy as np
import torch
from torch import Tensor


def iid(count: int, clients: int, seed: int) -> list[Tensor]:
    """`count` examples dealt at random into equal shares; the first ones are larger by one where need be.

    Raises ValueError where there are fewer examples than clients.

    >>> [len(share) for share in iid(11, 3, seed=0)]
    [4, 4, 3]
    """
    _check_room(count, clients, 1)
    return _ascending(np.array_split(np.random.default_rng(seed).permutation(count), clients))


def dirichlet(labels: Tensor, clients: int, alpha: float, seed: int, least: int = 1) -> list[Tensor]:
    """Class by class, in shares drawn from Dirichlet(alpha, ..., alpha) over the clients.

    The smaller `alpha`, the fewer clients share a class (0.1 is harsh, 100 nearly iid), and the more the
    sizes of clients differ. A client short of `least` examples then gets those it lacks one by one, at
    random, from whichever client is the largest: at most clients × least moves, where drawing anew until
    all are large enough need not end.

    `labels` (n,): whole numbers, any. Raises ValueError where n < clients × least.
    Source: Hsu, Qi and Brown (2019), section 3, whose shares are over classes for each client; over clients
    for each class, as here, is the form of Yurochkin et al. (2019), section 4, and uses every example.

    >>> labels = torch.arange(10).repeat(20)
    >>> shares = dirichlet(labels, 8, alpha=0.05, seed=0, least=5)
    >>> min(map(len, shares)) >= 5, torch.cat(shares).unique().numel()
    (True, 200)
    """
    _check_room(len(labels), clients, least)
    check_alpha(alpha)
    draw = np.random.default_rng(seed)
    held: list[list[int]] = [[] for _ in range(clients)]
    for members in _by_class(labels):
        shares = draw.dirichlet(np.full(clients, alpha))
        for own, piece in zip(held, _cut(draw.permutation(members), shares), strict=True):
            own.extend(piece.tolist())
    return _ascending(_filled([draw.permutation(own).tolist() for own in held], least))


def quantity(count: int, clients: int, alpha: float, seed: int, least: int = 1) -> list[Tensor]:
    """Examples at random, but unlike many: sizes in shares drawn from Dirichlet(alpha, ..., alpha).

    The smaller `alpha`, the more unequal. A client short of `least` gets what it lacks as in `dirichlet`.
    Raises ValueError where count < clients × least.
    Source: Li, Diao, Chen and He (2022), "quantity skew".

    >>> sizes = [len(share) for share in quantity(1000, 5, alpha=0.5, seed=0, least=10)]
    >>> sum(sizes), min(sizes) >= 10
    (1000, True)
    """
    _check_room(count, clients, least)
    check_alpha(alpha)
    draw = np.random.default_rng(seed)
    pieces = _cut(draw.permutation(count), draw.dirichlet(np.full(clients, alpha)))
    return _ascending(_filled([piece.tolist() for piece in pieces], least))


def pathological(labels: Tensor, clients: int, classes: int, seed: int) -> list[Tensor]:
    """Each client holds `classes` classes and no other; those who hold a class have equal shares of it.

    Classes are given out so that each is held by equally many clients, give or take one. Where clients ×
    classes is less than the number of classes, the examples of those that nobody holds are left out.

    `labels` (n,): whole numbers, any. Raises ValueError where there are fewer classes than `classes`, or
    fewer examples of a class than clients who hold it.
    Source: McMahan et al. (2017), section 3, who deal two shards of the examples sorted by class to each
    client; here a shard never straddles two classes, and the two of a client are never of one.

    >>> labels = torch.arange(10).repeat(20)
    >>> [len(labels[share].unique()) for share in pathological(labels, 5, 2, seed=0)]
    [2, 2, 2, 2, 2]
    """
    if clients < 1:
        raise ValueError(f"there are {clients} clients; it takes at least one")
    draw, members = np.random.default_rng(seed), _by_class(labels)
    if not 1 <= classes <= len(members):
        raise ValueError(f"each client is to hold {classes} classes, but the labels have {len(members)}")
    holders: list[list[int]] = [[] for _ in members]
    for client in range(clients):
        for chosen in _least_held(holders, classes, draw):
            holders[chosen].append(client)
    held: list[list[int]] = [[] for _ in range(clients)]
    for own, who in zip(members, holders, strict=True):
        if len(own) < len(who):
            raise ValueError(f"{len(who)} clients are to share a class of {len(own)} examples; take fewer")
        for client, piece in zip(who, np.array_split(draw.permutation(own), max(len(who), 1)), strict=False):
            held[client].extend(piece.tolist())
    return _ascending(held)


def biased(labels: Tensor, clients: int, seed: int) -> list[Tensor]:
    """The first half of the clients hold all classes evenly, each of the others one class; sizes are equal.

    With an odd number of clients the even ones are one more. The common size is the largest at which the
    scarcest class suffices; what is then over is left out.

    `labels` (n,): whole numbers, any. Raises ValueError where a class is too small for all who hold it.
    Source: after the second setting of Ye et al. (2023), who mix clients with all and with few classes.

    >>> labels = torch.arange(10).repeat(30)
    >>> shares = biased(labels, 4, seed=0)
    >>> [(len(share), len(labels[share].unique())) for share in shares]
    [(20, 10), (20, 10), (20, 1), (20, 1)]
    """
    _check_room(len(labels), clients, 1)
    draw, members = np.random.default_rng(seed), _by_class(labels)
    even = clients - clients // 2
    holders: list[list[int]] = [[] for _ in members]
    for client in range(even, clients):
        holders[_least_held(holders, 1, draw)[0]].append(client)
    wanted = [even + len(members) * len(who) for who in holders]
    each = min(len(own) // want for own, want in zip(members, wanted, strict=True))
    if each < 1:
        raise ValueError(f"{clients} clients need {max(wanted)} examples of a class; take fewer clients")
    held: list[list[int]] = [[] for _ in range(clients)]
    for own, who in zip(members, holders, strict=True):
        left = draw.permutation(own).tolist()
        for client, size in [*((c, each) for c in range(even)), *((c, each * len(members)) for c in who)]:
            held[client] += left[:size]
            left = left[size:]
    return _ascending(held)


def by_domain(domains: Tensor) -> list[Tensor]:
    """One client for each domain, in the order of their numbers; draws nothing.

    `domains` (n,): whole numbers, any.

    >>> [share.tolist() for share in by_domain(torch.tensor([7, 3, 7]))]
    [[1], [0, 2]]
    """
    return _ascending(_by_class(domains))


def rotated(images: Tensor, quarter_turns: int) -> Tensor:  # (..., s, s) -> (..., s, s)
    """Square images turned counter-clockwise by `quarter_turns` times 90 degrees, no pixel changed.

    >>> rotated(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2, 4], [1, 3]]
    """
    return torch.rot90(images, quarter_turns, (-2, -1))


def turns(clients: int, shares: tuple[float, ...] = (0.7, 0.2, 0.1)) -> list[int]:
    """How often each client's images are turned: the first share of the clients never, the next once ...

    Shares are rounded so that they add up; of fewer than six clients none is turned twice.
    Source: Liu et al. (2026), whose federated experiments turn the images of ten clients so.

    >>> turns(10)
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 2]
    """
    counts = apportioned(torch.tensor(shares, dtype=torch.float64), clients)
    return torch.arange(len(shares)).repeat_interleave(counts).tolist()


def in_proportion(labels: Tensor, histograms: Tensor, size: int, seed: int) -> list[Tensor]:
    """For each client `size` examples, its classes in the proportions of its row of `histograms`.

    Clients take their examples of a class in turns from one shuffled ring of them: no example is given
    to a second client before all of its class are given, and none twice to one client, who gets fewer than
    `size` only where a class has not as many as its proportion asks for. So what clients are judged on
    follows what they train on, and small clients are judged on as many examples as large ones.

    `labels` (n,): 0 to classes - 1; `histograms` (clients, classes): counts or shares, each row with a
    positive one.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> shares = in_proportion(labels, torch.tensor([[3, 1], [0, 1]]), size=4, seed=0)
    >>> [labels[share].tolist() for share in shares]
    [[0, 0, 0, 1], [1, 1]]
    """
    draw = np.random.default_rng(seed)
    rings = [draw.permutation(np.flatnonzero(labels.numpy() == name)) for name in range(histograms.shape[1])]
    taken = [0] * len(rings)
    held = []
    for histogram in histograms:
        own: list[int] = []
        for name, wanted in enumerate(apportioned(histogram, size).tolist()):
            many = min(wanted, len(rings[name]))
            own += [int(rings[name][(taken[name] + k) % len(rings[name])]) for k in range(many)]
            taken[name] += many
        held.append(own)
    return _ascending(held)


def apportioned(weights: Tensor, total: int) -> Tensor:  # (k,) -> (k,) int64
    """`total` things shared by weight: rounded down, the rest to the largest remainders, first come first.

    >>> apportioned(torch.tensor([0.7, 0.2, 0.1]), 12).tolist()
    [9, 2, 1]
    """
    exact = weights.double() / weights.double().sum() * total
    whole = (exact + 1e-6).floor()  # 0.7 of 10 is a hair below 7 in floating point
    order = (exact - whole).mul(1e6).round().argsort(descending=True, stable=True)
    whole[order[: total - int(whole.sum())]] += 1
    return whole.long()


def _by_class(labels: Tensor) -> list[np.ndarray]:
    values = labels.numpy()
    return [np.flatnonzero(values == name) for name in np.unique(values)]


def _cut(members: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    ends = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
    return np.split(members, ends)


def _filled(held: list[list[int]], least: int) -> list[list[int]]:
    for own in held:
        while len(own) < least:
            own.append(max(held, key=len).pop())
    return held


def _least_held(holders: list[list[int]], many: int, draw: np.random.Generator) -> list[int]:
    """The `many` classes with the fewest holders; chance decides between equals."""
    order = draw.permutation(len(holders))
    return sorted(order.tolist(), key=lambda name: len(holders[name]))[:many]


def _ascending(held: list[list[int]] | list[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(np.sort(np.asarray(own, dtype=np.int64))) for own in held]


def _check_room(count: int, clients: int, least: int) -> None:
    if clients < 1 or least < 0:
        raise ValueError(f"{clients} clients with at least {least} examples each; take positive numbers")
    if count < clients * least:
        raise ValueError(f"{count} examples do not give {clients} clients at least {least} each")


def check_alpha(alpha: float) -> None:
    """Raise ValueError where a Dirichlet distribution takes no such concentration.

    >>> check_alpha(0.0)
    Traceback (most recent call last):
    ValueError: alpha is 0.0; it must be a positive number, up to 1e6 (nearly even shares)
    """
    if not 0 < alpha <= 1e6:
        raise ValueError(f"alpha is {alpha}; it must be a positive number, up to 1e6 (nearly even shares)")
