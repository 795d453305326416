"""How autocast is taken: carried states stay as wide as they are, operands of products may be rounded."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from streamdrnn.kernels.weights import Weights

KINDS = ("cpu", "cuda", "mps", "xpu", "hpu", "xla")
DEVICES = frozenset(kind for kind in KINDS if torch.amp.is_autocast_available(kind))
"""The kinds of devices that have autocast; asked here, as compilers of torch 2.11 cannot follow the question."""


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``."""
    return x.device.type in DEVICES and torch.is_autocast_enabled(x.device.type)


def operand_dtype(x: Tensor, weights: Weights) -> torch.dtype:
    """To what the operands of products are rounded: autocast's dtype where it is on, else that of the weights."""
    return torch.get_autocast_dtype(x.device.type) if autocasts(x) else weights.w_hh.dtype


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context that computes in the dtype of ``x``: autocast would round the carried state at every step."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
