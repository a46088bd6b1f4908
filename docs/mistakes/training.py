"""A network with two losses, on which mistakes are made."""

import torch
from torch import Tensor, nn

SHOWN = """\
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
x = torch.ones(5, 3)

def losses():
    left, right = net(x).square().mean(0).unbind()
    return {"left": left, "right": right}"""

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
x = torch.ones(5, 3)


def losses() -> dict[str, Tensor]:
    """Two losses that share the network."""
    left, right = net(x).square().mean(0).unbind()
    return {"left": left, "right": right}
