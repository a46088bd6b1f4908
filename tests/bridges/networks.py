"""Small problems that the tests of the bridges train for real."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


class TwoHeads(nn.Module):
    """Digits, with one head for the digit and one for its parity."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        middle = [nn.BatchNorm1d(16)] if norm else []
        self.trunk = nn.Sequential(nn.Linear(64, 16), *middle, nn.Tanh())
        self.digit = nn.Linear(16, 10)
        self.parity = nn.Linear(16, 2)

    def losses(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        z = self.trunk(images)
        return {
            "digit": functional.cross_entropy(self.digit(z), labels),
            "parity": functional.cross_entropy(self.parity(z), labels % 2),
        }


def digits(count: int = 256) -> torch.utils.data.TensorDataset:
    """The first images of scikit-learn's digits, 64 pixels each, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.utils.data.TensorDataset(
        torch.tensor(images[:count], dtype=torch.float32) / 16, torch.tensor(labels[:count])
    )
