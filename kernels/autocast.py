"""How autocast is taken: carried states stay as wide as they are, operands of products may be rounded."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from streamdrnn.kernels.weights import Weights


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``."""
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def operand_dtype(x: Tensor, weights: Weights) -> torch.dtype:
    """To what the operands of products are rounded: autocast's dtype where it is on, else that of the weights."""
    return torch.get_autocast_dtype(x.device.type) if autocasts(x) else weights.w_hh.dtype


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context that computes in the dtype of ``x``: autocast would round the carried state at every step."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
