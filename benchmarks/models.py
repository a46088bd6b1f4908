"""The models that the engine is timed on: a trunk that m objectives share, and m small heads.

Sizes are those of the measured peers: an MLP of 5.0 million parameters, a CNN of 0.1 million, a GPT
of 3.1 million with tied embeddings, a ResNet-18 for images of 32 x 32.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention


class Task(nn.Module):
    """A model with one batch: `losses()` runs the forward pass and gives m scalar losses by name.

    `features()` gives the trunk's output and `heads(features)` the losses, for engines that want to be told.
    """

    trunk: nn.Module

    def features(self) -> Tensor:
        """The trunk's output."""
        return self.trunk(self.inputs)

    def heads(self, features: Tensor) -> dict[str, Tensor]:
        """A loss for each objective."""
        raise NotImplementedError

    def losses(self) -> dict[str, Tensor]:
        """Forward pass and losses."""
        return self.heads(self.features())

    def shared(self) -> list[nn.Parameter]:
        """The parameters that every objective reaches."""
        return list(self.trunk.parameters())


class Regression(Task):
    """m linear outputs with a mean squared error each, on features (batch, width)."""

    def __init__(self, trunk: nn.Module, inputs: Tensor, width: int, m: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.outputs = nn.ModuleList(nn.Linear(width, 1) for _ in range(m))
        self.register_buffer("inputs", inputs)
        self.register_buffer("targets", torch.randn(len(inputs), m))

    def heads(self, features: Tensor) -> dict[str, Tensor]:
        return {
            f"task {i}": (head(features)[:, 0] - self.targets[:, i]).square().mean()
            for i, head in enumerate(self.outputs)
        }


def mlp(m: int, batch: int = 32) -> Task:
    """1024-1600-1600-512, 5.0 million parameters."""
    trunk = nn.Sequential(
        nn.Linear(1024, 1600), nn.ReLU(), nn.Linear(1600, 1600), nn.ReLU(), nn.Linear(1600, 512), nn.ReLU()
    )
    return Regression(trunk, torch.randn(batch, 1024), 512, m)


def cnn(m: int, batch: int = 32) -> Task:
    """Three convolutions with pooling and a linear layer, 97,384 parameters."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 72), nn.ReLU())
    return Regression(trunk, torch.randn(batch, 3, 32, 32), 72, m)


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.again = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.again(self.second(self.norm(self.first(x)).relu()))
        return (inner + self.shortcut(x)).relu()


def resnet(m: int, batch: int = 16) -> Task:
    """ResNet-18 with a 3 x 3 stem, 11.2 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for after, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(before, after, stride), Residual(after, after, 1)]
        before = after
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Regression(trunk, torch.randn(batch, 3, 32, 32), 512, m)


class Block(nn.Module):
    """Causal attention and a perceptron, normalised before each."""

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        self.count = attention_heads
        self.norm, self.again = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.project(self.norm(x)).view(b, t, 3, self.count, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.back(mixed.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(self.again(x))


class GPT(Task):
    """A language model whose objective i predicts the token i + 1 places ahead, with one tied embedding."""

    def __init__(self, m: int, sequences: int, length: int, words: int, width: int, depth: int) -> None:
        super().__init__()
        self.m = m
        self.embedding, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("text", torch.randint(words, (sequences, length + m)))

    def features(self) -> Tensor:
        length = self.position.num_embeddings
        x = self.embedding(self.text[:, :length]) + self.position.weight
        return self.norm(self.blocks(x)) @ self.embedding.weight.T

    def heads(self, features: Tensor) -> dict[str, Tensor]:
        flat, length = features.flatten(0, 1), features.shape[1]
        return {
            f"token +{i + 1}": cross_entropy(flat, self.text[:, i + 1 : i + 1 + length].flatten())
            for i in range(self.m)
        }

    def shared(self) -> list[nn.Parameter]:
        return list(self.parameters())


def gpt(m: int, sequences: int = 8) -> Task:
    """Six layers of width 192, 2,048 words, 3.1 million parameters; 8 sequences of 64."""
    return GPT(m, sequences, 64, 2048, 192, 6)


MODELS: dict[str, Callable[[int], Task]] = {"MLP": mlp, "CNN": cnn, "GPT": gpt, "ResNet": resnet}
