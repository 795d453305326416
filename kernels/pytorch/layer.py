"""One dilated layer over a chunk: rings in, scan, rings out."""

from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.pytorch.gradient import DilatedScan
from streamdrnn.kernels.pytorch.scan import scan
from streamdrnn.kernels.rings import in_time_order, last_of, steps_made
from streamdrnn.kernels.weights import Weights


def layer(
    cell: str,
    x: Tensor,
    weights: Weights,
    h_ring: Tensor,
    c_ring: Optional[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
) -> Tuple[Tensor, Tensor, Optional[Tensor], Tensor]:
    """Arguments and result as :func:`streamdrnn.kernels.dilated_layer`."""
    T, d = x.shape[0], h_ring.shape[0]
    w_ih, w_hh, b_ih, b_hh = weights
    if lengths is not None:
        # Masked inputs may be NaN, so they are not computed on.
        x = torch.where(steps_made(T, lengths), x, 0.0)
    h0 = in_time_order(h_ring, cursor)
    c0: Optional[Tensor] = None
    if c_ring is not None:
        c0 = in_time_order(c_ring, cursor)
    if torch.jit.is_scripting():  # TorchScript knows no custom functions: its own autograd takes over
        h, c = scan(cell, linear(x, w_ih, b_ih), w_hh, b_hh, h0, c0)
    else:
        h, c = DilatedScan.apply(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0)
    y = h[d:]
    made = torch.full_like(cursor, T) if lengths is None else lengths
    if lengths is not None:
        y = torch.where(steps_made(T, lengths), y, 0.0)
    h_ring = last_of(h, d, cursor, made)
    if c is not None:
        c_ring = last_of(c, d, cursor, made)
    return y, h_ring, c_ring, cursor + made
