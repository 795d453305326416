"""A stack of dilated layers over a chunk, on a GPU."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.gpu.op import dilated_stack
from streamdrnn.kernels.rings import steps_made
from streamdrnn.kernels.weights import Weights


def stack(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    dilations: Sequence[int],
    h_rings: Optional[Sequence[Tensor]],
    c_rings: Optional[Sequence[Tensor]],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor] = None,
    operands: torch.dtype = torch.float32,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Layers on top of one another; x and the rings are float32.

    Args:
        x: ``(T, B, I)``.
        weights, dilations: one per layer.
        h_rings: one per layer; None for streams before their first step, of which no cursor need be given either.
        c_rings: the same for an LSTM, else empty or None.
        cursor, lengths: as in :func:`streamdrnn.kernels.dilated_layer`.
        operands: float32, bfloat16 or float16, to which the operands of the products are rounded, and the inputs'
            products and saved gates. Products are summed, and states carried, in float32.

    Returns:
        the top layer's y ``(T, B, H)``, zero where no step was made; the rings and the cursor after the chunk.
    """
    T, B, _ = x.shape
    if lengths is not None:
        # What is not a step may hold anything, NaN too, and the weights' gradient reads it.
        x = torch.where(steps_made(T, lengths), x, 0.0)
    h_rings, c_rings = list(h_rings or ()), list(c_rings or ())
    if cursor is None or not h_rings:
        cursor = torch.zeros(B, dtype=torch.int64, device=x.device)
        h_rings = _zero_rings(x, weights, dilations)
        c_rings = _zero_rings(x, weights, dilations) if cell == "lstm" else []
    new_cursor = cursor + (T if lengths is None else lengths)
    if T * B == 0:
        y = x.new_zeros(T, B, h_rings[-1].shape[2])
        return y, [h.clone() for h in h_rings], [c.clone() for c in c_rings], new_cursor
    flat = [t for w in weights for t in w if t is not None]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *flat, *h_rings, *c_rings))
    history, *after = dilated_stack(cell, x, flat, h_rings, c_rings, cursor, lengths, operands, save)
    L = len(weights)
    return history[dilations[-1] :], after[:L], after[L : L + len(c_rings)], new_cursor


def _zero_rings(x: Tensor, weights: Sequence[Weights], dilations: Sequence[int]) -> list[Tensor]:
    """As one tensor: filling many small ones takes longer."""
    shapes = [(d, x.shape[1], w.w_hh.shape[1]) for w, d in zip(weights, dilations, strict=True)]
    sizes = [d * B * H for d, B, H in shapes]
    parts = x.new_zeros(sum(sizes)).split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
