"""The gate that several networks have."""

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function.

    torch.sigmoid rounds the last elements of a thread's share otherwise than the rest. torch.tanh does not, so a step
    has the bits that it has in a chunk.
    """
    return torch.tanh(x / 2) / 2 + 0.5
