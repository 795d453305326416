"""The weights of one recurrent layer."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor


class Weights(NamedTuple):
    """The weights of a layer of H units with I inputs, the G gates in torch's order.

    Attributes:
        w_ih, w_hh: ``(G H, I)`` and ``(G H, H)``.
        b_ih, b_hh: ``(G H,)``, or None.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Optional[Tensor]
    b_hh: Optional[Tensor]


def weights_in(dtype: torch.dtype, weights: Weights) -> Weights:
    """The weights in another dtype. A function, as TorchScript's named tuples have no methods."""
    w_ih, w_hh, b_ih, b_hh = weights
    if w_ih.dtype == dtype and w_hh.dtype == dtype:
        return weights
    if b_ih is not None and b_hh is not None:
        b_ih, b_hh = b_ih.to(dtype), b_hh.to(dtype)
    return Weights(w_ih.to(dtype), w_hh.to(dtype), b_ih, b_hh)


class FusionWeights(NamedTuple):
    """The weights of a fusion over the last d0 outputs of H units.

    Attributes:
        weight: ``(H, H, d0)``, laid out as that of ``torch.nn.Conv1d``: its last entry along the kernel meets the
            present, its first the output of d0 - 1 steps ago.
        bias: ``(H,)``, or None.
    """

    weight: Tensor
    bias: Optional[Tensor]
