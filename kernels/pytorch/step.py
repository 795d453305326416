"""One step of a stack in place, in a form that TorchScript compiles as well."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from streamdrnn.kernels.pytorch.scan import step
from streamdrnn.kernels.weights import Weights, weights_in


def stack_step(
    cell: str, x: Tensor, weights: List[Weights], h: List[Tensor], c: List[Tensor], cursor: Tensor
) -> Tuple[List[Tensor], List[Tensor]]:
    """The new h and c ``(B, H)`` of each layer after a step of B streams. Nothing is written.

    Args:
        x: ``(B, I)``.
        h, c, cursor: the rings and clocks, as for a stack.
    """
    streams = torch.arange(x.shape[0], device=x.device)
    new_h: List[Tensor] = []
    new_c: List[Tensor] = []
    for layer, layer_weights in enumerate(weights):
        slot = torch.remainder(cursor, h[layer].shape[0])
        c_old: Optional[Tensor] = None
        if len(c) > 0:
            c_old = c[layer][slot, streams]
        x, c_new = step(cell, x, weights_in(x.dtype, layer_weights), h[layer][slot, streams], c_old)
        new_h.append(x)
        if c_new is not None:
            new_c.append(c_new)
    return new_h, new_c


def write_step(rings: List[Tensor], values: List[Tensor], cursor: Tensor, active: Optional[Tensor]) -> None:
    """Write the values ``(B, H)`` of a step into their rings, for the streams that make it."""
    streams = torch.arange(cursor.shape[0], device=cursor.device)
    for ring, value in zip(rings, values):  # noqa: B905 (TorchScript)
        slot = torch.remainder(cursor, ring.shape[0])
        if active is not None:
            value = torch.where(active[:, None], value, ring[slot, streams])
        ring[slot, streams] = value
