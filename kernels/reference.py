"""The specification: one dilated layer as a loop over time, for every dtype and device.

Everything faster is tested against this file. Formulas as in ``torch.nn.RNN/GRU/LSTM``, with t-1 replaced by
t-d (Chang et al. 2017, equation 1).
"""

from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.weights import Weights


def step(
    cell: str,
    x: Tensor,
    weights: Weights,
    h: Tensor,
    c: Optional[Tensor],
) -> tuple[Tensor, Optional[Tensor]]:
    """``c_t = f(x_t, c_{t-d})`` for B rows.

    Args:
        x: ``(B, I)``.
        h, c: ``(B, H)``, the states d steps ago; c for an LSTM only.

    Returns:
        the new h and c.
    """
    H = h.shape[1]
    w_ih, w_hh, b_ih, b_hh = weights

    def from_input(gate: int) -> Tensor:
        rows = slice(gate * H, (gate + 1) * H)
        product = x @ w_ih[rows].T
        return product if b_ih is None else product + b_ih[rows]

    def from_state(gate: int) -> Tensor:
        rows = slice(gate * H, (gate + 1) * H)
        product = h @ w_hh[rows].T
        return product if b_hh is None else product + b_hh[rows]

    if cell == "rnn":
        return torch.tanh(from_input(0) + from_state(0)), None
    if cell == "gru":
        r = torch.sigmoid(from_input(0) + from_state(0))
        z = torch.sigmoid(from_input(1) + from_state(1))
        n = torch.tanh(from_input(2) + r * from_state(2))
        return (1 - z) * n + z * h, None
    if c is None:
        raise ValueError("c: an LSTM needs its cell state")
    i = torch.sigmoid(from_input(0) + from_state(0))
    f = torch.sigmoid(from_input(1) + from_state(1))
    g = torch.tanh(from_input(2) + from_state(2))
    o = torch.sigmoid(from_input(3) + from_state(3))
    c_new = f * c + i * g
    return o * torch.tanh(c_new), c_new


def layer(
    cell: str,
    x: Tensor,
    weights: Weights,
    h_ring: Tensor,
    c_ring: Optional[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
) -> tuple[Tensor, Tensor, Optional[Tensor], Tensor]:
    """One dilated layer over a chunk; arguments and result as :func:`streamdrnn.kernels.dilated_layer`."""
    T, B, _ = x.shape
    d, _, H = h_ring.shape
    streams = torch.arange(B, device=x.device)
    outputs = []
    for t in range(T):
        slot = (cursor + t) % d
        real = torch.ones_like(cursor, dtype=torch.bool) if lengths is None else t < lengths
        real = real[:, None]
        h_old = h_ring[slot, streams]
        c_old = None if c_ring is None else c_ring[slot, streams]
        # Masked inputs may be NaN, so they are not computed on.
        h, c = step(cell, torch.where(real, x[t], 0.0), weights, h_old, c_old)
        h_ring = h_ring.index_put((slot, streams), torch.where(real, h, h_old))
        if c_ring is not None and c is not None and c_old is not None:
            c_ring = c_ring.index_put((slot, streams), torch.where(real, c, c_old))
        outputs.append(torch.where(real, h, 0.0))
    y = torch.stack(outputs) if outputs else x.new_zeros(0, B, H)
    return y, h_ring, c_ring, cursor + (T if lengths is None else lengths)
