"""Numbers in one byte: a sign, and 7 bits for the logarithm of the size."""

from math import log

import torch
from torch import Tensor

ABSENT = 0
"""The byte of one who did not reply, or cannot: it is 0 of positive sign, and a reply of 0 has the other."""


class Byte:
    """Numbers as a sign and the logarithm of their size, in one byte."""

    dtype = torch.uint8
    fineness = 8

    def __init__(self, largest: float) -> None:
        self.largest = largest

    def __repr__(self) -> str:
        return f"Byte({self.largest})"

    def encode(self, number: Tensor) -> Tensor:  # (*shape) float64 -> (*shape) uint8
        """
        >>> code = Byte(1.0)
        >>> code.encode(torch.tensor([1.0, -1.0, 0.0, 0.5, 1e-9, 7.0], dtype=torch.float64)).tolist()
        [127, 255, 128, 121, 128, 127]
        """
        level = 127 + (self.fineness * (number.abs().log() - log(self.largest))).round()
        level = level.nan_to_num(nan=0.0, neginf=0.0).clamp(0, 127)
        return (level + 128 * ((number < 0) | (level == 0))).to(self.dtype)

    def decode(self, code: Tensor) -> Tensor:  # (*shape) uint8 -> (*shape) float64
        """
        >>> Byte(1.0).decode(torch.tensor([127, 255, 128, 119], dtype=torch.uint8))
        tensor([ 1.0000, -1.0000,  0.0000,  0.3679], dtype=torch.float64)
        """
        level = code.long() % 128
        size = self.largest * ((level - 127).double() / self.fineness).exp()
        return torch.where(level == 0, 0.0, torch.where(code >= 128, -size, size))


class Exact:
    """Numbers as they are."""

    dtype = torch.float64

    def __repr__(self) -> str:
        return "Exact()"

    def encode(self, number: Tensor) -> Tensor:
        return torch.where(number == 0, -0.0, number)

    def decode(self, code: Tensor) -> Tensor:
        return code


def present(codes: Tensor) -> Tensor:  # (m,) -> (m,) bool
    """Which codes are replies: +0 alone is none."""
    if codes.is_floating_point():
        return (codes != 0) | codes.signbit()
    return codes != ABSENT
