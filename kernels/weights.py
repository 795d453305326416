"""The weights of one recurrent layer, and the ways in which a live stream holds them."""

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


HELD = ("float32", "bf16", "int8")
"""How a live stream holds the weights of a network's layers, as users write it: as they are, or rounded.

``"bf16"`` rounds each to bfloat16; ``"int8"`` rounds a row of a matrix to multiples of its largest magnitude / 127, and
so the inputs at every step. The native kernels have them all, in this order.
"""
AS_THEY_ARE = HELD[0]


def check_held(held: str) -> None:
    """Raise unless it is one of :data:`HELD`.

    Raises:
        ValueError: it is not.
    """
    if held not in HELD:
        raise ValueError(f"weights: got {held!r}, expected one of {', '.join(HELD)}")


def refuse_narrow(held: str, who: str) -> None:
    """Raise unless weights are held as they are.

    Args:
        who: computes with them.

    Raises:
        ValueError: they are to be rounded.
    """
    if held != AS_THEY_ARE:
        raise ValueError(f"weights: got {held!r}, expected {AS_THEY_ARE!r}: {who} cannot round them")
